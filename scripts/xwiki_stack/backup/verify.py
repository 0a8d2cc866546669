"""Two proofs of a set, and the signed record of each.

Intact: every stored byte has the hash that the signed manifest states, and the manifest is the one
its follower knows. Any machine that may read can prove it; no key is needed. Opened: all of it
decrypts, decompresses, and is what manifest and index say, down to the rows of each table and the
hash of each file. Neither is believed by restore, which opens a set itself.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from xwiki_stack.backup import attachments, dump, evidence, files, manifest, stream, xar
from xwiki_stack.backup.manifest import Found, Manifest, Pack, Site, Xar
from xwiki_stack.backup.store import Absent, Store
from xwiki_stack.errors import DamagedError

Emit = Callable[[str], None]


@dataclass
class Seen:
    """Packs whose bytes this run has proven already: sets share them. Key to stored hash."""

    packs: dict[str, tuple[int, str]]


def intact(
    store: Store, found: Found[Manifest], others: Sequence[Found[Manifest]], seen: Seen
) -> int:
    """Prove that a set's stored bytes are those of its manifest; give the bytes read.

    others: all listed sets of its kind, for the chain. Raises DamagedError.
    """
    for name, words in manifest.chain_breaks([*others]):
        if name == found.manifest.id or _before(others, name) == found.manifest.id:
            raise DamagedError(words, where=store.key(manifest.key_of(found.manifest.kind, name)))
    total = 0
    for item in found.manifest.objects:
        if seen.packs.get(item.key) == (item.bytes, item.sha256):
            continue
        total += _stored(store, item)
        seen.packs[item.key] = (item.bytes, item.sha256)
    return total


def opened(store: Store, made: Site, identities: Sequence[Any], *, database: bool = True,
           content: bool = True) -> int:  # fmt: skip
    """Prove that a set opens and is whole; give the plain bytes read. Raises DamagedError.

    database, content: which part is wanted, where a restore needs only one.
    """
    total = 0
    if database:
        total += _dump(store, made, identities)
    if content:
        total += _files(store, made, identities)
    return total


def open_set(store: Store, made: Manifest, identities: Sequence[Any]) -> int:
    """`opened` for a set of any kind."""
    if isinstance(made, Xar):
        return xar.opened(store, made, identities)
    if isinstance(made, Site):
        return opened(store, made, identities)
    raise NotImplementedError(made.kind)


@dataclass(frozen=True)
class Proof:
    """The end of one proof: `error` is None where it held. Seconds and bytes read."""

    found: Found[Manifest]
    kind: str
    error: DamagedError | None
    seconds: float
    bytes: int


def record(proof: Proof, at: str) -> evidence.Record:
    """The statement on a set that a proof ends with. at: by the store's clock."""
    return evidence.Record(
        set=proof.found.manifest.id,
        manifest=proof.found.sha256,
        kind=proof.kind,
        held=proof.error is None,
        at=at,
        seconds=int(proof.seconds),
        bytes=proof.bytes,
        words=str(proof.error) if proof.error else "proven",
        sets=proof.found.manifest.kind,
    )


def prove(found: Found[Manifest], kind: str, work: Callable[[], int]) -> Proof:
    """Run a proof to its end, whichever it is."""
    began = time.monotonic()
    try:
        size = work()
    except DamagedError as error:
        return Proof(found, kind, error, time.monotonic() - began, 0)
    return Proof(found, kind, None, time.monotonic() - began, size)


def proofs(
    store: Store,
    sets: Sequence[Found[Manifest]],
    chosen: Sequence[Found[Manifest]],
    identities: Sequence[Any],
) -> Iterator[Proof]:
    """Prove each chosen set intact, and opened where identities are given.

    sets: all listed ones of that kind, for the chain. A set that is not intact is not opened.
    """
    seen = Seen({})
    for found in chosen:
        proof = prove(found, evidence.INTACT, partial(intact, store, found, sets, seen))
        yield proof
        if identities and not proof.error:
            work = partial(open_set, store, found.manifest, identities)
            yield prove(found, evidence.OPENED, work)


def _missing(store: Store, key: str) -> DamagedError:
    return DamagedError(
        "is missing",
        where=store.key(key),
        next="restore an older set (`xwiki-stack backup list`), or bring its version back",
    )


def _before(sets: Sequence[Found[Manifest]], name: str) -> str:
    for item in sets:
        if item.manifest.id == name and item.manifest.previous:
            return item.manifest.previous["id"]
    return ""


def _stored(store: Store, item: Pack) -> int:
    digest, total = hashlib.sha256(), 0
    try:
        for block in store.read(item.key):
            digest.update(block)
            total += len(block)
    except Absent as error:
        raise _missing(store, item.key) from error
    if total != item.bytes or digest.hexdigest() != item.sha256:
        raise DamagedError(
            f"is not what was stored: {total} bytes of {item.bytes}, or other ones",
            where=store.key(item.key),
            next="take an older set; see the store's disks",
        )
    return total


def _dump(store: Store, made: Site, identities: Sequence[Any]) -> int:
    where = store.key(made.database.key)
    # Which attachments there are is a matter of the run that made the set.
    scanner = dump.Scanner(lambda schema: schema)
    scanner.summary.attachments = _Forgets()
    facts = _present(store, made.database.key, identities, scanner.feed)
    scanner.end()
    if not files.matches(facts, made.database):
        raise DamagedError("is not the dump that the manifest names", where=where)
    if not scanner.summary.complete or scanner.summary.tables != made.tables:
        raise DamagedError("does not hold the rows that the manifest states", where=where)
    return facts.plain_bytes


def _files(store: Store, made: Site, identities: Sequence[Any]) -> int:
    index = index_of(store, made, identities)
    total = 0
    for number, packed in enumerate(index.packs):
        entries = [entry for entry in index.entries.values() if entry.pack == number]
        try:
            total += files.extract(store, packed, entries, identities, lambda _entry: files.Sink())
        except Absent as error:
            raise _missing(store, packed.pack.key) from error
    return total


def index_of(store: Store, made: Site, identities: Sequence[Any]) -> files.Index:
    """A set's index, which must name the very packs that the manifest names."""
    try:
        index = files.read_index(store, made.index, identities)
    except Absent as error:
        raise _missing(store, made.index.key) from error
    packs = sorted((p.pack for p in index.packs), key=lambda pack: pack.key)
    if packs != made.packs:
        raise DamagedError("names other packs than the manifest", where=store.key(made.index.key))
    count = sum(entry.kind == files.FILE for entry in index.entries.values())
    if count != made.files["count"]:
        raise DamagedError("has other files than the manifest", where=store.key(made.index.key))
    return index


def _present(store: Store, key: str, identities: Sequence[Any], take: Callable[[bytes], None]
             ) -> stream.Facts:  # fmt: skip
    try:
        return stream.read(store, key, identities, take)
    except Absent as error:
        raise _missing(store, key) from error


class _Forgets(attachments.Attachments):
    """Takes no rows, so that a proof's memory does not grow with the wiki."""

    def row(self, wiki: str, values: dict[str, str | None]) -> None:
        pass

    def page(self, wiki: str, values: dict[str, str | None]) -> None:
        pass
