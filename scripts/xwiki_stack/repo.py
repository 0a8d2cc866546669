"""The only module that knows paths: of the checkout, of the cache, of what a cluster leaves."""

import hashlib
import os
import re
import sys
from pathlib import Path

from xwiki_stack.errors import IntentError

ROOT = Path(__file__).resolve().parents[2]
"""The checkout, which is the umbrella chart. The package is installed editable, so this holds."""

CACHE_VARIABLE = "XWIKI_STACK_CACHE"
KEYS_VARIABLE = "XWIKI_STACK_KEYS"


def checkout_key() -> str:
    """Six hex digits that tell this checkout from others of the machine: a hash of its path."""
    return hashlib.sha256(str(ROOT).encode()).hexdigest()[:6]


def cache() -> Path:
    """The folder that holds all state outside the checkout; `XWIKI_STACK_CACHE` moves it."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser().resolve() if chosen else Path.home() / ".cache" / "xwiki-stack"


def state(cluster: str) -> Path:
    """The folder of one kind cluster: its kubeconfig, pid files and port-forward log."""
    return cache() / "clusters" / cluster_name(cluster)


def clusters() -> list[str]:
    """Names of all clusters that have a state folder."""
    return sorted(folder.name for folder in (cache() / "clusters").glob("*/"))


def cluster_name(text: str) -> str:
    """The text if it can name a cluster, and so a folder that may be removed; else IntentError.

    At most 49 characters: kind appends "-control-plane" to it for a host name, which ends at 63.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,48}", text):
        raise IntentError(
            f"{text!r} cannot name a cluster", allowed="1 to 49 of a-z, 0-9 and -, no - in front"
        )
    return text


def keys() -> Path:
    """The folder of private age keys, outside every checkout; `XWIKI_STACK_KEYS` moves it."""
    chosen = os.environ.get(KEYS_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().resolve()
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "xwiki-stack" / "keys"


def memory() -> Path | None:
    """A folder whose files lie in memory and on no disk; None where there is none (macOS)."""
    shared = Path("/dev/shm")  # noqa: S108 - each user makes folders of their own in it
    return shared if os.access(shared, os.W_OK) else None


def beside() -> Path:
    """The folder `shared` beside the checkout, or beside the one that this worktree belongs to."""
    link = ROOT / ".git"
    main = ROOT
    if link.is_file():  # gitdir: <main>/.git/worktrees/<name>
        main = Path(link.read_text().partition(":")[2].strip()).parents[2]
    return main.parent / "shared"


def logs() -> Path:
    """The folder of step logs, the newest run's files overwriting the older ones'."""
    return cache() / "logs"


def command() -> Path:
    """The `xwiki-stack` command of the environment that we run in."""
    return Path(sys.executable).parent / "xwiki-stack"


def relative(path: Path) -> str:
    """`path` as a reader of the checkout would write it; absolute if it lies outside."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def digest(*parts: Path | str | bytes) -> str:
    """The content key of an artefact: 16 hex digits of a SHA-256 over its inputs.

    Files count with their content and executable bit, folders with every file below them by
    relative name, so that the key is the same in every clone. Documentation and Python's own caches
    do not count.
    """
    total = hashlib.sha256()
    for part in parts:
        for label, content in _entries(part):
            total.update(f"{len(label)}:{label}:{len(content)}:".encode())
            total.update(content)
    return total.hexdigest()[:16]


def _entries(part: Path | str | bytes) -> list[tuple[str, bytes]]:
    if isinstance(part, str):
        return [("text", part.encode())]
    if isinstance(part, bytes):
        return [("bytes", part)]
    if part.is_dir():
        found = sorted(path for path in part.rglob("*") if path.is_file())
        files = [p for p in found if p.suffix != ".md" and "__pycache__" not in p.parts]
        return [(_label(p, p.relative_to(part).as_posix()), p.read_bytes()) for p in files]
    return [(_label(part, part.name), part.read_bytes())]


def _label(path: Path, name: str) -> str:
    return f"{name}{'*' if os.access(path, os.X_OK) else ''}"
