"""The local URL: a background `kubectl port-forward` on 127.0.0.1, known by its pid file.

kubectl's forward ends with the pod it was bound to; a loop starts it anew, so that the URL
survives a restart of the wiki.
"""

import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xwiki_stack import proc, repo
from xwiki_stack.errors import MachineError, UnhealthyError

ADDRESS = "127.0.0.1"


@dataclass(frozen=True)
class Forward:
    """One forward of a cluster: local port to a Service's port."""

    cluster: str
    namespace: str
    service: str
    local_port: int
    service_port: int = 8080

    @property
    def url(self) -> str:
        return f"http://{ADDRESS}:{self.local_port}"

    @property
    def pid_file(self) -> Path:
        return repo.state(self.cluster) / f"port-forward-{self.local_port}.pid"

    @property
    def log(self) -> Path:
        return self.pid_file.with_suffix(".log")


def start(forward: Forward, kubectl: Path, kubeconfig: Path, env: Mapping[str, str]) -> str:
    """(Re)start the forward and wait until it listens; give its outcome in words.

    Raises MachineError when another program has the port, UnhealthyError when it never listens.
    """
    outcome = "restarted" if proc.end(forward.pid_file) else "started"
    refuse_taken(forward.local_port)
    loop = 'while :; do "$@"; sleep 1; done'
    target: list[str | Path] = [
        f"service/{forward.service}",
        f"{forward.local_port}:{forward.service_port}",
    ]
    argv: list[str | Path] = [kubectl, "--kubeconfig", kubeconfig, "--namespace", forward.namespace]
    argv += ["port-forward", "--address", ADDRESS, *target]
    proc.spawn(
        ["sh", "-c", loop, "port-forward", *argv],
        log=forward.log,
        pid_file=forward.pid_file,
        env=env,
    )
    deadline = time.monotonic() + 20
    while not _listens(forward.local_port):
        if time.monotonic() > deadline:
            proc.end(forward.pid_file)
            raise UnhealthyError("the port-forward does not listen", next=f"read {forward.log}")
        time.sleep(0.1)
    return outcome


def stop(cluster: str) -> int:
    """End all forwards of a cluster; give how many ran."""
    return sum(proc.end(file) for file in repo.state(cluster).glob("port-forward-*.pid"))


def running(cluster: str) -> list[int]:
    """The local ports of the forwards that run."""
    files = sorted(repo.state(cluster).glob("port-forward-*.pid"))
    return [int(file.stem.rpartition("-")[2]) for file in files if proc.alive(file)]


def refuse_taken(port: int) -> None:
    """Raise MachineError if another program listens on the local port."""
    if _listens(port):
        raise MachineError(
            f"port {port} on {ADDRESS} is taken by another program",
            next="end that program, or choose another one: `make up PORT=8081`",
        )


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((ADDRESS, port)) == 0
