"""A real S3 server for tests: versitygw on a folder and an address of this machine."""

import os
import secrets
import socket
from dataclasses import dataclass, field
from pathlib import Path

import requests

from tests.e2e.patience import eventually
from xwiki_stack import proc, repo, steps
from xwiki_stack.cluster import programs

BUCKET = "sets"


def program() -> Path:
    """versitygw, built unless it is there."""
    log = steps.Log(repo.logs() / "tool-versitygw.log", lambda _text: None)
    programs.install("versitygw", log)
    return programs.tools().versitygw


@dataclass
class S3:
    """A server with one bucket; its objects are files below `objects`."""

    folder: Path
    access: str = field(default_factory=lambda: f"access{secrets.token_hex(6)}")
    secret: str = field(default_factory=lambda: secrets.token_hex(20))
    port: int = 0
    address: str = "127.0.0.1"

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://{self.address}:{self.port}"

    @property
    def objects(self) -> Path:
        """Where the bucket's objects lie as files, to be damaged."""
        return self.folder / "data" / BUCKET

    def start(self) -> None:
        """Serve, on the same port every time."""
        (self.folder / "data" / BUCKET).mkdir(parents=True, exist_ok=True)
        if not self.port:
            with socket.socket() as free:
                free.bind((self.address, 0))
                self.port = free.getsockname()[1]
        proc.spawn(
            [program(), "--port", f"{self.address}:{self.port}", "--quiet", "posix",
             self.folder / "data"],
            log=self.folder / "log",
            pid_file=self.folder / "pid",
            env={"ROOT_ACCESS_KEY": self.access, "ROOT_SECRET_KEY": self.secret,
                 "PATH": os.environ["PATH"]},
        )  # fmt: skip
        eventually(self._answers, seconds=20, pause=0.1)

    def stop(self) -> None:
        """End it; its objects stay."""
        proc.end(self.folder / "pid")

    def _answers(self) -> bool:
        try:
            return requests.get(self.endpoint, timeout=2).status_code > 0
        except requests.ConnectionError:
            return False
