"""restic as an operator would use it, on the same S3 server."""

import json
import secrets
from copy import copy
from pathlib import Path
from typing import Any

from tests.benchmarks.bed import Bed
from tests.benchmarks.programs import Spent
from xwiki_stack.cluster.objectstore import BUCKET

PATIENCE = 20
"""Seconds for one file to come out."""


class Restic:
    """One repository below a prefix; cache and password are its own."""

    def __init__(self, bed: Bed, name: str) -> None:
        self.prefix = f"restic-{name}"
        self._programs = bed.programs
        self._env = {
            "RESTIC_REPOSITORY": f"s3:{bed.s3.endpoint}/{BUCKET}/{self.prefix}",
            "RESTIC_PASSWORD": secrets.token_hex(16),
            "RESTIC_CACHE_DIR": str(bed.new(f"{self.prefix}-cache")),
            "RESTIC_PROGRESS_FPS": "0.01",
        }
        self.objects = bed.s3.objects / self.prefix
        self.run("init")

    def run(
        self, *words: str, codes: tuple[int, ...] = (0,), before: tuple[str, ...] = (),
        cwd: Path | None = None,
    ) -> Spent:  # fmt: skip
        """Run restic to its end."""
        return self._programs.run([*before, "restic", *words], env=self._env, codes=codes, cwd=cwd)

    def backup(self, root: Path, moment: str = "", **options: Any) -> Spent:
        """A snapshot of a folder, under relative paths, of that moment ("2026-11-01 02:00:00")."""
        words = ["--time", moment] if moment else []
        return self.run("backup", "--host", "wiki", *words, ".", cwd=root, **options)

    def snapshots(self) -> list[str]:
        """Ids of all snapshots, oldest first."""
        found = json.loads(self.run("snapshots", "--json").out)
        return [item["id"] for item in sorted(found, key=lambda item: item["time"])]

    def packs(self) -> list[Path]:
        """Objects that hold file contents or trees."""
        return sorted(path for path in (self.objects / "data").rglob("*") if path.is_file())

    def opens(self, snapshot: str, path: str) -> bool:
        """Whether a file of a snapshot comes out whole; it looks for a lost object for minutes."""
        words = ("dump", "--no-lock", snapshot, f"/{path}")
        late = ("timeout", str(PATIENCE))
        return self.run(*words, before=late, codes=(0, 1, 124)).code == 0

    def copied(self, bed: Bed, name: str) -> "Restic":
        """The same repository under another prefix, to be changed."""
        other = copy(self)
        other.prefix = f"restic-{name}"
        other.objects = bed.s3.objects / other.prefix
        # With its attributes, in which this S3 server keeps what it knows of objects.
        self._programs.run(["cp", "-a", self.objects, other.objects])
        repository = f"s3:{bed.s3.endpoint}/{BUCKET}/{other.prefix}"
        other._env = {**self._env, "RESTIC_REPOSITORY": repository}
        return other
