"""Who may do what: the flows that NetworkPolicies let pass, the rights that RBAC grants.

Both are spelled out into single permissions, so that "more than before" is a question of sets: a
permission of the new tree that none of the old one covers.
"""

import ipaddress
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from xwiki_stack.policy import Manifest

ANYONE, EVERY_PORT = "anyone", "every port"
"""What a rule without peers, and one without ports, means."""

DIRECTIONS = {"Ingress": ("ingress", "from"), "Egress": ("egress", "to")}
"""Type of a policy to the keys of its rules and of their peers."""


@dataclass(frozen=True, order=True)
class Pods:
    """Pods that policies select: a namespace and a label selector, as canonical JSON."""

    namespace: str
    selector: str

    def __str__(self) -> str:
        selector = json.loads(self.selector)
        return f"pods {selection(selector)}" if selector else "all pods"


@dataclass(frozen=True, order=True)
class Flow:
    """One permission: a direction, a peer and a port, each as canonical text."""

    direction: str
    peer: str
    port: str

    def __str__(self) -> str:
        word = "from" if self.direction == "Ingress" else "to"
        return f"{word} {peer_words(self.peer)} on {port_words(self.port)}"

    def covers(self, other: "Flow") -> bool:
        """Whether whatever `other` lets pass, this does as well."""
        return (
            self.direction == other.direction
            and (self.port in (EVERY_PORT, other.port) or _port_range_covers(self.port, other.port))
            and (self.peer in (ANYONE, other.peer) or _block_covers(self.peer, other.peer))
        )


def pods_of(policy: Manifest, namespace: str) -> Pods:
    """The pods a NetworkPolicy selects."""
    selector = policy["spec"].get("podSelector") or {}
    return Pods(policy["metadata"].get("namespace") or namespace, canonical(selector))


def flows(objects: Iterable[Manifest], pods: Pods, namespace: str) -> set[Flow]:
    """What may pass to and from these pods: the sum of the policies that select them.

    Where no policy speaks about a direction, everything passes.
    """
    every = Pods(pods.namespace, "{}")
    policies = [item for item in objects if item.get("kind") == "NetworkPolicy"]
    about = [item for item in policies if pods_of(item, namespace) in (pods, every)]
    found: set[Flow] = set()
    for direction in DIRECTIONS:
        speaking = [item for item in about if direction in _types(item)]
        if not speaking:
            found.add(Flow(direction, ANYONE, EVERY_PORT))
        for item in speaking:
            found.update(_allowed(item, direction))
    return found


def beyond(new: set[Flow], old: set[Flow]) -> list[Flow]:
    """The flows of `new` that nothing in `old` covers."""
    return sorted(flow for flow in new if not any(before.covers(flow) for before in old))


@dataclass(frozen=True, order=True)
class Right:
    """One right of a Role: an API group, a resource (or URL), a verb, a name or '*' for all."""

    group: str
    resource: str
    verb: str
    name: str = "*"

    def __str__(self) -> str:
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        named = "" if self.name == "*" else f" named {self.name}"
        return f"{self.verb} {resource}{named}"

    def covers(self, other: "Right") -> bool:
        """Whether this grants whatever `other` does."""
        mine = (self.group, self.resource, self.verb, self.name)
        theirs = (other.group, other.resource, other.verb, other.name)
        return all(own in ("*", wanted) for own, wanted in zip(mine, theirs, strict=True))


def rights(role: Manifest | None) -> set[Right]:
    """Every right of a Role or ClusterRole."""
    found: set[Right] = set()
    for rule in (role or {}).get("rules") or []:
        urls = rule.get("nonResourceURLs") or []
        found.update(Right("", url, verb) for url in urls for verb in rule["verbs"])
        found.update(
            Right(*words)
            for words in itertools.product(
                rule.get("apiGroups") or [],
                rule.get("resources") or [],
                rule["verbs"],
                rule.get("resourceNames") or ["*"],
            )
        )
    return found


def wider(new: set[Right], old: set[Right]) -> list[Right]:
    """The rights of `new` that nothing in `old` covers."""
    return sorted(right for right in new if not any(before.covers(right) for before in old))


def subjects(binding: Manifest | None) -> set[str]:
    """Who a binding gives its role to: `ServiceAccount namespace/name`."""
    return {
        f"{item['kind']} "
        + (f"{item['namespace']}/" if item.get("namespace") else "")
        + item["name"]
        for item in (binding or {}).get("subjects") or []
    }


def selection(selector: dict[str, Any]) -> str:
    """A label selector in words."""
    labels = selector.get("matchLabels") or {}
    words = [f"{key.rpartition('/')[2]}={value}" for key, value in sorted(labels.items())]
    for item in selector.get("matchExpressions") or []:
        values = ", ".join(item.get("values") or [])
        words.append(f"{item['key']} {item['operator']}" + (f" ({values})" if values else ""))
    return ", ".join(words) or "(all)"


def peer_words(peer: str) -> str:
    """A peer of a flow in words."""
    if peer == ANYONE:
        return ANYONE
    item = json.loads(peer)
    if block := item.get("ipBlock"):
        without = ", ".join(block.get("except") or [])
        return str(block["cidr"]) + (f" without {without}" if without else "")
    namespaces, pods = item.get("namespaceSelector"), item.get("podSelector")
    words = "all pods" if not pods else f"pods {selection(pods)}"
    if namespaces is None:
        return words
    return f"{words} in " + (
        f"namespaces {selection(namespaces)}" if namespaces else "every namespace"
    )


def port_words(port: str) -> str:
    """A port of a flow in words."""
    if port == EVERY_PORT:
        return EVERY_PORT
    item = json.loads(port)
    last = f"-{item['endPort']}" if "endPort" in item else ""
    number = item.get("port")
    return f"{item['protocol']} {number}{last}" if number is not None else f"all {item['protocol']}"


def canonical(value: Any) -> str:
    """A value as JSON that is the same for the same content."""
    return json.dumps(value, sort_keys=True)


def _types(policy: Manifest) -> Sequence[str]:
    """The directions a policy speaks about; without a word of its own: Egress only with rules."""
    spec = policy["spec"]
    derived = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
    return spec.get("policyTypes") or derived


def _allowed(policy: Manifest, direction: str) -> Iterator[Flow]:
    rules, peers = DIRECTIONS[direction]
    for rule in policy["spec"].get(rules) or []:
        who = [canonical(peer) for peer in rule.get(peers) or []] or [ANYONE]
        ports = [canonical({"protocol": "TCP", **port}) for port in rule.get("ports") or []] or [
            EVERY_PORT
        ]
        for peer, port in itertools.product(who, ports):
            yield Flow(direction, peer, port)


def _block_covers(mine: str, other: str) -> bool:
    """Whether a block of addresses without exceptions holds another block."""
    if ANYONE in (mine, other):
        return False
    blocks = [json.loads(peer).get("ipBlock") for peer in (mine, other)]
    if not all(blocks) or blocks[0].get("except"):
        return False
    own, theirs = (ipaddress.ip_network(block["cidr"], strict=False) for block in blocks)
    return own.version == theirs.version and theirs.subnet_of(own)  # type: ignore[arg-type]


def _port_range_covers(mine: str, other: str) -> bool:
    """Whether a port, a range or a whole protocol holds another port or range."""
    if EVERY_PORT in (mine, other):
        return False
    own, theirs = json.loads(mine), json.loads(other)
    if own["protocol"] != theirs["protocol"]:
        return False
    if own.get("port") is None:
        return True
    numbers = [own.get("port"), theirs.get("port")]
    if not all(isinstance(number, int) for number in numbers):
        return False
    first, last = own["port"], own.get("endPort", own["port"])
    return bool(first <= theirs["port"] and theirs.get("endPort", theirs["port"]) <= last)
