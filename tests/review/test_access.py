"""What covers what: flows of NetworkPolicies and rights of Roles, spelled out."""

import json
from typing import Any

import pytest

from xwiki_stack.review import access
from xwiki_stack.review.access import ANYONE, EVERY_PORT, Flow, Right


def flow(peer: Any = None, **port: Any) -> Flow:
    who = access.canonical(peer) if peer else ANYONE
    return Flow(
        "Egress", who, access.canonical({"protocol": "TCP", **port}) if port else EVERY_PORT
    )


def block(cidr: str, *without: str) -> dict[str, Any]:
    return {"ipBlock": {"cidr": cidr, **({"except": list(without)} if without else {})}}


COVERED = [
    (flow(), flow(block("192.0.2.0/24"), port=1)),
    (flow(port=443), flow(block("192.0.2.0/24"), port=443)),
    (flow(block("0.0.0.0/0")), flow(block("192.0.2.0/24"), port=1)),
    (flow(port=400, endPort=500), flow(port=443)),
    (flow(port=400, endPort=500), flow(port=400, endPort=450)),
    (flow(protocol="TCP"), flow(port=443)),
]


@pytest.mark.parametrize(("wide", "narrow"), COVERED)
def test_a_wide_flow_covers_a_narrow_one(wide: Flow, narrow: Flow) -> None:
    assert wide.covers(narrow)
    assert not narrow.covers(wide)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (flow(port=443), flow(port=443, protocol="UDP")),
        (flow(port="https"), flow(port=443)),
        (flow(port=443), Flow("Ingress", ANYONE, flow(port=443).port)),
        (flow(block("0.0.0.0/0", "192.0.2.0/24")), flow(block("192.0.2.0/24"))),
        (flow(block("::/0")), flow(block("192.0.2.0/24"))),
        (flow({"podSelector": {}}), flow(block("192.0.2.0/24"))),
    ],
)
def test_other_flows_do_not(one: Flow, other: Flow) -> None:
    assert not one.covers(other)


def test_a_policy_without_types_speaks_about_egress_only_with_rules() -> None:
    spec: dict[str, Any] = {"podSelector": {}}
    policy = {"kind": "NetworkPolicy", "metadata": {"name": "p"}, "spec": spec}
    pods = access.pods_of(policy, "n")
    assert access.flows([policy], pods, "n") == {Flow("Egress", ANYONE, EVERY_PORT)}
    spec["egress"] = [{"ports": [{"port": 53}]}]
    (found,) = access.flows([policy], pods, "n")
    assert json.loads(found.port) == {"port": 53, "protocol": "TCP"}


@pytest.mark.parametrize(
    ("peer", "words"),
    [
        ({"podSelector": {}}, "all pods"),
        ({"namespaceSelector": {}}, "all pods in every namespace"),
        (
            {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "dns"}},
                "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
            },
            "pods k8s-app=kube-dns in namespaces metadata.name=dns",
        ),
        (
            {
                "podSelector": {
                    "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]
                }
            },
            "pods a In (b)",
        ),
        (block("0.0.0.0/0", "10.0.0.0/8"), "0.0.0.0/0 without 10.0.0.0/8"),
    ],
)
def test_a_peer_is_told_in_words(peer: dict[str, Any], words: str) -> None:
    assert access.peer_words(access.canonical(peer)) == words


def test_a_star_covers_every_word_and_a_name_only_itself() -> None:
    every = Right("*", "*", "*")
    assert every.covers(Right("apps", "deployments", "delete", "wiki"))
    assert not Right("apps", "deployments", "get", "wiki").covers(
        Right("apps", "deployments", "get")
    )
    assert str(Right("apps", "deployments", "get", "wiki")) == "get deployments.apps named wiki"


def test_urls_are_rights_too() -> None:
    role = {"rules": [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]}
    assert [str(right) for right in access.rights(role)] == ["get /metrics"]
