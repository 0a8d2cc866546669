"""The kinds of others on a cluster that has none of their controllers."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests import crds
from tests.e2e.conftest import Bed
from tests.e2e.patience import eventually

OWNERS = (
    "flux",
    "longhorn",
    "cert-manager",
    "gateway-api",
    "traefik",
    "external-secrets",
    "kube-prometheus-stack",
)
"""Whose CRDs the tree's objects are of."""


def files(owners: Iterable[str] = OWNERS) -> list[Path]:
    """The files of CRDs of these owners."""
    found = [path for name in owners for path in (crds.FOLDER / name / "crds").glob("*.yaml")]
    return sorted(path for path in found if "vap_" not in path.name)


def serve(bed: Bed, found: Iterable[Path]) -> None:
    """Give a server these files; ends when it serves what they define, which takes seconds."""
    names = {item["metadata"]["name"] for path in found for item in crds.read(path)}
    assert names
    eventually(lambda: stays(bed, "customresourcedefinitions", names))
    bed.kubectl("apply", "--server-side", "--force-conflicts", *_words(found))

    def served() -> bool:
        known = bed.kubectl("api-resources", "--output=name").out.split()
        assert sorted(names - set(known)) == []
        return True

    eventually(served)


@contextmanager
def serving(bed: Bed, found: Iterable[Path], namespaces: Sequence[str]) -> Iterator[None]:
    """Have the kinds and the namespaces of their objects, and neither again afterwards."""
    serve(bed, found)
    eventually(lambda: stays(bed, "namespaces", set(namespaces)))
    for name in namespaces:
        bed.kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    try:
        yield
    finally:
        bed.kubectl("delete", "--wait=false", "namespace", *namespaces)
        bed.kubectl("delete", "--wait=false", *_words(found))


def stays(bed: Bed, kind: str, names: set[str]) -> bool:
    """Whether none of these is on its way out, in whose place nothing can be made yet."""
    form = "jsonpath={range .items[?(@.metadata.deletionTimestamp)]}{.metadata.name} {end}"
    return names.isdisjoint(bed.kubectl("get", kind, "--output", form).out.split())


def _words(found: Iterable[Path]) -> list[str]:
    return [word for path in found for word in ("--filename", str(path))]
