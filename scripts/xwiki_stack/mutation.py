"""How well policies are watched: each is deleted, narrowed and widened, and somebody must notice.

A mutant is one policy with one thing changed. It is killed where the `matrix` differs from the
table. One that lives is a rule that could be wrong unseen.
"""

import copy
import ipaddress
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from xwiki_stack import figures, flows, matrix, oracle, packets, repo
from xwiki_stack.matrix import World
from xwiki_stack.oracle import Manifest, Place

RESULTS = repo.ROOT / "docs" / "results" / "netpol.json"

NOBODY = "192.0.2.255/32"
"""A network that is nobody's (RFC 5737)."""

PROTOCOLS = {"TCP": "UDP", "UDP": "TCP"}


@dataclass(frozen=True)
class Mutant:
    """A policy with one change; `policy` is None where it is deleted."""

    original: Manifest
    change: str
    policy: Manifest | None

    def __str__(self) -> str:
        metadata = self.original["metadata"]
        return f"{metadata['namespace']}/{metadata['name']}: {self.change}"


@dataclass(frozen=True)
class Score:
    """What a run found; `living` are mutants that nobody noticed. pairs: how many were compared."""

    killed: int
    total: int
    living: tuple[str, ...]
    pairs: int

    @property
    def summary(self) -> str:
        """The score in a line."""
        words = f"{self.killed} of {self.total} mutants of policies are noticed"
        return words + (f"; not so: {'; '.join(self.living)}" if self.living else "")


def mutants(policies: Sequence[Manifest]) -> Iterator[Mutant]:
    """Every policy with each part deleted, narrowed or widened in turn."""
    for item in policies:
        yield Mutant(item, "deleted", None)
        for change, spec in _specs(item["spec"]):
            yield Mutant(item, change, {**item, "spec": spec})


def _specs(spec: Manifest) -> Iterator[tuple[str, Manifest]]:
    """The spec of a policy, changed in one place each."""
    for change, selector in _selectors(spec["podSelector"]):
        yield f"podSelector: {change}", {**spec, "podSelector": selector}
    if len(spec["policyTypes"]) > 1:
        for kind in spec["policyTypes"]:
            yield f"policyTypes: {kind} alone", {**spec, "policyTypes": [kind]}
        own = {"matchLabels": {flows.INSTANCE: "other"}}
        yield "podSelector: some pods only", {**spec, "podSelector": own}
    for direction in ("ingress", "egress"):
        for number, rule in enumerate(spec.get(direction, ())):
            for change, changed in _rules(rule, "to" if direction == "egress" else "from"):
                rules = [*spec[direction][:number], changed, *spec[direction][number + 1 :]]
                yield f"{direction}: {change}", {**spec, direction: rules}


def _rules(rule: Manifest, side: str) -> Iterator[tuple[str, Manifest]]:
    """A rule, changed in one place each. An empty list of peers is everybody, of ports all."""
    peers, ports = rule.get(side, []), rule["ports"]
    if peers:
        yield f"{side} everybody", {key: value for key, value in rule.items() if key != side}
    else:
        yield f"{side} nobody", {**rule, side: [{"ipBlock": {"cidr": NOBODY}}]}
    for number, peer in enumerate(peers):
        others = [*peers[:number], *peers[number + 1 :]]
        if others:
            yield f"not {side} {_said(peer)}", {**rule, side: others}
        for change, changed in _peers(peer):
            yield f"{side} {_said(peer)}: {change}", {**rule, side: [changed, *others]}
    yield "every port", {key: value for key, value in rule.items() if key != "ports"}
    for number, port in enumerate(ports):
        others = [*ports[:number], *ports[number + 1 :]]
        word = f"{port['port']}/{port['protocol']}"
        if others:
            yield f"not {word}", {**rule, "ports": others}
        for change, changed in (
            ("and above", {**port, "endPort": oracle.PORTS}),
            ("one more", {**port, "endPort": port["port"] + 1}),
            ("the next instead", {**port, "port": port["port"] + 1}),
            ("the other protocol", {**port, "protocol": PROTOCOLS[port["protocol"]]}),
            ("every port of it", {"protocol": port["protocol"]}),
        ):
            yield f"{word}: {change}", {**rule, "ports": [changed, *others]}


def _peers(peer: Manifest) -> Iterator[tuple[str, Manifest]]:
    """A peer, changed in one place each."""
    if "ipBlock" in peer:
        for change, block in _blocks(peer["ipBlock"]):
            yield change, {"ipBlock": block}
        return
    for change, selector in _selectors(peer["podSelector"]):
        yield f"podSelector: {change}", {**peer, "podSelector": selector}
    if "namespaceSelector" in peer:
        yield "own namespace", {"podSelector": peer["podSelector"]}
        yield "any pod there", {"namespaceSelector": peer["namespaceSelector"]}
        for change, selector in _selectors(peer["namespaceSelector"]):
            yield f"namespaceSelector: {change}", {**peer, "namespaceSelector": selector}
    else:
        yield "any namespace", {**peer, "namespaceSelector": {}}


def _blocks(block: Manifest) -> Iterator[tuple[str, Manifest]]:
    """A block of addresses, one bit wider, one narrower, and without each of its holes."""
    network, holes = ipaddress.ip_network(block["cidr"]), block.get("except", [])
    if network.prefixlen:
        yield "wider", {**block, "cidr": str(network.supernet())}
    if network.prefixlen < network.max_prefixlen:
        half = next(network.subnets())
        kept = [hole for hole in holes if _part(hole, half)]
        yield "narrower", {"cidr": str(half), **({"except": kept} if kept else {})}
    for hole in holes:
        yield f"without the hole {hole}", {**block, "except": [h for h in holes if h != hole]}


def _part(hole: str, whole: Any) -> bool:
    return bool(ipaddress.ip_network(hole).subnet_of(whole))


def _selectors(selector: Manifest) -> Iterator[tuple[str, Manifest]]:
    """A selector that selects more, less or something else."""
    if not selector:
        return
    yield "everything", {}
    for key in selector.get("matchLabels", {}):
        changed = copy.deepcopy(selector)
        del changed["matchLabels"][key]
        yield f"any {key}", changed
    for number, wanted in enumerate(selector.get("matchExpressions", ())):
        for value in wanted["values"]:
            changed = copy.deepcopy(selector)
            left = [other for other in wanted["values"] if other != value] or ["other"]
            changed["matchExpressions"][number]["values"] = left
            yield f"not {value}", changed
        changed = copy.deepcopy(selector)
        changed["matchExpressions"][number] = {"key": wanted["key"], "operator": "Exists"}
        yield f"any {wanted['key']}", changed


def _said(peer: Manifest) -> str:
    """A few words for a peer."""
    if "ipBlock" in peer:
        return str(peer["ipBlock"]["cidr"])
    return ", ".join((peer.get("podSelector") or {}).get("matchLabels", {}).values())


def noticed(world: World, mutant: Mutant) -> str:
    """The first difference that a mutant makes; empty where nobody notices it."""
    changed = [mutant.policy] if mutant.policy else []
    rules = [item for item in world.policies if item is not mutant.original] + changed
    both = [mutant.original, *changed]

    def touched(place: Place) -> bool:
        return any(oracle.guards(item, kind, place) for item in both for kind in matrix.DIRECTIONS)

    guarded = [place for place in world.places if touched(place)]
    kinds = oracle.types_of(mutant.original["spec"])
    return next(world.differences(rules, guarded, kinds), "")


def score(world: World) -> Score:
    """The score of a world, whose own policies must fit its table. Raises AssertionError."""
    own = next(world.differences(), "")
    if own:
        raise AssertionError(f"policies and table differ already: {own}")
    found = list(mutants(world.policies))
    living = tuple(str(mutant) for mutant in found if not noticed(world, mutant))
    pods = sum(bool(place.namespace) for place in world.places)
    pairs = pods * (len(world.places) - 1)
    return Score(len(found) - len(living), len(found), living, pairs)


def prove() -> Score:
    """Score the table with everything on, and write results and page.

    Raises IntentError for a table that contradicts itself.
    """
    commit, machine, date = figures.origin(RESULTS, flows.PAGE)
    matrix.refuse_contradictions()
    table = flows.load()
    found = score(matrix.fullest_world(table))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    said = {"commit": commit, "machine": machine, "date": date, "mutation": asdict(found)}
    RESULTS.write_text(json.dumps(said, indent=2) + "\n")
    publish()
    return found


def publish() -> None:
    """Write the page of the table, with what the newest runs found."""
    flows.PAGE.write_text(flows.page(flows.load(), lines()))


def lines() -> list[str]:
    """What the newest run found, for docs/reference/network.md; nothing where there was none."""
    if not RESULTS.exists():
        return []
    document = json.loads(RESULTS.read_text())
    found = document["mutation"]
    return [
        "",
        "## How it is watched",
        "",
        "An oracle holds the rendered policies of every environment against the table: each pod,"
        f" each way, every port. The table with everything on comes to {found['pairs']} pairs. Then"
        " each policy is deleted, and each of its parts narrowed and widened, one at a time; the"
        " oracle must notice.",
        "",
        f"**{found['killed']} of {found['total']} noticed**, commit {document['commit']},"
        f" {document['date']}, on {document['machine']}. Not noticed:"
        f" {'; '.join(found['living']) or 'none'}.",
        *packets.lines(),
    ]
