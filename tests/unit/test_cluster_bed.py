"""The plan: what is done on which bed, and in which order."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from xwiki_stack import cluster, proc, repo
from xwiki_stack.cluster import (
    artefacts,
    engine,
    golang,
    images,
    kind,
    machine,
    nodeimage,
    pins,
    registry,
)
from xwiki_stack.cluster.registry import Bed, Choice
from xwiki_stack.errors import MachineError
from xwiki_stack.steps import Log, Step


@pytest.fixture(autouse=True)
def _a_machine_that_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux as root with an empty cache; no engine and no registry is ever asked."""
    monkeypatch.setenv(repo.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(engine, "running", lambda: None)
    monkeypatch.setattr(registry, "_answered", lambda: pytest.fail("a registry was asked"))
    monkeypatch.setenv(registry.VARIABLE, "auto")


@pytest.fixture
def decided(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has the registry's answer be that bed."""

    def decide(bed: str) -> None:
        monkeypatch.setattr(registry, "_answered", lambda: Choice(Bed(bed), "it was asked"))

    return decide


def _plan(bed: str, monkeypatch: pytest.MonkeyPatch, *, extras: bool = False) -> list[Step]:
    monkeypatch.setenv(registry.VARIABLE, bed)
    return cluster.prepare(cluster.Config("xwiki-stack-test-plan", extras=extras))


def test_with_a_registry_nothing_of_the_offline_bed_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = " ".join(step.name for step in _plan("registry", monkeypatch))
    tools = "tool-kubectl tool-helm tool-kind go-caches"
    assert names == f"bed engine disk {tools} node-image cluster load"


def test_kinds_node_image_is_pulled_without_a_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    steps = {step.name: step for step in _plan("registry", monkeypatch)}
    assert "node-image" in steps["cluster"].needs
    calls: list[tuple[list[str], dict[str, object]]] = []

    def run(argv: list[str], **options: object) -> proc.Result:
        calls.append((list(map(str, argv)), options))
        return proc.Result((), 1 if "inspect" in argv else 0, "", "")

    monkeypatch.setattr(engine, "require", lambda: engine.Engine(""))
    monkeypatch.setattr(proc, "run", run)
    log = Log(tmp_path / "log", lambda _text: None)
    assert steps["node-image"].run(log) == "pulled"
    assert calls[-1] == (["docker", "pull", registry.NODE_IMAGE], {"log": log.path})
    monkeypatch.setattr(proc, "run", lambda *_, **__: proc.Result((), 0, "", ""))
    assert steps["node-image"].run(log) == "nothing to do"


def test_offline_every_part_of_a_node_is_made_before_the_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = {step.name: step for step in _plan("offline", monkeypatch)}
    parts = {f"go-{name}" for name in nodeimage.MODULES} | {"node-rootfs", "tool-kubectl"}
    assert parts <= set(steps["node-image"].needs)
    assert "node-image" in steps["cluster"].needs
    assert {f"image-{image.name}" for image in images.made_here(tests=False)} <= set(steps)


@pytest.mark.parametrize("bed", ["registry", "offline"])
@pytest.mark.parametrize("extras", [False, True])
def test_the_last_step_waits_for_all_others(
    bed: str, extras: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = _plan(bed, monkeypatch, extras=extras)
    names = [step.name for step in plan]
    assert set(plan[-1].needs) == set(names[:-1])
    assert len(names) == len(set(names))
    for step in plan:
        assert set(step.needs) <= set(names), step.name


@pytest.mark.parametrize("bed", ["registry", "offline", "none, tools alone"])
def test_compilers_take_turns_and_their_caches_go_last(
    bed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = bed.startswith("none")
    plan = cluster.tool_steps(extras=True) if alone else _plan(bed, monkeypatch, extras=True)
    steps = {step.name: step for step in plan}
    compiling = {name for name, step in steps.items() if step.lane == golang.LANE}
    built = {f"go-{name}" for name in nodeimage.MODULES} if bed == "offline" else set()
    compiled = {"kind", "helm3", "versitygw", "rclone", "promtool", "actionlint", "kube-score"}
    compiled |= {"sops", "dyff", "source-controller", "kustomize-controller", "helm-controller"}
    assert compiling == {f"tool-{name}" for name in compiled} | built
    assert compiling <= set(steps["go-caches"].needs)


def test_helm_3_is_for_tests_alone_and_never_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "tool-helm3" not in {step.name for step in _plan("offline", monkeypatch)}
    names = [step.name for step in _plan("offline", monkeypatch, extras=True)]
    assert names.index("tool-helm3") > names.index("go-kubernetes")
    assert "tool-helm3" in {step.name for step in cluster.tool_steps(extras=True)}
    assert "tool-helm3" not in {step.name for step in cluster.tool_steps()}


def _made_on(bed: str, name: str) -> None:
    repo.state(name).mkdir(parents=True)
    kind._note(kind.Wanted(name, "image:1", 1, bed, disposable=False), "id")


def test_a_cluster_keeps_its_bed_while_the_registry_is_away(
    decided: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    decided("offline")
    assert "node-rootfs" in [step.name for step in cluster.prepare(cluster.Config("wiki"))]
    _made_on("registry", "wiki")
    assert "node-rootfs" not in [step.name for step in cluster.prepare(cluster.Config("wiki"))]
    assert cluster.image_values("wiki") is None
    assert cluster.environment("wiki")[registry.VARIABLE] == "registry"
    assert "cluster wiki was made so" in cluster.describe_bed("wiki")
    _made_on("offline", "own")
    assert cluster.image_values("own") is not None
    assert cluster.toolbox_image("own") == nodeimage.TOOLBOX
    assert cluster.toolbox_image("wiki").startswith("docker.io/")
    # What is asked for wins; the cluster itself then refuses to become something else.
    monkeypatch.setenv(registry.VARIABLE, "offline")
    assert "node-rootfs" in [step.name for step in cluster.prepare(cluster.Config("wiki"))]


def test_one_offline_hour_does_not_decide_for_other_clusters(
    decided: Callable[[str], None],
) -> None:
    _made_on("offline", "wiki")
    decided("registry")
    assert "node-rootfs" not in [step.name for step in cluster.prepare(cluster.Config("another"))]


def test_the_plan_says_first_where_images_come_from_why_and_how_to_change_that(
    decided: Callable[[str], None], tmp_path: Path
) -> None:
    decided("offline")
    first = cluster.prepare(cluster.Config("wiki"))[0]
    said = first.run(Log(tmp_path / "log", lambda _text: None))
    assert said == cluster.describe_bed("wiki")
    assert said == (
        "built here without a registry: it was asked (XWIKI_STACK_BED=registry for the other way)"
    )


@pytest.mark.parametrize("system", ["darwin", "linux"])
def test_a_machine_without_engine_is_told_what_it_can_do(
    system: str, decided: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(machine, "has", lambda _program: False)
    if system == "darwin":
        # No registry is asked either, and nobody speaks of apt-get.
        for ask in (cluster.system_packages, lambda: cluster.prepare(cluster.Config("wiki"))):
            with pytest.raises(MachineError, match=r"^no container engine answers; next: start D"):
                ask()
        return
    decided("registry")
    monkeypatch.setattr(proc, "which", Path)
    assert cluster.system_packages() == ["docker.io", "iptables"]
    decided("offline")
    assert "debootstrap" in cluster.system_packages()


def test_only_linux_builds_images(
    decided: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(engine, "running", lambda: engine.Engine(""))
    decided("registry")
    assert cluster.system_packages() == []
    decided("offline")
    for ask in (cluster.system_packages, lambda: cluster.prepare(cluster.Config("wiki"))):
        with pytest.raises(MachineError, match=r"\(it was asked\), and only Linux can build them"):
            ask()


def test_building_images_needs_root_and_says_so_before_anything_is_asked_or_made(
    decided: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    decided("offline")
    for ask in (cluster.system_packages, lambda: cluster.prepare(cluster.Config("wiki"))):
        with pytest.raises(MachineError, match=r"which needs root; next: run as root") as refused:
            ask()
        assert "\n" not in str(refused.value)
    decided("registry")
    assert cluster.prepare(cluster.Config("wiki"))


def test_packages_that_cannot_be_installed_are_not_even_offered(
    decided: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    decided("offline")
    monkeypatch.setattr(machine, "has", lambda _program: False)
    monkeypatch.setattr(proc, "which", lambda _tool: None)
    with pytest.raises(MachineError, match="this system has no apt-get"):
        cluster.system_packages()


class Stock:
    """An engine of the machine with these images; `root` is where it keeps them."""

    ours = False

    def __init__(self, root: Path | None, *images_here: str) -> None:
        self.data_root, self._images = root, images_here

    def has_image(self, reference: str) -> bool:
        return reference in self._images


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, Path | None]]:
    """What disks were asked for."""
    seen: list[tuple[float, Path | None]] = []

    def require(gigabytes: float, where: Path | None = None) -> str:
        seen.append((gigabytes, where))
        return ""

    monkeypatch.setattr(artefacts, "require_disk", require)
    monkeypatch.setattr(kind, "nodes", lambda *_: [])
    return seen


def test_the_disk_is_asked_for_what_is_still_to_be_made(
    asked: list[tuple[float, Path | None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def room(stock: Stock, bed: str) -> list[tuple[float, Path | None]]:
        asked.clear()
        monkeypatch.setattr(engine, "require", lambda: stock)
        (step,) = [step for step in _plan(bed, monkeypatch) if step.name == "disk"]
        step.run(Log(tmp_path / "log", lambda _text: None))
        return list(asked)

    recipes = [image.reference for image in images.made_here(tests=False)]
    # Nothing is cached: what the README promises to need.
    assert room(Stock(None), "offline") == [(20, None)]
    # An engine that keeps its images elsewhere needs a part of it there.
    assert room(Stock(tmp_path), "offline") == [(8, tmp_path), (20, None)]
    for name in nodeimage.MODULES:
        golang.binaries(pins.modules()[name]).mkdir(parents=True)
    assert room(Stock(None), "offline") == [(8, None)]
    assert room(Stock(None, nodeimage.reference(), *recipes), "offline") == [(4, None)]
    assert room(Stock(None), "registry") == [(6, None)]
    monkeypatch.setattr(kind, "nodes", lambda *_: [kind.Node("id", "n", "running", "")])
    assert room(Stock(None, registry.NODE_IMAGE), "registry") == [(0, None)]


@pytest.mark.parametrize("bed", ["registry", "offline"])
def test_nothing_is_stored_before_the_disk_was_looked_at(
    bed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in _plan(bed, monkeypatch):
        if step.name not in ("bed", "engine", "disk") and not step.name.startswith("tool-"):
            assert step.needs, step.name
            assert "engine" not in step.needs or "disk" in step.needs, step.name


@pytest.mark.parametrize(
    ("ours", "containers", "working", "stopped"),
    [
        (True, "", False, True),
        (True, nodeimage.BUILDER, False, True),
        (True, "wiki-control-plane\n", False, False),
        (True, "", True, False),
        (False, "", False, False),
    ],
)
def test_our_engine_is_stopped_only_when_nobody_uses_it(
    ours: bool, containers: str, working: bool, stopped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[bool] = []
    monkeypatch.setattr(engine, "running", lambda: engine.Engine("unix:///s" if ours else ""))
    monkeypatch.setattr(engine, "stop", lambda: ended.append(True) or True)
    monkeypatch.setattr(proc, "run", lambda *_, **__: proc.Result((), 0, containers, ""))
    if working:
        with artefacts.lock("image-mysql"):
            assert cluster.stop_engine_if_idle() is False
    else:
        assert cluster.stop_engine_if_idle() is stopped
    assert bool(ended) is stopped


def test_what_children_leave_lies_in_the_cache() -> None:
    assert Path(cluster.environment()["KUBECACHEDIR"]).is_relative_to(repo.cache())


def test_a_description_says_version_nodes_and_origin() -> None:
    assert cluster.describe("wiki") == "wiki does not exist"
    repo.state("wiki").mkdir(parents=True)
    kind._note(kind.Wanted("wiki", nodeimage.reference(), 2, "offline", False), "id")
    assert cluster.describe("wiki").startswith("v1.36.3 on kind, 2 node(s), a node image made here")
    kind._note(kind.Wanted("wiki", registry.NODE_IMAGE, 1, "registry", False), "id")
    assert cluster.describe("wiki") == "v1.36.1 on kind, 1 node(s), kind's own node image"
