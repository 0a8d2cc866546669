"""The table of flows: who may talk to whom. Read, searched for contradictions, shown as a page.

charts/netpol/files/flows.yaml is the data. Its chart makes policies of it, `matrix` holds those
against it, docs/reference/network.md is for people.
"""

import ipaddress
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from xwiki_stack import intent, oracle, policy, repo
from xwiki_stack.errors import IntentError

CHART = repo.ROOT / "charts" / "netpol"
TABLE = CHART / "files" / "flows.yaml"
SCHEMA = intent.VALUES / "schemas" / "flows.schema.json"
PAGE = repo.ROOT / "docs" / "reference" / "network.md"

ROLE = "xwiki-stack/role"
COMPONENT = "app.kubernetes.io/component"
INSTANCE = "app.kubernetes.io/instance"
NAME = "app.kubernetes.io/name"
NAMESPACE = "kubernetes.io/metadata.name"
"""The label that every namespace has by itself: its own name."""

Manifest = dict[str, Any]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Room:
    """A kind of namespace. policies: deny, add or none."""

    name: str
    policies: str
    why: str


@dataclass(frozen=True)
class Peer:
    """An end of flows, as the table declares it; `kind` is pods, networks or everyone.

    labels: of another chart's pods, whose ports are `serves`; pods of ours have a `component`.
    """

    name: str
    kind: str
    room: str = ""
    component: str = ""
    labels: Mapping[str, str] | None = None
    serves: tuple[int, ...] = ()
    chart: str = ""
    elsewhere: bool = False
    besides: str = ""
    otherwise: str = ""
    when: str = ""

    def wanted(self, release: str = "") -> dict[str, str]:
        """The labels of its pods: those of a release, or of any where the peer is ours."""
        if not self.component:
            return dict(self.labels or {})
        which = {INSTANCE: release} if release else {NAME: Path(self.chart).name}
        return {COMPONENT: self.component, **which}


@dataclass(frozen=True)
class End:
    """A peer in a row, and which of its roles; none: all of it."""

    peer: Peer
    roles: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.peer.name} ({', '.join(self.roles)})" if self.roles else self.peer.name


@dataclass(frozen=True)
class Port:
    """A port of pods: a number, or where `of` names a peer, the port of that peer's value."""

    protocol: str
    number: int = 0
    of: str = ""

    def within(self, values: Mapping[str, Any]) -> int:
        """The number, for a release of these values."""
        return int(values[self.of]["port"]) if self.of else self.number

    def __str__(self) -> str:
        word = f"`{self.of}.port`" if self.of else str(self.number)
        return f"{word}/{self.protocol.lower()}"


@dataclass(frozen=True)
class Flow:
    """A row of the table. alone: the direction that it allows, where the other end denies it."""

    name: str
    sources: tuple[End, ...]
    targets: tuple[End, ...]
    ports: tuple[Port, ...]
    reason: str
    when: str = ""
    drawn: bool = True
    alone: str = ""

    @property
    def ends(self) -> tuple[End, ...]:
        """Both sides."""
        return (*self.sources, *self.targets)

    def allows(self, direction: str) -> bool:
        """Whether it allows the end of a direction, as the oracle calls it."""
        return self.alone in ("", direction.lower())

    def spans(self, values: Mapping[str, Any]) -> list[tuple[str, int, int]]:
        """Its ports as the oracle's, for a release of these values."""
        numbers = ((port.protocol, port.within(values)) for port in self.ports)
        return [(protocol, number, number) for protocol, number in numbers]


@dataclass(frozen=True)
class Table:
    """All of it. networks: `internet` and `anywhere`, each network with what is left out of it."""

    rooms: dict[str, Room]
    peers: dict[str, Peer]
    flows: tuple[Flow, ...]
    networks: dict[str, dict[str, list[str]]]
    never: tuple[str, ...]


def load(path: Path = TABLE) -> Table:
    """The table. Raises IntentError with every mistake of its form, or for an unknown peer."""
    where = repo.relative(path)
    document = intent.read_checked(path, json.loads(SCHEMA.read_text()), repo.relative(SCHEMA))
    rooms = {name: Room(name, **row) for name, row in document["rooms"].items()}
    peers = {
        name: Peer(name, **{**row, "serves": tuple(row.get("serves", ()))})
        for name, row in document["peers"].items()
    }

    def end(given: Any) -> End:
        name, roles = (given, ()) if isinstance(given, str) else (given["peer"], given["roles"])
        if name not in peers:
            raise IntentError(f"{name} is no peer", where=where, allowed=", ".join(peers))
        return End(peers[name], tuple(roles))

    def port(given: str) -> Port:
        word, _, protocol = given.partition("/")
        if word.isdigit():
            return Port(protocol.upper(), number=int(word))
        return Port(protocol.upper(), of=word)

    rows = tuple(
        Flow(
            row["name"],
            tuple(map(end, row["from"])),
            tuple(map(end, row["to"])),
            tuple(map(port, row["ports"])),
            row["reason"],
            row.get("when", ""),
            row.get("drawn", True),
            row.get("alone", ""),
        )
        for row in document["flows"]
    )
    networks = {word: document[word] for word in ("internet", "anywhere")}
    return Table(rooms, peers, rows, networks, tuple(document["never"]))


def defaults() -> dict[str, Any]:
    """The values of charts/netpol as they are without anybody's."""
    found: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
    return found


def on(row: Peer | Flow, values: Mapping[str, Any]) -> bool:
    """Whether a peer or a flow is there for a release of these values."""
    return not row.when or bool(values["switches"][row.when])


def active(table: Table, values: Mapping[str, Any]) -> Iterator[Flow]:
    """The flows that are there for a release of these values, with the ends that are."""
    for flow in table.flows:
        sources = tuple(end for end in flow.sources if on(end.peer, values))
        targets = tuple(end for end in flow.targets if on(end.peer, values))
        if on(flow, values) and sources and targets:
            yield replace(flow, sources=sources, targets=targets)


def refuse_contradictions(table: Table, objects: Iterable[Manifest] | None = None) -> None:
    """Raise IntentError with all contradictions; `objects` as in `contradictions`."""
    found = contradictions(table, defaults(), objects)
    if found:
        raise IntentError(
            f"{len(found)} contradictions: {' | '.join(found)}" if len(found) > 1 else found[0],
            where=repo.relative(TABLE),
            next="correct the row, or the peer that it names",
        )


def contradictions(
    table: Table, values: Mapping[str, Any], objects: Iterable[Manifest] | None = None
) -> list[str]:
    """What in the table cannot be meant, a line for each.

    values: of charts/netpol. objects: all that our charts can render; None: nothing is said of
    them.
    """
    found = [*_strangers(table, values), *_duplicates(table), *_dead(table), *_metadata(table)]
    pods = None if objects is None else [item for item in objects if policy.pod_of(item)]
    for flow in table.flows:
        found += _unserved(flow, values, pods)
    if pods is not None:
        found += _unrendered(table, pods)
    return found


def _strangers(table: Table, values: Mapping[str, Any]) -> Iterator[str]:
    """Rooms, switches and values that are named and not there."""
    for peer in table.peers.values():
        if peer.kind == "pods" and peer.room not in table.rooms:
            yield f"peers.{peer.name}.room: {peer.room} is no room ({', '.join(table.rooms)})"
        if peer.kind == "networks" and "cidrs" not in values.get(peer.name, {}):
            yield f"peers.{peer.name}: values.yaml has no {peer.name}.cidrs"
        if peer.besides and peer.besides not in values.get(peer.name, {}):
            yield f"peers.{peer.name}.besides: values.yaml has no {peer.name}.{peer.besides}"
    rows: list[Peer | Flow] = [*table.peers.values(), *table.flows]
    for row in rows:
        if row.when and row.when not in values["switches"]:
            yield f"{row.name}: when: {row.when} is no switch ({', '.join(values['switches'])})"
    for flow in table.flows:
        for port in flow.ports:
            if port.of and "port" not in values.get(port.of, {}):
                yield f"{flow.name}: values.yaml has no {port.of}.port"
    for room in table.rooms.keys() ^ values["namespaces"].keys():
        yield f"rooms: {room} is not both a room and a key of values.yaml's namespaces"


def _duplicates(table: Table) -> Iterator[str]:
    """What is said twice."""
    names: set[str] = set()
    seen: dict[tuple[str, str, str, str, Port], str] = {}
    for flow in table.flows:
        if flow.name in names:
            yield f"{flow.name}: two flows have this name"
        names.add(flow.name)
        for source, target, port in product(flow.sources, flow.targets, flow.ports):
            for one, other in product(source.roles or ("",), target.roles or ("",)):
                key = (source.peer.name, one, target.peer.name, other, port)
                ends = " to ".join(" ".join(filter(None, pair)) for pair in (key[:2], key[2:4]))
                if key in seen:
                    yield f"{flow.name}: {ends} on {port} stands in {seen[key]} too"
                seen[key] = flow.name
    selectors: dict[tuple[str, str], str] = {}
    for peer in table.peers.values():
        if peer.kind == "pods":
            chosen = (peer.room, json.dumps(peer.wanted("release"), sort_keys=True))
            if chosen in selectors:
                yield f"peers.{peer.name}: selects the pods of {selectors[chosen]}"
            selectors[chosen] = peer.name


def _dead(table: Table) -> Iterator[str]:
    """Peers that no flow names, and flows that lead nowhere."""
    named = {end.peer.name for flow in table.flows for end in flow.ends}
    for name in table.peers:
        if name not in named:
            yield f"peers.{name}: no flow names it"
    for flow in table.flows:
        for end in flow.targets:
            if end.peer.kind == "everyone":
                yield f"{flow.name}: to: {end.peer.name} is everyone; name networks"
        rooms = [table.rooms[end.peer.room] for end in flow.ends if end.peer.room in table.rooms]
        if not {room.policies for room in rooms} & {"deny", "add"}:
            yield f"{flow.name}: neither end is in a room where policies are made"


def _metadata(table: Table) -> Iterator[str]:
    """Addresses that no flow may lead to, and a set of networks lets through."""
    for word, networks in table.networks.items():
        for address in table.never:
            if oracle.within(address, networks):
                yield f"{word}: {address} is in it, which `never` forbids"
        for whole, holes in networks.items():
            for hole in holes:
                outer, inner = ipaddress.ip_network(whole), ipaddress.ip_network(hole)
                # The API server takes a hole only of the same family, and smaller than the whole.
                if outer.version != inner.version or inner.prefixlen <= outer.prefixlen:
                    yield f"{word}: {hole} is no part of {whole}"


def _unserved(
    flow: Flow, values: Mapping[str, Any], pods: Sequence[Manifest] | None
) -> Iterator[str]:
    """Ports of a row that what it calls does not serve."""
    for end, port in product(flow.targets, flow.ports):
        if end.peer.kind != "pods" or (port.of and port.of not in values):
            continue
        if not end.peer.component:
            served = set(end.peer.serves)
        elif pods is not None:
            served = {number for pod in _chosen(end, pods) for number in ports_of(pod).values()}
        else:
            continue
        if port.within(values) not in served:
            have = ", ".join(map(str, sorted(served))) or "none"
            yield f"{flow.name}: {end} does not serve {port.within(values)} (it serves {have})"


def _unrendered(table: Table, pods: Sequence[Manifest]) -> Iterator[str]:
    """Ends of ours that no rendered pod is."""
    for flow in table.flows:
        for end in flow.ends:
            if not end.peer.component:
                continue
            for role in end.roles or ("",):
                one = End(end.peer, (role,) if role else ())
                if not _chosen(one, pods):
                    yield f"{flow.name}: {one} is no pod that {end.peer.chart} renders"


def _chosen(end: End, pods: Sequence[Manifest]) -> list[Manifest]:
    """The rendered workloads whose pods are an end."""
    return [
        pod
        for pod in pods
        if end.peer.wanted().items() <= labels_of(pod).items()
        and (not end.roles or labels_of(pod).get(ROLE) in end.roles)
    ]


def labels_of(item: Manifest) -> dict[str, str]:
    """The labels of the pods that an object makes."""
    found: dict[str, str] = policy.pod_of(item)["metadata"].get("labels", {})
    return found


def ports_of(item: Manifest) -> dict[str, int]:
    """The ports that the pods of an object serve, by name."""
    return {
        port.get("name", str(port["containerPort"])): port["containerPort"]
        for container in policy.containers_of(item)
        for port in container.get("ports", [])
    }


def page(table: Table, score: Sequence[str] = ()) -> str:
    """docs/reference/network.md; score: lines on how well policies are watched."""
    values = defaults()
    lines = [
        "# Network",
        "",
        "Generated from `charts/netpol/files/flows.yaml` by `make generate`; do not edit. Policies",
        "of both ends are made of each row by [charts/netpol](../../charts/netpol/README.md); what",
        "no row allows is denied, both ways. Ports are those of pods, behind any Service.",
        "",
        "## Picture",
        "",
        "Without names (port 53), calls to the API server and most of what Prometheus reads.",
        "",
        "```mermaid",
        *_picture(table, values),
        "```",
        "",
        "## Flows",
        "",
        "| flow | from | to | ports | switch | why |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for flow in table.flows:
        cells = [
            f"`{flow.name}`" + (f" ({flow.alone} alone)" if flow.alone else ""),
            ", ".join(map(str, flow.sources)),
            ", ".join(map(str, flow.targets)),
            ", ".join(map(str, flow.ports)),
            ", ".join(f"`{word}`" for word in _switches(flow)),
            flow.reason,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "A port such as `s3.port` is a value of the chart. A row is there for the ends whose switch"
        " (`switches` of the values, see Pods) is on, where its own is. One of a direction alone is"
        " denied by the other end: it never comes about, which the probe of policies sees.",
        "",
        "## Namespaces",
        "",
        "| room | by default | policies | what |",
        "| --- | --- | --- | --- |",
    ]
    meaning = {
        "deny": "deny all but the rows, both ways",
        "add": "add rows to those of others",
        "none": "none",
    }
    for room in table.rooms.values():
        names = ", ".join(f"`{name}`" for name in values["namespaces"][room.name])
        cells = [room.name, names or "the release's", meaning[room.policies], room.why]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "## Pods",
        "",
        "| peer | room | labels | serves | from chart | switch |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for peer in table.peers.values():
        if peer.kind == "pods":
            labels = "<br>".join(f"`{key}: {value}`" for key, value in peer.wanted().items())
            serves = "as rendered" if peer.component else ", ".join(map(str, peer.serves)) or "none"
            where = f"`{peer.when}`" if peer.when else ""
            lines.append(
                f"| {peer.name} | {peer.room} | {labels} | {serves} | {peer.chart} | {where} |"
            )
    lines += [
        "",
        "## Addresses",
        "",
        "| peer | networks | without networks |",
        "| --- | --- | --- |",
    ]
    without = {"internet": "the internet", "anywhere": "any address but link-local ones"}
    for peer in table.peers.values():
        if peer.kind == "networks":
            name = f"`{peer.name}.cidrs`"
            lines.append(f"| {peer.name} | {name} | {without[peer.otherwise]} |")
    never = ", ".join(f"`{address}`" for address in table.never)
    lines += [
        "",
        f"Never, whatever the values say: metadata services, {never}, and all other link-local"
        " addresses but that of NodeLocal DNS.",
        *score,
    ]
    return "\n".join(lines) + "\n"


def _switches(flow: Flow) -> list[str]:
    """The switches without which a row is not there, or not for all of its ends."""
    words = (flow.when, *(end.peer.when for end in flow.ends))
    return list(dict.fromkeys(filter(None, words)))


def _picture(table: Table, values: Mapping[str, Any]) -> Iterator[str]:
    """The drawn rows as a Mermaid flowchart: a box for each room, what is outside without one."""
    drawn = [flow for flow in table.flows if flow.drawn]
    shown = {end.peer.name: end.peer for flow in drawn for end in flow.ends}
    yield "flowchart LR"
    for room in table.rooms:
        peers = [peer for peer in shown.values() if peer.room == room]
        if peers:
            yield f"  subgraph room-{room}[{room}]"
            yield from (f"    {peer.name}" for peer in peers)
            yield "  end"
    yield from (f"  {peer.name}([{peer.name}])" for peer in shown.values() if not peer.room)
    for flow in drawn:
        ports = ", ".join(dict.fromkeys(str(port.within(values)) for port in flow.ports))
        for source, target in product(flow.sources, flow.targets):
            yield f'  {source.peer.name} -->|"{ports}"| {target.peer.name}'
