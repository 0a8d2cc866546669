"""The positive control of every statement on NetworkPolicy: the bed blocks, and it lets pass.

kind's default network once enforced nothing and green tests proved nothing (kind#3705), so no
wiki is installed before this has been seen.
"""

from typing import TYPE_CHECKING, Any

from tests.e2e.patience import eventually
from xwiki_stack import cluster, suite

if TYPE_CHECKING:
    from tests.e2e.conftest import Bed

NAMESPACE = "enforcement"
PORT = 8080

TIMED_OUT = (124, 143)
"""Exit codes of `timeout`: coreutils' own, and busybox's, which hands on the signal."""

SERVE = "mkdir -p /tmp/www && echo open > /tmp/www/index.html && exec httpd -f -p 8080 -h /tmp/www"
SLEEP = "exec sleep 86400"


def pod(name: str, command: str) -> dict[str, Any]:
    """A restricted pod of the toolbox image."""
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "main",
        "image": cluster.toolbox_image(suite.CLUSTER),
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", command],
        "securityContext": security,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}},
        "spec": {
            "containers": [container],
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
        },
    }


def policy(allowed: str) -> dict[str, Any]:
    """Only pods of this label may reach the server."""
    peer = {"podSelector": {"matchLabels": {"app": allowed}}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "only-friend", "namespace": NAMESPACE},
        "spec": {
            "podSelector": {"matchLabels": {"app": "server"}},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [peer], "ports": [{"protocol": "TCP", "port": PORT}]}],
        },
    }


def connects(bed: "Bed", source: str, address: str) -> bool:
    """Whether a pod gets the server's answer, or nothing at all within three seconds.

    AssertionError for anything else: a refused connection or a name that does not resolve is no
    policy at work.
    """
    # Not `wget -T 3`: that option crashes Debian's busybox.
    words = ["timeout", "3", "wget", "-q", "-O", "-", f"http://{address}:{PORT}/"]
    answer = bed.kubectl("exec", "-n", NAMESPACE, source, "--", *words, check=False)
    if answer.out.strip() == "open":
        return True
    assert answer.code in TIMED_OUT, f"neither open nor silent: {answer.code} {answer.err}"
    return False


def server_address(bed: "Bed") -> str:
    """The pod IP of the server, once all three pods run."""

    def address() -> str:
        pods = bed.kube.every("Pod", NAMESPACE)
        ready = [p for p in pods if p.get("status", {}).get("phase") == "Running"]
        assert len(ready) == 3, [p.get("status", {}).get("phase") for p in pods]
        return next(str(p["status"]["podIP"]) for p in ready if p["metadata"]["name"] == "server")

    return eventually(address, seconds=60)


def prove(bed: "Bed", *, seconds: float = 30) -> None:
    """Open without a policy, closed to the stranger and open to the friend with it."""
    bed.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found")
    bed.kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    for name, command in (("server", SERVE), ("friend", SLEEP), ("stranger", SLEEP)):
        bed.kube.apply(pod(name, command))
    address = server_address(bed)
    # Without this control a broken network would pass for a policy that blocks.
    sees(bed, "stranger", address, True, "there is no network at all", seconds=seconds)
    bed.kube.apply(policy("friend"))
    sees(bed, "stranger", address, False, "the bed does not enforce NetworkPolicy", seconds=seconds)
    sees(bed, "friend", address, True, "the policy blocks what it allows", seconds=seconds)


def sees(
    bed: "Bed", source: str, address: str, wanted: bool, otherwise: str, *, seconds: float = 30
) -> None:
    """Wait until a pod is let through to the server, or is not. AssertionError `otherwise`."""

    def look() -> bool:
        assert connects(bed, source, address) is wanted, otherwise
        return True

    eventually(look, seconds=seconds)
