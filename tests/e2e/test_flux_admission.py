"""Every object of the tree is accepted by a real API server with the real CRDs, their rules too.

Nothing is reconciled: there are no controllers of these charts. Only CRDs and namespaces are made.
"""

import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests import clusters, crds
from tests.e2e import definitions
from tests.e2e.conftest import Bed
from xwiki_stack.render import Manifest

pytestmark = crds.here


def homes() -> list[str]:
    """Every namespace that the tree has or takes for given."""
    objects = [item for name in clusters.NAMES for _part, item in clusters.objects(name)]
    names = {item["metadata"]["name"] for item in objects if item["kind"] == "Namespace"}
    return sorted({*names, "flux-system"})


@pytest.fixture(scope="module")
def server(bed: Bed) -> Iterator[Bed]:
    """The cluster with the CRDs and namespaces; without them again afterwards."""
    found = definitions.files()
    assert len(found) > 50
    with definitions.serving(bed, found, homes()):
        yield bed


def asked(server: Bed, *items: Manifest) -> list[str]:
    """What the API server says to each object that it would be given."""
    words = ["apply", "--server-side", "--dry-run=server", "--field-manager=flux", "-f", "-"]
    said = server.kubectl(*words, stdin=yaml.safe_dump_all(items), check=False)
    return [line for line in f"{said.out}\n{said.err}".splitlines() if line.strip()]


@pytest.mark.parametrize("name", clusters.NAMES)
def test_every_object_is_accepted(server: Bed, name: str) -> None:
    items = [item for _part, item in clusters.objects(name)]
    said = asked(server, *items)
    assert [line for line in said if "serverside-applied (server dry run)" not in line] == []
    assert len(said) == len(items)


@pytest.mark.parametrize(
    ("kind", "path", "value", "words"),
    [
        (
            "HelmRelease",
            ("spec", "install", "strategy", "name"),
            "RemediateOnFailure",
            "retryInterval cannot be set",
        ),
        ("HelmRelease", ("spec", "chart"), {"spec": {}}, "Required value"),
        ("Kustomization", ("spec", "sourceRef", "kind"), "HelmChart", "Unsupported value"),
        ("Gateway", ("spec", "listeners", 0, "port"), 0, "should be greater than or equal to 1"),
        ("RecurringJob", ("spec", "task"), "pray", "Unsupported value"),
        ("StorageClass", ("reclaimPolicy",), "Burn", "Unsupported value"),
    ],
)
def test_an_object_that_breaks_a_rule_is_refused(
    server: Bed, kind: str, path: tuple[Any, ...], value: object, words: str
) -> None:
    objects = [item for _part, item in clusters.objects("traefik")]
    item = copy.deepcopy(next(item for item in objects if item["kind"] == kind))
    assert "serverside-applied (server dry run)" in asked(server, item)[0]
    place: Any = item
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert words in "\n".join(asked(server, item))


def test_more_copies_are_refused_for_a_class_that_exists_so_flux_makes_it_anew(
    server: Bed,
) -> None:
    """Why the classes carry `force`; the field manager is the same, as Flux's is."""

    def of(name: str) -> Manifest:
        objects = [item for _part, item in clusters.objects(name)]
        found = next(item for item in objects if item["kind"] == "StorageClass")
        return {**found, "metadata": {**found["metadata"], "name": "force-is-needed"}}

    words = ["apply", "--server-side", "--field-manager=flux", "-f", "-"]
    server.kubectl(*words, stdin=yaml.safe_dump(of("decided")))
    try:
        said = server.kubectl(*words, stdin=yaml.safe_dump(of("ovh")), check=False)
        # Older servers say that updates to it are forbidden.
        assert re.search(r"parameters: .*(immutable|forbidden)", said.err, re.I)
    finally:
        server.kubectl("delete", "storageclass", "force-is-needed")
    annotations = of("decided")["metadata"]["annotations"]
    assert annotations["kustomize.toolkit.fluxcd.io/force"] == "Enabled"
