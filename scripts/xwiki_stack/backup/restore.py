"""A set brought back: everything is looked at before anything is touched.

The order is the promise: what the target is, what the set is, the whole set opened once, and only
then the first write. Into an empty target only, so that no restore can destroy what it was called
to save.
"""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from xwiki_stack import proc
from xwiki_stack.backup import (
    deadline,
    dump,
    files,
    imports,
    keyring,
    manifest,
    mysql,
    rewrite,
    stream,
    verify,
)
from xwiki_stack.backup.config import Config
from xwiki_stack.backup.manifest import Found, M, Site
from xwiki_stack.backup.progress import Progress
from xwiki_stack.backup.stopwatch import Stopwatch
from xwiki_stack.backup.store import Store
from xwiki_stack.backup.words import rate, size
from xwiki_stack.errors import DamagedError, IncompleteError, IntentError, RefusedError

Emit = Callable[[str], None]

ALL, DATABASE, FILES = "all", "database", "files"

SETTLERS = 8
"""Files waited for at a time; more gained nothing."""

BATCH = 256
"""Files after which an interruption or a refusal of the disk is heard."""


@dataclass(frozen=True)
class Outcome:
    """What was restored, in how many seconds, the whole-set proof included.

    steps: the seconds of each part: `open`, `load`, `write`.
    """

    found: Found[Site]
    seconds: float
    tables: int
    files: int
    steps: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Wish:
    """What is to be restored: a set's id ("" is the newest), which part, from which environment."""

    set: str = ""
    part: str = ALL
    source: str = ""


def restore(config: Config, wish: Wish, emit: Emit) -> Outcome:
    """Bring a set into an empty target. Raises the StackError of what stands against it."""
    began = time.monotonic()
    store = Store(config)
    found = choose(config, store, wish, Site)
    made = found.manifest
    identities = keyring.openers(config)
    foreign = made.environment != config.environment
    host = config.need_host() if foreign else ""
    server = _empty_database(config, made) if wish.part != FILES else None
    root = _empty_folder(config) if wish.part != DATABASE else None
    emit(f"set {made.id}: {size(made.bytes)} stored; opening all of it before anything is written")
    watch = Stopwatch()
    with deadline.within(config.limits.restore_minutes, "limits.restoreMinutes"):
        with watch.step("open"), store.told(Progress("opening", emit, made.bytes).add):
            plain = verify.opened(
                store, made, identities, database=server is not None, content=root is not None
            )
        emit(f"opened: {size(plain)}, {rate(plain, watch.steps['open'])}")
        with watch.step("load"):
            tables = _load(store, made, identities, server, emit) if server else 0
            if server and foreign:
                rewrite.rewrite(server, made.schemas, host, config.foreign_hosts, emit)
        with watch.step("write"):
            count = _write(store, made, identities, root, emit, foreign=foreign) if root else 0
    return Outcome(found, time.monotonic() - began, tables, count, watch.steps)


def choose(config: Config, store: Store, wish: Wish, shape: type[M]) -> Found[M]:
    """The wished set of a kind, if it may come into this environment. Raises RefusedError."""
    source = wish.source or config.environment
    if source != config.environment and config.purpose == "prod":
        raise RefusedError(
            f"{config.environment} is production: no set of {source} comes into it",
            next="restore one of its own sets",
        )
    listing = manifest.listing(store.hasty(), config.need_trusted(), source, shape)
    if wish.set:
        found = listing.find(wish.set)
    elif listing.newest:
        found = listing.newest
        newer = [name for name in listing.unreadable if name > found.manifest.id]
        if newer:
            error = listing.unreadable[newer[-1]]
            raise DamagedError(
                f"the newest set is {newer[-1]}, and it cannot be trusted: {error.what}",
                where=error.where,
                next=error.next
                if "of another" in error.what
                else f"restore an older one by its id, e.g. {found.manifest.id}",
            )
    elif listing.unreadable:
        raise next(iter(listing.unreadable.values()))
    else:
        raise IntentError(
            "there is no set",
            where=store.key(manifest.folder_of(shape.KIND)),
            next=f"`xwiki-stack backup run {shape.KIND}`",
        )
    for name, words in manifest.chain_breaks(listing.sets):
        said = next(item for item in listing.sets if item.manifest.id == name).manifest.previous
        if said and said["id"] == found.manifest.id:
            raise DamagedError(words, where=store.key(manifest.key_of(shape.KIND, name)))
    return found


def _empty_database(config: Config, made: Site) -> mysql.Server:
    """The target's server, if it is new enough and holds nothing of the wiki yet."""
    server, database = mysql.Server(config), config.need_database()
    facts = server.facts()
    if mysql.line_of(made.server) > mysql.line_of(facts.version):
        raise RefusedError(
            f"the set is from MySQL {made.server}, this server is {facts.version}",
            where=server.where,
            next="restore into a server of that line or a newer one",
        )
    if unknown := [name for name in made.schemas if name not in database.schemas]:
        raise RefusedError(
            f"the set holds schemas that are not named here: {', '.join(unknown)}",
            where=f"{config.path}: database.schemas",
            next="name them all, so that it is sure that they are empty",
        )
    if count := server.everything():
        raise RefusedError(
            f"{', '.join(database.schemas)} hold {count} tables, views or routines already",
            where=server.where,
            next="restore into an empty server, or drop these schemas if nobody misses them",
        )
    return server


def _empty_folder(config: Config) -> Path:
    """The target's folder, if it holds nothing but what XWiki makes anew."""
    root = config.need_files()
    if not root.is_dir():
        raise RefusedError(
            f"{root} is no folder", where=f"{config.path}: files.root", next="mount the volume"
        )
    held = sorted(item.name for item in root.iterdir() if item.name not in files.SKIPPED)
    if held:
        raise RefusedError(
            f"{root} is not empty: {', '.join(held[:5])}",
            next="restore into an empty volume, or move these away if nobody misses them",
        )
    if not os.access(root, os.W_OK | os.X_OK):
        raise RefusedError(f"{root} cannot be written", next="mount it writable, with its group")
    return root


def _load(store: Store, made: Site, identities: Sequence[Any], server: mysql.Server,
          emit: Emit) -> int:  # fmt: skip
    """Load the dump and count what the server has then."""
    progress = Progress("database", emit, made.database.plain_bytes)
    drop = f"drop {', '.join(made.schemas)} and run again"
    try:
        with server.loading() as loading:
            statements = dump.Unswitched(loading.write)

            def take(plain: bytes) -> None:
                statements.feed(plain)
                progress.add(len(plain))

            facts = stream.read(store, made.database.key, identities, take)
            statements.end()
            loading.end()
    except proc.CommandFailed as failed:
        told = server.failure(failed)
        raise IncompleteError(f"loading failed: {told.what}", where=told.where, next=drop
                              ) from failed  # fmt: skip
    if not files.matches(facts, made.database):
        raise DamagedError(
            "is no longer what was opened a moment ago",
            where=store.key(made.database.key),
            next=drop,
        )
    counted = server.counts(sorted(made.tables))
    wrong = [name for name, rows in made.tables.items() if counted.get(name) != rows]
    if wrong:
        raise IncompleteError(
            f"{len(wrong)} tables have other counts than the set: {wrong[0]} has"
            f" {counted.get(wrong[0])} rows instead of {made.tables[wrong[0]]}",
            where=server.where,
            next=f"see that nothing else writes there, then {drop}",
        )
    emit(f"database: {len(counted)} tables, {sum(counted.values())} rows, as the set states")
    return len(counted)


def _write(store: Store, made: Site, identities: Sequence[Any], root: Path, emit: Emit, *,
           foreign: bool) -> int:  # fmt: skip
    """Write all files, each checked against its size and hash and brought to the disk.

    foreign: the set is of another environment, whose settings stay away.
    """
    try:
        return _write_all(store, made, identities, root, emit, foreign=foreign)
    except OSError as error:
        # A full disk above all; what was written so far is no wiki.
        raise IncompleteError(
            f"writing failed: {error.strerror or error}",
            where=str(error.filename or root),
            next=f"make room for {size(made.files['bytes'])} there, empty {root} and run again",
        ) from error


def _write_all(store: Store, made: Site, identities: Sequence[Any], root: Path, emit: Emit, *,
               foreign: bool) -> int:  # fmt: skip
    index = verify.index_of(store, made, identities)
    left_out = imports.OVERRIDES if foreign else frozenset()
    entries = [entry for entry in index.entries.values() if entry.path not in left_out]
    for name in sorted(left_out & set(index.entries)):
        emit(f"files: {name} is left out: it holds the settings of {made.environment}")
    folders = [entry for entry in entries if entry.kind == files.FOLDER]
    plain = [entry for entry in entries if entry.kind == files.FILE]
    for entry in folders:
        (root / entry.path).mkdir(exist_ok=entry.path in files.SKIPPED)
    progress = Progress("files", emit, made.files["bytes"])
    for number, packed in enumerate(index.packs):
        held = [entry for entry in entries if entry.pack == number]
        files.extract(store, packed, held, identities, lambda entry: _File(root, entry, progress))
    for entry in plain:
        if entry.pack < 0:
            _File(root, entry, progress).close(whole=True)
    # Several at a time, and after the last was written: by then the kernel has brought most to the
    # disk, and nobody has waited for it file by file.
    emit(f"files: {size(progress.done)} written; waiting until the disk holds them")
    with ThreadPoolExecutor(SETTLERS) as pool:
        for start in range(0, len(plain), BATCH):
            batch = plain[start : start + BATCH]
            list(pool.map(lambda entry: _settle(root / entry.path, entry), batch))
    # Links last: nothing is written through them. Folders' times and modes after their files.
    for entry in entries:
        if entry.kind == files.LINK:
            (root / entry.path).symlink_to(entry.target)
    for entry in reversed(folders):
        _settle(root / entry.path, entry)
    _settle(root)
    emit(f"files: {len(plain)} with {size(progress.done)}, each with the hash that the set states")
    return len(plain)


class _File(files.Sink):
    """A file that is written where none is."""

    def __init__(self, root: Path, entry: files.Entry, progress: Progress) -> None:
        self._path, self._entry, self._progress = root / entry.path, entry, progress
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        self._file: IO[bytes] = os.fdopen(os.open(self._path, flags, 0o600), "wb")

    def write(self, data: bytes) -> None:
        """Take bytes."""
        self._file.write(data)
        self._progress.add(len(data))

    def close(self, *, whole: bool) -> None:
        """End it; a part of a file does not stay."""
        with self._file:
            if not whole:
                self._path.unlink()


def _settle(path: Path, entry: files.Entry | None = None) -> None:
    """Wait until the disk holds what was written, with the mode and time that the set states."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        if entry:
            os.fchmod(handle, entry.mode)
            os.utime(handle, ns=(entry.mtime, entry.mtime))
        os.fsync(handle)
    except OSError as error:
        # Of a handle the error names no file.
        error.filename = str(path)
        raise
    finally:
        os.close(handle)
