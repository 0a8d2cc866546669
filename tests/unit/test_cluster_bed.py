"""The plan: what is done on which bed, and in which order."""

from pathlib import Path

import pytest

from xwiki_stack import cluster, repo
from xwiki_stack.cluster import images, kind, nodeimage, registry
from xwiki_stack.steps import Step


def _plan(bed: str, monkeypatch: pytest.MonkeyPatch, *, extras: bool = False) -> list[Step]:
    monkeypatch.setenv(registry.VARIABLE, bed)
    return cluster.prepare(cluster.Config("xwiki-stack-test-plan", extras=extras))


def test_with_a_registry_nothing_of_the_offline_bed_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [step.name for step in _plan("registry", monkeypatch)]
    assert names == ["engine", "tool-kubectl", "tool-helm", "tool-kind", "cluster", "load"]


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


def test_compilers_take_turns_and_their_caches_go_last(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {step.name: step for step in _plan("offline", monkeypatch, extras=True)}
    built = [step for name, step in steps.items() if name.startswith("go-") and name != "go-caches"]
    assert len(built) == len(nodeimage.MODULES)
    assert {step.lane for step in built} == {"go"}
    assert {step.name for step in built} | {"tool-kind", "tool-helm3"} <= set(
        steps["go-caches"].needs
    )


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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(repo.CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setenv(registry.VARIABLE, "auto")
    monkeypatch.setattr(registry, "choose", lambda: registry.Bed.OFFLINE)
    names = [step.name for step in cluster.prepare(cluster.Config("wiki"))]
    assert "node-image" in names, "nothing was made yet, so the registry is asked"
    _made_on("registry", "wiki")
    for name in ("wiki", "another"):
        names = [step.name for step in cluster.prepare(cluster.Config(name))]
        assert "node-image" not in names
    assert cluster.image_values("wiki") is None
    _made_on("offline", "own")
    assert cluster.image_values("own") is not None
    # What is asked for wins; the cluster itself then refuses to become something else.
    monkeypatch.setenv(registry.VARIABLE, "offline")
    assert "node-image" in [step.name for step in cluster.prepare(cluster.Config("wiki"))]


def test_a_description_says_version_nodes_and_origin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(repo.CACHE_VARIABLE, str(tmp_path))
    assert cluster.describe("wiki") == "wiki does not exist"
    repo.state("wiki").mkdir(parents=True)
    kind._note(kind.Wanted("wiki", nodeimage.reference(), 2, "offline", False), "id")
    assert cluster.describe("wiki").startswith("v1.36.3 on kind, 2 node(s), a node image made here")
    kind._note(kind.Wanted("wiki", registry.NODE_IMAGE, 1, "registry", False), "id")
    assert cluster.describe("wiki") == "v1.36.1 on kind, 1 node(s), kind's own node image"
