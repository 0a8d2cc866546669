"""Whose a cluster is, what is done with it, and when it counts as healthy."""

import copy
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from xwiki_stack import cluster, repo
from xwiki_stack.cluster import kind
from xwiki_stack.cluster.engine import Engine
from xwiki_stack.cluster.kind import Action, Node, Record, Wanted
from xwiki_stack.errors import IntentError, MachineError, RefusedError
from xwiki_stack.steps import Log

WANTED = Wanted("wiki", "node:1", nodes=1, bed="offline", disposable=False)
RECORD = Record("node:1", nodes=1, bed="offline", control_plane="abc")
RUNNING = [Node("abc", "wiki-control-plane", "running", "control-plane")]
HALF = Record("node:1", nodes=1, bed="offline", control_plane="")
DISPOSABLE = Wanted("wiki", "node:1", nodes=1, bed="offline", disposable=True)
STOPPED = [Node("abc", "wiki-control-plane", "exited", "control-plane")]


def test_nothing_there_is_made_and_what_runs_is_kept() -> None:
    assert kind.decide([], None, WANTED) is Action.CREATE
    assert kind.decide([], HALF, WANTED) is Action.CREATE
    assert kind.decide(RUNNING, RECORD, WANTED) is Action.KEEP


def test_a_stopped_cluster_is_started_again_not_made_anew() -> None:
    assert kind.decide(STOPPED, RECORD, WANTED) is Action.START
    half = [*RUNNING, Node("def", "wiki-worker", "exited", "worker")]
    two = Record("node:1", 2, "offline", "abc")
    assert kind.decide(half, two, Wanted("wiki", "node:1", 2, "offline", False)) is Action.START


def test_pages_that_are_gone_are_not_replaced_by_an_empty_wiki_in_silence() -> None:
    """Somebody removed the containers, perhaps by pruning stopped ones."""
    with pytest.raises(RefusedError, match="its pages with them; next: `make delete` forgets"):
        kind.decide([], RECORD, WANTED)
    assert kind.decide([], RECORD, DISPOSABLE) is Action.CREATE


def test_a_half_made_cluster_of_ours_is_made_anew() -> None:
    assert kind.decide(RUNNING, HALF, WANTED) is Action.RECREATE


class Machine:
    """The engine that answers, what it holds, and what was started or removed meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engine: Engine | None = Engine("")
        self.identity = "engine-1"
        self.nodes: list[Node] = []
        self.done: list[str] = []
        monkeypatch.setattr("xwiki_stack.cluster.engine.running", lambda: self.engine)
        monkeypatch.setattr(
            "xwiki_stack.cluster.engine.start", lambda _log: self.done.append("start")
        )
        monkeypatch.setattr(kind, "nodes", lambda _docker, _name: self.nodes)
        monkeypatch.setattr(kind, "_identity", lambda _docker: self.identity)
        monkeypatch.setattr(kind, "_create", lambda *_: self.done.append("create"))
        monkeypatch.setattr(kind, "_kind", lambda *_: self.done.append("kind"))

    def record(self, **changes: str) -> None:
        """A record of the cluster `wiki`, made in engine-1."""
        repo.state("wiki").mkdir(parents=True, exist_ok=True)
        kind._write("wiki", replace(replace(RECORD, engine="engine-1"), **changes))  # type: ignore[arg-type]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv(repo.CACHE_VARIABLE, str(tmp_path))
    return Machine(monkeypatch)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "log", lambda _text: None)


@pytest.mark.parametrize("record", [None, "another container"])
@pytest.mark.parametrize("found", [RUNNING, STOPPED])
def test_a_cluster_of_that_name_that_is_not_ours_is_refused_with_what_removes_it(
    machine: Machine, log: Log, found: list[Node], record: str | None
) -> None:
    machine.nodes = found
    machine.engine = Engine("unix:///ours")
    if record:
        machine.record(control_plane=record)
    disposable = replace(WANTED, disposable=True)
    for look in (
        lambda: kind.refuse_foreign("wiki"),
        lambda: kind.ensure(disposable, log),
        lambda: kind.stop("wiki"),
        lambda: kind.delete("wiki", log),
    ):
        with pytest.raises(RefusedError) as caught:
            look()
        assert "was not made by this tool from this cache; next:" in str(caught.value)
        assert "XWIKI_STACK_CLUSTER" in str(caught.value)
        command = "--host unix:///ours rm --force --volumes wiki-control-plane"
        assert command in str(caught.value)
    assert machine.done == []


@pytest.mark.parametrize("answering", ["engine-2", ""])
def test_pages_in_another_engine_are_neither_forgotten_nor_replaced(
    machine: Machine, log: Log, answering: str
) -> None:
    """A stopped Docker, ours started in its place: its containers are not gone, only unseen."""
    machine.record()
    machine.identity = answering
    for look in (
        lambda: kind.refuse_foreign("wiki"),
        lambda: kind.ensure(WANTED, log),
        lambda: kind.delete("wiki", log),
    ):
        with pytest.raises(RefusedError) as caught:
            look()
        assert "lies in this machine's own container engine (engine-1)" in str(caught.value)
        assert "`xwiki-stack down` ends this tool's own" in str(caught.value)
        assert str(repo.state("wiki")) in str(caught.value)
    assert not kind.stop("wiki"), "else `down` could not end an engine of ours that is in the way"
    assert kind.read_record("wiki")
    assert machine.done == []


def test_no_engine_of_ours_is_started_for_pages_that_lie_in_the_machines_own(
    machine: Machine, log: Log
) -> None:
    machine.engine = None
    kind.refuse_foreign("wiki")
    machine.record(engine="", host="")
    kind.refuse_foreign("wiki")  # noted before engines were: it may be ours
    machine.record()
    with pytest.raises(MachineError, match=r"does not answer; next: start that engine \(Docker\)"):
        kind.refuse_foreign("wiki")
    with pytest.raises(MachineError):
        kind.delete("wiki", log)
    assert machine.done == []


def test_a_record_of_before_engines_were_noted_counts_and_is_completed(
    machine: Machine, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, "wait_healthy", lambda *_, **__: None)
    monkeypatch.setattr(kind, "_started", lambda *_: BOOT)
    machine.record(engine="", host="")
    with pytest.raises(RefusedError, match="an engine that is not noted"):
        kind.ensure(WANTED, log)
    machine.nodes = RUNNING
    assert kind.ensure(WANTED, log) == "nothing to do"
    record = kind.read_record("wiki")
    assert record
    assert record.engine == "engine-1"


def test_only_what_was_noted_is_removed(machine: Machine, log: Log) -> None:
    """A state folder without a record is somebody else's, and so is what a bad name points at."""
    stranger = repo.state("wiki") / "keep"
    stranger.parent.mkdir(parents=True)
    stranger.touch()
    assert not kind.delete("wiki", log)
    assert stranger.exists()
    machine.record()
    assert not kind.delete("wiki", log)
    assert not stranger.exists()


def test_pages_survive_a_newer_node_image() -> None:
    newer = Wanted("wiki", "node:2", 1, "offline", disposable=False)
    assert kind.decide(RUNNING, RECORD, newer) is Action.KEEP


@pytest.mark.parametrize(("nodes", "bed"), [(2, "offline"), (1, "registry")])
def test_pages_are_never_destroyed_for_another_shape(nodes: int, bed: str) -> None:
    other = Wanted("wiki", "node:1", nodes, bed, disposable=False)
    with pytest.raises(RefusedError, match="`make delete` removes it with every page"):
        kind.decide(RUNNING, RECORD, other)


@pytest.mark.parametrize(
    ("image", "nodes", "bed"),
    [("node:2", 1, "offline"), ("node:1", 2, "offline"), ("node:1", 1, "registry")],
)
def test_a_cluster_of_tests_is_made_anew_when_it_is_not_what_is_wanted(
    image: str, nodes: int, bed: str
) -> None:
    assert kind.decide(RUNNING, RECORD, Wanted("wiki", image, nodes, bed, True)) is Action.RECREATE


def test_a_record_survives_and_a_broken_one_is_none(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(repo.CACHE_VARIABLE, str(tmp_path))
    repo.state("wiki").mkdir(parents=True)
    assert kind.read_record("wiki") is None
    kind._note(WANTED, "abc")
    assert kind.read_record("wiki") == RECORD
    older = '{"image": "node:1", "nodes": 1, "bed": "offline", "control_plane": "abc"}'
    (repo.state("wiki") / "cluster.json").write_text(older)
    assert kind.read_record("wiki") == RECORD
    for broken in ("{", '{"image": "x"}', "[]"):
        (repo.state("wiki") / "cluster.json").write_text(broken)
        assert kind.read_record("wiki") is None


def test_the_configuration_has_as_many_equal_nodes_as_wanted() -> None:
    one = yaml.safe_load(kind.config(WANTED, restrict_oom=False))
    assert [node["role"] for node in one["nodes"]] == ["control-plane"]
    assert one["nodes"][0]["labels"] == {kind.LABEL: "wiki"}
    assert one["networking"]["apiServerAddress"] == "127.0.0.1"
    assert "containerdConfigPatches" not in one
    three = Wanted("wiki", "node:1", 3, "offline", False)
    document = yaml.safe_load(kind.config(three, restrict_oom=True))
    roles = [node["role"] for node in document["nodes"]]
    assert roles == ["control-plane", "worker", "worker"]
    assert "restrict_oom_score_adj = true" in document["containerdConfigPatches"][0]
    patches = [yaml.safe_load(text) for text in document["kubeadmConfigPatches"]]
    init = [patch for patch in patches if patch["kind"] == "InitConfiguration"]
    assert [patch["nodeRegistration"] for patch in init] == [{"taints": []}]


def test_the_bed_and_kind_speak_of_the_same_pod_network() -> None:
    script = repo.ROOT / "ci/bed/node/files/usr/local/sbin/bed-network"
    assert f"pods={kind.POD_SUBNET}\n" in script.read_text()


@pytest.mark.parametrize("nodes", [0, -1, 6])
def test_a_senseless_number_of_nodes_is_refused(nodes: int) -> None:
    assert cluster.Config("wiki", 2).nodes == 2
    with pytest.raises(IntentError, match="allowed: 1 to 5"):
        cluster.Config("wiki", nodes)


BOOT = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def _healthy() -> list[dict[str, Any]]:
    """A cluster that was restarted at BOOT and is well."""
    system: dict[str, Any] = {"namespace": "kube-system", "generation": 1}
    running = {"running": {"startedAt": "2026-01-01T12:00:05Z"}}
    ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T12:00:04Z"}
    counts = {"observedGeneration": 1, "desiredNumberScheduled": 1, "numberReady": 1}
    return [
        {"kind": "Node", "metadata": {"name": "n"}, "status": {"conditions": [ready]}},
        {"kind": "DaemonSet", "metadata": {"name": "d", **system}, "status": counts},
        {
            "kind": "Deployment",
            "metadata": {"name": "c", **system},
            "spec": {"replicas": 2},
            "status": {"observedGeneration": 1, "readyReplicas": 2},
        },
        {
            "kind": "Pod",
            "metadata": {"name": "p", **system},
            "status": {"containerStatuses": [{"name": "m", "ready": True, "state": running}]},
        },
        {
            "kind": "Deployment",
            "metadata": {"name": "users", "namespace": "wiki", "generation": 9},
            "spec": {},
            "status": {},
        },
    ]


def test_a_cluster_that_is_well_is_healthy_whatever_the_users_workloads_do() -> None:
    assert kind.unhealthy(_healthy(), None) == []
    assert kind.unhealthy(_healthy(), BOOT) == []


def test_an_empty_answer_is_not_health() -> None:
    assert kind.unhealthy([], None) == ["no Node yet", "no DaemonSet yet", "no Deployment yet"]


@pytest.mark.parametrize(
    ("index", "path", "value", "words"),
    [
        (0, ["status", "conditions", 0, "status"], "Unknown", "Node n: not ready"),
        (0, ["status", "conditions"], [], "Node n: not ready"),
        (
            0,
            ["status", "conditions", 0, "lastHeartbeatTime"],
            "2026-01-01T11:59:59Z",
            "Node n: no sign of life since its restart",
        ),
        (1, ["status", "numberReady"], 0, "DaemonSet d: 0 of 1 ready"),
        (1, ["status", "desiredNumberScheduled"], 0, "DaemonSet d: 1 of 0 ready"),
        (1, ["metadata", "generation"], 2, "DaemonSet d: not seen by its controller yet"),
        (2, ["status", "readyReplicas"], 1, "Deployment c: 1 of 2 ready"),
        (2, ["metadata", "generation"], 2, "Deployment c: not seen by its controller yet"),
        (3, ["status", "containerStatuses", 0, "ready"], False, "Pod p: m is not ready"),
        (3, ["status", "containerStatuses", 0, "state"], {}, "Pod p: m is not ready"),
        (
            3,
            ["status", "containerStatuses", 0, "state", "running", "startedAt"],
            "2026-01-01T11:00:00Z",
            "Pod p: m has not been restarted yet",
        ),
    ],
)
def test_each_lack_is_seen_stale_status_included(
    index: int, path: list[Any], value: object, words: str
) -> None:
    items = copy.deepcopy(_healthy())
    place: Any = items[index]
    for word in path[:-1]:
        place = place[word]
    place[path[-1]] = value
    assert kind.unhealthy(items, BOOT) == [words]


def test_a_cluster_remembers_the_checkout_that_made_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    monkeypatch.setenv(repo.CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(kind, "_kind", lambda *_, **__: None)
    monkeypatch.setattr(kind, "_identity", lambda _docker: "engine-1")
    monkeypatch.setattr(kind, "nodes", lambda _docker, _name: RUNNING)
    kind._create(Engine(""), WANTED, log)
    assert kind.orphans() == []
    monkeypatch.setattr(repo, "ROOT", tmp_path / "removed")
    kind._create(Engine(""), replace(WANTED, name="other"), log)
    assert kind.orphans() == ["other"]
