"""Two nodes: pods reach each other across them and no more, a wiki outlives their restart.

A second kind cluster, made for this module and deleted after it.
"""

from collections.abc import Iterator

import pytest

from tests.e2e import enforcement
from tests.e2e.conftest import LIGHT, Bed, make_namespace, settled
from tests.e2e.inside import Inside
from tests.e2e.patience import eventually
from xwiki_stack import cluster, credentials, render, steps, suite, up
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


def test_page_and_attachment_survive_a_restart_of_every_node(two: Bed) -> None:
    """As after a power cut; each node comes back with another address."""
    namespace = "restarted"
    make_namespace(two, namespace)
    credentials.ensure(two.kube, namespace, render.RELEASE)
    two.release(namespace).install([*up.values("local", two.name), LIGHT])
    eventually(lambda: settled(two, namespace), seconds=240)
    wiki = Inside(two, namespace)
    assert wiki.write("Restart") == "201"
    assert wiki.attach("Restart", "file.bin", "x") == "201"
    digest, before = wiki.digest("Restart", "file.bin"), two.uids(namespace)
    assert len(before) == 2
    cluster.restart_nodes(two.name)

    def restarted() -> bool:
        after = two.uids(namespace)
        return all(after.get(name) != state for name, state in before.items())

    eventually(restarted, seconds=120)
    eventually(lambda: settled(two, namespace), seconds=240)
    assert wiki.status("Restart") == "200"
    assert wiki.digest("Restart", "file.bin") == digest
