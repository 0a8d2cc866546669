"""A port that cannot be had is refused in one line; a forward comes back, and gives way."""

import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from xwiki_stack import portforward, proc, repo
from xwiki_stack.errors import MachineError, UnhealthyError


def test_a_taken_port_is_refused_with_the_way_out() -> None:
    with socket.socket() as other:
        other.bind((portforward.ADDRESS, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(MachineError, match=rf"port {port} .* taken .*PORT="):
            portforward.refuse_taken(port)


def test_a_free_port_is_not_refused() -> None:
    with socket.socket() as other:
        other.bind((portforward.ADDRESS, 0))
        port = other.getsockname()[1]
    portforward.refuse_taken(port)


def test_a_port_that_we_may_not_open_is_refused_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Below 1024 for an ordinary user; root, who may run these tests, may open them all."""

    def bind(_self: socket.socket, _address: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", bind)
    with pytest.raises(MachineError, match=r"port 1 .* cannot be opened: Permission .*PORT="):
        portforward.refuse_taken(1)


class Place:
    """A forward by a fake kubectl, which does what a script says and counts its lives."""

    def __init__(self, folder: Path, script: str) -> None:
        with socket.socket() as probe:
            probe.bind((portforward.ADDRESS, 0))
            port = probe.getsockname()[1]
        self.kubectl, self.kubeconfig = folder / "kubectl", folder / "kubeconfig"
        self._lives = folder / "lives"
        self.kubeconfig.touch()
        self.kubectl.write_text(f'#!/bin/sh\necho "$@" >>{self._lives}\necho oops >&2\n{script}\n')
        self.kubectl.chmod(0o755)
        self.forward = portforward.Forward("wiki", "ns", "rel-xwiki", local_port=port)

    @property
    def lives(self) -> list[str]:
        return self._lives.read_text().splitlines() if self._lives.exists() else []

    def start(self) -> str:
        return portforward.start(self.forward, self.kubectl, self.kubeconfig, {})


LISTEN = f"""exec {sys.executable} -c '
import socket, sys, time
port = int(sys.argv[-1].partition(":")[0])
server = socket.create_server(("127.0.0.1", port))
time.sleep(60)' "$@"
"""


@pytest.fixture
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(repo.CACHE_VARIABLE, str(tmp_path))
    yield
    portforward.stop("wiki")


@pytest.mark.usefixtures("_own_cache")
def test_a_forward_listens_is_known_and_ends(tmp_path: Path) -> None:
    place = Place(tmp_path, LISTEN)
    assert place.start() == "started"
    assert portforward.running("wiki") == [place.forward.local_port]
    assert place.start() == "restarted"
    assert place.lives[0] == (
        "port-forward --namespace ns --address 127.0.0.1 service/rel-xwiki "
        f"{place.forward.local_port}:8080"
    )
    assert portforward.stop("wiki") == 1
    assert portforward.running("wiki") == []


@pytest.mark.usefixtures("_own_cache")
def test_a_forward_whose_cluster_is_away_tries_less_and_less_and_its_log_stays_small(
    tmp_path: Path,
) -> None:
    place = Place(tmp_path, "exit 1")
    argv: list[str | Path] = [place.kubectl, "port-forward"]
    env = {"KUBECONFIG": str(place.kubeconfig), "LOG": str(place.forward.log)}
    words: list[str | Path] = ["sh", "-c", portforward.LOOP, "port-forward", *argv]
    proc.spawn(words, log=place.forward.log, pid_file=place.forward.pid_file, env=env)
    time.sleep(5.5)
    assert len(place.lives) == 3, "tried after 0, 1 and 3 seconds"
    assert place.forward.log.read_text() == "oops\n"
    place.kubeconfig.unlink()
    deadline = time.monotonic() + 5
    while portforward.running("wiki") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert portforward.running("wiki") == [], "it outlives its cluster"


@pytest.mark.usefixtures("_own_cache")
def test_a_forward_that_never_listens_is_ended_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portforward, "LISTEN_SECONDS", 0.5)
    place = Place(tmp_path, "exit 1")
    with pytest.raises(UnhealthyError, match="does not listen: oops; next: read"):
        place.start()
    assert portforward.running("wiki") == []
