"""A real engine means by a policy what the oracle means: the cases of tests/data/policies.yaml.

What is proven offline by the oracle holds on a cluster as far as these agree.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from queue import Queue

import pytest
import yaml

from tests import semantics
from tests.e2e import probes
from tests.e2e.conftest import Bed
from tests.e2e.patience import eventually
from tests.e2e.probes import OPEN, PODS_NETWORK, SILENT, Askers
from tests.semantics import Case, Probe
from xwiki_stack import oracle
from xwiki_stack.oracle import Manifest, Place

PREFIX = "semantics-"
"""Of the namespaces, so that they are nobody else's."""

LOTS = 12
"""How many cases are drawn."""

SETS = 4
"""How many sets of the cases' pods there are, each for a case at a time: most of it is waiting."""

Addresses = dict[str, str]
"""Of the pods of one set, by the name that the cases have for them."""


@dataclass(frozen=True)
class Set:
    """The pods of the cases, in namespaces of their own."""

    bed: Bed
    askers: Askers
    number: int

    @property
    def namespaces(self) -> list[str]:
        """Theirs."""
        return [self.namespace(name) for name in semantics.NAMESPACES]

    def namespace(self, name: str) -> str:
        """The real name of a namespace of the cases."""
        return f"{PREFIX}{self.number}-{name}"

    def real(self, name: str) -> tuple[str, str]:
        """Namespace and name of a pod of the cases."""
        namespace, _, pod = name.partition("/")
        return self.namespace(namespace), pod

    def furnish(self) -> None:
        """Make the namespaces and the pods."""
        for name, labels in semantics.NAMESPACES.items():
            own = {"pod-security.kubernetes.io/enforce": "restricted", **labels}
            metadata = {"name": self.namespace(name), "labels": own}
            self.bed.kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        ports = {
            kind.upper(): [int(p.partition("/")[0]) for p in semantics.PORTS if p.endswith(kind)]
            for kind in ("tcp", "udp")
        }
        for name, pod in semantics.PODS.items():
            item = probes.pod(self.bed, *self.real(name), pod["labels"], ports)
            item["spec"]["containers"][0]["ports"] = [
                {"name": word, "containerPort": number} for word, number in pod["ports"].items()
            ]
            self.bed.kube.apply(item)

    @cached_property
    def addresses(self) -> Addresses:
        """Those of the pods, once all are ready."""
        count = len(semantics.PODS)
        found = eventually(lambda: probes.addresses(self.bed, self.namespaces, count), seconds=180)
        return {name: found["/".join(self.real(name))] for name in semantics.PODS}

    def answers(self) -> dict[Probe, str]:
        """What came of every probe."""

        def of(source: str) -> dict[Probe, str]:
            asked = {}
            for probe in semantics.probes():
                if probe[0] == source:
                    number, _, kind = probe[2].partition("/")
                    place = (self.addresses[probe[1]], int(number), kind.upper())
                    asked[" ".join(probe)] = place
            found = self.askers.asked(*self.real(source), asked)
            own = [probe for probe in semantics.probes() if probe[0] == source]
            return {probe: found[" ".join(probe)] for probe in own}

        with ThreadPoolExecutor(len(semantics.PODS)) as pool:
            parts = list(pool.map(of, semantics.PODS))
        return {probe: answer for part in parts for probe, answer in part.items()}

    def refuted(self, case: Case, wanted: Mapping[Probe, bool]) -> str:
        """What the policies of a case come to and should not; empty where all is as wanted."""
        self.bed.kubectl("delete", "networkpolicy", "--all-namespaces", "--selector", self.mark)
        items = [self.moved(item) for item in case.manifests({**self.addresses, **NETWORKS})]
        if items:
            self.bed.kubectl("apply", "--filename=-", stdin=yaml.safe_dump_all(items))

        def look() -> bool:
            found = self.answers()
            assert len(found) == 48
            wrong = {
                " ".join(probe): answer
                for probe, answer in found.items()
                if answer != (OPEN if wanted[probe] else SILENT)
            }
            assert not wrong, wrong
            return True

        try:
            eventually(look, seconds=45)
        except AssertionError as error:
            return str(error)
        return ""

    @property
    def mark(self) -> str:
        """The label of this set's policies."""
        return f"semantics={self.number}"

    def moved(self, item: Manifest) -> Manifest:
        """A policy of a case in this set's namespaces."""
        key, _, value = self.mark.partition("=")
        metadata = {**item["metadata"], "namespace": self.namespace(item["metadata"]["namespace"])}
        return {**item, "metadata": {**metadata, "labels": {key: value}}}


NETWORKS = {"pods": PODS_NETWORK}


def by_oracle(case: Case, addresses: Addresses) -> dict[Probe, bool]:
    """What the oracle says of a case."""
    policies = case.manifests({**addresses, **NETWORKS})
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
    return wanted


@pytest.fixture(scope="module")
def verdicts(bed: Bed) -> Iterator[dict[str, str]]:
    """What was not so in each case, by name; a case for each set at a time."""
    askers = Askers(bed)
    sets = [Set(bed, askers, number) for number in range(SETS)]
    every = [name for own in sets for name in own.namespaces]
    bed.kubectl("delete", "namespace", *every, "--ignore-not-found")
    for own in sets:
        own.furnish()
    free: Queue[Set] = Queue()
    for own in sets:
        free.put(own)

    def judged(case: Case, told: bool) -> str:
        own = free.get()
        try:
            by_table = {probe: case.open(probe) for probe in semantics.probes()}
            return own.refuted(case, by_table if told else by_oracle(case, own.addresses))
        finally:
            free.put(own)

    told = {case.name: (case, True) for case in semantics.cases()}
    lots = {str(seed): (semantics.drawn(seed), False) for seed in range(LOTS)}
    cases = {**told, **lots}
    with askers, ThreadPoolExecutor(SETS) as pool:
        found = list(pool.map(lambda pair: judged(*pair), cases.values()))
    yield dict(zip(cases, found, strict=True))
    bed.kubectl("delete", "namespace", *every, "--wait=false")


@pytest.mark.parametrize("name", [case.name for case in semantics.cases()])
def test_the_engine_reads_a_case_as_the_api_says(verdicts: dict[str, str], name: str) -> None:
    assert verdicts[name] == ""


@pytest.mark.parametrize("seed", range(LOTS))
def test_the_engine_reads_a_case_by_lot_as_the_oracle_does(
    verdicts: dict[str, str], seed: int
) -> None:
    assert verdicts[str(seed)] == ""
