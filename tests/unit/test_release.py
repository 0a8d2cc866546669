"""A release is upgraded where the cluster differs from the chart, and Helm's words are sorted."""

import base64
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from xwiki_stack import release
from xwiki_stack.errors import IntentError, StackError, UnhealthyError
from xwiki_stack.release import Release

Object = dict[str, Any]
NAMESPACE = "wiki"


def rendered() -> list[Object]:
    """What the chart renders: a workload, a claim that has a spec without replicas, a map."""
    return [
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
         "spec": {"replicas": 1}},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"},
         "spec": {"accessModes": ["ReadWriteOnce"]}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {}},
    ]  # fmt: skip


def secret(revision: int, state: str, objects: list[Object]) -> Object:
    """A revision as Helm keeps it."""
    manifest = "---\n".join(yaml.safe_dump(item) for item in objects)
    note = {"version": revision, "info": {"status": state}, "manifest": manifest}
    packed = base64.b64encode(gzip.compress(json.dumps(note).encode()))
    return {
        "metadata": {
            "name": f"sh.helm.release.v1.rel.v{revision}",
            "labels": {"version": str(revision), "status": state},
        },
        "data": {"release": base64.b64encode(packed).decode()},
    }


class Cluster:
    """Answers like Kube: what it holds, and the Secrets of two revisions."""

    def __init__(self) -> None:
        self.objects = rendered()
        self.secrets = [secret(10, "deployed", rendered()), secret(9, "superseded", [])]
        self.deleted: list[str] = []

    def every(self, kind: str, namespace: str, labels: str) -> list[Object]:
        assert (kind, namespace, labels) == ("Secret", NAMESPACE, "owner=helm,name=rel")
        return self.secrets

    def live(self, manifest: Object, namespace: str) -> Object | None:
        assert namespace == NAMESPACE
        found = [item for item in self.objects if item["metadata"] == manifest["metadata"]]
        return found[0] if found else None

    def delete(self, kind: str, name: str, namespace: str, *, orphan: bool) -> None:
        assert (kind, namespace, orphan) == ("Secret", NAMESPACE, False)
        self.deleted.append(name)


class Bench:
    """A release on a fake cluster, by a fake Helm that notes how it was called."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cluster = Cluster()
        self._folder = folder
        self.refuses("")
        (folder / "manifest").write_text(yaml.safe_dump_all(rendered()))
        helm = folder / "helm"
        helm.write_text(
            f"#!/bin/sh\ncd {folder}\n"
            'case $1 in template) cat manifest ;; *) echo "$@" >>calls; cat complaint >&2\n'
            "test ! -s complaint ;; esac\n"
        )
        helm.chmod(0o755)
        monkeypatch.setattr(release, "Kube", lambda _file: self.cluster)
        self.release = Release(helm, folder / "kubeconfig", NAMESPACE, "rel", folder)

    def refuses(self, words: str) -> None:
        """Let Helm end with these words, or work if there are none."""
        (self._folder / "complaint").write_text(words)

    @property
    def calls(self) -> list[str]:
        """Everything Helm was asked but to render."""
        file = self._folder / "calls"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def test_what_is_as_rendered_is_left_alone(bench: Bench) -> None:
    assert bench.release.install([]) == "nothing to do"
    assert bench.calls == []


def deleted(cluster: Cluster) -> None:
    cluster.objects.pop()


def scaled(cluster: Cluster) -> None:
    cluster.objects[0]["spec"]["replicas"] = 0


def rendered_otherwise(cluster: Cluster) -> None:
    cluster.secrets[0] = secret(10, "deployed", rendered()[:1])


def failed(cluster: Cluster) -> None:
    cluster.secrets[0] = secret(10, "failed", rendered())


@pytest.mark.parametrize("change", [deleted, scaled, rendered_otherwise, failed])
def test_whatever_differs_is_put_right_by_an_upgrade(
    bench: Bench, change: Callable[[Cluster], None]
) -> None:
    change(bench.cluster)
    assert bench.release.install([]) == "upgraded"
    (call,) = bench.calls
    assert call.startswith("upgrade --install rel ")
    # Else what was scaled by hand would be refused as somebody else's field.
    assert "--server-side=true --force-conflicts" in call


def test_the_first_install_is_told_from_an_upgrade(bench: Bench) -> None:
    bench.cluster.secrets = []
    assert (bench.release.state(), bench.release.revision()) == ("", 0)
    assert bench.release.objects() == []
    assert bench.release.install([]) == "installed"


def test_the_newest_revision_counts_and_an_interrupted_one_is_dropped(bench: Bench) -> None:
    assert (bench.release.state(), bench.release.revision()) == ("deployed", 10)
    assert bench.release.objects() == rendered()
    bench.cluster.secrets.insert(0, secret(11, "pending-upgrade", rendered()))
    assert bench.release.install([]) == "upgraded"
    assert bench.cluster.deleted == ["sh.helm.release.v1.rel.v11"]


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        ("Error: UPGRADE FAILED: values don't meet the schema", IntentError, "meet the schema"),
        (
            "Error: UPGRADE FAILED: StatefulSet.apps db is invalid: spec: Forbidden: updates to "
            "statefulset spec for fields other than 'replicas' are forbidden",
            IntentError,
            "next: .*`xwiki-stack expand --recreate`.*, then run this again",
        ),
        (
            'Error: UPGRADE FAILED: kubernetes cluster unreachable: Get "https://127.0.0.1": EOF',
            UnhealthyError,
            "API server does not answer",
        ),
        (
            "Error: server-side apply failed: Patch: dial tcp 127.0.0.1:6443: connect: "
            "connection refused",
            UnhealthyError,
            "API server does not answer",
        ),
    ],
)
def test_helms_refusal_is_told_from_a_silent_api_server(
    bench: Bench, words: str, error: type[StackError], said: str
) -> None:
    scaled(bench.cluster)
    bench.refuses(words)
    with pytest.raises(error, match=said) as caught:
        bench.release.install([])
    assert type(caught.value) is error
