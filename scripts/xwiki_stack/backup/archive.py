"""XWiki's archive (XAR): a ZIP of pages, read as it passes, so that its size costs no memory.

An export that breaks off is answered with status 200 all the same, so nothing is believed that was
not seen: every entry whole and with its checksum, the central directory there and of the same
entries, package.xml naming just the pages that are there, each page XML, each attachment as long as
it is said to be. stream_unzip checks entries alone and takes whatever follows them; the rest is
checked here on the same bytes.

Facts: XAR format 1.5 (XWiki 6.2 and later); of a page the attribute `reference` counts, older ones
have `web` and `name`. Pages are XML 1.1, for the sake of references to control characters.
"""

import hashlib
import importlib
import re
import struct
import zlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from xml.parsers import expat

from xwiki_stack.errors import DamagedError

PACKAGE = "package.xml"

IGNORED = "META-INF/"
"""Folder of an archive that XWiki does not read."""

CONTROL = re.compile(rb"&#(?:x0*(?:[1-8bBcCeEfF]|1[0-9a-fA-F])|0*(?:[1-8]|1[124-9]|2\d|3[01]));")
"""References to characters that XML 1.1 allows and the parser, which knows 1.0, does not."""

LONGEST = 16
"""Bytes: a reference to a control character is shorter, unless somebody plays."""

BUFFER = 64 * 1024


@dataclass(frozen=True)
class Page:
    """A page, or a translation of one, as an archive holds it.

    entry: its file. reference: within its wiki, as XWiki writes it: `Space.Sub.Page`.
    version: of the page. content: SHA-256 of what `comparable` makes of its text, "" where it
    cannot be compared.
    attachments: name to size in bytes.
    """

    entry: str
    reference: str
    locale: str
    version: str
    content: str
    attachments: dict[str, int]

    @property
    def name(self) -> str:
        """What a person calls it."""
        return f"{self.reference} ({self.locale})" if self.locale else self.reference


@dataclass
class Archive:
    """What was seen of a XAR, all of it once `passing` has come to its end. where: for errors."""

    where: str
    pages: list[Page] = field(default_factory=list)

    @property
    def originals(self) -> list[Page]:
        """Pages without their translations."""
        return [page for page in self.pages if not page.locale]

    @property
    def attachments(self) -> int:
        """How many there are."""
        return sum(len(page.attachments) for page in self.pages)

    def passing(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """The same blocks, each given on once it was looked at. Raises DamagedError."""
        waiting: deque[bytes] = deque()
        listed: list[tuple[str, str]] | None = None

        def watched() -> Iterator[bytes]:
            for block in blocks:
                waiting.append(block)
                yield block

        for name, content in unzipped(watched(), self.where):
            reader = _Package(name, self.where) if name == PACKAGE else _Page(name, self.where)
            ignored = name.startswith(IGNORED)
            for piece in content:
                if not ignored:
                    reader.feed(piece)
                while waiting:
                    yield waiting.popleft()
            if ignored:
                continue
            reader.close()
            if isinstance(reader, _Page):
                self.pages.append(reader.page)
            elif listed is not None:
                raise DamagedError(f"has {PACKAGE} twice", where=self.where)
            else:
                listed = reader.files
        yield from waiting
        self._compare(listed)

    def read(self, blocks: Iterable[bytes]) -> None:
        """Look at all of it."""
        for _ in self.passing(blocks):
            pass

    def _compare(self, listed: list[tuple[str, str]] | None) -> None:
        """package.xml must name every page once, and no other."""
        if listed is None:
            raise DamagedError(f"has no {PACKAGE}", where=self.where)
        there = [(page.reference, page.locale) for page in self.pages]
        for words, names in (
            ("holds twice", _twice(there)),
            (f"names twice in {PACKAGE}", _twice(listed)),
            (f"names in {PACKAGE}, but does not hold", set(listed) - set(there)),
            (f"holds, but does not name in {PACKAGE}", set(there) - set(listed)),
        ):
            if names:
                first = sorted(f"{name} ({locale})" if locale else name for name, locale in names)
                raise DamagedError(
                    f"{words} {len(names)} pages: {', '.join(first[:3])}", where=self.where
                )


def unzipped(blocks: Iterable[bytes], where: str) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Name and bytes of each entry of a ZIP, in its order. Raises DamagedError.

    The bytes must be taken before the next entry; what is left of them is skipped.
    """
    end, passed = _End(), list[_Entry]()
    try:
        for raw, _, pieces in _library().stream_unzip(end.watched(blocks)):
            end.settle()
            entry = _Entry(raw)
            passed.append(entry)
            content = entry.watched(pieces, end, where)
            yield entry.name, content
            for _ in content:
                pass
    except _library().UnzipError as error:
        raise _unzip_failure(error, "", where) from error
    _match(end.directory(where), passed, where)


def comparable(text: str) -> str:
    """A page's text without what passing through XML may change: carriage returns."""
    return text.replace("\r", "")


def digest(text: str) -> str:
    """What Page.content is for a page of this text."""
    return hashlib.sha256(comparable(text).encode()).hexdigest()


@dataclass
class _Entry:
    """An entry that has passed: its raw name, size in bytes and CRC-32."""

    raw: bytes
    size: int = 0
    crc: int = 0

    @property
    def name(self) -> str:
        return self.raw.decode(errors="replace")

    def watched(self, pieces: Iterable[bytes], end: "_End", where: str) -> Iterator[bytes]:
        try:
            for piece in pieces:
                end.settle()
                self.size += len(piece)
                self.crc = zlib.crc32(piece, self.crc)
                yield piece
        except _library().UnzipError as error:
            raise _unzip_failure(error, self.name, where) from error


class _End:
    """Keeps the last blocks of a ZIP: from the one in which its last entry ended."""

    def __init__(self) -> None:
        self._total = 0
        self._recent: deque[bytes] = deque()

    def watched(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        for block in blocks:
            self._total += len(block)
            self._recent.append(block)
            yield block

    def settle(self) -> None:
        """The reader stands in the newest block: what lies before it is of no entry to come."""
        while len(self._recent) > 1:
            self._recent.popleft()

    def directory(self, where: str) -> list[tuple[bytes, int, int]]:
        """Raw name, size and CRC-32 of each entry of the central directory. Raises DamagedError.

        It must lie right before the end, and the end at the end.
        """
        tail = b"".join(self._recent)
        base = self._total - len(tail)
        damaged = DamagedError("has no whole central directory at its end", where=where)
        place = tail.rfind(b"PK\5\6")
        if place < 0:
            raise damaged
        try:
            count, length, offset, comment = struct.unpack_from("<10xHLLH", tail, place)
            if place + 22 + comment != len(tail):
                raise damaged
            if place >= 20 and tail.startswith(b"PK\6\7", place - 20):
                place = struct.unpack_from("<Q", tail, place - 12)[0] - base
                if not tail.startswith(b"PK\6\6", max(place, 0)):
                    raise damaged
                count, length, offset = struct.unpack_from("<32xQQQ", tail, place)
            at, last, found = offset - base, -1, []
            if at < 0 or at + length != place:
                raise damaged
            while at < place:
                crc, packed, size, name, extra, note, start = struct.unpack_from(
                    "<16xLLLHHH8xL", tail, at
                )
                head = at + 46
                size, start = _wide(size, packed, start, tail[head + name :][:extra])
                if not tail.startswith(b"PK\1\2", at) or not last < start < offset:
                    raise damaged
                found.append((tail[head : head + name], size, crc))
                at, last = head + name + extra + note, start
        except struct.error as error:
            raise damaged from error
        if at != place or len(found) != count:
            raise damaged
        return found


def _wide(size: int, packed: int, start: int, extra: bytes) -> tuple[int, int]:
    """Size and start of an entry, from the ZIP64 field where they do not fit 32 bits."""
    full, at = 0xFFFFFFFF, 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            values = list(struct.unpack_from(f"<{length // 8}Q", extra, at + 4))
            size = values.pop(0) if size == full else size
            if packed == full:
                values.pop(0)
            start = values.pop(0) if start == full else start
        at += 4 + length
    return size, start


def _match(directory: list[tuple[bytes, int, int]], passed: list[_Entry], where: str) -> None:
    there = [(entry.raw, entry.size, entry.crc) for entry in passed]
    if directory != there:
        raise DamagedError(
            f"has {len(directory)} entries in its central directory that are not the"
            f" {len(there)} it holds",
            where=where,
        )


@cache
def _library() -> Any:
    """stream_unzip, loaded when an archive comes: whoever has none does without its 9 MiB."""
    return importlib.import_module("stream_unzip")


def _unzip_failure(error: Exception, entry: str, where: str) -> DamagedError:
    known = _library()
    if isinstance(error, known.TruncatedDataError):
        words = f"ends in the middle{f' of {entry}' if entry else ''}"
    elif isinstance(error, (known.IntegrityError, known.UncompressError)):
        words = f"has other bytes in {entry} than it has a checksum of"
    elif isinstance(error, known.UnexpectedSignatureError):
        words = f"is no ZIP{f' after {entry}' if entry else ''}"
    else:
        words = f"is a ZIP of another sort than XWiki's ({type(error).__name__})"
    return DamagedError(words, where=where)


class Document:
    """XML that is fed in pieces; its kinds say what they want of it by path: `xwikidoc/name`."""

    def __init__(self, entry: str, where: str) -> None:
        self.entry, self._where = entry, where
        self.path = ""
        self.altered = False
        self._held = b""
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.buffer_size = BUFFER
        self.parser.StartElementHandler = self._begin
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.parser.StartDoctypeDeclHandler = self._doctype

    def feed(self, data: bytes) -> None:
        """Take the next bytes. Raises DamagedError."""
        data = self._held + data
        # A reference may have been cut in two.
        cut = data.find(b"&", max(0, len(data) - LONGEST))
        cut = cut if cut >= 0 and b";" not in data[cut:] else len(data)
        self._held = data[cut:]
        self.parse(data[:cut], last=False)

    def close(self) -> None:
        """The end: it must be one of the document, too. Raises DamagedError."""
        self.parse(self._held, last=True)

    def broken(self, words: str) -> DamagedError:
        """An error that names the entry."""
        return DamagedError(f"{self.entry} {words}", where=self._where)

    def begin(self, _attributes: dict[str, str]) -> None:
        """An element begins at `path`."""

    def text(self, _data: str) -> None:
        """A piece of the text at `path`."""

    def end(self) -> None:
        """The element at `path` ends."""

    def parse(self, data: bytes, *, last: bool) -> None:
        """Parse bytes in which no reference is cut. Raises DamagedError."""
        # As long as before, so that offsets stay those of the archive.
        plain = CONTROL.sub(lambda found: b" " * len(found[0]), data)
        self.altered = self.altered or plain != data
        try:
            self.parser.Parse(plain, last)
        except expat.ExpatError as error:
            words = expat.ErrorString(error.code)
            raise self.broken(f"is no whole XML: {words}, line {error.lineno}") from error
        except (LookupError, ValueError) as error:
            raise self.broken(f"is in no encoding that is known: {error}") from error

    def _begin(self, name: str, attributes: dict[str, str]) -> None:
        self.path = f"{self.path}/{name}" if self.path else name
        self.begin(attributes)

    def _text(self, data: str) -> None:
        self.text(data)

    def _end(self, _name: str) -> None:
        self.end()
        self.path = self.path.rpartition("/")[0]

    def _doctype(self, *_words: object) -> None:
        raise self.broken("declares a document type, as no page of XWiki does")


class _Package(Document):
    """package.xml. `files`: reference and locale of each page that it names."""

    def __init__(self, entry: str, where: str) -> None:
        super().__init__(entry, where)
        self.files: list[tuple[str, str]] = []
        self._name, self._locale = "", ""

    def begin(self, attributes: dict[str, str]) -> None:
        if "/" not in self.path and self.path != "package":
            raise self.broken("is no package of XWiki")
        if self.path == "package/files/file":
            self._name, self._locale = "", attributes.get("language", "")

    def text(self, data: str) -> None:
        if self.path == "package/files/file":
            self._name += data

    def end(self) -> None:
        if self.path == "package/files/file":
            self.files.append((self._name.strip(), self._locale))


class _Page(Document):
    """A page. What it holds in large, text and attachments, is hashed or counted as it passes."""

    FIELDS = frozenset(
        {"web", "name", "language", "version", "attachment/filename", "attachment/filesize"}
    )

    def __init__(self, entry: str, where: str) -> None:
        super().__init__(entry, where)
        self._reference: str | None = None
        self._locale: str | None = None
        self._fields: dict[str, str] = {}
        self._content = hashlib.sha256()
        self._attachments: dict[str, int] = {}
        self._length = 0

    @property
    def page(self) -> Page:
        """The page, once all of it was read."""
        name = re.sub(r"([\\.])", r"\\\1", self._fields.get("name", ""))
        old = f"{self._fields.get('web', '')}.{name}"
        return Page(
            entry=self.entry,
            reference=old if self._reference is None else self._reference,
            locale=self._fields.get("language", "") if self._locale is None else self._locale,
            version=self._fields.get("version", ""),
            content="" if self.altered else self._content.hexdigest(),
            attachments=self._attachments,
        )

    def begin(self, attributes: dict[str, str]) -> None:
        if self.path == "xwikidoc":
            self._reference, self._locale = attributes.get("reference"), attributes.get("locale")
        elif "/" not in self.path:
            raise self.broken("is no page of XWiki")
        elif self.path == "xwikidoc/attachment":
            self._length = 0
            self._fields.pop("attachment/filename", None)
            self._fields.pop("attachment/filesize", None)

    def text(self, data: str) -> None:
        part = self.path.removeprefix("xwikidoc/")
        if part == "attachment/content":
            self._length += len(data.encode().translate(None, b" \t\r\n="))
        elif part == "content":
            self._content.update(comparable(data).encode())
        elif part in self.FIELDS:
            self._fields[part] = self._fields.get(part, "") + data

    def end(self) -> None:
        if self.path != "xwikidoc/attachment":
            return
        name, size = self._fields.get("attachment/filename", ""), self._length * 3 // 4
        said = self._fields.get("attachment/filesize", "").strip() or str(size)
        if said != str(size):
            raise self.broken(f"has {size} bytes of attachment {name} instead of {said}")
        self._attachments[name] = size


def _twice(names: list[tuple[str, str]]) -> set[tuple[str, str]]:
    return {name for name, count in Counter(names).items() if count > 1}
