"""Real S3 servers for tests, on a folder and an address of this machine."""

import json
import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import requests
from botocore.config import Config as ClientConfig

from tests.e2e.patience import eventually
from xwiki_stack import proc, repo, steps
from xwiki_stack.cluster import programs

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "sets"


def program(name: str = "versitygw") -> Path:
    """A server's program, built unless it is there."""
    log = steps.Log(repo.logs() / f"tool-{name}.log", lambda _text: None)
    programs.install(name, log)
    found: Path = getattr(programs.tools(), name)
    return found


@dataclass(frozen=True)
class Identity:
    """A key pair that a server knows."""

    access: str = field(default_factory=lambda: f"access{secrets.token_hex(6)}")
    secret: str = field(default_factory=lambda: secrets.token_hex(20))


@dataclass
class S3:
    """versitygw with one bucket; its objects are files below `objects`.

    versioned: keeps what is overwritten or deleted, and so can lock. before: a program and its
    words that start the server, to put it into a place of its own.
    """

    folder: Path
    root: Identity = field(default_factory=Identity)
    port: int = 0
    address: str = "127.0.0.1"
    versioned: bool = False
    before: tuple[str | Path, ...] = ()

    @property
    def access(self) -> str:
        """Access key of who may do all."""
        return self.root.access

    @property
    def secret(self) -> str:
        """Its secret key."""
        return self.root.secret

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

    def start(self) -> None:
        """Serve, on the same port every time."""
        for name in ("iam", "versions", f"data/{BUCKET}"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        if not self.port:
            with socket.socket() as free:
                free.bind((self.address, 0))
                self.port = free.getsockname()[1]
        argv, env = self.command()
        proc.spawn(
            [*self.before, *argv],
            log=self.folder / "log",
            pid_file=self.pid_file,
            env={**env, "PATH": os.environ["PATH"]},
        )
        eventually(self._answers, seconds=20, pause=0.1)

    def command(self) -> tuple[list[str | Path], dict[str, str]]:
        """Words and environment that start it."""
        words: list[str | Path] = [
            program(), "--port", f"{self.address}:{self.port}", "--quiet",
            "--iam-dir", self.folder / "iam", "posix",
        ]  # fmt: skip
        if self.versioned:
            words += ["--versioning-dir", self.folder / "versions"]
        return [*words, self.folder / "data"], {
            "ROOT_ACCESS_KEY": self.access,
            "ROOT_SECRET_KEY": self.secret,
        }

    def stop(self) -> None:
        """End it; its objects stay."""
        proc.end(self.pid_file)

    def client(self, who: Identity | None = None) -> "S3Client":
        """A client beside ours, for what operators do with other tools."""
        chosen = who or self.root
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=chosen.access,
            aws_secret_access_key=chosen.secret,
            config=ClientConfig(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )

    def identity(self) -> Identity:
        """A new user that no policy mentions yet."""
        made = Identity()
        proc.run(
            [program(), "admin", "--endpoint-url", self.endpoint, "create-user", "--access",
             made.access, "--secret", made.secret, "--role", "user"],
            env={"ADMIN_ACCESS_KEY": self.access, "ADMIN_SECRET_KEY": self.secret},
        )  # fmt: skip
        return made

    def allow(self, policy: Mapping[str, Any]) -> None:
        """Put a policy on the bucket, in the place of the one before."""
        self.client().put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(policy))

    def _answers(self) -> bool:
        try:
            return requests.get(self.endpoint, timeout=2).status_code > 0
        except requests.ConnectionError:
            return False


class Rclone(S3):
    """rclone as a server: other people's code for the same protocol, one identity, no policies."""

    def command(self) -> tuple[list[str | Path], dict[str, str]]:
        return [
            program("rclone"),
            "serve",
            "s3",
            "--addr",
            f"{self.address}:{self.port}",
            "--config",
            "/dev/null",
            "--cache-dir",
            self.folder / "cache",
            self.folder / "data",
        ], {
            "RCLONE_AUTH_KEY": f'"{self.access},{self.secret}"',
            "HOME": str(self.folder),
        }


@contextmanager
def served(server: S3) -> Iterator[S3]:
    """A server for the block."""
    server.start()
    try:
        yield server
    finally:
        server.stop()
