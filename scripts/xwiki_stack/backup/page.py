"""One page or attachment out of a XAR set, put beside the live one, which is never touched.

The page goes into a small archive of its own under another reference and is imported: its text,
translations, attachments and objects as they were. Only what names the page itself is rewritten, by
its place in the bytes; all else is copied as it is. The history stays in the set.
"""

import base64
import difflib
import hashlib
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import IO, cast
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

from xwiki_stack.backup import archive, deadline, keyring, restore, xar, xar_restore
from xwiki_stack.backup.archive import PACKAGE, Document, Page
from xwiki_stack.backup.config import Config
from xwiki_stack.backup.manifest import Xar
from xwiki_stack.backup.store import Store
from xwiki_stack.backup.web import Web, names_of
from xwiki_stack.errors import IncompleteError, IntentError, RefusedError

Emit = Callable[[str], None]

LARGE = 1 << 30
"""Bytes of attachments, with which a page may be more than a plain ZIP can tell."""

HOME = "WebHome"
"""Name of the page that stands for its space."""


@dataclass(frozen=True)
class Wish:
    """What is wanted: a page (`Space.Page`, `wiki:Space.Page`), or an attachment of it.

    target: reference of the copy, or name of the attachment's; "" is the own one with the day of
    the set. set, source: as restore.Wish.
    """

    page: str
    attachment: str = ""
    target: str = ""
    set: str = ""
    source: str = ""


@dataclass(frozen=True)
class Outcome:
    """What was made: a reference, and where it is seen."""

    reference: str
    url: str


def beside(config: Config, wish: Wish, emit: Emit) -> Outcome:
    """Bring it back beside the live one. Raises the StackError of what stands against it."""
    store = Store(config)
    found = restore.choose(config, store, restore.Wish(wish.set, source=wish.source), Xar)
    made, identities = found.manifest, keyring.openers(config)
    name, colon, reference = wish.page.rpartition(":")
    export = made.export(name) if colon else made.wikis[0]
    web, wiki = Web(config), export.wiki
    web.expect_admin()
    day = f"(restored {made.time:%Y-%m-%d})"
    target = wish.target or (
        _dated(wish.attachment, day) if wish.attachment else _sibling(reference, day)
    )
    if wish.attachment:
        _expect_no_attachment(web, wiki, reference, target)
    else:
        _expect_no_page(web, wiki, target)
    with deadline.within(config.limits.restore_minutes, "limits.restoreMinutes"):
        emit(f"set {made.id}: opening all of wiki {wiki} before anything is sent")
        held = xar.open_archive(store, export, identities)
        pages = [page for page in held.pages if page.reference == reference]
        if all(page.locale for page in pages):
            known = [page.reference for page in held.originals]
            raise _unknown(made, f"page {reference}", reference, known)
        with xar.stored(store, export, identities) as blocks:
            entries = _entries(archive.unzipped(blocks, held.where), pages)
            if not wish.attachment:
                web.load(wiki, _archive(entries, target), history="add")
                copies = [replace(page, reference=target) for page in pages]
                xar_restore.expect_there(web, wiki, copies)
                return Outcome(f"{wiki}:{target}", _url(web, "view", target))
            (page,) = (page for page in pages if not page.locale)
            if wish.attachment not in page.attachments:
                raise _unknown(made, f"attachment {wish.attachment} of {reference}",
                               wish.attachment, list(page.attachments))  # fmt: skip
            content = _Content(_attached(entries, held.where, wish.attachment))
            web.put_attachment(reference, target, iter(content), wiki)
            _expect_same(web, wiki, reference, target, content)
            return Outcome(f"{wiki}:{reference}@{target}", _url(web, "download", reference, target))


def _expect_no_page(web: Web, wiki: str, target: str) -> None:
    if web.page(target, wiki) is not None:
        raise RefusedError(
            f"page {target} is there already",
            where=web.url,
            next="name another reference with --as, or delete that page if nobody misses it",
        )


def _expect_no_attachment(web: Web, wiki: str, reference: str, target: str) -> None:
    if web.page(reference, wiki) is None:
        raise RefusedError(
            f"there is no page {reference} to attach to",
            where=web.url,
            next="bring the page back, with all its attachments: leave --attachment out",
        )
    if web.has_attachment(reference, target, wiki):
        raise RefusedError(
            f"attachment {target} of {reference} is there already",
            where=web.url,
            next="name another one with --as, or delete that one if nobody misses it",
        )


def _expect_same(web: Web, wiki: str, reference: str, target: str, sent: "_Content") -> None:
    """What the wiki gives back must be what it was given."""
    digest = hashlib.sha256()
    with web.attachment(reference, target, wiki) as answer:
        if answer.status_code == 200:
            for block in answer.iter_content(1 << 16):
                digest.update(block)
    if digest.digest() != sent.digest.digest():
        raise IncompleteError(
            f"attachment {target} of {reference} is not what the set holds",
            where=web.url,
            next="delete it, see the log of XWiki, run again",
        )


def _entries(
    entries: Iterator[tuple[str, Iterator[bytes]]], wanted: Sequence[Page]
) -> Iterator[tuple[Page, Iterator[bytes]]]:
    """Page and XML of the wanted ones. The end comes once the whole archive was read."""
    pages = {page.entry: page for page in wanted}
    return ((pages[name], content) for name, content in entries if name in pages)


def _archive(entries: Iterator[tuple[Page, Iterator[bytes]]], target: str) -> Iterator[bytes]:
    """The pages as an archive of their own, under the reference `target`."""
    ready, files = _Ready(), ""
    with zipfile.ZipFile(cast(IO[bytes], ready), "w", zipfile.ZIP_DEFLATED) as packed:
        for number, (page, content) in enumerate(entries):
            copy = _Copy(page.entry, target)
            large = sum(page.attachments.values()) > LARGE
            with packed.open(f"page{number}.xml", "w", force_zip64=large) as file:
                for piece in content:
                    copy.feed(piece)
                    file.write(copy.taken())
                    yield ready.taken()
                copy.close()
                file.write(copy.taken())
            files += f"<file language={quoteattr(page.locale)}>{escape(target)}</file>"
        packed.writestr(
            PACKAGE,
            "<package><infos><name>restored</name><backupPack>true</backupPack></infos>"
            f"<files>{files}</files></package>",
        )
    yield ready.taken()


def _attached(
    entries: Iterator[tuple[Page, Iterator[bytes]]], where: str, name: str
) -> Iterator[bytes]:
    """An attachment's bytes out of the page without translation."""
    for page, content in entries:
        if page.locale:
            continue
        reader = _Attachment(page.entry, where, name)
        for piece in content:
            reader.feed(piece)
            yield reader.taken()
        reader.close()
        yield reader.taken()


class _Ready:
    """A file that can only be written; what was written is taken from it."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def write(self, data: bytes) -> int:
        self._bytes += data
        return len(data)

    def flush(self) -> None:
        pass

    def taken(self) -> bytes:
        found = bytes(self._bytes)
        self._bytes.clear()
        return found


class _Content:
    """Pieces on their way, hashed; none of them empty, which would end a request."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self.digest = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            if piece:
                self.digest.update(piece)
                yield piece


class _Attachment(Document):
    """Decodes the content of one attachment of a page."""

    def __init__(self, entry: str, where: str, name: str) -> None:
        super().__init__(entry, where)
        self._wanted, self._name, self._left = name, "", ""
        self._ready = _Ready()

    def taken(self) -> bytes:
        """What was decoded since."""
        return self._ready.taken()

    def begin(self, _attributes: dict[str, str]) -> None:
        if self.path == "xwikidoc/attachment":
            self._name, self._left = "", ""

    def text(self, data: str) -> None:
        if self.path == "xwikidoc/attachment/filename":
            self._name += data
        elif self.path == "xwikidoc/attachment/content" and self._name == self._wanted:
            text = self._left + "".join(data.split())
            whole = len(text) // 4 * 4
            self._ready.write(base64.b64decode(text[:whole]))
            self._left = text[whole:]


class _Copy(Document):
    """A page's XML under another reference: places that name the page are replaced."""

    NAMES = frozenset({"web", "name", "object/name", "class/name", "object/guid"})

    def __init__(self, entry: str, target: str) -> None:
        super().__init__(entry, entry)
        # Text in one piece would come with the place of what follows it.
        self.parser.buffer_text = False
        self._target = target
        spaces, self._page = _parts(target)[:-1], names_of(target)[-1]
        self._space = ".".join(spaces)
        self._raw, self._base = bytearray(), 0
        self._seen = 0
        self._edit: tuple[int, str] | None = None
        self._out = _Ready()

    def taken(self) -> bytes:
        """What is ready of the copy."""
        return self._out.taken()

    def parse(self, data: bytes, *, last: bool) -> None:
        self._raw += data
        super().parse(data, last=last)
        if last:
            self._copy(self._base + len(self._raw))
        elif self._edit is None:
            # Up to the last thing seen: what follows it may be half of a name.
            self._copy(self._seen)

    def begin(self, attributes: dict[str, str]) -> None:
        self._mark()
        here = self.parser.CurrentByteIndex
        if self.path == "xwikidoc" and "reference" in attributes:
            said = {**attributes, "reference": self._target}
            words = "".join(f" {name}={quoteattr(value)}" for name, value in said.items())
            self._edit = (here, f"<xwikidoc{words}>")
        elif self.path.removeprefix("xwikidoc/") in self.NAMES:
            self._copy(here)
            self._edit = (here, "")

    def text(self, _data: str) -> None:
        self._mark()

    def end(self) -> None:
        self._mark()
        part = self.path.removeprefix("xwikidoc/")
        if part not in self.NAMES:
            return
        tag = part.rpartition("/")[2]
        here = self.parser.CurrentByteIndex
        # Of `<web></web>` the place of `</web>`, of `<web/>` that behind it.
        closing = f"</{tag}".encode()
        at = here - self._base
        ends = self._raw.index(b">", at) + 1 if self._raw.startswith(closing, at) else at
        words = {"web": self._space, "name": self._page}.get(part, self._target)
        words = "" if tag == "guid" else f"<{tag}>{escape(words)}</{tag}>"
        self._replace(self._base + ends, words)

    def _mark(self) -> None:
        """Something begins or ends here; a start tag that is replaced reaches up to it."""
        here = self.parser.CurrentByteIndex
        self._seen = max(self._seen, here)
        if self._edit and self._edit[1]:
            self._copy(self._edit[0])
            self._replace(here, self._edit[1])

    def _replace(self, stop: int, words: str) -> None:
        self._out.write(words.encode())
        self._drop(stop)
        self._edit = None

    def _copy(self, stop: int) -> None:
        if stop > self._base:
            self._out.write(bytes(self._raw[: stop - self._base]))
            self._drop(stop)

    def _drop(self, stop: int) -> None:
        del self._raw[: stop - self._base]
        self._base = stop
        self._seen = max(self._seen, stop)


def _unknown(made: Xar, what: str, name: str, known: list[str]) -> IntentError:
    return IntentError(
        f"set {made.id} holds no {what}",
        allowed=", ".join(difflib.get_close_matches(name, known) or known[:3]) or "nothing there",
        next="`xwiki-stack backup list --kind xar` has older sets",
    )


def _parts(reference: str) -> list[str]:
    """A reference cut at its dots, each part as it stands in it."""
    return re.findall(r"(?:\\.|[^.\\])+", reference)


def _sibling(reference: str, day: str) -> str:
    """The name of a copy beside a page; beside its space where the page stands for one."""
    parts = _parts(reference)
    place = -2 if len(parts) > 1 and parts[-1] == HOME else -1
    parts[place] = f"{parts[place]} {day}"
    return ".".join(parts)


def _dated(name: str, day: str) -> str:
    """The name of a copy of an attachment: `a map (restored 2026-11-26).png`."""
    path = PurePosixPath(name)
    return f"{path.stem} {day}{path.suffix}"


def _url(web: Web, action: str, reference: str, *more: str) -> str:
    parts = "/".join(quote(name, safe="") for name in [*names_of(reference), *more])
    return f"{web.url}/bin/{action}/{parts}"
