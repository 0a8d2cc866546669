"""The table of flows by packets: what it allows connects, and everything else gets no answer.

Pods of our own stand in for every peer (tests/e2e/stage.py), and addresses inside the bed for what
lies outside. Without policies all is open: only then does silence say something of a policy.
"""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e import probes
from tests.e2e.conftest import Bed
from tests.e2e.outside import MUTE
from tests.e2e.patience import eventually
from tests.e2e.probes import NAMELESS, OPEN, REFUSED, SILENT
from tests.e2e.stage import (
    CALLERS,
    SERVERS,
    UNNAMED,
    Stage,
    cast,
    every_pod,
    stage,
    staged,
    told,
)
from xwiki_stack import cluster, oracle, packets
from xwiki_stack.matrix import NOBODYS
from xwiki_stack.oracle import EGRESS, INGRESS, Manifest, Place


@pytest.fixture(scope="module")
def played(bed: Bed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The stage, made once; each test applies the policies that it is about."""
    with stage(bed, tmp_path_factory.mktemp("stage")) as found:
        yield found


def test_the_flag_tells_of_policies_that_the_engine_knows_and_of_no_other(played: Stage) -> None:
    """On it depends when the others look."""
    played.apply([])
    assert played.flag("203.0.113.1") == OPEN
    assert played.flag(SERVERS["clients"]) == SILENT


def denials(found: Stage) -> list[Manifest]:
    """The policies that only deny."""
    return [item for item in found.world.policies if item["metadata"]["name"].endswith("-deny")]


def denied(found: Stage, place: Place) -> bool:
    """Whether a place is in a namespace that is denied everything."""
    guard = found.world.guard_of(place)
    return bool(guard and found.world.table.rooms[guard.room].policies == "deny")


def test_without_policies_all_is_open(
    played: Stage, record_property: Callable[[str, object], None]
) -> None:
    """The positive control of everything below."""
    played.apply([])
    assert len(played.actors) > 40
    assert len(played.servers) > 12
    pods = list(played.actors.values())
    assert len(played.keys(pods, pods)) > 3000
    record_property("probes", len(played.every()))
    record_property("seconds", played.agree(lambda *_any: True))


def test_a_port_where_nobody_listens_and_a_name_that_nobody_has_are_told_apart(
    played: Stage,
) -> None:
    """Neither says anything of a policy."""
    played.apply([])
    source, target = played.actors["stage-apps/xwiki"], played.actors["stage-apps/mysql"]
    places = {
        "open": (played.address(target), 3306, "TCP"),
        "refused": (played.address(target), 9998, "TCP"),
        "refused by UDP": (played.address(target), 9998, "UDP"),
        "nameless": ("nobody.stage-apps.svc.cluster.local", 3306, "TCP"),
        "silent": (SERVERS["clients"], MUTE, "TCP"),
    }
    assert probes.asked(played.bed, source.namespace, source.name, places) == {
        "open": OPEN,
        "refused": REFUSED,
        "refused by UDP": REFUSED,
        "nameless": NAMELESS,
        "silent": SILENT,
    }


def test_denials_alone_shut_every_namespace_of_ours_both_ways(played: Stage) -> None:
    played.apply(denials(played))
    assert len(denials(played)) >= 7

    def judge(source: Place, target: Place, *_port: object) -> bool:
        return not denied(played, source) and not denied(played, target)

    played.agree(judge)


def test_the_full_set_lets_through_what_the_table_allows_and_nothing_else(
    played: Stage, record_property: Callable[[str, object], None]
) -> None:
    played.apply(played.world.policies)
    played.agree(played.wanted)
    every = played.every()
    allowed = played.mistakes(dict.fromkeys(every, SILENT), played.wanted)
    record_property("open", len(allowed))
    record_property("silent", len(every) - len(allowed))
    # Both verdicts were seen, and of those that leave the cluster as well.
    xwiki, s3 = played.actors["stage-apps/xwiki"], played.servers["s3"]
    assert not played.wanted(xwiki, s3, "TCP", 443)
    assert played.wanted(played.actors["stage-apps/backups-site"], s3, "TCP", 443)


def test_the_metadata_service_is_silent_to_whoever_may_call_the_internet(played: Stage) -> None:
    """A store without networks is the internet; its exception holds, by packets."""
    played.apply(played.world.policies)
    source = played.actors["stage-apps/backups-site"]
    places = {
        name: (played.servers[name].address, 443, "TCP") for name in ("s3", "clients", "metadata")
    }
    assert places["metadata"][0] == SERVERS["metadata"]

    def look() -> bool:
        found = probes.asked(played.bed, source.namespace, source.name, places)
        assert found == {"s3": OPEN, "clients": OPEN, "metadata": SILENT}
        return True

    eventually(look, seconds=60)


def named(source: Place, played: Stage) -> bool:
    """Whether a pod may ask for names."""
    (dns,) = [place for place in played.actors.values() if place.name == "dns"]
    leaves = played.world.wanted(EGRESS, source, dns)
    return ("UDP", 53) in leaves


def test_names_come_to_the_same_as_addresses_for_whoever_may_ask_for_names(played: Stage) -> None:
    played.apply(played.world.policies)
    targets = list(played.actors.values())

    def call(place: Place) -> str:
        return f"{place.name}.{place.namespace}.svc.cluster.local"

    asking = [place for place in targets if denied(played, place)]
    heard = [place for place in asking if named(place, played)]
    assert len(heard) > 12
    assert len(asking) - len(heard) > 10

    played.agree(played.wanted, played.keys(heard, targets), call)
    others = [place for place in asking if place not in heard]
    found = played.answers(played.keys(others, targets), call)
    assert set(found.values()) == {NAMELESS}


HOLD = """
import socket, sys

link = socket.create_connection((sys.argv[1], int(sys.argv[2])), 30)
for _ in sys.stdin:
    link.sendall(b"x")
    print("echoed" if link.recv(1) == b"x" else "closed", flush=True)
"""
"""Connects once; for each line of its input sends a byte, and says what came back."""


@contextmanager
def connection(
    found: Stage, source: Place, target: Place, port: int
) -> Iterator[Callable[[], str]]:
    """A connection from pod to pod that stays; what a byte that is sent now comes to."""
    words = ["exec", "-i", "-n", source.namespace, source.name, "--", "python3", "-c", HOLD]
    program = [str(cluster.tools().kubectl), "--kubeconfig", str(found.bed.kubeconfig)]
    with subprocess.Popen(
        [*program, *words, found.address(target), str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as held:
        assert held.stdin
        assert held.stdout
        asked, answers = held.stdin, held.stdout

        def exchange() -> str:
            print(file=asked, flush=True)
            return answers.readline().strip()

        try:
            yield exchange
        finally:
            held.kill()


def test_a_connection_that_is_new_follows_a_change_and_one_that_is_old_is_let_be(
    played: Stage,
) -> None:
    """What this engine does, and what is claimed: a change cuts what begins after it.

    Only new connections reach its queue. Who has stolen a connection keeps it until it ends.
    """
    source, target = played.actors["stage-apps/xwiki"], played.actors["stage-apps/mysql"]
    played.apply(played.world.policies)
    others = [
        item
        for item in played.world.policies
        if not item["metadata"]["name"].endswith("-xwiki-mysql-ingress")
    ]
    assert len(others) == len(played.world.policies) - 1
    with connection(played, source, target, 3306) as exchange:
        # Before the change, or it would be a new one.
        assert exchange() == "echoed"
        played.apply(others)
        played.agree(lambda *_any: False, played.keys([source], [target]))
        assert exchange() == "echoed"


def test_a_new_pod_is_held_to_the_rules_from_its_first_seconds_on(
    played: Stage, record_property: Callable[[str, object], None]
) -> None:
    """Before the engine knows a pod it may refuse what is allowed; soon it does not."""
    xwiki = played.actors["stage-apps/xwiki"]
    mysql, nginx = played.actors["stage-apps/mysql"], played.actors["stage-nginx/nginx"]
    played.apply(played.world.policies)
    late = probes.pod(played.bed, xwiki.namespace, "late", xwiki.labels, {"TCP": [8080], "UDP": []})
    late["spec"]["containers"][0]["command"][1:] = ["-c", "import time; time.sleep(3600)"]
    played.bed.kube.apply(late)
    try:

        def runs() -> bool:
            return any(
                item.get("status", {}).get("phase") == "Running"
                for item in played.bed.kube.every("Pod", xwiki.namespace, "probe=late")
            )

        eventually(runs, seconds=120, pause=0.1)
        began = time.monotonic()
        places = {
            "mysql": (played.address(mysql), 3306, "TCP"),
            "another port": (played.address(mysql), UNNAMED[1], "TCP"),
            "the door": (played.address(nginx), 443, "TCP"),
        }
        seen = []

        def look() -> bool:
            seen.append(probes.asked(played.bed, xwiki.namespace, "late", places))
            wanted = {"mysql": OPEN, "another port": SILENT, "the door": SILENT}
            assert seen[-1] == wanted, json.dumps(seen)
            return True

        # How soon is the engine's and the machine's; a look takes seconds where it is loaded.
        eventually(look, seconds=60, pause=0.2)
        record_property("held after", round(time.monotonic() - began, 1))
        # What is denied to it by the database's own policy was never open, not even at first.
        assert {answer["another port"] for answer in seen} == {SILENT}
    finally:
        played.bed.kubectl("delete", "pod", "-n", xwiki.namespace, "late")


def widened(item: Manifest) -> Manifest:
    """A policy whose one rule is about everybody, or about every port where it was so before."""
    direction = oracle.types_of(item["spec"])[0].lower()
    (rule,) = item["spec"][direction]
    left_out = {"to", "from"} & rule.keys() or {"ports"}
    changed = {key: value for key, value in rule.items() if key not in left_out}
    return {**item, "spec": {**item["spec"], direction: [changed]}}


def opened(found: Stage, direction: str) -> list[Manifest]:
    """Policies that open one direction everywhere, so that the other is judged alone."""
    return [every_pod("opened", name, direction, [{}]) for name in found.namespaces]


CLASSES = [
    "door-xwiki-ingress",  # from another room
    "xwiki-mysql-egress",  # within one
    "backups-s3-egress",  # to the internet
    "vault-egress",  # to a network
    "webhooks-ingress-cert-manager-webhook",  # from a network
]
"""A policy of each kind; the oracle tries all, and more changes."""


def path(item: Manifest) -> str:
    """Namespace and name."""
    return f"{item['metadata']['namespace']}/{item['metadata']['name']}"


def rows() -> list[str]:
    """The policies that are changed: by the ends of their names, one of each kind; or asked so,
    all that are about a pod of the stage."""
    if os.environ.get(packets.ALL) != "1":
        return CLASSES
    with tempfile.TemporaryDirectory() as folder:
        world = told(staged(Path(folder)))
    actors = cast(world).values()

    def plays(item: Manifest) -> bool:
        (direction,) = oracle.types_of(item["spec"])
        return any(oracle.guards(item, direction, place) for place in actors)

    found = [item for item in world.policies if len(oracle.types_of(item["spec"])) == 1]
    # By direction: the other one is opened once, not for each.
    return [path(i) for i in sorted(found, key=lambda i: oracle.types_of(i["spec"])) if plays(i)]


@pytest.mark.parametrize("row", rows())
def test_a_policy_that_is_deleted_or_widened_is_noticed_by_packets(
    played: Stage, row: str, record_property: Callable[[str, object], None]
) -> None:
    (item,) = [i for i in played.world.policies if path(i) == row or path(i).endswith(f"-{row}")]
    others = [i for i in played.world.policies if i is not item]
    direction = oracle.types_of(item["spec"])[0]
    mine = next(p for p in played.actors.values() if oracle.guards(item, direction, p))
    far = [p for p in played.actors.values() if p.name == "stranger" or p.namespace == NOBODYS]

    def wanted(source: Place, target: Place, kind: str, port: int) -> bool:
        one, other = (source, target) if direction == EGRESS else (target, source)
        return (kind, port) in played.world.wanted(direction, one, other)

    (rule,) = item["spec"][direction.lower()]
    ports = [(port["protocol"], port["port"]) for port in rule["ports"]]
    pods = list(played.actors.values())
    if direction == EGRESS:
        keys = played.keys([mine], [*pods, *played.servers.values()], ports)
    else:
        near = [p for p in pods if p is not mine and played.world.wanted(direction, mine, p)]
        keys = played.keys([*near, *far, *map(played.servers.__getitem__, CALLERS)], [mine])

    other_end = opened(played, INGRESS if direction == EGRESS else EGRESS)

    def settles(policies: list[Manifest]) -> None:
        played.apply([*policies, *other_end])
        played.agree(wanted, keys, seconds=60)

    def noticed(policies: list[Manifest], change: str) -> None:
        words = f"{path(item).removeprefix('stage-')} {change}"
        record_property("changed", words)
        played.apply([*policies, *other_end])

        def look() -> bool:
            assert played.mistakes(played.answers(keys), wanted), "nobody noticed"
            return True

        eventually(look, seconds=60)
        record_property("noticed", words)

    settles([*others, item])
    noticed(others, "deleted")
    settles([*others, item])
    noticed([*others, widened(item)], "widened")
