"""Manifests of runbooks that no bed can execute, before a real API server with the real CRDs."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import Bed
from tests.e2e.patience import eventually
from xwiki_stack import repo
from xwiki_stack.errors import StackError
from xwiki_stack.runbook import FOLDER, blocks

LONGHORN = repo.beside() / "upstream" / "longhorn" / "crds"
"""Upstream's own CRDs, where they lie beside the checkout."""

NAMESPACES = ("longhorn-system", "wiki-staging")


def manifests() -> list[dict[str, Any]]:
    """All manifests of the page, in order."""
    texts = [b.text for b in blocks(FOLDER / "restore-longhorn-pvc.md") if b.language == "yaml"]
    return [item for text in texts for item in yaml.safe_load_all(text)]


@pytest.fixture
def longhorn(bed: Bed) -> Iterator[Bed]:
    """The cluster with Longhorn's kinds of objects and nothing that acts on them."""
    if not LONGHORN.is_dir():
        pytest.skip(
            f"no CRDs of Longhorn in {LONGHORN}: it runs where shared lies beside the checkout"
        )
    crds = ["--filename", str(LONGHORN)]
    bed.kubectl("apply", "--server-side", "--force-conflicts", *crds)
    for name in NAMESPACES:
        bed.kubectl("create", "namespace", name)
    yield bed
    bed.kubectl("delete", *crds, "--wait=false")
    for name in NAMESPACES:
        bed.kubectl("delete", "namespace", name, "--wait=false")


def send(bed: Bed, manifest: dict[str, Any]) -> str:
    """Let the API server judge it; nothing is stored."""
    words = ["create", "--dry-run=server", "--validate=strict", "--filename=-"]
    return bed.kubectl(*words, stdin=yaml.safe_dump(manifest)).out


def test_the_api_server_takes_the_manifests_of_a_volume_s_restore(longhorn: Bed) -> None:
    found = manifests()
    assert [item["kind"] for item in found] == [
        "Volume", "PersistentVolume", "PersistentVolumeClaim",
    ]  # fmt: skip
    for item in found:
        assert "created" in eventually(lambda item=item: send(longhorn, item), seconds=30)  # type: ignore[misc]
    volume, persistent, claim = found
    # They lead to each other: claim -> volume of Kubernetes -> volume of Longhorn.
    assert claim["spec"]["volumeName"] == persistent["metadata"]["name"]
    assert persistent["spec"]["csi"]["volumeHandle"] == volume["metadata"]["name"]
    reference = persistent["spec"]["claimRef"]
    assert (reference["namespace"], reference["name"]) == (
        claim["metadata"]["namespace"], claim["metadata"]["name"],
    )  # fmt: skip
    for place, value in (("fromBakup", "x"), ("numberOfReplicas", "two"), ("accessMode", "rw")):
        wrong = copy.deepcopy(volume)
        wrong["spec"][place] = value
        with pytest.raises(StackError, match=place):
            send(longhorn, wrong)
