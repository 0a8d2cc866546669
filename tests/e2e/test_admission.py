"""The namespace's Pod Security level `restricted` is enforced, not only written on it."""

import copy
from typing import Any

import pytest

from tests.e2e.conftest import Bed
from tests.e2e.enforcement import SLEEP, pod
from tests.e2e.wiki import Wiki

GOOD = pod("probe", SLEEP)


def broken(path: str, value: Any) -> dict[str, Any]:
    """The good pod with one field changed."""
    manifest = copy.deepcopy(GOOD)
    at: Any = manifest["spec"]
    *way, last = path.split(".")
    for step in way:
        at = at[int(step) if step.isdigit() else step]
    at[last] = value
    return manifest


def create(bed: Bed, wiki: Wiki, manifest: dict[str, Any]) -> str:
    """What the API server answers to a pod in the wiki's namespace; nothing is created."""
    manifest = copy.deepcopy(manifest)
    manifest["metadata"]["namespace"] = wiki.namespace
    words = ["create", "--dry-run=server", "-f", "-"]
    answer = bed.kubectl(*words, stdin=_text(manifest), check=False)
    return answer.out + answer.err


def _text(manifest: dict[str, Any]) -> str:
    import yaml

    return str(yaml.safe_dump(manifest))


def test_a_restricted_pod_is_admitted(bed: Bed, wiki: Wiki) -> None:
    assert "created (server dry run)" in create(bed, wiki, GOOD)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("containers.0.securityContext", {"privileged": True}),
        ("containers.0.securityContext.allowPrivilegeEscalation", True),
        ("containers.0.securityContext.capabilities", {"add": ["NET_ADMIN"]}),
        ("containers.0.securityContext.runAsNonRoot", False),
        ("containers.0.securityContext.seccompProfile", {"type": "Unconfined"}),
        ("hostNetwork", True),
        ("volumes", [{"name": "host", "hostPath": {"path": "/"}}]),
    ],
)
def test_a_pod_with_more_rights_is_refused(bed: Bed, wiki: Wiki, path: str, value: Any) -> None:
    said = create(bed, wiki, broken(path, value))
    assert "violates PodSecurity" in said, said
