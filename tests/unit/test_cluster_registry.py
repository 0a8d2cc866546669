"""Registry or offline bed: the decision and its override."""

import pytest

from xwiki_stack import proc
from xwiki_stack.cluster import engine, images, registry
from xwiki_stack.cluster.registry import Bed
from xwiki_stack.errors import IntentError


@pytest.mark.parametrize(
    ("environment", "bed"),
    [
        ({}, None),
        ({registry.VARIABLE: "auto"}, None),
        ({registry.VARIABLE: "offline"}, Bed.OFFLINE),
        ({registry.VARIABLE: "registry"}, Bed.REGISTRY),
    ],
)
def test_the_environment_may_decide(environment: dict[str, str], bed: Bed | None) -> None:
    assert registry.wanted(environment) is bed


def test_an_unknown_word_is_refused_with_the_known_ones() -> None:
    with pytest.raises(IntentError, match="allowed: auto, offline, registry"):
        registry.wanted({registry.VARIABLE: "online"})


@pytest.mark.parametrize(
    ("code", "bed"), [(0, Bed.REGISTRY), (1, Bed.OFFLINE), (None, Bed.OFFLINE)]
)
def test_only_an_answered_manifest_request_means_registry(code: int | None, bed: Bed) -> None:
    assert registry.decide(code) is bed


def test_without_a_docker_client_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(registry.VARIABLE, raising=False)
    monkeypatch.setattr(proc, "which", lambda _tool: None)
    monkeypatch.setattr(proc, "run", lambda *_, **__: pytest.fail("a program was started"))
    assert registry.choose() is Bed.OFFLINE


def test_the_request_is_one_bounded_manifest_inspection(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[str], float]] = []

    def run(argv: list[str], **options: float) -> proc.Result:
        seen.append((list(map(str, argv)), options["timeout"]))
        return proc.Result((), 0, "", "")

    monkeypatch.delenv(registry.VARIABLE, raising=False)
    monkeypatch.setattr(proc, "which", lambda tool: tool)
    monkeypatch.setattr(proc, "run", run)
    monkeypatch.setattr(engine, "running", lambda: engine.Engine(""))
    registry._manifest_code.cache_clear()
    assert registry.choose() is Bed.REGISTRY
    # Once per run: an unreachable registry would cost its patience each time.
    assert registry.choose() is Bed.REGISTRY
    assert seen == [(["docker", "manifest", "inspect", registry.NODE_IMAGE], registry.PATIENCE)]


def test_the_table_names_the_node_image_that_is_used() -> None:
    (node,) = [image for image in images.table() if image.name == "node"]
    assert node.upstream == registry.NODE_IMAGE
