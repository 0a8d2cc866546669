"""A stage for the table of flows: a pod for each peer, some that are almost one, and an outside.

Each pod answers on every port that any row names, and on one that no row does, so that without
policies all is open. The pods carry the labels that the table declares; nothing of the real charts
runs in them.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e import probes
from tests.e2e.conftest import Bed, make_namespace
from tests.e2e.outside import NETWORK, Outside, outside
from tests.e2e.patience import eventually
from tests.e2e.probes import OPEN, SILENT, Askers
from xwiki_stack import flows, matrix, render, upstream
from xwiki_stack.matrix import Guard, World
from xwiki_stack.oracle import EGRESS, INGRESS, Manifest, Place

UNNAMED = ("TCP", 9999)
"""A port that no row names."""

SERVERS = {"clients": "203.0.113.226", "metadata": "203.0.113.254", "s3": "203.0.113.230"}
"""Addresses outside that have no network of their own: a client; one that stands for a metadata
service; a store that is wherever the internet is."""

HOLE = "203.0.113.240/28"
"""What is no address of the stage's internet."""

ALMOST = ("xwiki-other-instance", "mysql-other-instance", "prometheus-other-name", "stranger")
"""Pods with one label that is not a peer's, and without any."""

ABROAD = ("xwiki", "mysql", "nginx", "prometheus", "backups-site", "stranger")
"""Pods with all labels of a peer, in a namespace that is nobody's."""

ROLES = ("backups-site", "backups-canary", "backups-drill", "backups-exporter")
"""Of the roles of backups those that differ most; the oracle looks at all."""

CALLERS = ("clients", "apiserver", "nodes", "acme")
"""Servers outside that call pods: everyone, two that rows name, one that none does."""

FLAG = "stage-flag"
"""A namespace, and its pod, that no row is about: by it is seen which policies the engine knows."""

AT_ONCE = 16
"""How many pods ask at a time: of more at once the engine drops what it has no time for."""

Key = tuple[str, str, str, int]
"""Who, whom, protocol, port."""

Judge = Callable[[Place, Place, str, int], bool]
"""Whether a connection shall be made."""


def staged(folder: Path) -> Path:
    """A copy of charts/netpol whose internet is the outside of the stage, less a hole."""
    chart = Path(shutil.copytree(flows.CHART, folder / "netpol"))
    document = yaml.safe_load(flows.TABLE.read_text())
    document["internet"] = document["anywhere"] = {NETWORK: [HOLE]}
    document["never"] = [SERVERS["metadata"]]
    (chart / "files" / "flows.yaml").write_text(yaml.safe_dump(document))
    return chart


def told(chart: Path) -> World:
    """The world of the stage: every room in a namespace of its own, every switch on."""
    table = flows.load(chart / "files" / "flows.yaml")
    networks = [peer.name for peer in table.peers.values() if peer.kind == "networks"]
    own = {name: {"cidrs": [f"203.0.113.{16 * at}/28"]} for at, name in enumerate(networks)}
    own["s3"] = {"cidrs": []}
    namespaces = {room: [f"stage-{room.lower()}"] for room in table.rooms}
    # Names are answered by the cluster's own; a pod with its labels is called.
    namespaces["dns"].append("kube-system")
    switches = dict.fromkeys(flows.defaults()["switches"], True)
    guards = []
    for room in ("apps", *matrix.rooms(table)):
        more = {**own, "namespaces": namespaces, "switches": switches, "room": room}
        values = upstream.merged(flows.defaults(), more)
        (namespace,) = namespaces[room]
        objects = render.helm_template(chart, [values], namespace=namespace)
        guards.append(Guard(namespace, values, tuple(objects)))
    return matrix.world(table, guards)


def cast(world: World) -> dict[str, Place]:
    """The pods that are played, of all in a world."""
    own = {name for peer in world.table.peers.values() for name in matrix.names(world.table, peer)}
    own = {name for name in own if not name.startswith("backups-")} | {*ROLES, *ALMOST}
    found = [
        place
        for place in world.places
        if (place.namespace.startswith("stage-") and place.name in own)
        or (place.namespace == matrix.NOBODYS and place.name in ABROAD)
    ]
    return {str(place): place for place in found}


def servers(world: World) -> dict[str, Place]:
    """The addresses outside that are called, and call: for each peer the second of its network."""
    values = world.guards[0].values
    networks = [peer.name for peer in world.table.peers.values() if peer.kind == "networks"]
    found = {
        name: values[name]["cidrs"][0].partition("/")[0].rpartition(".")
        for name in networks
        if values[name]["cidrs"]
    }
    own = {name: f"{head}.{int(last) + 1}" for name, (head, _, last) in found.items()}
    return {name: Place(name, address) for name, address in {**own, **SERVERS}.items()}


def every_pod(name: str, namespace: str, direction: str, rules: list[Any]) -> Manifest:
    """A policy about all pods of a namespace, one way; without rules it denies."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": {}, "policyTypes": [direction], direction.lower(): rules},
    }


@dataclass
class Stage:
    """The pods by namespace/name, the servers outside by name, and their real addresses.

    policies: those that are applied, by namespace and name.
    """

    bed: Bed
    there: Outside
    askers: Askers
    world: World
    actors: dict[str, Place]
    servers: dict[str, Place]
    addresses: dict[str, str] = field(default_factory=dict)
    policies: dict[tuple[str, str], Manifest] = field(default_factory=dict)
    flags: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def namespaces(self) -> list[str]:
        """Those of the stage."""
        return sorted({place.namespace for place in self.actors.values()})

    def peer(self, place: Place) -> str:
        """The peer that a place is, or almost is; empty for a stranger."""
        if not place.namespace:
            return place.name
        names = [name for name in self.world.table.peers if f"{place.name}-".startswith(f"{name}-")]
        return max(names, key=len, default="")

    def ports(self, place: Place) -> list[tuple[str, int]]:
        """The ports on which a place is called: those that rows name for its peer, and one more."""
        values = self.world.guards[0].values
        named = {
            (port.protocol, port.within(values))
            for flow in self.world.table.flows
            for port in flow.ports
            if self.peer(place) in {end.peer.name for end in flow.targets}
        }
        return [*sorted(named), UNNAMED]

    def furnish(self) -> None:
        """Make namespaces, pods and a Service for each, and wait until all pods are ready."""
        for name in (*self.namespaces, FLAG):
            make_namespace(self.bed, name)
        places = [*self.actors.values(), *self.servers.values()]
        every = {port for place in places for port in self.ports(place)}
        ports = {kind: sorted(n for p, n in every if p == kind) for kind in ("TCP", "UDP")}
        for place in self.actors.values():
            where = (place.namespace, place.name)
            self.bed.kube.apply(probes.pod(self.bed, *where, place.labels, ports))
            self.bed.kube.apply(probes.service(*where, self.ports(place)))
        self.bed.kube.apply(probes.pod(self.bed, FLAG, FLAG, {}, {"TCP": [UNNAMED[1]], "UDP": []}))
        there, wanted = [*self.namespaces, FLAG], len(self.actors) + 1
        self.addresses = eventually(
            lambda: probes.addresses(self.bed, there, wanted), seconds=300, pause=2
        )
        self.bed.kube.apply(every_pod("deny", FLAG, INGRESS, []))

    def apply(self, policies: Sequence[Manifest]) -> None:
        """These policies and no others; what differs is changed, and the engine knows it."""
        wanted = {
            (item["metadata"]["namespace"], item["metadata"]["name"]): item for item in policies
        }
        for namespace in self.namespaces:
            gone = [name for where, name in self.policies.keys() - wanted if where == namespace]
            if gone:
                self.bed.kubectl("delete", "networkpolicy", "-n", namespace, *gone)
        self.policies = {key: self.policies[key] for key in self.policies.keys() & wanted}
        for key, item in wanted.items():
            if self.policies.get(key) != item:
                self.bed.kube.apply(item)
                self.policies[key] = item
        self._known()

    def _known(self) -> None:
        """Wait until the engine knows of every policy that was applied and deleted so far.

        It hears of policies in the order in which they changed, so that the newest one tells of
        all: one that lets in whom the pod of the flag was denied until now.
        """
        client = f"203.0.113.{next(self.flags)}"
        block = {"ipBlock": {"cidr": f"{client}/32"}}
        name = f"flag-{client.rpartition('.')[2]}"
        self.bed.kube.apply(every_pod(name, FLAG, INGRESS, [{"from": [block]}]))
        eventually(lambda: self.flag(client) == OPEN, seconds=120, pause=0.1)

    def flag(self, client: str) -> str:
        """What comes of a call from an address outside to the pod of the flag."""
        place = {"flag": (client, self.addresses[f"{FLAG}/{FLAG}"], UNNAMED[1])}
        return self.there.asked(place)["flag"]

    def address(self, place: Place) -> str:
        """The real address of a place."""
        return self.addresses.get(str(place), place.address)

    def keys(
        self,
        sources: Sequence[Place],
        targets: Sequence[Place],
        more: Sequence[tuple[str, int]] = (),
    ) -> list[Key]:
        """Each of the sources to each of the targets, on all ports where that is called, and more.

        From outside by TCP alone, and nowhere but to pods.
        """
        return [
            (str(source), str(target), kind, port)
            for source in sources
            for target in targets
            for kind, port in dict.fromkeys([*self.ports(target), *more])
            if source is not target and (source.namespace or (target.namespace and kind == "TCP"))
        ]

    def every(self) -> list[Key]:
        """All connections of the stage."""
        pods = list(self.actors.values())
        callers = [*pods, *map(self.servers.__getitem__, CALLERS)]
        return self.keys(callers, [*pods, *self.servers.values()])

    def answers(
        self, keys: Sequence[Key], call: Callable[[Place], str] | None = None
    ) -> dict[Key, str]:
        """What comes of each connection. call: how a place is called; None: by its address."""
        places = {**self.actors, **self.servers}
        hosts = {key[1]: (call or self.address)(places[key[1]]) for key in keys}
        by_source: dict[str, dict[str, Key]] = {}
        for at, key in enumerate(keys):
            by_source.setdefault(key[0], {})[str(at)] = key

        def of(source: str) -> dict[Key, str]:
            place, own = places[source], by_source[source]
            if place.namespace:
                asked = {at: (hosts[key[1]], key[3], key[2]) for at, key in own.items()}
                found = self.askers.asked(place.namespace, place.name, asked)
            else:
                called = {at: (place.address, hosts[key[1]], key[3]) for at, key in own.items()}
                found = self.there.asked(called)
            return {key: found[at] for at, key in own.items()}

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return {key: said for part in pool.map(of, by_source) for key, said in part.items()}

    def wanted(self, source: Place, target: Place, kind: str, port: int) -> bool:
        """What the table says of a connection: both ends must allow it."""
        leaves = self.world.wanted(EGRESS, source, target)
        return (kind, port) in leaves & self.world.wanted(INGRESS, target, source)

    def mistakes(self, found: Mapping[Key, str], judge: Judge) -> dict[Key, str]:
        """Where what came is not what was to come."""
        places = {**self.actors, **self.servers}
        return {
            key: said
            for key, said in found.items()
            if said != (OPEN if judge(places[key[0]], places[key[1]], *key[2:]) else SILENT)
        }

    def agree(
        self,
        judge: Judge,
        keys: Sequence[Key] = (),
        call: Callable[[Place], str] | None = None,
        *,
        seconds: float = 120,
    ) -> float:
        """Probe until each connection came to what it shall; the seconds of the first look.

        keys: all of the stage unless told. What stayed without an answer is tried again: the
        engine drops what it has no time for. An answer where none shall be ends the test.
        AssertionError with what differs in the end.
        """
        left = list(keys) or self.every()
        began, first = time.monotonic(), 0.0

        def look() -> bool:
            nonlocal left, first
            wrong = self.mistakes(self.answers(left, call), judge)
            first = first or time.monotonic() - began
            asked, left = len(left), list(wrong) or left
            said = "; ".join(
                f"{k[0]} to {k[1]} on {k[3]}/{k[2].lower()}: {answer}"
                for k, answer in wrong.items()
            )
            told = f"{len(wrong)} of {asked}: {said[:3000]}"
            if OPEN in wrong.values():
                pytest.fail(told)
            assert not wrong, told
            return True

        eventually(look, seconds=seconds, pause=1)
        return round(first, 1)


@contextmanager
def stage(bed: Bed, folder: Path) -> Iterator[Stage]:
    """The stage with all its pods; gone afterwards."""
    world = told(staged(folder))
    with outside(bed) as there, Askers(bed) as askers:
        played = Stage(bed, there, askers, world, cast(world), servers(world))
        bed.kubectl("delete", "namespace", *played.namespaces, FLAG, "--ignore-not-found")
        try:
            played.furnish()
            yield played
        finally:
            bed.kubectl("delete", "namespace", *played.namespaces, FLAG, "--wait=false")
