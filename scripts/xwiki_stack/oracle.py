"""What Kubernetes' NetworkPolicies come to, without a cluster: which ports of whom a pod reaches.

The rules are those of the API's reference, networking.k8s.io/v1 NetworkPolicySpec. All ports are
judged at once, as spans. What no policy can say is left out: a pod always reaches itself, and its
node's kubelet always reaches it.
"""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

Manifest = dict[str, Any]
Namespaces = Mapping[str, Mapping[str, str]]
"""Namespace to its labels."""

EGRESS, INGRESS = "Egress", "Ingress"

PROTOCOLS = ("TCP", "UDP", "SCTP")

PORTS = 65535


@dataclass(frozen=True)
class Ports:
    """A set of ports: sorted, separate spans (protocol, first, last)."""

    spans: tuple[tuple[str, int, int], ...] = ()

    @classmethod
    def of(cls, spans: Iterable[tuple[str, int, int]]) -> "Ports":
        """The ports of spans that may overlap."""
        found: list[tuple[str, int, int]] = []
        for protocol, first, last in sorted(spans):
            if found and found[-1][0] == protocol and first <= found[-1][2] + 1:
                found[-1] = (protocol, found[-1][1], max(last, found[-1][2]))
            else:
                found.append((protocol, first, last))
        return cls(tuple(found))

    def __or__(self, other: "Ports") -> "Ports":
        return Ports.of([*self.spans, *other.spans])

    def __and__(self, other: "Ports") -> "Ports":
        return Ports.of(
            (protocol, max(first, begin), min(last, end))
            for protocol, first, last in self.spans
            for same, begin, end in other.spans
            if protocol == same and max(first, begin) <= min(last, end)
        )

    def __contains__(self, port: tuple[str, int]) -> bool:
        return any(p == port[0] and first <= port[1] <= last for p, first, last in self.spans)

    def __bool__(self) -> bool:
        return bool(self.spans)

    def __str__(self) -> str:
        if self == EVERY:
            return "every port"
        words = [
            f"{first}/{protocol.lower()}" if first == last else f"{first}-{last}/{protocol.lower()}"
            for protocol, first, last in self.spans
        ]
        return ", ".join(words) or "nothing"


NONE = Ports()
EVERY = Ports.of((protocol, 1, PORTS) for protocol in PROTOCOLS)


@dataclass(frozen=True, eq=False)
class Place:
    """A pod, or an address outside of all pods (`namespace` is empty). ports: by name, of a pod.

    Two of them are never the same, however alike.
    """

    name: str
    address: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, tuple[str, int]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def reach(
    policies: Sequence[Manifest], namespaces: Namespaces, source: Place, target: Place
) -> Ports:
    """The ports of the target that the source can open a connection to."""
    if source is target:
        return EVERY
    leaves = judge(policies, namespaces, EGRESS, source, target)
    return leaves and leaves & judge(policies, namespaces, INGRESS, target, source)


def judge(
    policies: Sequence[Manifest],
    namespaces: Namespaces,
    direction: str,
    guarded: Place,
    other: Place,
) -> Ports:
    """What the policies of one place allow in a direction; every port where none guards it."""
    mine = [item for item in policies if guards(item, direction, guarded)]
    if not mine:
        return EVERY
    target = other if direction == EGRESS else guarded
    return Ports.of(
        span
        for item in mine
        for rule in item["spec"].get(direction.lower()) or ()
        if _meets(rule, direction, item["metadata"]["namespace"], namespaces, other)
        for span in _ports(rule, target).spans
    )


def guards(item: Manifest, direction: str, place: Place) -> bool:
    """Whether a policy isolates a place in a direction."""
    return (
        bool(place.namespace)
        and item["metadata"]["namespace"] == place.namespace
        and direction in types_of(item["spec"])
        and selects(item["spec"].get("podSelector") or {}, place.labels)
    )


def types_of(spec: Manifest) -> list[str]:
    """The directions of a policy: without the field Ingress always, Egress if there is a rule."""
    found: list[str] = spec.get("policyTypes") or []
    return found or ([INGRESS, EGRESS] if spec.get("egress") else [INGRESS])


def selects(selector: Manifest, labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches; an empty one matches everything.

    Raises ValueError for an operator that the API does not know.
    """
    if not (selector.get("matchLabels") or {}).items() <= labels.items():
        return False
    return all(_fits(wanted, labels) for wanted in selector.get("matchExpressions") or ())


def _fits(wanted: Manifest, labels: Mapping[str, str]) -> bool:
    key, operator, values = wanted["key"], wanted["operator"], wanted.get("values") or []
    if operator == "In":
        return labels.get(key) in values
    if operator == "NotIn":  # also where the label is missing
        return labels.get(key) not in values
    if operator == "Exists":
        return key in labels
    if operator == "DoesNotExist":
        return key not in labels
    raise ValueError(f"{operator} is no operator of a label selector")


@cache
def _inside(address: str, network: str) -> bool:
    """The API server takes a network with host bits; they count for nothing."""
    return ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False)


def within(address: str, networks: Mapping[str, Sequence[str]]) -> bool:
    """Whether an address is in one of the networks, and in none of what is left out of it."""
    return any(
        _inside(address, whole) and not any(_inside(address, hole) for hole in holes)
        for whole, holes in networks.items()
    )


def _meets(rule: Manifest, direction: str, own: str, namespaces: Namespaces, other: Place) -> bool:
    """Whether a rule speaks of the other side; one without peers speaks of everybody."""
    peers = rule.get("to" if direction == EGRESS else "from")
    return not peers or any(_is(peer, own, namespaces, other) for peer in peers)


def _is(peer: Manifest, own: str, namespaces: Namespaces, other: Place) -> bool:
    if block := peer.get("ipBlock"):
        return within(other.address, {block["cidr"]: block.get("except") or ()})
    if not other.namespace:
        return False  # selectors select pods
    # A selector that is given and empty selects everything; one that is not given does not count.
    if peer.get("namespaceSelector") is None:
        if other.namespace != own:
            return False
    elif not selects(peer["namespaceSelector"], namespaces.get(other.namespace, {})):
        return False
    return selects(peer.get("podSelector") or {}, other.labels)


def _ports(rule: Manifest, target: Place) -> Ports:
    """The ports of a rule; names are those of the target's containers."""
    if not rule.get("ports"):
        return EVERY
    spans = []
    for item in rule["ports"]:
        protocol, port = item.get("protocol", "TCP"), item.get("port")
        if port is None:
            spans.append((protocol, 1, PORTS))
        elif isinstance(port, int):
            spans.append((protocol, port, item.get("endPort", port)))
        elif target.ports.get(port, ("", 0))[0] == protocol:
            number = target.ports[port][1]
            spans.append((protocol, number, number))
    return Ports.of(spans)
