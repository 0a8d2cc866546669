"""The local stand-in for a bucket: versitygw, a real S3 server on a folder of this machine.

Only `demo` and the tests use it. It lies on the same disk as the wiki: nothing in it is a backup.
"""

import os
import secrets
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

import requests

from xwiki_stack import proc, repo, steps
from xwiki_stack.cluster import engine, programs
from xwiki_stack.errors import MachineError

BUCKET = "sets"

START_SECONDS = 20.0

NETWORK = "kind"
"""The container network that kind puts its nodes into."""


def program(name: str = "versitygw") -> Path:
    """A server's program, built unless it is there."""
    log = steps.Log(repo.logs() / f"tool-{name}.log", lambda _text: None)
    programs.install(name, log)
    found: Path = getattr(programs.tools(), name)
    return found


def node_address() -> str:
    """This machine's address in the network of the nodes, where pods reach it.

    Raises MachineError where there is none: with Docker Desktop the network is in another machine.
    """
    form = "{{range .IPAM.Config}}{{.Gateway}} {{end}}"
    docker = engine.require()
    asked = proc.run(docker.docker("network", "inspect", NETWORK, "--format", form)).out
    found = next((word for word in asked.split() if "." in word), "")
    with socket.socket() as probe:
        try:
            probe.bind((found or "255.255.255.255", 0))
        except OSError as error:
            raise MachineError(
                f"this machine has no address in the container network {NETWORK!r}",
                next="run it on Linux, where the engine's network is this machine's own",
            ) from error
    return found


@dataclass(frozen=True)
class Identity:
    """A key pair that a store knows."""

    access: str = field(default_factory=lambda: f"access{secrets.token_hex(6)}")
    secret: str = field(default_factory=lambda: secrets.token_hex(20))


@dataclass
class ObjectStore:
    """A server with one bucket; its objects are files below `objects`."""

    folder: Path
    access: str = field(default_factory=lambda: f"access{secrets.token_hex(6)}")
    secret: str = field(default_factory=lambda: secrets.token_hex(20))
    port: int = 0
    address: str = "127.0.0.1"

    @property
    def root(self) -> Identity:
        """Who may do all."""
        return Identity(self.access, self.secret)

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://{self.address}:{self.port}"

    @property
    def objects(self) -> Path:
        """Where the bucket's objects lie as files, to be damaged."""
        return self.folder / "data" / BUCKET

    @property
    def pid_file(self) -> Path:
        """Where the pid of the server stands."""
        return self.folder / "pid"

    def command(self) -> tuple[list[str | Path], dict[str, str]]:
        """Words and environment that start it."""
        words: list[str | Path] = [
            program(), "--port", f"{self.address}:{self.port}", "--quiet", "posix",
            self.folder / "data",
        ]  # fmt: skip
        return words, {"ROOT_ACCESS_KEY": self.access, "ROOT_SECRET_KEY": self.secret}

    def start(self) -> None:
        """Serve, on the same port every time. Raises MachineError."""
        self.objects.mkdir(parents=True, exist_ok=True)
        if not self.port:
            with socket.socket() as free:
                free.bind((self.address, 0))
                self.port = free.getsockname()[1]
        words, env = self.command()
        proc.spawn(
            words,
            log=self.folder / "log",
            pid_file=self.pid_file,
            env={**env, "PATH": os.environ["PATH"]},
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if time.monotonic() > deadline:
                raise MachineError(
                    "the object store does not answer", where=self.endpoint,
                    next=f"read {self.folder / 'log'}",
                )  # fmt: skip
            proc.pause(0.1)

    def stop(self) -> None:
        """End it; its objects stay."""
        proc.end(self.pid_file)

    def _answers(self) -> bool:
        try:
            return requests.get(self.endpoint, timeout=2).status_code > 0
        except requests.ConnectionError:
            return False
