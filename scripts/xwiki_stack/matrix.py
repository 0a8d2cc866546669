"""Every pair of a pod and whoever may call it or be called: what policies allow, what is wanted.

What is wanted comes from the table of flows, what is allowed from the rendered policies by the
`oracle`. Each direction is compared on its own: a hole in one end's policy is a hole, also where
the other end's happens to be shut.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from xwiki_stack import flows, oracle, policy, render, repo, steps, upstream
from xwiki_stack.cluster import programs
from xwiki_stack.flows import End, Flow, Peer, Table
from xwiki_stack.oracle import EGRESS, EVERY, INGRESS, Manifest, Place, Ports
from xwiki_stack.render import RELEASE

NOBODYS = "elsewhere"
"""A namespace that no room is: pods like ours in it are none of ours."""

DIRECTIONS = (EGRESS, INGRESS)


@dataclass(frozen=True)
class Guard:
    """A release of charts/netpol, alone or as a part of a wiki: its values and what it renders."""

    namespace: str
    values: Mapping[str, Any]
    objects: tuple[Manifest, ...]

    @property
    def room(self) -> str:
        """The room that its namespace is."""
        return str(self.values["room"])

    @property
    def policies(self) -> list[Manifest]:
        """Its policies, in its namespace."""
        return [
            {**item, "metadata": {**item["metadata"], "namespace": self.namespace}}
            for item in self.objects
            if item["kind"] == "NetworkPolicy"
        ]


Rows = list[tuple[tuple[End, ...], list[tuple[str, int, int]]]]
"""Ends of flows, and the spans of ports that these flows are about."""


@dataclass
class World:
    """Guards, and every place between which they decide. known, rows: what was asked already."""

    table: Table
    guards: tuple[Guard, ...]
    places: tuple[Place, ...]
    policies: list[Manifest]
    flows: dict[str, tuple[Flow, ...]]
    known: dict[tuple[str, Place, Place], Ports] = field(default_factory=dict)
    rows: dict[tuple[str, Place], Rows] = field(default_factory=dict)

    @property
    def namespaces(self) -> dict[str, dict[str, str]]:
        """Each with the label that it has by itself."""
        names = {place.namespace for place in self.places if place.namespace}
        return {name: {flows.NAMESPACE: name} for name in names}

    def guard_of(self, place: Place) -> Guard | None:
        """Who guards the namespace of a place."""
        return next((item for item in self.guards if item.namespace == place.namespace), None)

    def wanted(self, direction: str, guarded: Place, other: Place) -> Ports:
        """What the table allows a place in a direction."""
        key = (direction, guarded, other)
        if key not in self.known:
            self.known[key] = self._wanted(*key)
        return self.known[key]

    def _wanted(self, direction: str, guarded: Place, other: Place) -> Ports:
        guard = self.guard_of(guarded)
        if guard is None:
            return EVERY
        rows = self._rows(direction, guarded, guard)
        if not rows and self.table.rooms[guard.room].policies != "deny":
            return EVERY
        met = (
            ports
            for ends, ports in rows
            if any(_met(self.table, guard, end, other, direction) for end in ends)
        )
        return Ports.of(span for ports in met for span in ports)

    def _rows(self, direction: str, guarded: Place, guard: Guard) -> Rows:
        """The flows that a place is an end of: their other ends, and their ports."""
        if (direction, guarded) not in self.rows:
            leaves = direction == EGRESS
            found = [
                (flow.targets if leaves else flow.sources, flow.spans(guard.values))
                for flow in self.flows[guard.namespace]
                if flow.allows(direction)
                and any(
                    _own(guard, end, guarded) for end in (flow.sources if leaves else flow.targets)
                )
            ]
            self.rows[direction, guarded] = found
        return self.rows[direction, guarded]

    def differences(
        self,
        policies: Sequence[Manifest] | None = None,
        guarded: Iterable[Place] | None = None,
        directions: Sequence[str] = DIRECTIONS,
    ) -> Iterator[str]:
        """Where policies (of the guards, or others) and table differ; one line for each pair."""
        rules = self.policies if policies is None else policies
        namespaces = self.namespaces
        # In a namespace without a guard there is no policy, and nothing is wanted of it.
        held = [place for place in self.places if self.guard_of(place)]
        for place in held if guarded is None else guarded:
            for direction in directions:
                mine = [item for item in rules if oracle.guards(item, direction, place)]
                for other in self.places:
                    if other is place:
                        continue
                    wanted = self.wanted(direction, place, other)
                    found = oracle.judge(mine, namespaces, direction, place, other)
                    if found != wanted:
                        way = "to" if direction == EGRESS else "from"
                        yield f"{direction} of {place} {way} {other}: {found} instead of {wanted}"


def world(table: Table, guards: Sequence[Guard]) -> World:
    """All places that these guards, their values and their policies speak of, and near misses."""
    policies = [item for guard in guards for item in guard.policies]
    addresses = map(str, map(ipaddress.ip_address("10.244.0.0").__add__, count(1)))

    def pod(namespace: str, name: str, labels: Mapping[str, str], ports: Any = None) -> Place:
        return Place(name, next(addresses), namespace, dict(labels), ports or {})

    places = [
        pod(guard.namespace, f"{item['kind']}-{item['metadata']['name']}".lower(), labels, named)
        for guard in guards
        for item in guard.objects
        if policy.pod_of(item)
        for labels in [flows.labels_of(item)]
        for named in [{k: ("TCP", n) for k, n in flows.ports_of(item).items()}]
    ]
    rooms = {guard.room: [guard.namespace] for guard in guards}
    for guard in guards:
        for room, names in guard.values["namespaces"].items():
            rooms[room] = list(dict.fromkeys([*rooms.get(room, []), *names]))
    for peer in table.peers.values():
        if peer.kind != "pods":
            continue
        for name, labels in _likenesses(table, peer):
            places += [pod(namespace, name, labels) for namespace in rooms[peer.room]]
        places += [pod(NOBODYS, name, labels) for name, labels in _exactly(table, peer)]
    places += [
        pod(namespace, "stranger", {})
        for namespace in dict.fromkeys(
            [NOBODYS, *(name for names in rooms.values() for name in names)]
        )
    ]
    places.append(Place("stranger-6", "fd00:10:244::1", NOBODYS))
    places += [Place(address, address) for address in _addresses(table, guards)]
    return World(
        table,
        tuple(guards),
        tuple(places),
        policies,
        {guard.namespace: tuple(flows.active(table, guard.values)) for guard in guards},
    )


def _exactly(table: Table, peer: Peer) -> Iterator[tuple[str, dict[str, str]]]:
    """The labels of a peer's pods, of each role that a flow names."""
    labels = peer.wanted(RELEASE) | peer.wanted()
    ends = (end for flow in table.flows for end in flow.ends if end.peer == peer)
    roles = dict.fromkeys(role for end in ends for role in end.roles)
    for role in roles:
        yield f"{peer.name}-{role}", {**labels, flows.ROLE: role}
    if not roles:
        yield peer.name, labels


def names(table: Table, peer: Peer) -> list[str]:
    """What the pods of a peer are called in a world."""
    return [name for name, _labels in _exactly(table, peer)]


def _likenesses(table: Table, peer: Peer) -> Iterator[tuple[str, dict[str, str]]]:
    """The pods of a peer, and pods that differ from them in one label."""
    for name, labels in _exactly(table, peer):
        yield name, labels
        for key in labels:
            yield f"{name}-other-{key.rpartition('/')[2]}", {**labels, key: "other"}


def _own(guard: Guard, end: End, place: Place) -> bool:
    """Whether a place is an end in the guard's own namespace."""
    peer = end.peer
    return (
        peer.kind == "pods"
        and peer.room == guard.room
        and place.namespace == guard.namespace
        and not _outside(guard, peer)
        and _is(end, peer.wanted(RELEASE), place)
    )


def _met(table: Table, guard: Guard, end: End, place: Place, direction: str) -> bool:
    """Whether a place is an end as the guard sees it."""
    peer = end.peer
    if peer.kind == "everyone":
        return True
    networks = _networks(table, guard, peer)
    if peer.kind == "networks" or _outside(guard, peer):
        # Who calls from an address that nobody named may be a node.
        caller = direction == INGRESS and peer.otherwise == "anywhere"
        unnamed = caller and not guard.values[peer.name]["cidrs"]
        return unnamed or oracle.within(place.address, networks)
    if peer.room == guard.room:
        return _own(guard, end, place)
    names = guard.values["namespaces"][peer.room]
    there = place.namespace in names and _is(end, peer.wanted(), place)
    return there or oracle.within(place.address, networks)


def _networks(table: Table, guard: Guard, peer: Peer) -> Mapping[str, Sequence[str]]:
    """The networks of a peer, each with what is left out of it."""
    value = guard.values.get(peer.name, {})
    named = value.get(peer.besides, ()) if peer.besides else value.get("cidrs", ())
    if peer.kind == "networks" and not named:
        return table.networks[peer.otherwise]
    return dict.fromkeys(named, ())


def _outside(guard: Guard, peer: Peer) -> bool:
    return peer.elsewhere and bool(guard.values[peer.name]["cidrs"])


def _is(end: End, labels: Mapping[str, str], place: Place) -> bool:
    fits = labels.items() <= place.labels.items()
    return fits and (not end.roles or place.labels.get(flows.ROLE) in end.roles)


def _addresses(table: Table, guards: Sequence[Guard]) -> list[str]:
    """The edges of every network that anybody speaks of, and the addresses beyond them."""
    networks = {
        name
        for sets in table.networks.values()
        for whole, holes in sets.items()
        for name in (whole, *holes)
    }
    for guard in guards:
        for value in guard.values.values():
            if isinstance(value, dict):
                networks |= {*value.get("cidrs", ()), *value.get("nodeLocal", ())}
    found = set(table.never)
    for name in networks:
        network = ipaddress.ip_network(name)
        first, last = int(network.network_address), int(network.broadcast_address)
        for number in (first - 1, first, last, last + 1):
            if 0 <= number < 2**network.max_prefixlen:
                found.add(str(type(network.network_address)(number)))
    return sorted(found)


def wiki(values: Sequence[render.Values], own: Mapping[str, Any], namespace: str) -> Guard:
    """The guard that is a part of a wiki. values: of the umbrella; own: those for its policies."""
    objects = render.helm_template(values=values, namespace=namespace)
    return Guard(namespace, upstream.merged(flows.defaults(), dict(own)), tuple(objects))


def platform(own: Mapping[str, Any], room: str) -> Guard:
    """The guard of a room of the platform, by the chart alone."""
    values = upstream.merged(flows.defaults(), {**own, "room": room})
    namespace = values["namespaces"][room][0]
    objects = render.helm_template(flows.CHART, [values], namespace=namespace)
    return Guard(namespace, values, tuple(objects))


def rooms(table: Table) -> list[str]:
    """The rooms of the platform in which policies are made."""
    made = [name for name, room in table.rooms.items() if room.policies != "none"]
    return [name for name in made if name != "apps"]


def fullest(table: Table) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values of a wiki with everything that has a pod or a flow, and those of its policies.

    Each server has a network of its own, so that no row hides behind another.
    """
    networks = [peer.name for peer in table.peers.values() if peer.kind == "networks"]
    # Of those for documentation (RFC 5737, RFC 3849).
    fours = ipaddress.ip_network("192.0.2.0/24").subnets(new_prefix=28)
    sixes = ipaddress.ip_network("2001:db8::/32").subnets(new_prefix=48)
    own: dict[str, Any] = {
        name: {"cidrs": [str(next(fours)), str(next(sixes))]} for name in networks
    }
    own["switches"] = dict.fromkeys(flows.defaults()["switches"], True)
    own["namespaces"] = {"apps": ["wiki"]}
    store = {"bucket": "attachments", "existingSecret": "attachments"}
    values = {
        "xwiki": {"flavor": "online", "attachments": {"store": "s3", "s3": store}},
        "backups": {
            "enabled": True,
            "environment": "fullest",
            "store": {"bucket": "sets"},
            "keys": {"recipients": ["age1example"], "trusted": [f"{'A' * 43}="]},
            "drill": {"enabled": True},
            "metrics": {"enabled": True},
        },
        "netpol": {"enabled": True, **own},
    }
    return values, own


def refuse_contradictions() -> None:
    """Hold the table against what the charts render; Helm is put in its place where it is missing.

    Raises IntentError with every contradiction.
    """
    programs.install("helm", steps.Log(repo.logs() / "tool-helm.log", lambda _text: None))
    table = flows.load()
    flows.refuse_contradictions(table)  # those that Helm would tell in its own words
    values, own = fullest(table)
    flows.refuse_contradictions(table, wiki([values], own, "wiki").objects)


def fullest_world(table: Table) -> World:
    """Every room of the table, with every switch on."""
    values, own = fullest(table)
    guards = [wiki([values], own, "wiki")]
    guards += [platform(own, room) for room in rooms(table)]
    return world(table, guards)
