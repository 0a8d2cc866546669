"""The local URL: a background `kubectl port-forward` on 127.0.0.1, known by its pid file.

kubectl's forward ends with the pod it was bound to; a loop starts it anew, so that the URL
survives a restart of the wiki. Where it ends at once again and again, because the wiki is away,
the loop waits longer each time; where the cluster's kubeconfig is gone, it ends.
"""

import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xwiki_stack import proc, repo
from xwiki_stack.errors import MachineError, UnhealthyError

ADDRESS = "127.0.0.1"

LOOP = """
pause=1
while test -f "$KUBECONFIG"; do
    began=$(date +%s)
    "$@" >/dev/null 2>"$LOG"
    if test $(($(date +%s) - began)) -gt 10; then pause=1; fi
    sleep "$pause"
    if test "$pause" -lt 8; then pause=$((pause * 2)); fi
done
"""
"""Shell: run the forward for ever. At most 8 s between two tries: what the URL may take to come
back. The log holds the newest try only; kubectl's standard output is a line per connection."""

LISTEN_SECONDS = 20.0

ANOTHER = "choose another port: `make up PORT=8081`"


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

    Raises MachineError when the port cannot be had, UnhealthyError when it never listens.
    """
    outcome = "restarted" if proc.end(forward.pid_file) else "started"
    refuse_taken(forward.local_port)
    ports = f"{forward.local_port}:{forward.service_port}"
    options = ["--namespace", forward.namespace, "--address", ADDRESS]
    target = [f"service/{forward.service}", ports]
    proc.spawn(
        ["sh", "-c", LOOP, "port-forward", kubectl, "port-forward", *options, *target],
        log=forward.log,
        pid_file=forward.pid_file,
        env={**env, "KUBECONFIG": str(kubeconfig), "LOG": str(forward.log)},
    )
    deadline = time.monotonic() + LISTEN_SECONDS
    while not _listens(forward.local_port):
        if time.monotonic() > deadline:
            proc.end(forward.pid_file)
            said = forward.log.read_text(errors="replace").strip().splitlines()
            raise UnhealthyError(
                "the port-forward does not listen" + (f": {said[-1]}" if said else ""),
                next=f"read {forward.log}",
            )
        proc.pause(0.1)
    return outcome


def stop(cluster: str) -> int:
    """End all forwards of a cluster; give how many ran."""
    return sum(proc.end(file) for file in repo.state(cluster).glob("port-forward-*.pid"))


def running(cluster: str) -> list[int]:
    """The local ports of the forwards that run."""
    files = sorted(repo.state(cluster).glob("port-forward-*.pid"))
    return [int(file.stem.rpartition("-")[2]) for file in files if proc.alive(file)]


def refuse_taken(port: int) -> None:
    """Raise MachineError if another program has the local port, or we may not open it."""
    if _listens(port):
        raise MachineError(
            f"port {port} on {ADDRESS} is taken by another program",
            next=f"end that program, or {ANOTHER}",
        )
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((ADDRESS, port))
    except OSError as error:
        raise MachineError(
            f"port {port} on {ADDRESS} cannot be opened: {error.strerror}", next=ANOTHER
        ) from error


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((ADDRESS, port)) == 0
