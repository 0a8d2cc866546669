"""Connections from one pod to many places at once, and what came of each; and who answers them."""

import json
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.conftest import Bed
from xwiki_stack import cluster

OPEN, SILENT, REFUSED, NAMELESS = "open", "silent", "refused", "no name"
"""Answered; no answer at all, which is what a policy does on the bed; an answer that nobody listens
there; a name that does not resolve. Only the second says something of a policy."""

SECONDS = 1.5
"""How long an answer is waited for: the second packet of a connection comes after one."""

PATIENCE = 180.0
"""Seconds for an answer to a question: all of its places, on a busy machine."""

PODS_NETWORK = "10.244.0.0/16"
"""The network of kind's pods."""

Place = tuple[str, int, str]
"""Host, port, TCP or UDP."""

ASK = """
import concurrent.futures, json, socket, sys

def ask(place):
    host, port, protocol = place
    kind = socket.SOCK_DGRAM if protocol == "UDP" else socket.SOCK_STREAM
    try:
        address = socket.getaddrinfo(host, port, socket.AF_INET, kind)[0][4]
    except OSError:
        return "no name"
    with socket.socket(socket.AF_INET, kind) as link:
        link.settimeout(SECONDS)
        try:
            link.connect(address)
            if protocol == "UDP":
                link.send(b"x")
                link.recv(1)
        except TimeoutError:
            return "silent"
        except OSError as error:
            return "refused" if isinstance(error, ConnectionRefusedError) else f"failed: {error}"
    return "open"

with concurrent.futures.ThreadPoolExecutor(256) as pool:
    for line in sys.stdin:
        places = json.loads(line)
        print(json.dumps(dict(zip(places, pool.map(ask, places.values())))), flush=True)
""".replace("SECONDS", str(SECONDS))
"""Places by name, a line for each question; what came of each, by name."""

SERVE = """
import json, selectors, socket, sys

told = json.loads(sys.argv[1])
every = selectors.DefaultSelector()
for port in told["TCP"]:
    door = socket.socket()
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    door.bind(("", port))
    door.listen(512)
    every.register(door, selectors.EVENT_READ, "door")
for port in told["UDP"]:
    box = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    box.bind(("", port))
    every.register(box, selectors.EVENT_READ, "box")
while True:
    for key, _ in every.select():
        try:
            if key.data == "door":
                link, _ = key.fileobj.accept()
                every.register(link, selectors.EVENT_READ, "link")
            elif key.data == "box":
                data, who = key.fileobj.recvfrom(2048)
                key.fileobj.sendto(data, who)
            elif data := key.fileobj.recv(2048):
                key.fileobj.sendall(data)
            else:
                raise OSError
        except OSError:
            if key.data == "link":
                every.unregister(key.fileobj)
                key.fileobj.close()
"""
"""Answers with what it gets, on all ports of {"TCP": [...], "UDP": [...]}, its first argument."""


@dataclass
class Askers:
    """A program in each pod that asks for as long as this is open, begun with its first question.

    To begin one costs many times what a question does.
    """

    bed: Bed
    held: dict[tuple[str, str], "subprocess.Popen[str]"] = field(default_factory=dict)

    def __enter__(self) -> "Askers":
        return self

    def __exit__(self, *_: object) -> None:
        while self.held:
            self.drop(*next(iter(self.held)))

    def asked(self, namespace: str, pod: str, places: Mapping[str, Place]) -> dict[str, str]:
        """What came of a connection from a pod to each place. One question at a time of a pod."""
        program = self.held.get((namespace, pod)) or self.begin(namespace, pod)
        assert program.stdin
        assert program.stdout
        late = threading.Timer(PATIENCE, program.kill)
        late.start()
        try:
            print(json.dumps(places), file=program.stdin, flush=True)
            line = program.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            late.cancel()
        if not line:
            self.drop(namespace, pod)
            raise AssertionError(f"{namespace}/{pod} does not say what it sees")
        found: dict[str, str] = json.loads(line)
        return found

    def begin(self, namespace: str, pod: str) -> "subprocess.Popen[str]":
        """Start the program in a pod."""
        words = ["exec", "-i", "-n", namespace, pod, "--", "python3", "-c", ASK]
        argv: list[str | Path] = [
            cluster.tools().kubectl,
            "--kubeconfig",
            self.bed.kubeconfig,
            *words,
        ]
        self.held[namespace, pod] = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self.held[namespace, pod]

    def drop(self, namespace: str, pod: str) -> None:
        """End the program in a pod: it would not notice that the pod is another one."""
        with self.held.pop((namespace, pod)) as program:
            program.kill()


def asked(bed: Bed, namespace: str, pod: str, places: Mapping[str, Place]) -> dict[str, str]:
    """What came of a connection from a pod to each place, asked once."""
    with Askers(bed) as askers:
        return askers.asked(namespace, pod, places)


def image(bed: Bed) -> str:
    """An image with Python: that of the backup tools."""
    own = (cluster.image_values(bed.name) or {}).get("backups", {}).get("image")
    assert own, "the bed has no image of the backup tools"
    return f"{own['repository']}:{own['tag']}"


def pod(
    bed: Bed,
    namespace: str,
    name: str,
    labels: Mapping[str, str],
    ports: Mapping[str, list[int]],
) -> dict[str, Any]:
    """A restricted pod that asks, and answers on ports, by protocol."""
    container = {
        "name": "main",
        "image": image(bed),
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-c", SERVE, json.dumps(ports)],
        "resources": {
            "requests": {"cpu": "1m", "memory": "16Mi"},
            "limits": {"cpu": "1", "memory": "96Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    # Who finds no name shall say so at once.
    patience = [{"name": word, "value": "1"} for word in ("timeout", "attempts", "ndots")]
    spec = {
        "containers": [container],
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 0,
        "dnsConfig": {"options": patience},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
            # Doors below 1024 without root.
            "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}],
        },
    }
    metadata = {"name": name, "namespace": namespace, "labels": {**labels, "probe": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def service(namespace: str, name: str, ports: list[tuple[str, int]]) -> dict[str, Any]:
    """A Service for a pod of this module: (protocol, number) of each port."""
    listed = [
        {"name": f"{kind.lower()}-{number}", "protocol": kind, "port": number}
        for kind, number in ports
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"probe": name}, "ports": listed},
    }


def addresses(bed: Bed, namespaces: list[str], wanted: int) -> dict[str, str]:
    """The addresses of pods by namespace/name. AssertionError until as many are ready."""
    found = [item for name in namespaces for item in bed.kube.every("Pod", name)]
    ready = {
        f"{item['metadata']['namespace']}/{item['metadata']['name']}": str(item["status"]["podIP"])
        for item in found
        if any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in item.get("status", {}).get("conditions", [])
        )
    }
    assert len(ready) == wanted, f"{len(ready)} of {wanted} pods are ready"
    return ready
