"""One run at a time: an object that is written only where none is, or in a known version's place.

It is released by overwriting it, since the writer may not delete. It expires by the store's time
(the object's own date and the Date of an answer), so that no machine's clock can take it early.
"""

import contextlib
import json
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from xwiki_stack import proc
from xwiki_stack.backup.store import Absent, Held, Store
from xwiki_stack.errors import BusyError, StoreError

FOLDER = "locks/"

FREE = b'{"state":"free"}\n'


@dataclass(frozen=True)
class Claim:
    """A lock that is held: since when by the store's time, and after which minutes it expires."""

    name: str
    by: str
    since: datetime
    minutes: int


def claims(store: Store) -> list[Claim]:
    """The locks that are held now, expired ones too."""
    found = []
    for item in store.listed(FOLDER):
        by, minutes = _read(store.get(item.key))
        if by:
            name = item.key.removeprefix(FOLDER).removesuffix(".json")
            found.append(Claim(name, by, item.modified, minutes))
    return found


@contextlib.contextmanager
def hold(store: Store, name: str, minutes: int) -> Iterator[None]:
    """Hold the lock `name` for the block; it counts as left behind after `minutes`.

    Raises BusyError with who holds it and since when.
    """
    key = f"{FOLDER}{name}.json"
    content = _claim(minutes)
    try:
        etag = _take(store, key, content)
    except proc.Interrupted:
        _give_back(store, key, content)
        raise
    try:
        yield
    finally:
        # Whoever found it expired may have taken it; then it is not ours to release.
        with contextlib.suppress(StoreError):
            store.put(key, FREE, etag=etag)


def _claim(minutes: int) -> bytes:
    claim = {
        "state": "held",
        "by": socket.gethostname(),
        "run": secrets.token_hex(8),
        "minutes": minutes,
    }
    return json.dumps(claim, sort_keys=True).encode() + b"\n"


def _give_back(store: Store, key: str, content: bytes) -> None:
    """Release what the store may hold for us already, though its answer never came."""
    with contextlib.suppress(StoreError):
        now, etag = store.get_with_etag(key)
        if now == content:
            store.put(key, FREE, etag=etag)


def _take(store: Store, key: str, content: bytes) -> str:
    try:
        return store.put_new(key, content)
    except Held:
        pass
    try:
        there, etag = store.get_with_etag(key)
        taken = store.head(key).modified
    except Absent as gone:
        raise BusyError("the lock is changing hands", where=store.key(key)) from gone
    holder, minutes_left = _read(there)
    left = taken + timedelta(minutes=minutes_left) - store.now()
    if holder and left > timedelta(0):
        raise BusyError(
            f"{holder} is at work since {taken:%Y-%m-%d %H:%M} UTC",
            where=store.key(key),
            next=f"wait for it; left behind, it ends by itself in {left.seconds // 60 + 1} min",
        )
    try:
        return store.put(key, content, etag=etag)
    except (Held, Absent) as other:
        # Our own claim may stand there, when the answer to the first try got lost.
        with contextlib.suppress(Absent):
            now, etag = store.get_with_etag(key)
            if now == content:
                return etag
        raise BusyError("another run took the lock just now", where=store.key(key)) from other


def _read(content: bytes) -> tuple[str, int]:
    """Who holds it ("" for nobody) and for how many minutes.

    What cannot be read counts as held for an hour: never as free.
    """
    try:
        said = json.loads(content)
        if said["state"] == "free":
            return "", 0
        return str(said["by"])[:80] or "someone", int(said["minutes"])
    except (ValueError, KeyError, TypeError):
        return "someone unknown", 60
