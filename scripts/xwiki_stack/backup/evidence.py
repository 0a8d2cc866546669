"""Signed records of what was proven of a set, beside the sets: what prune and status believe."""

import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from xwiki_stack.backup import signature
from xwiki_stack.backup.manifest import Found, Manifest
from xwiki_stack.backup.store import Absent, Store
from xwiki_stack.errors import DamagedError

FOLDER = "evidence/"

INTACT, OPENED, RUN = "intact", "opened", "run"
"""Stored bytes are those of the manifest; all of it decrypts and is whole; a run that failed."""

DRILL, PRUNE = "drill", "prune"
"""A set was brought back for a try, or could not be; sets were let go, told beside the newest."""


@dataclass(frozen=True)
class Record:
    """A statement on one set, or on a run that made none.

    sets: kind of the set (manifest.SITE, manifest.XAR).
    facts: what a kind adds. DRILL: `rto_seconds`, `steps` (name to seconds), `counts`.
    PRUNE: `dropped`, `kept`, `orphans`, `bytes`.
    manifest: SHA-256 of the stored manifest it speaks of, "" for a run that made none.
    at: UTC by the store's clock. words: what was wrong, or what was seen.
    """

    set: str
    manifest: str
    kind: str
    held: bool
    at: str
    seconds: int
    bytes: int
    words: str
    misses: int = 0
    sets: str = "site"
    facts: dict[str, Any] = field(default_factory=dict)


def write(store: Store, record: Record, key: Ed25519PrivateKey) -> None:
    """Store a record. Under a name nobody has yet, so that no right to overwrite is needed."""
    name = f"{FOLDER}{record.set}/{record.kind}-{secrets.token_hex(8)}.json"
    store.put_new(name, signature.seal("evidence", asdict(record), key))


def read(store: Store, trusted: Iterable[str]) -> list[Record]:
    """All records that a trusted key signed, oldest first. Others count for nothing."""
    keys, found = tuple(trusted), []
    for item in store.listed(FOLDER):
        try:
            body = signature.unseal("evidence", store.get(item.key), keys, item.key)
            record = Record(**body)
        except (DamagedError, TypeError, Absent):
            continue
        if item.key.startswith(f"{FOLDER}{record.set}/{record.kind}-"):
            found.append(record)
    return sorted(found, key=lambda record: (record.at, record.kind))


def holds(records: Iterable[Record], kind: str, found: Found[Manifest]) -> bool:
    """Whether the newest word of a kind on a set is that it holds."""
    last = latest(records, kind, found.manifest.id, found.sha256)
    return bool(last and last.held)


def latest(records: Iterable[Record], kind: str, set_id: str, manifest: str) -> Record | None:
    """The newest word of a kind on just that manifest."""
    fitting = [
        record
        for record in records
        if (record.kind, record.set, record.manifest) == (kind, set_id, manifest)
    ]
    return fitting[-1] if fitting else None
