"""A wiki from elsewhere as a set: somebody's dump, and the data directory that belongs to it.

The dump is stored as it was given, read by the same scanner as our own, and believed as little: it
must have its end, name its schemas and hold XWiki's tables. What it lacks to be restored is put
before it (`CREATE DATABASE`, `USE`), what MySQL cannot read is left out, and both are said.
"""

import re
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import zstandard

from xwiki_stack.backup import (
    attachments,
    deadline,
    dump,
    files,
    keyring,
    lock,
    manifest,
    producer,
    site,
    stream,
)
from xwiki_stack.backup.config import Config, Database
from xwiki_stack.backup.manifest import Artefact, Found, Site
from xwiki_stack.backup.progress import Progress
from xwiki_stack.backup.store import Store
from xwiki_stack.backup.words import size, stamp
from xwiki_stack.errors import IncompleteError, IntentError, RefusedError

Emit = Callable[[str], None]

OVERRIDES = frozenset({"hibernate.cfg.xml", "xwiki.cfg", "xwiki.properties"})
"""Files of a data directory that beat every setting of the image (its entrypoint copies them over
its own), with the address and password of the database they came with. They are left out."""

TABLES = (attachments.PAGES, attachments.TABLE)
"""Tables without which a schema is none of XWiki's."""

HEAD = 4 * 2**20
"""Bytes of a dump in which its first table, or the schema it is in, must be named."""

PACKED = 64 * 1024
"""Bytes of a packed dump that are unpacked at a time: what they become is held in memory."""

TOLD = 20
"""Attachments without their file that are named one by one."""

_FIRST = re.compile(rb"^(?:(USE) `|CREATE TABLE|DROP TABLE|INSERT INTO|LOCK TABLES)", re.MULTILINE)
_SANDBOX = re.compile(rb"/\*M?!999999\\- enable the sandbox mode \*/ *\r?\n")
_TOOL = re.compile(rb"^-- (MySQL|MariaDB) dump .*?(?:Distrib )?(\d+\.\d+\.\d+)(-MariaDB)?,",
                   re.MULTILINE)  # fmt: skip
_SERVER = re.compile(rb"^-- Server version\s+(\d+\.\d+\.\d+)(\S*)", re.MULTILINE)
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Source:
    """What is to be imported: the dump as an open file and its name, the data directory, the moment
    whose data it is. schema: of a dump that names none."""

    dump: IO[bytes]
    name: str
    data: Path
    snapshot: datetime
    schema: str = ""
    accept_misses: bool = False


@dataclass(frozen=True)
class Outcome:
    """A set that exists now; `misses`: attachments whose file is nowhere, as words."""

    found: Found[Site]
    seconds: float
    misses: tuple[str, ...]


def moment(text: str) -> datetime:
    """A time with its zone, `2026-11-26T05:30:00Z`. Raises IntentError."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        read = None
    if read is None or read.tzinfo is None:
        raise IntentError(
            f"{text!r} is no moment", where="--snapshot", allowed="2026-11-26T05:30:00Z",
            next="say when the dump was begun, with its zone",
        )  # fmt: skip
    return read.astimezone(UTC)


def imported(config: Config, source: Source, emit: Emit) -> Outcome:
    """Make a set of it. Raises IntentError for what is given wrong, IncompleteError for what is not
    whole, RefusedError for what no set may be made of; then there is no set."""
    began = time.monotonic()
    store, database = Store(config), config.need_database()
    site.ready(config, store)
    root = _root(source.data)
    if source.snapshot > store.now():
        raise IntentError(
            f"{stamp(source.snapshot)} lies in the future", where="--snapshot",
            next="say when the dump was begun, with its zone",
        )  # fmt: skip
    minutes = config.limits.run_minutes
    with (
        lock.hold(store, manifest.SITE, minutes + producer.EXTRA_MINUTES),
        deadline.within(minutes) as check,
        store.told(Progress("sent", emit).add),
    ):
        work = _Work(config, store, database, source, root, emit, check)
        found, misses = work.do()
    return Outcome(found, time.monotonic() - began, misses)


def _root(data: Path) -> Path:
    """XWiki's permanent directory, if it is one."""
    if (data / "store").is_dir():
        return data
    inner = data / "data"
    raise IntentError(
        f"{data} has no folder `store`, so it is not XWiki's permanent directory",
        where="--data",
        next=f"name {inner}" if (inner / "store").is_dir()
        else "in the image it is /usr/local/xwiki/data, in a volume of it `data`",
    )  # fmt: skip


@dataclass
class _Work:
    """What one import has in hand."""

    config: Config
    store: Store
    database: Database
    source: Source
    root: Path
    emit: Emit
    check: Callable[[], None]

    def do(self) -> tuple[Found[Site], tuple[str, ...]]:
        config, set_id = self.config, manifest.new_id(self.source.snapshot)
        listing = manifest.listing(self.store, config.need_trusted(), config.environment, Site)
        older = [item for item in listing.sets if item.manifest.time < self.source.snapshot]
        reading = _Reading(self.database, self.source, self.emit)
        artefact = self._store_dump(reading, set_id)
        copy = self._copy()
        misses = self._misses(reading.scanner.summary, copy)
        made = site.described(
            config,
            copy,
            reading.scanner.summary,
            id=set_id,
            moment=self.source.snapshot,
            server=reading.scanner.summary.server,
            mysqldump=reading.tool,
            database=artefact,
            index=site.sealed(config, copy, set_id),
            before=older[-1] if older else None,
            producers={"import": 0},
            misses=len(misses),
        )
        self.check()
        return manifest.publish(self.store, made, keyring.signing(config)), misses

    def _store_dump(self, reading: "_Reading", set_id: str) -> Artefact:
        began = time.monotonic()
        key = manifest.key_of(manifest.SITE, set_id, "db.sql.zst.age")
        facts = stream.write(
            self.store, key, reading.chunks(self.check), keyring.recipients(self.config)
        )
        self.emit(site.dumped(facts, reading.scanner.summary, time.monotonic() - began))
        return Artefact.of(key, facts)

    def _copy(self) -> files.Copy:
        for name in sorted(OVERRIDES):
            if (self.root / name).exists():
                self.emit(
                    f"files: {name} is left out: it would beat the settings of the place where the"
                    " wiki comes to; carry over by hand what you still want of it"
                )
        copy = files.Copy(
            root=self.root,
            store=self.store,
            recipients=keyring.recipients(self.config),
            generation=files.Generation.fresh(stamp(self.source.snapshot)),
            limits=self.config.limits,
            skipped=files.SKIPPED | OVERRIDES,
            check=self.check,
        )
        copy.run()
        self.emit(f"files: {len(copy.index.entries)} paths, {size(copy.sent)} stored")
        return copy

    def _misses(self, summary: dump.Summary, copy: files.Copy) -> tuple[str, ...]:
        found = summary.attachments
        misses = tuple(m.words for m in found.misses(copy.sizes(), copy.link_text))
        if not misses:
            self.emit(f"attachments: all {len(found.rows)} rows of the dump have their file")
            return ()
        for words in misses[:TOLD]:
            self.emit(f"without its file: {words}")
        if len(misses) > TOLD:
            self.emit(f"... and {len(misses) - TOLD} more")
        words = f"{len(misses)} of {len(found.rows)} attachments have no file in {self.root}"
        if not self.source.accept_misses:
            raise IncompleteError(
                words,
                next="find the directory that belongs to this dump; if they are lost in the old"
                " wiki too, --accept-misses makes the set without them",
            )
        self.emit(
            f"accepted: {words}; delete them in the wiki once it is back, no `run` makes a set"
            " while its rows have no file"
        )
        return misses


class _Reading:
    """Reads a foreign dump: unpacked, mended, scanned, and looked at for what no set may hold."""

    def __init__(self, database: Database, source: Source, emit: Emit) -> None:
        self._database, self._source, self._emit = database, source, emit
        self.scanner = dump.Scanner(database.wiki_of)
        self.tool = ""

    def chunks(self, check: Callable[[], None]) -> Iterator[bytes]:
        """The bytes that are stored; raises before the end where they are no whole dump."""
        plain = unpacked(self._source.dump, self._source.name)
        head = self._head(plain)
        while head:
            check()
            self.scanner.feed(head)
            self._known()
            yield head
            head = next(plain, b"")
        self.scanner.end()
        self._whole()

    def _head(self, plain: Iterator[bytes]) -> bytes:
        """The first bytes, made fit for a restore."""
        head = bytearray()
        for chunk in plain:
            head += chunk
            if _FIRST.search(head) or len(head) > HEAD:
                break
        text = bytes(head)
        where = self._source.name
        if text.startswith(_UTF16):
            raise IntentError(
                "is UTF-16, as PowerShell's `>` writes it", where=where,
                next="dump anew with --result-file",
            )  # fmt: skip
        tool, server = _TOOL.search(text), _SERVER.search(text)
        if not tool or not server:
            raise IntentError(
                "does not begin as a dump of mysqldump with its comments", where=where,
                allowed="SQL of mysqldump, plain, .gz or .zst",
                next="dump with mysqldump, without --skip-comments or --compact",
            )  # fmt: skip
        self.tool = tool[2].decode()
        if b"MariaDB" in server[2]:
            raise RefusedError(
                f"is of a MariaDB server ({server[1].decode()}), whose SQL MySQL does not take",
                where=where,
                next="move by XWiki's own export: docs/runbooks/restore-xar.md",
            )
        if sandbox := _SANDBOX.match(text):
            text = text[sandbox.end() :]
            self._emit("dump: MariaDB's line about its sandbox mode is left out: MySQL fails at it")
        return self._named(text)

    def _named(self, text: bytes) -> bytes:
        """A dump of one schema alone names none: `--schema` does."""
        first, schema = _FIRST.search(text), self._source.schema
        named = first is not None and first[1] is not None
        if named and schema:
            raise IntentError(
                "the dump names its schemas itself", where="--schema",
                next="leave it out; to rename the schema, dump it without --databases",
            )  # fmt: skip
        if named:
            return text
        known = ", ".join(self._database.schemas)
        if not schema:
            raise IntentError(
                "names no schema, as `mysqldump NAME` without --databases",
                where=self._source.name,
                allowed=f"--schema with one of {known}",
                next="say which of the wiki's schemas it is to be",
            )
        if schema not in self._database.schemas:
            raise IntentError(
                f"{schema!r} is none of the wiki's schemas", where="--schema", allowed=known,
                next="name one of them, or add it to database.schemas",
            )  # fmt: skip
        self._emit(f"dump: it names no schema, so it becomes {schema}")
        return (
            f"CREATE DATABASE /*!32312 IF NOT EXISTS*/ `{schema}` /*!40100 DEFAULT CHARACTER SET"
            f" utf8mb4 COLLATE utf8mb4_bin */;\n\nUSE `{schema}`;\n\n"
        ).encode() + text

    def _known(self) -> None:
        """Only schemas that the target expects: else a restore would meet them too late."""
        unknown = [s for s in self.scanner.summary.schemas if s not in self._database.schemas]
        if unknown:
            raise IntentError(
                f"holds schema {unknown[0]}, which is none of the wiki's",
                where=self._source.name,
                allowed=", ".join(self._database.schemas),
                next="dump the wiki's schemas alone (mysqldump --databases ...), dump one without"
                " --databases to give it another name by --schema, or add it to database.schemas",
            )

    def _whole(self) -> None:
        summary, where = self.scanner.summary, self._source.name
        if not summary.complete:
            raise IncompleteError(
                "has no end (`-- Dump completed`): it was cut, or mysqldump failed",
                where=where,
                next="dump again and look at mysqldump's exit code",
            )
        rows = {name.lower(): count for name, count in summary.tables.items()}
        for schema in self._database.schemas:
            for table in TABLES:
                if f"{schema.lower()}.{table}" not in rows:
                    raise IncompleteError(
                        f"holds no table {schema}.{table}, which every wiki of XWiki has",
                        where=where,
                        next="dump all schemas of the wiki, whole; database.schemas names them",
                    )
            if not rows[f"{schema.lower()}.{attachments.PAGES}"]:
                raise IncompleteError(
                    f"{schema}.{attachments.PAGES} holds no page",
                    where=where,
                    next="dump with rows, not --no-data",
                )


def unpacked(source: IO[bytes], name: str) -> Iterator[bytes]:
    """A file's bytes, unpacked by what its first bytes say: gzip, zstd, or as they are.

    Raises IncompleteError where the packed file was cut or damaged.
    """
    first = source.read(4)
    try:
        if first.startswith(b"\x1f\x8b"):
            yield from _gzipped(source, first)
        elif first == zstandard.FRAME_HEADER:
            yield from _zstandard(source, first)
        else:
            while first:
                yield first
                first = source.read(dump.CHUNK)
    except (zlib.error, zstandard.ZstdError, EOFError) as error:
        raise IncompleteError(
            "does not unpack: it was cut or damaged", where=name, next="copy it again"
        ) from error


def _gzipped(source: IO[bytes], packed: bytes) -> Iterator[bytes]:
    # Files may hold several members, as pigz and `cat` make them; the checksum of each is checked.
    member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    while packed:
        yield member.decompress(packed)
        packed = member.unused_data or source.read(PACKED)
        if member.eof and packed:
            member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    if not member.eof:
        raise EOFError


def _zstandard(source: IO[bytes], packed: bytes) -> Iterator[bytes]:
    frame = zstandard.ZstdDecompressor().decompressobj()
    while packed:
        yield frame.decompress(packed)
        packed = frame.unused_data or source.read(PACKED)
        if frame.eof and packed:
            frame = zstandard.ZstdDecompressor().decompressobj()
    if not frame.eof:
        raise EOFError
