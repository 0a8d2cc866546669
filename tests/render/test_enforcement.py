"""The pods of charts/netpol that try policies: one end allows what the other forbids."""

import dataclasses
from typing import Any

import pytest
import yaml

from tests import environments
from tests.render import schemas
from xwiki_stack import cli, enforcement, generate, oracle, policy, proc, render, repo
from xwiki_stack.render import Manifest

ON: dict[str, Any] = {
    "switches": {"probe": True, "metrics": True},
    "probe": {"serviceMonitor": {"enabled": True}, "rules": {"enabled": True}},
}

ROLES = ("probe", "target")


def objects(**values: Any) -> list[Manifest]:
    return environments.chart("netpol", ON, {"probe": values})


def container(role: str, **values: Any) -> Manifest:
    made = environments.only(objects(**values), "Deployment", f"-{role}")
    (found,) = policy.containers_of(made)
    return found


def labels(role: str) -> dict[str, str]:
    pod = environments.only(objects(), "Deployment", f"-{role}")["spec"]["template"]
    found: dict[str, str] = pod["metadata"]["labels"]
    return found


def allowed(role: str, direction: str) -> set[tuple[str, int]]:
    """Whom policies let it reach, or be reached by: a role or a namespace, and the port."""
    made = [item["spec"] for item in objects() if item["kind"] == "NetworkPolicy"]
    mine = [spec for spec in made if oracle.selects(spec["podSelector"], labels(role))]
    # One of them denies everything, both ways, so that only what others allow is allowed.
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in mine
    end = {"egress": "to", "ingress": "from"}[direction]
    found = set()
    for rule in (rule for spec in mine for rule in spec.get(direction, [])):
        (peer,) = rule[end]
        if "namespaceSelector" in peer:
            (who,) = peer["namespaceSelector"]["matchExpressions"][0]["values"]
        else:
            (who,) = (r for r in ROLES if oracle.selects(peer["podSelector"], labels(r)))
        assert {port["protocol"] for port in rule["ports"]} == {"TCP"}
        found |= {(who, port["port"]) for port in rule["ports"]}
    return found


def test_each_direction_is_forbidden_by_one_end_alone() -> None:
    out = {port for who, port in allowed("probe", "egress") if who == "target"}
    into = {port for who, port in allowed("target", "ingress") if who == "probe"}
    forbidden = enforcement.FORBIDDEN
    assert out & into == {enforcement.CONTROL}
    assert into - out == {forbidden["egress"]}
    assert out - into == {forbidden["ingress"]}


def test_nothing_else_is_allowed() -> None:
    assert {who for who, _port in allowed("probe", "egress")} == {"target"}
    assert {who for who, _port in allowed("target", "ingress")} == {"probe"}
    assert allowed("target", "egress") == set()
    assert allowed("probe", "ingress") == {("observability", enforcement.METRICS)}


def test_the_pods_are_at_the_ports_of_the_program() -> None:
    ports = {p["name"]: p["containerPort"] for p in container("target")["ports"]}
    assert ports == {"control": enforcement.CONTROL, **enforcement.FORBIDDEN}
    assert [p["containerPort"] for p in container("probe")["ports"]] == [enforcement.METRICS]
    for role in ROLES:
        service = environments.only(objects(), "Service", f"-{role}")["spec"]
        assert service["selector"] == labels(role)
        assert {p["name"]: p["port"] for p in service["ports"]} == {
            p["name"]: p["containerPort"] for p in container(role)["ports"]
        }


def test_the_commands_are_ones_that_there_are() -> None:
    """The kubelet puts the address of the Service there, since the pod has its links."""
    target = environments.only(objects(), "Service", "-target")["metadata"]["name"]
    variable = f"$({target.upper().replace('-', '_')}_SERVICE_HOST)"
    made = container("probe", every=77)
    said = cli.parse([*made["command"][1:], *made["args"]])
    assert (said.part, said.target, said.every) == ("probe", variable, 77)
    pod = environments.only(objects(), "Deployment", "-probe")["spec"]["template"]["spec"]
    assert pod["enableServiceLinks"] is True
    made = container("target")
    assert cli.parse([*made["command"][1:], *made["args"]]).part == "answer"
    pod = environments.only(objects(), "Deployment", "-target")["spec"]["template"]["spec"]
    assert pod["enableServiceLinks"] is False


def test_the_monitor_finds_the_probe_alone() -> None:
    monitor = environments.only(objects(), "ServiceMonitor")["spec"]
    found = [
        item["metadata"]["name"]
        for item in objects()
        if item["kind"] == "Service"
        and monitor["selector"]["matchLabels"].items() <= item["metadata"]["labels"].items()
    ]
    assert found == [f"{render.RELEASE}-netpol-probe"]
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] in {p["name"] for p in container("probe")["ports"]}


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PrometheusRule"])
def test_what_needs_an_operator_is_asked_for_by_itself(kind: str) -> None:
    made = environments.chart("netpol", {"switches": {"probe": True}})
    assert "Deployment" in {item["kind"] for item in made}
    assert kind not in {item["kind"] for item in made}
    assert kind in {item["kind"] for item in objects()}


def test_nothing_runs_unless_asked_for() -> None:
    made = environments.chart("netpol", {"probe": ON["probe"]})
    assert {item["kind"] for item in made} == {"NetworkPolicy"}
    assert not [item for item in made if "probe" in item["metadata"]["name"]]


def test_nothing_runs_in_the_namespaces_of_the_platform() -> None:
    """There the switch says that Prometheus may ask the probes of wikis."""
    seen = {"room": "observability", "namespaces": {"apps": ["wiki"]}}
    made = environments.chart("netpol", ON, seen)
    assert {item["kind"] for item in made} == {"NetworkPolicy"}
    found = [item for item in made if "probe" in item["metadata"]["name"]]
    assert [item["spec"]["policyTypes"] for item in found] == [["Egress"]]


def test_every_option_reaches_its_place() -> None:
    chosen = schemas.everything("netpol")["probe"]
    found = environments.objects("everything")
    made = environments.only(found, "Deployment", "-netpol-probe")["spec"]["template"]["spec"]
    (one,) = made["containers"]
    image = chosen["image"]
    assert one["image"] == f"{image['repository']}:{image['tag']}"
    assert one["imagePullPolicy"] == image["pullPolicy"]
    assert one["resources"] == chosen["resources"]
    assert made["imagePullSecrets"] == chosen["imagePullSecrets"]
    assert str(chosen["every"]) in one["args"]
    monitor = environments.only(found, "ServiceMonitor", "-netpol-probe")
    assert monitor["spec"]["endpoints"][0]["interval"] == chosen["serviceMonitor"]["interval"]
    assert chosen["serviceMonitor"]["labels"].items() <= monitor["metadata"]["labels"].items()
    text = str(environments.only(found, "PrometheusRule", "-netpol"))
    assert f"{chosen['rules']['runbooks']}NetpolNotEnforced.md" in text


def test_policies_are_tried_where_there_is_somebody_to_tell() -> None:
    environment, cluster = environments.decided_prod()
    for there in (True, False):
        text = generate.text_of(environment, dataclasses.replace(cluster, metrics=there))
        found = yaml.safe_load(text)["netpol"]
        assert found["switches"]["probe"] == there
        assert bool(found.get("probe", {}).get("rules", {}).get("enabled")) == there
    # Its image is that of backups.
    bare = dataclasses.replace(environment, open_keys={"backups.target": 2})
    assert not yaml.safe_load(generate.text_of(bare, cluster))["netpol"]["switches"]["probe"]


# By packets


ALONE = ["unshare", "--net", "--map-root-user"]
"""A network namespace of its own, where everything may be dropped."""

TRY = """
ip link set lo up
"$0" enforcement answer & target=$!
trap 'kill $target' EXIT
for _ in $(seq 100); do
    grep -q :23F5 /proc/net/tcp /proc/net/tcp6 && break
    sleep 0.1
done
for rule in "$@"; do iptables -A $rule -j DROP; done
"$0" enforcement probe --target 127.0.0.1 --once
"""
"""Starts the target, waits until it listens (9205 is 23F5), drops packets, and tries once."""


@pytest.mark.parametrize(
    ("dropped", "said"),
    [
        ([], "egress is NOT, ingress is NOT enforced"),
        (["OUTPUT -p tcp --dport 9203"], "egress is, ingress is NOT enforced"),
        (["INPUT -p tcp --dport 9205"], "egress is NOT, ingress is enforced"),
    ],
    ids=["nothing", "egress", "ingress"],
)
def test_packets_that_are_dropped_are_told_from_those_that_are_not(
    dropped: list[str], said: str
) -> None:
    possible = proc.run([*ALONE, "iptables", "-L", "-n"], check=False)
    if possible.code != 0:
        pytest.skip(
            f"UNPROVEN: no packets can be dropped here, root may on Linux: {possible.err.strip()}"
        )
    found = proc.run([*ALONE, "sh", "-euc", TRY, repo.command(), *dropped], timeout=60)
    assert said in found.out.splitlines()
