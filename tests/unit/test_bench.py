"""The figures: what is measured and in which order, whose they are, and the page made of them."""

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from xwiki_stack import bench, cluster, demo, figures, intent, proc, steps, up
from xwiki_stack.cluster import engine, kind
from xwiki_stack.errors import MachineError, RefusedError
from xwiki_stack.figures import Document, Figure
from xwiki_stack.steps import Done, Step

NAMESPACE = "wiki-local"


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results of a test's own, no tool to install, one run in place of five; gives their file."""
    results = tmp_path / "results" / "bench.json"
    made = Document(results, tmp_path / "benchmarks.md", ("# Benchmarks",), {})
    monkeypatch.setattr(bench, "DOCUMENT", made)
    monkeypatch.setattr(bench, "RUNS", 1)
    monkeypatch.setattr(cluster, "tool_steps", list)
    return results


def _measure(*only: str) -> dict[str, Any]:
    bench.bench(only, emit=lambda _line: None, ask=lambda _question: True)
    document: dict[str, Any] = json.loads(bench.DOCUMENT.results.read_text())
    return document


def _stub(monkeypatch: pytest.MonkeyPatch, **figures: str) -> None:
    for name, ours in figures.items():
        made = [Figure(f"{name} figure", ours, "peer 2 ms", "0.50", "<= 3 ms")]
        monkeypatch.setattr(bench, f"_{name}", lambda *_, made=made: made)


def test_what_is_kept_keeps_its_own_commit_machine_and_day(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _stub(monkeypatch, generate="1 ms", template="2 ms", up="3 s", demo="4 s", packets="5 s")
    monkeypatch.setattr(figures, "commit", lambda *_own: "old")
    before = _measure()
    assert list(before) == ["generate", "template", "up", "demo", "packets"]
    before["up"] |= {"date": "2020-01-01", "machine": "an old one"}
    before["gone"] = before["template"]
    results.write_text(json.dumps(before))
    _stub(monkeypatch, generate="7 ms")
    monkeypatch.setattr(figures, "commit", lambda *_own: "new")
    after = _measure("generate")
    assert after["generate"]["commit"] == "new"
    assert after["generate"]["figures"][0]["ours"] == "7 ms"
    assert after["template"] == before["template"]
    assert after["up"] == before["up"]
    assert list(after) == [*before][:-1], "a figure that nobody can measure stayed"
    figure = {"ours": "2 ms", "peer": "peer 2 ms", "ratio": "0.50", "goal": "<= 3 ms"}
    figure |= {"spread": ""}
    assert after["template"]["figures"] == [{"name": "template figure", **figure}]
    page = bench.DOCUMENT.page.read_text()
    assert "Commit old, 2020-01-01, on an old one." in page
    assert "| generate figure | 7 ms |" in page


def test_every_environment_is_generated_and_rendered_decided_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rendered: list[dict[str, Any]] = []

    def render(*, values: list[dict[str, Any]], helm: Path) -> None:
        assert helm == cluster.tools().helm
        rendered.extend(values)

    monkeypatch.setattr("xwiki_stack.render.helm_template", render)
    figures = [item["name"] for item in _measure("generate")["generate"]["figures"]]
    assert len(figures) == len(intent.environments()) >= 3
    assert "generate and render local" in figures
    assert "generate and render prod, undecided" in figures
    assert all({"mysql", "xwiki"} <= set(values) for values in rendered)
    # Once to warm the caches, once to measure.
    assert len(rendered) == 2 * len(figures)


class Machine:
    """Says in `did` what is done to the bench's cluster; `prepare` may fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.did: list[str] = []
        self.refusal: MachineError | None = None
        self.left = False
        done = {"go": "made", "cluster": "made", "load": "2 loaded"}
        names = ("chart", "database", "wiki", "bootstrap", "url", "page")
        self.anew = [*(Done(n, n, words, 10.0) for n, words in done.items())]
        self.anew += [Done(name, name, "ready", 2.0) for name in names]
        self.again = [Done(n, n, "nothing to do", 0.01) for n in (*done, *names[:-1])]
        self.again.append(Done("page", "page", "9 bytes", 0.02))
        self.ups = iter([self.anew, self.again])
        monkeypatch.setattr(up, "install_system_packages", self._packages)
        monkeypatch.setattr(up, "up", self._up)
        monkeypatch.setattr(up, "delete", lambda name: self.did.append(f"delete {name}"))
        monkeypatch.setattr(cluster, "delete", self._delete)
        monkeypatch.setattr(cluster, "prepare", self._prepare)
        monkeypatch.setattr(bench, "_timed", lambda title, _argv: Done(title, title, "done", 0.5))
        monkeypatch.setattr(bench, "_memory", lambda _namespace: [Figure("memory", "1 MiB")])

    def _delete(self, name: str) -> bool:
        self.did.append(f"delete leftover {name}")
        return self.left

    def _packages(self, *_: object) -> None:
        self.did.append("packages")

    def _prepare(self, config: cluster.Config) -> list[Step]:
        if self.refusal:
            raise self.refusal
        assert config.name == bench.CLUSTER

        def step(name: str, *needs: str) -> Step:
            return Step(name, name, lambda _log: self.did.append(f"step {name}"), needs)

        return [step("go"), step("cluster", "go"), step("load", "cluster")]

    def _up(self, *_: object, **__: object) -> Any:
        self.did.append("up")
        return SimpleNamespace(done=next(self.ups), state=SimpleNamespace(namespace=NAMESPACE))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    monkeypatch.setenv("XWIKI_STACK_CACHE", str(tmp_path / "cache"))
    return Machine(monkeypatch)


def test_up_is_measured_on_a_cluster_made_from_nothing_with_all_else_cached(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 61.0, 100.0, 104.0])
    monkeypatch.setattr(bench, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    figures = {item["name"]: item for item in _measure("up")["up"]["figures"]}
    name = bench.CLUSTER
    order = [f"delete leftover {name}", "packages", "step go", "up", "up", f"delete {name}"]
    assert machine.did == order
    made, kept = "`make up`, cluster made from nothing", "`make up`, everything running"
    whole = figures[f"{made}, artefacts cached"]
    assert (whole["ours"], whole["goal"]) == ("62.0 s", "<= 90 s")
    assert figures[kept]["ours"] == "5.0 s"
    assert [item["name"] for item in figures.values() if item["goal"]] == [whole["name"]]
    # By step: those before the wiki's own, those before the command, and nothing left out.
    steps_made = [title for title in figures if title.startswith(f"{made}: ")]
    titles = [item.title for item in machine.anew]
    assert steps_made == [
        f"{made}: {title}" for title in ("ci/setup", "start of the command", *titles)
    ]
    assert figures[f"{made}: cluster"]["ours"] == "10.00 s"
    assert figures[f"{kept}: page"]["ours"] == "0.02 s"
    assert figures[f"{kept}: 8 steps with nothing to do"]["ours"] == "0.08 s"
    assert figures["helm install to first page"]["ours"] == "12.0 s"


def test_the_demo_is_measured_on_a_cluster_made_from_nothing_and_on_one_that_runs(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 140.0, 200.0, 290.4])
    monkeypatch.setattr(bench, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    told = lambda name, port, **_: machine.did.append(f"demo on {name} {port}")  # noqa: E731
    monkeypatch.setattr(demo, "demo", told)
    found = {
        item["name"]: (item["ours"], item["goal"]) for item in _measure("demo")["demo"]["figures"]
    }
    assert found == {
        "`make demo`, cluster made from nothing, artefacts cached": ("140 s", "<= 300 s"),
        "`make demo`, cluster running": ("90 s", "<= 300 s"),
    }
    name = bench.CLUSTER
    shown = f"demo on {name} {bench.PORT}"
    order = [f"delete leftover {name}", "packages", "step go", shown, shown, f"delete {name}"]
    assert machine.did == order


def test_a_bench_that_fails_leaves_no_cluster_and_no_results(machine: Machine) -> None:
    machine.left, machine.refusal = True, MachineError("no disk")
    said: list[str] = []
    with pytest.raises(MachineError, match="no disk"):
        bench.bench(["up"], emit=said.append, ask=lambda _question: True)
    assert machine.did[-1] == f"delete {bench.CLUSTER}"
    assert any("of an earlier run" in line for line in said)
    assert not bench.DOCUMENT.results.exists()


def test_a_cluster_that_is_not_ours_is_not_deleted_by_a_bench(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_name: str) -> bool:
        raise RefusedError("not ours")

    monkeypatch.setattr(cluster, "delete", refused)
    with pytest.raises(RefusedError):
        _measure("up")
    assert machine.did == []


def test_memory_tells_the_wiki_from_the_platform_its_programs_included(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mib = 2**20
    pods = [
        (NAMESPACE, "rel-mysql-0", 400 * mib),
        (NAMESPACE, "rel-xwiki-778fdc7994-57ksg", 600 * mib),
        (NAMESPACE, "bootstrap-done", 0),
        ("kube-system", "etcd", 50 * mib),
        ("local-path-storage", "provisioner", 30 * mib),
    ]
    monkeypatch.setattr(proc, "pause", lambda _seconds: None)
    monkeypatch.setattr(bench, "Kube", lambda _file: SimpleNamespace(pod_memory=lambda: pods))
    monkeypatch.setattr(cluster, "platform_memory", lambda _name: {"dockerd": 100 * mib})
    figures = {item.name: item for item in bench._memory(NAMESPACE)}
    assert {name: item.ours for name, item in figures.items()} == {
        "idle memory of rel-mysql": "400 MiB",
        "idle memory of rel-xwiki": "600 MiB",
        "idle memory of the platform: pods": "80 MiB",
        "idle memory of the platform: dockerd": "100 MiB",
    }
    beside = figures["idle memory of the platform: pods"]
    assert (beside.peer, beside.ratio) == ("XWiki and MySQL 1000 MiB", "0.08")


def test_the_platforms_programs_are_those_of_the_nodes_and_our_own_engine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = "  1000 kubelet\n 500 containerd\n  20 containerd-shim\n 7 systemd-journal\n 9999 java\n"
    nodes = [kind.Node("id", name, "running", "") for name in ("one", "two")]
    monkeypatch.setattr(kind, "nodes", lambda *_: nodes)
    monkeypatch.setattr(kind, "on_node", lambda *_: proc.Result((), 0, said, ""))
    monkeypatch.setattr(engine, "resident", lambda: 42)
    monkeypatch.setattr(engine, "require", lambda: engine.Engine("unix:///s"))
    of_nodes = {"kubelet, containerd, systemd of the nodes": 2 * 1527 * 1024}
    assert cluster.platform_memory("wiki") == {**of_nodes, "dockerd": 42}
    monkeypatch.setattr(engine, "require", lambda: engine.Engine(""))
    assert cluster.platform_memory("wiki") == of_nodes


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks at Linux' processes")
def test_an_engines_memory_is_its_own_and_its_childrens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XWIKI_STACK_CACHE", str(tmp_path))
    assert engine.resident() == 0
    pid_file = tmp_path / "daemon.pid"
    argv = ["sh", "-c", "sleep 30 & wait"]
    pid = proc.spawn(argv, log=tmp_path / "log", pid_file=pid_file)
    monkeypatch.setattr(proc, "alive", lambda _file: pid)
    try:
        deadline = time.monotonic() + 10
        children: list[str] = []
        # A program that has just been started still grows.
        while not children or engine.resident() != sum(map(_resident, (str(pid), *children))):
            assert time.monotonic() < deadline
            time.sleep(0.02)
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    finally:
        monkeypatch.undo()
        proc.end(pid_file)


def _resident(pid: str) -> int:
    (line,) = [
        line
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("VmRSS:")
    ]
    return int(line.split()[1]) * 1024


def test_steps_of_the_bench_are_those_of_the_real_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The names that the bench looks for are names of steps, not a memory of them."""
    monkeypatch.setenv("XWIKI_STACK_BED", "registry")
    monkeypatch.setenv("XWIKI_STACK_CACHE", str(tmp_path))
    seen: list[str] = []

    def execute(plan: list[Step], _emit: object) -> list[Done]:
        seen.extend(step.name for step in plan)
        raise MachineError("enough seen")

    monkeypatch.setattr(steps, "execute", execute)
    monkeypatch.setattr(up, "install_system_packages", lambda *_: None)
    monkeypatch.setattr(kind, "refuse_foreign", lambda _name: None)
    monkeypatch.setattr(engine, "running", lambda: engine.Engine(""))
    monkeypatch.setattr(up, "_refuse_drift", lambda _env: None)
    with pytest.raises(MachineError, match="enough seen"):
        up.up("local", bench.PORT, "bench-names", emit=lambda _: None, ask=lambda _: True)
    assert {"chart", "database", "wiki", "bootstrap", "url", "page", "cluster", "load"} <= set(seen)
