"""The cache of what is made: each thing once, named by the content that made it.

An artefact is a folder `cache/artefacts/<name>/<key>`. It is made in a temporary folder beside its
place and moved there in one step, under a lock, so that an interrupted or a second, simultaneous
run never meets a half-made one.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from xwiki_stack import proc, repo
from xwiki_stack.errors import MachineError
from xwiki_stack.steps import Log

WORK_PREFIX = "work-"

FULL = (errno.ENOSPC, errno.EDQUOT)


def folder(*names: str) -> Path:
    """A folder of the cache, made if need be.

    Raises MachineError where it cannot be made: a file in the way, no rights, a full disk.
    """
    path = repo.cache().joinpath(*names)
    with _explained(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def lock(name: str, log: Log | None = None) -> Iterator[None]:
    """Hold the machine-wide lock `name`; wait, and say so, while another run holds it."""
    with _lock_file(name) as file:
        if not _take(file):
            if log:
                log.say("another run is making the same; waiting for it")
            while not _take(file):
                proc.pause(0.2)
        yield


@contextlib.contextmanager
def lock_if_free(name: str) -> Iterator[bool]:
    """Hold the lock `name` unless another run does; whether it is held."""
    with _lock_file(name) as file:
        yield _take(file)


def busy() -> bool:
    """Whether any run holds a lock, so makes something right now."""
    for path in folder("locks").glob("*.lock"):
        with lock_if_free(path.stem) as free:
            if not free:
                return True
    return False


@contextlib.contextmanager
def workspace(name: str) -> Iterator[Path]:
    """A temporary folder on the cache's disk; what a killed run left under that name is dropped.

    The caller holds the lock `name`, so nothing living is dropped.
    Raises MachineError when the disk is full.
    """
    parent = folder("work")
    for leftover in parent.glob(f"{WORK_PREFIX}{name}-*"):
        remove(leftover)
    with _explained(parent):
        made = Path(tempfile.mkdtemp(prefix=f"{WORK_PREFIX}{name}-", dir=parent))
    try:
        yield made
    except OSError as failed:
        if failed.errno in FULL:
            raise _unusable(parent, failed) from failed
        raise
    finally:
        remove(made)


def remove(path: Path) -> None:
    """Remove a tree, also one whose folders are read-only (Go's module cache is)."""
    for name, _names, _files in os.walk(path):
        with contextlib.suppress(OSError):
            Path(name).chmod(0o755)
    shutil.rmtree(path, ignore_errors=True)


def place(name: str, key: str) -> Path:
    """Where the artefact of that name and content key lies or will lie."""
    return repo.cache() / "artefacts" / name / key


def make(name: str, key: str, build: Callable[[Path], None], log: Log) -> str:
    """Make the artefact unless it is there: `build` fills an empty folder. Gives the outcome.

    Older versions of the same artefact are dropped once the new one stands, but for the newest of
    them: another checkout of this machine may be on it.
    """
    target = place(name, key)
    if target.is_dir():
        return "nothing to do"
    with lock(f"artefact-{name}", log):
        if target.is_dir():
            return "made by another run"
        with workspace(name) as work:
            made = work / "made"
            made.mkdir()
            build(made)
            made.rename(folder("artefacts", name) / key)
        others = [path for path in target.parent.iterdir() if path != target]
        for older in sorted(others, key=lambda path: path.stat().st_mtime)[:-1]:
            remove(older)
    return "made"


def require_disk(gigabytes: float, where: Path | None = None) -> str:
    """Say how much is free (10^9 bytes) on the disk of the cache, or of another folder.

    Raises MachineError when that is less than so many GB.
    """
    path = where or folder()
    free = shutil.disk_usage(path).free / 1e9
    if free < gigabytes:
        elsewhere = "" if where else f", or point {repo.CACHE_VARIABLE} to a bigger disk"
        raise MachineError(
            f"{free:.1f} GB are free where {path} lies, {gigabytes:g} GB are needed",
            next=f"free some space{elsewhere}",
        )
    return f"{free:.0f} GB free, {gigabytes:g} GB needed"


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as refused:
        raise _unusable(path, refused) from refused


def _unusable(path: Path, why: OSError) -> MachineError:
    return MachineError(
        f"cannot be written: {(why.strerror or str(why)).lower()}",
        where=str(path),
        next=f"point {repo.CACHE_VARIABLE} to a folder of yours, on a disk with room",
    )


def _lock_file(name: str) -> IO[str]:
    path = folder("locks") / f"{name}.lock"
    with _explained(path):
        return path.open("w")


def _take(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
