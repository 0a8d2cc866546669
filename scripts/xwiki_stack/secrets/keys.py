"""Private age keys: one file for each cluster, outside the repository, never printed.

The file is what age-keygen writes, so sops, age and Flux read it as it is. After a rotation it
holds the old key beside the new one: old commits still open.
"""

import contextlib
import os
import shlex
import stat
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyrage

from xwiki_stack import repo
from xwiki_stack.errors import IntentError, MachineError, RefusedError

MARK = "AGE-SECRET-KEY-1"
ENDING = ".agekey"
"""Flux takes keys from entries of its Secret that end so; .gitignore has it, too."""


def path_of(cluster: str) -> Path:
    """Where the key of a cluster lies. Raises RefusedError for a folder that Git looks after."""
    folder = repo.keys()
    for above in (folder, *folder.parents):
        if (above / ".git").exists():
            raise RefusedError(
                "private keys would lie in a Git repository",
                where=str(folder),
                next=f"point {repo.KEYS_VARIABLE} to a folder outside of {above}",
            )
    return folder / f"{cluster}{ENDING}"


def make(path: Path) -> bool:
    """Make a key unless there is one, which is never touched; say whether it was made."""
    if path.exists():
        read(path)
        return False
    with _written(path, _text(pyrage.x25519.Identity.generate())) as fresh:
        try:
            os.link(fresh, path)  # unlike a rename, it fails where there is one by now
        except FileExistsError:
            return False
    return True


def add(path: Path) -> str:
    """Add a new key to the file, behind those that it has; give its public half."""
    read(path)
    identity = pyrage.x25519.Identity.generate()
    with _written(path, path.read_text() + _text(identity)) as fresh:
        fresh.replace(path)
    return str(identity.to_public())


def read(path: Path) -> tuple[str, ...]:
    """Public halves of the keys in a file, the oldest first.

    Raises IntentError for what is no key file, MachineError for one that others may read.
    """
    try:
        mode, text = path.stat().st_mode, path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is no text"
        raise IntentError(f"the key cannot be read: {said}", where=str(path)) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise MachineError(
            "others may read this private key", where=str(path), next=f"chmod 600 {path}"
        )
    lines = [line.strip() for line in text.splitlines() if line.startswith(MARK)]
    if not lines:
        raise IntentError("holds no age key", where=str(path), allowed="what age-keygen writes")
    try:
        return tuple(str(pyrage.x25519.Identity.from_str(line).to_public()) for line in lines)
    except pyrage.IdentityError as error:
        raise IntentError("holds a damaged age key", where=str(path)) from error


def at_hand(path: Path) -> tuple[str, ...]:
    """As `read`, or nothing where there is no such file."""
    return read(path) if path.exists() else ()


def identity() -> str:
    """A new private key with its comments, for a Secret; it is written nowhere."""
    return _text(pyrage.x25519.Identity.generate())


def for_flux(path: Path) -> str:
    """The command that gives a cluster's keys to its Flux; run again, it brings the new one."""
    return (
        "kubectl --namespace flux-system create secret generic sops-age"
        f" --from-file=age{ENDING}={shlex.quote(str(path))} --dry-run=client --output=yaml"
        " | kubectl apply --server-side --force-conflicts --filename -"
    )


def check(recipients: Sequence[str], where: str) -> None:
    """Raise IntentError for an age public key with a typing mistake: nobody could open with it."""
    for text in recipients:
        try:
            pyrage.x25519.Recipient.from_str(text)
        except pyrage.RecipientError as error:
            raise IntentError(
                f"{text!r} is no age public key: its checksum is wrong",
                where=where,
                allowed="age1... as `xwiki-stack secrets` or age-keygen printed it",
            ) from error


def _text(made: Any) -> str:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"# created: {now}\n# public key: {made.to_public()}\n{made}\n"


@contextlib.contextmanager
def _written(path: Path, text: str) -> Iterator[Path]:
    """A file beside `path` with this text, for its owner alone from its first byte on."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    fresh = Path(name)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        yield fresh
    finally:
        fresh.unlink(missing_ok=True)
