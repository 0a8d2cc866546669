"""A real engine means by a policy what the oracle means: the cases of tests/data/policies.yaml.

What is proven offline by the oracle holds on a cluster as far as these agree.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests import semantics
from tests.e2e import probes
from tests.e2e.conftest import Bed
from tests.e2e.patience import eventually
from tests.e2e.probes import OPEN, PODS_NETWORK, SILENT
from tests.semantics import Case, Probe
from xwiki_stack import oracle
from xwiki_stack.oracle import Place

PREFIX = "semantics-"
"""Of the namespaces, so that they are nobody else's."""


LOTS = 12
"""How many cases are drawn."""


def real(name: str) -> tuple[str, str]:
    """Namespace and name of a pod of the cases."""
    namespace, _, pod = name.partition("/")
    return f"{PREFIX}{namespace}", pod


@pytest.fixture(scope="module")
def addresses(bed: Bed) -> Iterator[dict[str, str]]:
    """The pods of the cases; their addresses by the name that the cases have for them."""
    names = [f"{PREFIX}{name}" for name in semantics.NAMESPACES]
    bed.kubectl("delete", "namespace", *names, "--ignore-not-found")
    for name, labels in semantics.NAMESPACES.items():
        own = {"pod-security.kubernetes.io/enforce": "restricted", **labels}
        metadata = {"name": f"{PREFIX}{name}", "labels": own}
        bed.kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    ports = {
        kind.upper(): [int(p.partition("/")[0]) for p in semantics.PORTS if p.endswith(kind)]
        for kind in ("tcp", "udp")
    }
    for name, pod in semantics.PODS.items():
        item = probes.pod(bed, *real(name), pod["labels"], ports)
        item["spec"]["containers"][0]["ports"] = [
            {"name": word, "containerPort": number} for word, number in pod["ports"].items()
        ]
        bed.kube.apply(item)
    count = len(semantics.PODS)
    found = eventually(lambda: probes.addresses(bed, names, count), seconds=120)
    yield {name: found["/".join(real(name))] for name in semantics.PODS}
    bed.kubectl("delete", "namespace", *names, "--wait=false")


def answers(bed: Bed, addresses: dict[str, str]) -> dict[Probe, str]:
    """What came of every probe."""

    def of(source: str) -> dict[Probe, str]:
        asked = {}
        for probe in semantics.probes():
            if probe[0] == source:
                number, _, kind = probe[2].partition("/")
                asked[" ".join(probe)] = (addresses[probe[1]], int(number), kind.upper())
        found = probes.asked(bed, *real(source), asked)
        return {probe: found[" ".join(probe)] for probe in semantics.probes() if probe[0] == source}

    with ThreadPoolExecutor(len(semantics.PODS)) as pool:
        parts = list(pool.map(of, semantics.PODS))
    return {probe: answer for part in parts for probe, answer in part.items()}


@pytest.mark.parametrize("case", semantics.cases(), ids=lambda case: case.name)
def test_the_engine_reads_a_case_as_the_api_says(
    bed: Bed, addresses: dict[str, str], case: Case
) -> None:
    agree(bed, addresses, case, {probe: case.open(probe) for probe in semantics.probes()})


@pytest.mark.parametrize("seed", range(LOTS))
def test_the_engine_reads_a_case_by_lot_as_the_oracle_does(
    bed: Bed, addresses: dict[str, str], seed: int
) -> None:
    case = semantics.drawn(seed)
    policies = case.manifests({**addresses, "pods": PODS_NETWORK})
    pods = {
        name: Place(
            name,
            addresses[name],
            name.partition("/")[0],
            pod["labels"],
            {word: ("TCP", number) for word, number in pod["ports"].items()},
        )
        for name, pod in semantics.PODS.items()
    }
    wanted = {}
    for probe in semantics.probes():
        number, _, kind = probe[2].partition("/")
        reached = oracle.reach(policies, semantics.NAMESPACES, pods[probe[0]], pods[probe[1]])
        wanted[probe] = (kind.upper(), int(number)) in reached
    agree(bed, addresses, case, wanted)


def agree(bed: Bed, addresses: dict[str, str], case: Case, wanted: Mapping[Probe, bool]) -> None:
    """The policies of a case come to what is wanted, and to nothing else."""
    for name in semantics.NAMESPACES:
        bed.kubectl("delete", "networkpolicy", "--all", "-n", f"{PREFIX}{name}")
    for item in case.manifests({**addresses, "pods": PODS_NETWORK}):
        namespace = f"{PREFIX}{item['metadata']['namespace']}"
        bed.kube.apply({**item, "metadata": {**item["metadata"], "namespace": namespace}})

    def look() -> bool:
        found = answers(bed, addresses)
        assert len(found) == 48
        wrong = {
            " ".join(probe): answer
            for probe, answer in found.items()
            if answer != (OPEN if wanted[probe] else SILENT)
        }
        assert not wrong, wrong
        return True

    eventually(look, seconds=45)
