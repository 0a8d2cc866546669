"""Real S3 servers for tests, on a folder and an address of this machine."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config as ClientConfig

from xwiki_stack import proc, repo
from xwiki_stack.cluster.objectstore import BUCKET, Identity, ObjectStore, program
from xwiki_stack.desk import HOLDERS

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


PAGE = repo.ROOT / "docs" / "reference" / "store.md"


def documented(prefix: str, who: Mapping[str, Identity]) -> dict[str, Any]:
    """The bucket's policy as operators read it, for these identities by holder and this prefix."""
    (text,) = re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.S)
    text = text.replace("staging/", f"{prefix}/")
    for holder, identity in who.items():
        text = text.replace(f'"{holder.upper()}"', f'"{identity.access}"')
    assert not re.search(rf'"({"|".join(HOLDERS)})"', text, re.I)
    document: dict[str, Any] = json.loads(text)
    return document


@dataclass
class S3(ObjectStore):
    """versitygw as tests want it.

    versioned: keeps what is overwritten or deleted, and so can lock. before: a program and its
    words that start the server, to put it into a place of its own.
    """

    versioned: bool = False
    before: tuple[str | Path, ...] = ()

    def command(self) -> tuple[list[str | Path], dict[str, str]]:
        words, env = super().command()
        place = words.index("posix")
        extra: list[str | Path] = ["--iam-dir", self._made("iam")]
        kind: list[str | Path] = ["posix"]
        if self.versioned:
            kind += ["--versioning-dir", self._made("versions")]
        return [*self.before, *words[:place], *extra, *kind, *words[place + 1 :]], env

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

    def _made(self, name: str) -> Path:
        (self.folder / name).mkdir(parents=True, exist_ok=True)
        return self.folder / name


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
