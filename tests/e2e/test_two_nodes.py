"""Two nodes: pods on different nodes reach each other, by address and by name, and no more.

A second kind cluster, made for this module and deleted after it.
"""

from collections.abc import Iterator

import pytest

from tests.e2e import enforcement
from tests.e2e.conftest import Bed
from tests.e2e.patience import eventually
from xwiki_stack import cluster, steps, suite
from xwiki_stack.kube import Kube

NAME = f"{suite.CLUSTER}-two"


@pytest.fixture(scope="module")
def two() -> Iterator[Bed]:
    """A cluster of two nodes with the enforcement pods, server and stranger apart."""
    steps.execute(cluster.prepare(cluster.Config(name=NAME, nodes=2)), print)
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
    yield bed
    cluster.delete(NAME)


def test_pods_on_two_nodes_reach_each_other_by_address_and_by_name(two: Bed) -> None:
    address = enforcement.server_address(two)
    placed = {
        pod["metadata"]["name"]: pod["spec"]["nodeName"]
        for pod in two.kube.every("Pod", enforcement.NAMESPACE)
    }
    assert placed["server"] != placed["stranger"]
    assert eventually(lambda: enforcement.connects(two, "stranger", address), seconds=60)
    name = f"server.{enforcement.NAMESPACE}.svc.cluster.local"
    assert eventually(lambda: enforcement.connects(two, "stranger", name), seconds=60)


def test_a_policy_holds_across_nodes(two: Bed) -> None:
    address = enforcement.server_address(two)
    assert eventually(lambda: enforcement.connects(two, "stranger", address), seconds=60)
    two.kube.apply(enforcement.policy("friend"))
    eventually(lambda: not enforcement.connects(two, "stranger", address), seconds=60)
    assert enforcement.connects(two, "friend", address)
