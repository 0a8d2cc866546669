"""The demo destroys its own namespace and no other."""

from pathlib import Path
from typing import Any, cast

import pytest

from xwiki_stack import demo, proc
from xwiki_stack.errors import RefusedError
from xwiki_stack.kube import Kube


class Cluster:
    """Namespaces and volumes as an API server tells them."""

    def __init__(self, labels: dict[str, str] | None) -> None:
        self.labels = labels
        self.volumes: list[dict[str, Any]] = [
            {"metadata": {"name": "pv-1"}, "spec": {"claimRef": {"namespace": "mine"}}},
            {"metadata": {"name": "pv-2"}, "spec": {"claimRef": {"namespace": "other"}}},
            {"metadata": {"name": "pv-3"}, "spec": {}},
        ]
        self.asked: list[str] = []

    def get(self, kind: str, name: str, _namespace: str | None = None) -> dict[str, Any] | None:
        self.asked.append(f"{kind} {name}")
        if kind == "Namespace" and self.labels is not None:
            return {"metadata": {"name": name, "labels": self.labels}}
        return None

    def every(self, _kind: str) -> list[dict[str, Any]]:
        return self.volumes


def destroyed(monkeypatch: pytest.MonkeyPatch, cluster: Cluster) -> list[str]:
    """The words of kubectl that a destruction takes."""
    said: list[str] = []

    def kubectl(_file: Path, *words: str, check: bool = True) -> proc.Result:
        said.append(" ".join(words))
        return proc.Result((), 0, "", "")

    monkeypatch.setattr(demo, "kubectl", kubectl)
    demo.destroy(cast(Kube, cluster), Path("x"), "mine", demo.LABEL)
    return said


def test_ours_goes_and_its_volumes_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster({**demo.LABEL, "more": "x"})
    (said,) = destroyed(monkeypatch, cluster)
    assert said.startswith("delete namespace mine")
    assert "PersistentVolume pv-1" in cluster.asked
    assert "PersistentVolume pv-2" not in cluster.asked


def test_none_is_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    assert destroyed(monkeypatch, Cluster(None)) == []


@pytest.mark.parametrize("labels", [{}, {"app.kubernetes.io/part-of": "xwiki-stack"}])
def test_another_s_namespace_stays(monkeypatch: pytest.MonkeyPatch, labels: dict[str, str]) -> None:
    with pytest.raises(RefusedError, match="mine is not ours"):
        destroyed(monkeypatch, Cluster(labels))


def test_the_demo_is_beside_the_user_s_wiki() -> None:
    from xwiki_stack import intent

    taken = {intent.load_environment(name).namespace for name in intent.environments()}
    assert demo.NAMESPACE not in taken
