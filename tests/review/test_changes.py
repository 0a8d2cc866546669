"""Two objects compared as Kubernetes reads them, and what of it is noise."""

from typing import Any

import pytest

from xwiki_stack.review import changes
from xwiki_stack.review.changes import ABSENT, Change, Fate


def paths(old: Any, new: Any) -> list[str]:
    return [change.path for change in changes.changes(old, new)]


def container(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "image": "registry.example.org/c:1", **more}


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ({"a": 1}, {"a": 2}, ["a"]),
        ({"a": {"b": 1}}, {"a": {}}, ["a.b"]),
        ({"labels": {"helm.sh/chart": "a"}}, {"labels": {}}, ["labels[helm.sh/chart]"]),
        # A field that is null is one that is not there; an empty one is there.
        ({"a": None}, {}, []),
        ({"a": {}}, {}, ["a"]),
        ({"a": True}, {"a": 1}, ["a"]),
        # By name, wherever it stands.
        (
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "3"}]},
            ["env[B].value"],
        ),
        ({"c": [container("a")]}, {"c": [container("z"), container("a")]}, ["c[z]"]),
        # One volume mounted twice is told apart by where.
        (
            {"m": [{"name": "d", "mountPath": "/a"}, {"name": "d", "mountPath": "/b"}]},
            {"m": [{"name": "d", "mountPath": "/a"}, {"name": "d", "mountPath": "/c"}]},
            ["m[/b]", "m[/c]"],
        ),
        ({"p": [{"containerPort": 80}]}, {"p": [{"containerPort": 81}]}, ["p[80]", "p[81]"]),
        (
            {"t": [{"metadata": {"name": "data"}, "size": 1}]},
            {"t": [{"metadata": {"name": "data"}, "size": 2}]},
            ["t[data].size"],
        ),
        # DNS twice, by TCP and UDP: no field tells them apart, so the content does.
        (
            {"p": [{"port": 53, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]},
            {"p": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]},
            ["p (order)"],
        ),
        ({"verbs": ["get"]}, {"verbs": ["get", "list"]}, ["verbs[]"]),
        # The order of containers replaces a pod as much as their content.
        (
            {"c": [container("a"), container("b")]},
            {"c": [container("b"), container("a")]},
            ["c (order)"],
        ),
        ({"args": ["run", "-v"]}, {"args": ["-v", "run"]}, ["args"]),
        # The same amount is no change, in whatever unit.
        ({"limits": {"memory": "1Gi"}}, {"limits": {"memory": "1024Mi"}}, []),
        ({"requests": {"cpu": "500m"}}, {"requests": {"cpu": 0.5}}, ["requests.cpu"]),
        ({"requests": {"cpu": "2"}}, {"requests": {"cpu": 2}}, []),
        ({"limits": {"memory": "1Gi"}}, {"limits": {"memory": "1G"}}, ["limits.memory"]),
        ({"data": {"size": "1Gi"}}, {"data": {"size": "1024Mi"}}, ["data.size"]),
    ],
)
def test_fields_are_found_by_what_they_are(old: Any, new: Any, found: list[str]) -> None:
    assert paths(old, new) == found


def test_what_comes_and_goes_is_told_from_what_is_null() -> None:
    assert list(changes.changes({"a": 1}, {"b": 2})) == [
        Change("a", 1, ABSENT),
        Change("b", ABSENT, 2),
    ]


def config(name: str = "c", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def test_labels_of_a_release_are_left_out_and_counted() -> None:
    old, new = config(), config()
    old["metadata"]["labels"] = {"helm.sh/chart": "a-1", "team": "docs"}
    new["metadata"]["labels"] = {"helm.sh/chart": "a-2", "team": "docs"}
    compared = changes.compare("env", "n", [old], [new])
    assert compared.shown == []
    assert compared.folded == {"chart label": 1}
    new["metadata"]["labels"]["team"] = "wiki"
    (found,) = changes.compare("env", "n", [old], [new]).shown
    assert [change.path for change in found.changes] == ["metadata.labels.team"]


def test_a_release_label_of_a_pod_is_no_noise() -> None:
    def workload(chart: str) -> dict[str, Any]:
        pod = {"metadata": {"labels": {"helm.sh/chart": chart}}, "spec": {"containers": []}}
        meta = {"name": "w"}
        return {"kind": "Deployment", "metadata": meta, "spec": {"template": pod}}

    (found,) = changes.compare("env", "n", [workload("a-1")], [workload("a-2")]).shown
    assert [change.path for change in found.changes] == [
        "spec.template.metadata.labels[helm.sh/chart]"
    ]


def test_another_api_version_is_the_same_object() -> None:
    old = {"apiVersion": "g.io/v1beta1", "kind": "Thing", "metadata": {"name": "a"}}
    (found,) = changes.compare("env", "n", [old], [{**old, "apiVersion": "g.io/v1"}]).shown
    assert found.fate is Fate.CHANGED
    other = {**old, "apiVersion": "other.io/v1"}
    fates = [item.fate for item in changes.compare("env", "n", [old], [other]).shown]
    assert sorted(fate.value for fate in fates) == ["added", "removed"]


def test_a_hashed_name_is_the_same_thing_anew() -> None:
    old, new = config("settings-0a1b2c3d", a="1"), config("settings-99887766", a="2")
    (found,) = changes.compare("env", "n", [old], [new]).shown
    assert found.fate is Fate.REPLACED
    assert [change.path for change in found.changes] == ["data.a"]


@pytest.mark.parametrize(
    "new",
    [
        [config("other-99887766")],
        [config("settings")],
        # Two could be it, so none is.
        [config("settings-99887766"), config("settings-99887755")],
    ],
)
def test_a_name_that_only_looks_alike_is_another_thing(new: list[dict[str, Any]]) -> None:
    found = changes.compare("env", "n", [config("settings-0a1b2c3d")], new).shown
    assert {item.fate for item in found} == {Fate.ADDED, Fate.REMOVED}
    assert len(found) == len(new) + 1


def test_values_of_secrets_are_compared_and_never_shown() -> None:
    def secret(value: str, note: str) -> dict[str, Any]:
        meta = {"name": "s"}
        return {"kind": "Secret", "metadata": meta, "stringData": {"key": value}, "sops": note}

    (found,) = changes.compare("env", "n", [secret("hunter2", "a")], [secret("other", "b")]).shown
    assert [change.path for change in found.changes] == ["stringData.key"]
    assert "hunter2" not in str(found.changes)
    assert changes.compare("env", "n", [secret("x", "a")], [secret("x", "b")]).shown == []


def test_two_files_with_an_object_of_one_name_are_told_apart() -> None:
    def of(file: str, value: str) -> dict[str, Any]:
        item = config(a=value)
        item["metadata"]["annotations"] = {changes.FILE: file}
        return item

    old = [of("flux/base.yaml", "1"), of("flux/patch.yaml", "2")]
    new = [of("flux/moved.yaml", "1"), of("flux/patch.yaml", "3")]
    (found,) = changes.compare("flux", "", old, new).shown
    assert str(found.identity) == "ConfigMap c (flux/patch.yaml)"
