"""The plan: what is done on which bed, and in which order."""

import pytest

from xwiki_stack import cluster
from xwiki_stack.cluster import images, nodeimage, registry
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
