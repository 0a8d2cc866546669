"""The cases of tests/data/policies.yaml: small worlds, policies in them, and who reaches whom."""

import json
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


def probes() -> Iterator[Probe]:
    """Every pair of pods on every port; none asks itself."""
    for source, target, port in product(PODS, PODS, PORTS):
        if source != target:
            yield source, target, port
