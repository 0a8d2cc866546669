"""Two nodes: pods on different nodes reach each other, by address and by name, and no more.

A second kind cluster, made for this module and deleted after it.
"""

from collections.abc import Iterator

import pytest

from tests.e2e import enforcement
from tests.e2e.conftest import Bed
from xwiki_stack import cluster, steps, suite
from xwiki_stack.kube import Kube

NAME = f"{suite.CLUSTER}-two"


@pytest.fixture(scope="module")
def two() -> Iterator[Bed]:
    """A cluster of two nodes with the enforcement pods, server and stranger apart."""
    cluster.delete(NAME)  # what a killed run left
    try:
        steps.execute(cluster.prepare(cluster.Config(name=NAME, nodes=2)), print)
        yield _furnished()
    finally:
        cluster.delete(NAME)


def _furnished() -> Bed:
    kubeconfig = cluster.kubeconfig(NAME)
    bed = Bed(NAME, kubeconfig, Kube(kubeconfig))
    nodes = sorted(item["metadata"]["name"] for item in bed.kube.every("Node"))
    assert len(nodes) == 2
    namespace = {"name": enforcement.NAMESPACE}
    bed.kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": namespace})
    for name, command, node in (
        ("server", enforcement.SERVE, nodes[1]),
        ("friend", enforcement.SLEEP, nodes[0]),
        ("stranger", enforcement.SLEEP, nodes[0]),
    ):
        pod = enforcement.pod(name, command)
        pod["spec"]["nodeSelector"] = {"kubernetes.io/hostname": node}
        pod["spec"]["tolerations"] = [{"operator": "Exists"}]
        bed.kube.apply(pod)
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "server", "namespace": enforcement.NAMESPACE},
        "spec": {"selector": {"app": "server"}, "ports": [{"port": enforcement.PORT}]},
    }
    bed.kube.apply(service)
    return bed


@pytest.fixture
def open_network(two: Bed) -> Bed:
    """The cluster without a policy, whatever an earlier test applied."""
    two.kubectl("delete", "networkpolicy", "--all", "-n", enforcement.NAMESPACE)
    return two


def test_pods_on_two_nodes_reach_each_other_by_address_and_by_name(open_network: Bed) -> None:
    bed = open_network
    address = enforcement.server_address(bed)
    placed = {
        pod["metadata"]["name"]: pod["spec"]["nodeName"]
        for pod in bed.kube.every("Pod", enforcement.NAMESPACE)
    }
    assert placed["server"] != placed["stranger"]
    name = f"server.{enforcement.NAMESPACE}.svc.cluster.local"
    for where in (address, name):
        enforcement.sees(bed, "stranger", where, True, f"{where} is out of reach", seconds=60)


def test_a_policy_holds_across_nodes(open_network: Bed) -> None:
    bed = open_network
    address = enforcement.server_address(bed)
    enforcement.sees(bed, "stranger", address, True, "out of reach before any policy", seconds=60)
    bed.kube.apply(enforcement.policy("friend"))
    enforcement.sees(bed, "stranger", address, False, "the policy ends at the node", seconds=60)
    enforcement.sees(bed, "friend", address, True, "the policy blocks what it allows")
