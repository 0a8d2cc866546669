"""Manifests of runbooks that no bed can execute, before a real API server with the real CRDs."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests import crds
from tests.e2e import definitions
from tests.e2e.conftest import Bed
from xwiki_stack.errors import StackError
from xwiki_stack.runbook import FOLDER, blocks

pytestmark = crds.here

NAMESPACES = ("longhorn-system", "wiki-staging")


def manifests() -> list[dict[str, Any]]:
    """All manifests of the page, in order."""
    texts = [b.text for b in blocks(FOLDER / "restore-longhorn-pvc.md") if b.language == "yaml"]
    return [item for text in texts for item in yaml.safe_load_all(text)]


@pytest.fixture
def longhorn(bed: Bed) -> Iterator[Bed]:
    """The cluster with Longhorn's kinds of objects and nothing that acts on them."""
    with definitions.serving(bed, definitions.files(["longhorn"]), NAMESPACES):
        yield bed


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
        assert "created" in send(longhorn, item)
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
