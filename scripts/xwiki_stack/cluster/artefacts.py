"""The cache of what is made: each thing once, named by the content that made it.

An artefact is a folder `cache/artefacts/<name>/<key>`. It is made in a temporary folder beside its
place and moved there in one step, under a lock, so that an interrupted or a second, simultaneous
run never meets a half-made one.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from xwiki_stack import repo
from xwiki_stack.errors import MachineError
from xwiki_stack.steps import Log

WORK_PREFIX = "work-"


@contextlib.contextmanager
def lock(name: str, log: Log | None = None) -> Iterator[None]:
    """Hold the machine-wide lock `name`; wait, and say so, while another run holds it."""
    path = repo.cache() / "locks" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if log:
                log.say("another run is making the same; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def workspace(name: str) -> Iterator[Path]:
    """A temporary folder on the cache's disk; what a killed run left under that name is dropped.

    The caller holds the lock `name`, so nothing living is dropped.
    """
    parent = repo.cache() / "work"
    parent.mkdir(parents=True, exist_ok=True)
    for leftover in parent.glob(f"{WORK_PREFIX}{name}-*"):
        remove(leftover)
    folder = Path(tempfile.mkdtemp(prefix=f"{WORK_PREFIX}{name}-", dir=parent))
    try:
        yield folder
    finally:
        remove(folder)


def remove(path: Path) -> None:
    """Remove a tree, also one whose folders are read-only (Go's module cache is)."""
    for folder, _names, _files in os.walk(path):
        with contextlib.suppress(OSError):
            Path(folder).chmod(0o755)
    shutil.rmtree(path, ignore_errors=True)


def place(name: str, key: str) -> Path:
    """Where the artefact of that name and content key lies or will lie."""
    return repo.cache() / "artefacts" / name / key


def make(name: str, key: str, build: Callable[[Path], None], log: Log) -> str:
    """Make the artefact unless it is there: `build` fills an empty folder. Gives the outcome.

    Older versions of the same artefact are dropped once the new one stands.
    """
    target = place(name, key)
    if target.is_dir():
        return "nothing to do"
    with lock(f"artefact-{name}", log):
        if target.is_dir():
            return "made by another run"
        with workspace(name) as folder:
            made = folder / "made"
            made.mkdir()
            build(made)
            target.parent.mkdir(parents=True, exist_ok=True)
            made.rename(target)
        for older in target.parent.iterdir():
            if older != target:
                remove(older)
    return "made"


def require_disk(gigabytes: float) -> None:
    """Raise MachineError when the cache's disk has less than so many GB (10^9 bytes) free."""
    root = repo.cache()
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free / 1e9
    if free < gigabytes:
        raise MachineError(
            f"{free:.1f} GB are free where {root} lies, {gigabytes:g} GB are needed",
            next=f"free some space, or point {repo.CACHE_VARIABLE} to a bigger disk",
        )
