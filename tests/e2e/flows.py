"""What the policies of backups come to, by packets: from a pod of one role, and from its double.

The double is the same pod without the labels, which nothing guards: what it does not reach either
says nothing of a policy. Every address is this machine's or this cluster's own; the real ranges
outside are judged by tests/render/test_flows.py alone.
"""

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Any

from tests.e2e.backups import Story
from tests.e2e.patience import eventually
from xwiki_stack import policy, render
from xwiki_stack.cluster.objectstore import node_address
from xwiki_stack.desk import BACKUPS

OPEN, SILENT = "open", "silent"
"""Connected; no answer at all in three seconds, which is what a policy does here. A refusal or a
name that does not resolve is neither, and told in its own words."""

ASK = """
import concurrent.futures, json, socket, sys

def ask(place):
    host, port = place
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        return f"no name: {error}"
    with socket.socket(family, kind) as link:
        link.settimeout(3)
        try:
            link.connect(address)
        except TimeoutError:
            return "silent"
        except OSError as error:
            return f"refused: {error}"
    return "open"

places = json.loads(sys.argv[1])
with concurrent.futures.ThreadPoolExecutor(len(places)) as pool:
    print(json.dumps(dict(zip(places, pool.map(ask, places.values())))))
"""


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


def asked(story: Story, pod: str, places: dict[str, tuple[str, int]]) -> dict[str, str]:
    """What each place answers a pod."""
    words = ["exec", "-n", story.namespace, pod, "--", "python3", "-c", ASK, json.dumps(places)]
    found: dict[str, str] = json.loads(story.bed.kubectl(*words).out)
    return found


def prove(story: Story, role: str, allowed: set[str]) -> None:
    """A pod of the role reaches what is allowed and no other place; its double all of them."""
    with stranger() as port:
        places = {
            "dns": ("kube-dns.kube-system", 53),
            "s3": (story.desk.store.address, story.desk.store.port),
            "mysql": (f"{render.RELEASE}-mysql", 3306),
            "xwiki": (f"{render.RELEASE}-xwiki", 8080),
            "another port of the store's address": (story.desk.store.address, port),
            "the API server": ("kubernetes.default", 443),
        }
        assert allowed < places.keys()
        pod = guarded(story, role)
        double = copy.deepcopy(pod)
        double["metadata"] |= {"name": f"no-{role}", "labels": {}}
        for item in (pod, double):
            story.bed.kube.apply(item)

        def sees(name: str, reached: set[str]) -> None:
            def look() -> bool:
                wanted = {place: OPEN if place in reached else SILENT for place in places}
                found = asked(story, name, places)
                assert found == wanted, f"{name} sees {found}"
                return True

            # A new pod may be let through before its rules land.
            eventually(look, seconds=60)

        sees(f"no-{role}", set(places))
        sees(f"like-{role}", allowed)
    for item in (pod, double):
        story.bed.kubectl("delete", "pod", "-n", story.namespace, item["metadata"]["name"])
