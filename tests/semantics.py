"""The cases of tests/data/policies.yaml: small worlds, policies in them, and who reaches whom."""

import copy
import json
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import product
from typing import Any

import yaml

from tests.environments import DATA
from xwiki_stack.render import Manifest

DOCUMENT: dict[str, Any] = yaml.safe_load((DATA / "policies.yaml").read_text())
NAMESPACES: dict[str, dict[str, str]] = DOCUMENT["namespaces"]
PODS: dict[str, dict[str, Any]] = DOCUMENT["pods"]
PORTS: list[str] = DOCUMENT["ports"]

Probe = tuple[str, str, str]
"""Who, whom, on which port: one/a, two/c, 8080/tcp."""

VERDICT = re.compile(r"(open|block) (\S+) -> (\S+) (\S+)")


@dataclass(frozen=True)
class Case:
    """Policies, and what they come to."""

    name: str
    policies: tuple[dict[str, Any], ...]
    verdicts: tuple[str, ...]

    def manifests(self, addresses: Mapping[str, str]) -> list[Manifest]:
        """The policies as objects. addresses: of each pod, and the network `pods`."""
        text = re.sub(
            r"\$\{([^}]+)\}", lambda found: addresses[found[1]], json.dumps(self.policies)
        )
        return [
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": f"case-{number}", "namespace": item["namespace"]},
                "spec": item["spec"],
            }
            for number, item in enumerate(json.loads(text))
        ]

    def open(self, probe: Probe) -> bool:
        """Whether a connection shall be made."""
        found = True
        for line in self.verdicts:
            verdict = VERDICT.fullmatch(line)
            assert verdict, f"{self.name}: {line} is no verdict"
            if all(map(fnmatchcase, probe, verdict.groups()[1:])):
                found = verdict[1] == "open"
        return found


def cases() -> list[Case]:
    """All of them."""
    return [
        Case(item["name"], tuple(item["policies"]), tuple(item["verdicts"]))
        for item in DOCUMENT["cases"]
    ]


def drawn(seed: int) -> Case:
    """A case by lot, whose verdicts nobody wrote: two to five policies out of few words."""
    lot = random.Random(seed)  # noqa: S311 - to be drawn again

    def some(*choices: Any) -> Any:
        return copy.deepcopy(lot.choice(choices))

    def selector(*labels: dict[str, str]) -> dict[str, Any]:
        key, value = lot.choice([pair for label in labels for pair in label.items()])
        wanted = [{"key": key, "operator": some("In", "NotIn"), "values": [value]}]
        exists = [{"key": key, "operator": some("Exists", "DoesNotExist")}]
        found: dict[str, Any] = some(
            {},
            {"matchLabels": {key: value}},
            {"matchExpressions": wanted},
            {"matchExpressions": exists},
        )
        return found

    pods = [pod["labels"] for pod in PODS.values()]

    def peer() -> dict[str, Any]:
        block = {"cidr": f"${{{some(*PODS)}}}/32"}
        wide = {"cidr": "${pods}", "except": [f"${{{some(*PODS)}}}/32"]}
        namespaces = selector(*NAMESPACES.values())
        found: dict[str, Any] = some(
            {"podSelector": selector(*pods)},
            {"namespaceSelector": namespaces},
            {"namespaceSelector": namespaces, "podSelector": selector(*pods)},
            {"ipBlock": some(block, wide)},
        )
        return found

    def port() -> dict[str, Any]:
        found: dict[str, Any] = some(
            {"port": 8080}, {"port": 8081}, {"port": "web"}, {"port": "admin"}, {"protocol": "TCP"},
            {"port": 8080, "protocol": "UDP"}, {"port": 8081, "endPort": 8082},
        )  # fmt: skip
        return found

    def rule(side: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if lot.random() < 0.8:
            found[side] = [peer() for _ in range(lot.randint(1, 2))]
        if lot.random() < 0.7:
            found["ports"] = [port() for _ in range(lot.randint(1, 2))]
        return found

    def policy() -> dict[str, Any]:
        spec: dict[str, Any] = {"podSelector": selector(*pods)}
        if lot.random() < 0.8:
            spec["policyTypes"] = some(["Ingress"], ["Egress"], ["Ingress", "Egress"])
        for direction, side in (("ingress", "from"), ("egress", "to")):
            if lot.random() < 0.7:
                spec[direction] = [rule(side) for _ in range(lot.randint(0, 2))]
        return {"namespace": some(*NAMESPACES), "spec": spec}

    return Case(f"by lot {seed}", tuple(policy() for _ in range(lot.randint(2, 5))), ())


def probes() -> Iterator[Probe]:
    """Every pair of pods on every port; none asks itself."""
    for source, target, port in product(PODS, PODS, PORTS):
        if source != target:
            yield source, target, port
