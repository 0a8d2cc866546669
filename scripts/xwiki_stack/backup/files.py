"""XWiki's files: walked, packed, indexed; read only where something changed since the last set.

A pack is the bytes of many small files, or of one large file, as one sealed stream. An index tells
for each path its size, times, mode and hash, and where in which pack its bytes lie. Names and
hashes stand only there, and the index is sealed too: nobody reads them in the bucket. It is sealed
to one key more than the packs, the writer's own, so that the next run can read what the last one
saw: a taken cluster gives names it could see anyway, never contents of old sets.

Sets of one generation share packs. A generation ends after a few sets or days, then all is copied
anew: a lost pack takes a bounded number of sets with it.
"""

import contextlib
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from xwiki_stack.backup import stream
from xwiki_stack.backup.config import Limits
from xwiki_stack.backup.manifest import SITE, Artefact, Found, Pack, Site, key_of
from xwiki_stack.backup.store import MIB, Store
from xwiki_stack.errors import DamagedError, IncompleteError

SKIPPED = frozenset({"logs", "tmp", "temp", "cache", "lost+found"})
"""Folders of the permanent directory that XWiki makes anew. Everything else is state: attachments
and recycle bin in store/file, Solr cores, extensions, job status, configuration."""

LARGE = 32 * MIB
"""Bytes: a larger file has a pack of its own, so that a small change never sends it again."""

BLOCK = MIB

TRIES = 3
"""How often a file that changes while it is read is read."""

FILE, FOLDER, LINK = "f", "d", "l"


class Entry(NamedTuple):
    """One path of an index. Times in ns; `pack` counts in the index's packs, -1 for no bytes.

    `mode`: permission bits. `offset`: where in the plain pack the bytes begin. `target`: a link's.
    """

    path: str
    kind: str
    size: int
    mtime: int
    ctime: int
    inode: int
    mode: int
    sha256: str
    pack: int
    offset: int
    target: str


@dataclass(frozen=True)
class PlainPack:
    """A pack as the index knows it: what the manifest says of it, and the plain size and hash."""

    pack: Pack
    plain_bytes: int
    plain_sha256: str


@dataclass
class Index:
    """All paths of a set, and the packs they lie in."""

    entries: dict[str, Entry] = field(default_factory=dict)
    packs: list[PlainPack] = field(default_factory=list)

    def lines(self) -> Iterator[bytes]:
        """The index as it is stored: one line of JSON for the packs, then one for each path."""
        packs = [[p.pack.key, p.pack.bytes, p.pack.sha256, p.plain_bytes, p.plain_sha256]
                 for p in self.packs]  # fmt: skip
        yield json.dumps({"index": 1, "packs": packs}).encode() + b"\n"
        lines: list[str] = []
        for path in sorted(self.entries):
            lines.append(json.dumps(self.entries[path], separators=(",", ":")))
            if len(lines) == 1000:
                yield "\n".join([*lines, ""]).encode()
                lines = []
        yield "\n".join([*lines, ""]).encode() if lines else b""


@dataclass(frozen=True)
class Generation:
    """Which sets share packs: a random id, the set's number in it (from 1), when it began."""

    id: str
    number: int
    began: str

    @staticmethod
    def fresh(moment: str) -> "Generation":
        """A full copy."""
        return Generation(secrets.token_hex(16), 1, moment)


def generation_after(previous: Found[Site] | None, moment: str, age_days: float, limits: Limits
                     ) -> Generation:  # fmt: skip
    """The generation of a new set: the previous one's while it has sets and days left.

    age_days: since the previous set's generation began.
    """
    if previous is None:
        return Generation.fresh(moment)
    old = previous.manifest.generation
    if old["number"] >= limits.generation_sets or age_days >= limits.generation_days:
        return Generation.fresh(moment)
    return Generation(old["id"], old["number"] + 1, old["began"])


def read_index(store: Store, artefact: Artefact, identities: Sequence[Any]) -> Index:
    """Open an index. Raises DamagedError unless its hashes are those of the manifest."""
    where, index, held = store.key(artefact.key), Index(), bytearray()

    def take(plain: bytes) -> None:
        held.extend(plain)
        end = held.rfind(b"\n") + 1
        for line in bytes(held[:end]).splitlines():
            _read_line(index, line, where)
        del held[:end]

    facts = stream.read(store, artefact.key, identities, take)
    if held or not matches(facts, artefact):
        raise DamagedError("is not the index that the manifest names", where=where)
    return index


def matches(facts: stream.Facts, artefact: Artefact) -> bool:
    """Whether what was read is what a manifest says of it."""
    return Artefact.of(artefact.key, facts) == artefact


def _read_line(index: Index, line: bytes, where: str) -> None:
    try:
        said = json.loads(line)
        if isinstance(said, dict):
            for key, size, digest, plain, plain_digest in said["packs"]:
                index.packs.append(PlainPack(Pack(key, size, digest), plain, plain_digest))
            return
        entry = Entry(*said)
        if not is_inside(entry.path) or entry.pack >= len(index.packs):
            raise DamagedError(f"has a path that can be none: {entry.path!r}", where=where)
        index.entries[entry.path] = entry
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedError(f"is no index: {error}", where=where) from error


def is_inside(path: str) -> bool:
    """Whether a path of an index stays below the folder it is restored to."""
    parts = path.split("/")
    return bool(path) and "\0" not in path and not {"", ".", ".."}.intersection(parts)


@dataclass
class Copy:
    """One run over the files: what is to be in the set, new bytes stored on the way.

    recipients: of packs. previous: the last set's index, whose packs may be shared.
    skipped: names at the top that are left out.
    check: called for each block, to raise at the end of the run's time.
    """

    root: Path
    store: Store
    recipients: Sequence[Any]
    generation: Generation
    limits: Limits
    previous: Index = field(default_factory=Index)
    skipped: frozenset[str] = SKIPPED
    check: Callable[[], None] = lambda: None
    index: Index = field(default_factory=Index)
    changed: set[str] = field(default_factory=set)
    vanished: set[str] = field(default_factory=set)
    special: int = 0
    sent: int = 0
    _shared: dict[int, int] = field(default_factory=dict)

    def run(self) -> None:
        """Copy everything that is state."""
        self._pack(self._walk(""))

    def again(self, folders: Iterable[str]) -> None:
        """Look once more at some folders, for files that were not there or have changed."""
        for folder in sorted(set(folders)):
            found = [path for path in self.index.entries if path.startswith(f"{folder}/")]
            for path in found:
                del self.index.entries[path]
            if (self.root / folder).is_dir():
                self._pack(self._walk(folder))

    def sizes(self) -> Callable[[str], dict[str, int]]:
        """Gives for a folder the names and sizes of the files copied from it."""
        folders: dict[str, dict[str, int]] = {}
        for path, entry in self.index.entries.items():
            if entry.kind == FILE and "/attachments/" in path:
                folder, _, name = path.rpartition("/")
                folders.setdefault(folder, {})[name] = entry.size
        return lambda folder: folders.get(folder, {})

    def link_text(self, path: str) -> str:
        """What a small link file of XWiki (`f.lnk`) names."""
        try:
            return (self.root / path).read_bytes()[:1024].decode(errors="replace").strip()
        except OSError:
            return ""

    @property
    def packs(self) -> list[Pack]:
        """The packs that the set needs, sorted by key."""
        return sorted((p.pack for p in self.index.packs), key=lambda pack: pack.key)

    def finish(self, recipients: Sequence[Any], set_id: str) -> Artefact:
        """Store the index; give what the manifest says of it."""
        self._drop_unused()
        key = key_of(SITE, set_id, "index.zst.age")
        facts = stream.write(self.store, key, self.index.lines(), recipients)
        return Artefact.of(key, facts)

    def _drop_unused(self) -> None:
        used = sorted({entry.pack for entry in self.index.entries.values() if entry.pack >= 0})
        places = {old: new for new, old in enumerate(used)}
        self.index.packs = [self.index.packs[old] for old in used]
        for path, entry in self.index.entries.items():
            if entry.pack >= 0:
                self.index.entries[path] = entry._replace(pack=places[entry.pack])

    def _walk(self, folder: str) -> Iterator[Entry]:
        """Files whose bytes are to be read; all else is put into the index on the way."""
        try:
            with os.scandir(self.root / folder) as listed:
                found = sorted(listed, key=lambda item: item.name)
        except FileNotFoundError:
            self.vanished.add(folder)
            return
        except OSError as error:
            raise _unreadable(self.root / folder, error) from error
        for item in found:
            self.check()
            path = f"{folder}/{item.name}" if folder else item.name
            if path in self.skipped:
                continue
            try:
                entry = self._entry(path, item.stat(follow_symlinks=False))
            except FileNotFoundError:
                self.vanished.add(path)
                continue
            if entry is None:
                self.special += 1
            elif entry.kind == FOLDER:
                self.index.entries[path] = entry
                yield from self._walk(path)
            elif entry.kind == FILE and not self._keep(entry):
                yield entry
            elif entry.kind == LINK:
                self.index.entries[path] = entry

    def _entry(self, path: str, facts: os.stat_result) -> Entry | None:
        """A path as it is now; None for what holds no bytes and is no folder (a socket)."""
        mode, kind, target, size = stat.S_IMODE(facts.st_mode), FILE, "", facts.st_size
        if stat.S_ISDIR(facts.st_mode):
            kind, size = FOLDER, 0
        elif stat.S_ISLNK(facts.st_mode):
            kind, size, target = LINK, 0, str((self.root / path).readlink())
        elif not stat.S_ISREG(facts.st_mode):
            return None
        times = (facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino)
        return Entry(path, kind, size, *times, mode, "", -1, 0, target)

    def _keep(self, entry: Entry) -> bool:
        """Whether the last set has these very bytes; then its pack is shared."""
        old = self.previous.entries.get(entry.path)
        same = old and old.kind == FILE and (
            (old.size, old.mtime, old.ctime, old.inode)
            == (entry.size, entry.mtime, entry.ctime, entry.inode)
        )  # fmt: skip
        if not old or not same:
            return False
        if old.pack >= 0 and old.pack not in self._shared:
            self._shared[old.pack] = len(self.index.packs)
            self.index.packs.append(self.previous.packs[old.pack])
        pack = self._shared[old.pack] if old.pack >= 0 else -1
        self.index.entries[entry.path] = entry._replace(
            sha256=old.sha256, pack=pack, offset=old.offset
        )
        return True

    def _pack(self, wanted: Iterator[Entry]) -> None:
        """Read files into packs until there are no more."""
        ahead = _Ahead(wanted)
        while ahead.peek() is not None:
            entry = ahead.peek()
            if entry and entry.size == 0:
                # Nothing to store; what it grows to is seen by the next set.
                self._read_empty(ahead)
                continue
            number = len(self.index.packs)
            key = f"packs/{self.generation.id}/{secrets.token_hex(16)}"
            # Its place is taken first: the walk goes on meanwhile, and may share older packs.
            self.index.packs.append(PlainPack(Pack(key, 0, ""), 0, ""))
            facts = stream.write(self.store, key, self._fill(ahead, number), self.recipients)
            self.sent += facts.stored_bytes
            pack = Pack(key, facts.stored_bytes, facts.stored_sha256)
            self.index.packs[number] = PlainPack(pack, facts.plain_bytes, facts.plain_sha256)

    def _read_empty(self, ahead: "_Ahead") -> None:
        entry = ahead.take()
        digest = hashlib.sha256().hexdigest()
        self.index.entries[entry.path] = entry._replace(sha256=digest)

    def _fill(self, ahead: "_Ahead", pack: int) -> Iterator[bytes]:
        """The bytes of a pack: files one after the other, until it is large enough."""
        offset = 0
        while (entry := ahead.peek()) is not None:
            if offset and (entry.size > LARGE or offset + entry.size > self.limits.pack_bytes):
                return
            ahead.take()
            for attempt in range(1, TRIES + 1):
                if attempt > 1:
                    self.changed.add(entry.path)
                read = yield from self._read(entry, pack, offset)
                offset += read.size
                if not read.moved:
                    self.changed.discard(entry.path)
                    break

    def _read(self, entry: Entry, pack: int, offset: int) -> Generator[bytes, None, "_Read"]:
        """A file's bytes; gives what was read of it, and puts that into the index."""
        digest, size = hashlib.sha256(), 0
        try:
            with (self.root / entry.path).open("rb", buffering=0) as file:
                before = os.fstat(file.fileno())
                # What grows without end (a log) is read to where it was at the beginning.
                while block := file.read(min(BLOCK, max(0, before.st_size - size))):
                    self.check()
                    digest.update(block)
                    size += len(block)
                    yield block
                after = os.fstat(file.fileno())
        except FileNotFoundError:
            self.vanished.add(entry.path)
            self.index.entries.pop(entry.path, None)
            return _Read(size, moved=False)
        except OSError as error:
            raise _unreadable(self.root / entry.path, error) from error
        moved = size != before.st_size or _moment(before) != _moment(after)
        fresh = self._entry(entry.path, before)
        if fresh:
            self.index.entries[entry.path] = fresh._replace(
                size=size, sha256=digest.hexdigest(), pack=pack if size else -1, offset=offset,
                # A torn read must look changed to the next run.
                ctime=-1 if moved else fresh.ctime,
            )  # fmt: skip
        return _Read(size, moved)


@dataclass(frozen=True)
class _Read:
    """Of one reading of a file: bytes that went into the pack, whether it changed meanwhile."""

    size: int
    moved: bool


class _Ahead:
    """An iterator whose next item can be looked at."""

    def __init__(self, items: Iterator[Entry]) -> None:
        self._items = items
        self._next: Entry | None = None

    def peek(self) -> Entry | None:
        if self._next is None:
            self._next = next(self._items, None)
        return self._next

    def take(self) -> Entry:
        taken = self.peek()
        if taken is None:
            raise StopIteration
        self._next = None
        return taken


def _moment(facts: os.stat_result) -> tuple[int, int, int]:
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _unreadable(path: Path, error: OSError) -> IncompleteError:
    return IncompleteError(
        f"cannot be read: {error.strerror}",
        where=str(path),
        next="run with the group (fsGroup) that XWiki's files have",
    )


def extract(
    store: Store,
    packed: PlainPack,
    entries: Sequence[Entry],
    identities: Sequence[Any],
    begin: Callable[[Entry], "Sink"],
) -> int:
    """Give each file of a pack its bytes, hashes checked. Gives the plain bytes read.

    entries: those of this pack, any order. begin: opens where a file's bytes go.
    Raises DamagedError when the pack or a file is not what index and manifest say.
    """
    where = store.key(packed.pack.key)
    queue = sorted(entries, key=lambda entry: entry.offset, reverse=True)
    cut = _Cut(queue, begin, where)
    try:
        facts = stream.read(store, packed.pack.key, identities, cut.take)
        stored = (facts.stored_bytes, facts.stored_sha256)
        plain = (facts.plain_bytes, facts.plain_sha256)
        if stored != (packed.pack.bytes, packed.pack.sha256) or plain != (
            packed.plain_bytes,
            packed.plain_sha256,
        ):
            raise DamagedError("is not the pack that index and manifest name", where=where)
        cut.finish()
    finally:
        cut.close()
    return facts.plain_bytes


class Sink:
    """Where a file's bytes go; this one forgets them, for a proof."""

    def write(self, data: bytes) -> None:
        """Take bytes."""

    def close(self, *, whole: bool) -> None:
        """No more bytes. whole: size and hash were right."""


class _Cut:
    """Cuts a pack's plain stream into its files."""

    def __init__(self, queue: list[Entry], begin: Callable[[Entry], Sink], where: str) -> None:
        self._queue, self._begin, self._where = queue, begin, where
        self._position = 0
        self._entry: Entry | None = None
        self._sink: Sink | None = None
        self._digest = hashlib.sha256()
        self._left = 0

    def take(self, plain: bytes) -> None:
        view = memoryview(plain)
        while view:
            if self._entry is None and not self._next():
                self._position += len(view)
                return
            entry = self._entry
            if entry is None:
                return
            gap = entry.offset - self._position
            if gap > 0 and self._left == entry.size:
                self._position += len(view[:gap])
                view = view[gap:]
                continue
            piece = view[: self._left]
            self._digest.update(piece)
            if self._sink:
                self._sink.write(bytes(piece))
            self._left -= len(piece)
            self._position += len(piece)
            view = view[len(piece) :]
            if not self._left:
                self._end(entry)

    def _next(self) -> bool:
        if not self._queue:
            return False
        self._entry = entry = self._queue.pop()
        if entry.offset < self._position:
            raise DamagedError(f"{entry.path!r} lies over another file", where=self._where)
        self._left, self._digest = entry.size, hashlib.sha256()
        self._sink = self._begin(entry)
        return True

    def _end(self, entry: Entry) -> None:
        if self._digest.hexdigest() != entry.sha256:
            raise DamagedError(f"holds other bytes for {entry.path!r}", where=self._where)
        if self._sink:
            self._sink.close(whole=True)
        self._entry = self._sink = None

    def finish(self) -> None:
        """The stream is over: no file may be left."""
        if self._entry or self._queue:
            path = self._entry.path if self._entry else self._queue[-1].path
            raise DamagedError(f"ends before {path!r}", where=self._where)

    def close(self) -> None:
        """Let go of a file that was not finished."""
        if self._sink:
            with contextlib.suppress(OSError):
                self._sink.close(whole=False)
