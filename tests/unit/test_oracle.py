"""The oracle reads policies as the API means them; a real engine reads the same cases."""

from collections.abc import Callable
from typing import Any

import pytest
from tests import semantics
from tests.semantics import Case, Probe

from xwiki_stack import oracle
from xwiki_stack.oracle import EVERY, NONE, Place, Ports

ADDRESSES = {name: f"10.244.1.{at}" for at, name in enumerate(semantics.PODS, 1)}
CASES = semantics.cases()


def places() -> dict[str, Place]:
    """The pods of the cases."""
    return {
        name: Place(
            name.partition("/")[2],
            ADDRESSES[name],
            name.partition("/")[0],
            pod["labels"],
            {word: ("TCP", number) for word, number in pod["ports"].items()},
        )
        for name, pod in semantics.PODS.items()
    }


def mistaken(case: Case) -> list[Probe]:
    """The probes on which oracle and case differ."""
    policies = case.manifests({**ADDRESSES, "pods": "10.244.0.0/16"})
    pods, found = places(), []
    for source, target, port in semantics.probes():
        number, _, protocol = port.partition("/")
        reached = oracle.reach(policies, semantics.NAMESPACES, pods[source], pods[target])
        if ((protocol.upper(), int(number)) in reached) is not case.open((source, target, port)):
            found.append((source, target, port))
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_policy_means_what_the_api_says(case: Case) -> None:
    assert len(list(semantics.probes())) == 4 * 3 * 4
    assert mistaken(case) == []


def test_cases_are_many_and_each_blocks_something_or_says_why_not() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 30
    blocked = [case for case in CASES if not all(map(case.open, semantics.probes()))]
    assert len(blocked) >= 25
    # No two cases come to the same by accident of being the same.
    assert len({str(case.policies) for case in CASES}) == len(CASES)


def verdicts(case: Case) -> dict[Probe, bool]:
    """What the oracle says of every probe."""
    policies = case.manifests({**ADDRESSES, "pods": "10.244.0.0/16"})
    pods = places()
    return {
        probe: (probe[2].partition("/")[2].upper(), int(probe[2].partition("/")[0]))
        in oracle.reach(policies, semantics.NAMESPACES, pods[probe[0]], pods[probe[1]])
        for probe in semantics.probes()
    }


def test_cases_by_lot_are_the_same_each_time_and_differ_from_one_another() -> None:
    """Which a real engine is asked about: tests/e2e/test_semantics.py."""
    found = [verdicts(semantics.drawn(seed)) for seed in range(40)]
    assert found[7] == verdicts(semantics.drawn(7))
    mixed = [case for case in found if len(set(case.values())) == 2]
    assert len(mixed) > 25
    assert len({tuple(case.values()) for case in mixed}) > 20


def spoiled(name: str, wrong: Callable[..., Any]) -> list[str]:
    """The cases that notice an oracle with one function replaced."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(oracle, name, wrong)
        return [case.name for case in CASES if mistaken(case)]


selects, ports_of_rule, types_of = oracle.selects, oracle._ports, oracle.types_of
inside = oracle.within


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("types_of", lambda spec: spec.get("policyTypes") or ["Ingress"]),
        ("types_of", lambda spec: spec.get("policyTypes") or ["Ingress", "Egress"]),
        ("types_of", lambda _spec: ["Ingress", "Egress"]),
        ("selects", lambda selector, labels: bool(selector) and selects(selector, labels)),
        ("selects", lambda selector, labels: not selector or selects(selector, labels) is False),
        ("_meets", lambda *_any: True),
        ("_is", lambda _peer, own, _namespaces, other: other.namespace == own),
        ("_ports", lambda *_any: EVERY),
        ("_ports", lambda rule, _target: NONE if not rule.get("ports") else EVERY),
        (
            "_ports",
            lambda rule, target: ports_of_rule(
                {"ports": [{**p, "endPort": p["port"]} if "endPort" in p else p
                           for p in rule.get("ports", [])]}, target,
            ),
        ),
        ("within", lambda address, networks: inside(address, dict.fromkeys(networks, ()))),
    ],
)  # fmt: skip
def test_an_oracle_that_reads_otherwise_is_noticed(name: str, wrong: Callable[..., Any]) -> None:
    assert spoiled(name, wrong) != []


@pytest.mark.parametrize(
    ("operator", "labels", "fits"),
    [
        ("In", {"a": "x"}, True), ("In", {"a": "z"}, False), ("In", {}, False),
        ("NotIn", {"a": "x"}, False), ("NotIn", {"a": "z"}, True), ("NotIn", {}, True),
        ("Exists", {"a": ""}, True), ("Exists", {}, False),
        ("DoesNotExist", {"a": "x"}, False), ("DoesNotExist", {}, True),
    ],
)  # fmt: skip
def test_label_selectors(operator: str, labels: dict[str, str], fits: bool) -> None:
    wanted = {"key": "a", "operator": operator, "values": ["x", "y"]}
    assert oracle.selects({"matchExpressions": [wanted]}, labels) is fits


def test_an_operator_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(ValueError, match="Near is no operator"):
        oracle.selects({"matchExpressions": [{"key": "a", "operator": "Near"}]}, {})


def spans(*of: tuple[str, int, int]) -> Ports:
    return Ports.of(of)


def test_ports_are_sets() -> None:
    low, high = spans(("TCP", 1, 100)), spans(("TCP", 101, 200))
    assert low | high == spans(("TCP", 1, 200))
    assert low & high == NONE
    assert not low & high
    assert low & spans(("TCP", 50, 150)) == spans(("TCP", 50, 100))
    assert low & spans(("UDP", 50, 150)) == NONE
    assert spans(("TCP", 5, 9), ("TCP", 1, 6)) == spans(("TCP", 1, 9))
    assert spans(("TCP", 1, 1), ("TCP", 3, 3)) != spans(("TCP", 1, 3))
    assert EVERY & low == low
    assert ("TCP", 100) in low
    assert ("TCP", 101) not in low
    assert ("UDP", 100) not in low
    assert str(spans(("UDP", 53, 53), ("TCP", 8, 9))) == "8-9/tcp, 53/udp"
    assert (str(EVERY), str(NONE)) == ("every port", "nothing")


def test_a_pod_reaches_itself_whatever_a_policy_says() -> None:
    pod = places()["one/a"]
    (case,) = [case for case in CASES if case.name.startswith("an empty podSelector selects")]
    policies = case.manifests(ADDRESSES)
    assert oracle.reach(policies, semantics.NAMESPACES, pod, pod) == EVERY
    assert oracle.judge(policies, semantics.NAMESPACES, oracle.INGRESS, pod, pod) == NONE


def test_an_address_outside_is_met_by_blocks_only_and_guarded_by_nobody() -> None:
    outside = Place("client", "198.51.100.7")
    pod = places()["one/a"]
    for peer, reached in (
        ({"namespaceSelector": {}}, NONE),
        ({"podSelector": {}}, NONE),
        ({"ipBlock": {"cidr": "198.51.100.0/24"}}, EVERY),
        # Host bits count for nothing.
        ({"ipBlock": {"cidr": "198.51.100.9/24"}}, EVERY),
        ({"ipBlock": {"cidr": "::/0"}}, NONE),
    ):
        spec = {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": [peer]}]}
        policies = [{"metadata": {"namespace": "one"}, "spec": spec}]
        assert oracle.reach(policies, semantics.NAMESPACES, outside, pod) == reached
        assert oracle.reach(policies, semantics.NAMESPACES, pod, outside) == EVERY
