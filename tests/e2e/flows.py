"""What the policies of a wiki come to, by packets: from pods as its own CronJobs make them.

A pod without labels in a namespace without policies is the control: what it does not reach either
says nothing of a policy. Wiki and database let in nobody whom no row names; there the control is a
pod of the role `xar`, which reaches both. Every address is this machine's or this cluster's own.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Any

from tests.e2e import probes
from tests.e2e.backups import Story
from tests.e2e.conftest import make_namespace
from tests.e2e.patience import eventually
from tests.e2e.probes import OPEN, SILENT
from xwiki_stack import policy, render
from xwiki_stack.cluster.objectstore import node_address
from xwiki_stack.desk import BACKUPS


@contextmanager
def stranger() -> Iterator[int]:
    """A server of ours that no flow names, on the store's own address; its port."""
    with ThreadingTCPServer((node_address(), 0), BaseRequestHandler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield int(server.server_address[1])
        server.shutdown()


def guarded(story: Story, role: str) -> dict[str, Any]:
    """A pod as the role's CronJob makes them, that only waits."""
    words = ["get", "cronjob", "-n", story.namespace, f"{BACKUPS}-{role}", "-o", "json"]
    template = policy.pod_of(json.loads(story.bed.kubectl(*words).out))
    template["spec"]["containers"][0] |= {
        "command": ["python3", "-c", "import time; time.sleep(3600)"],
        "args": [],
    }
    template["spec"]["terminationGracePeriodSeconds"] = 0
    own = {"name": f"like-{role}", "namespace": story.namespace}
    metadata = {**own, "labels": template["metadata"]["labels"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def prove(story: Story, role: str, allowed: set[str]) -> None:
    """A pod of the role reaches what is allowed and no other place; the controls all of them."""
    bed, far = story.bed, f"{story.namespace}-far"
    own = f"{story.namespace}.svc.cluster.local"
    with stranger() as port:
        places = {
            "dns": ("kube-dns.kube-system.svc.cluster.local", 53, "TCP"),
            "s3": (story.desk.store.address, story.desk.store.port, "TCP"),
            "mysql": (f"{render.RELEASE}-mysql.{own}", 3306, "TCP"),
            "xwiki": (f"{render.RELEASE}-xwiki.{own}", 8080, "TCP"),
            "another port of the store's address": (story.desk.store.address, port, "TCP"),
            "the API server": ("kubernetes.default.svc.cluster.local", 443, "TCP"),
        }
        reached = {
            "no-role": places.keys() - {"mysql", "xwiki"},
            "like-xar": {"dns", "s3", "mysql", "xwiki"},
            f"like-{role}": allowed,
        }
        assert set().union(*reached.values()) == places.keys()
        make_namespace(bed, far)
        nobody = probes.pod(bed, far, "no-role", {}, {"TCP": [], "UDP": []})
        pods = {"no-role": nobody, "like-xar": guarded(story, "xar")}
        pods[f"like-{role}"] = guarded(story, role)
        for item in pods.values():
            bed.kube.apply(item)

        def look() -> bool:
            for name, item in pods.items():
                wanted = {place: OPEN if place in reached[name] else SILENT for place in places}
                found = probes.asked(bed, item["metadata"]["namespace"], name, places)
                assert found == wanted, f"{name} sees {found}"
            return True

        # A new pod may be let through, or refused, before its rules land.
        eventually(look, seconds=90)
    for name, item in pods.items():
        bed.kubectl("delete", "pod", "-n", item["metadata"]["namespace"], name)
    bed.kubectl("delete", "namespace", far, "--wait=false")
