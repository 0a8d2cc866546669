"""What a dump says of attachments, and whether the copied files have their bytes.

XWiki keeps them in folders named by MD5 of the page's and of the file's name, below
store/file/<wiki>. How a hash is cut into folders differs between releases (and in our stand-in),
so both ways are looked for: 1, 1 and 30 digits, or 2, 2 and 28.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

TABLE, PAGES = "xwikiattachment", "xwikidoc"

COLUMNS = {
    TABLE: ("XWA_DOC_ID", "XWA_FILENAME", "XWA_SIZE", "XWA_LONGSIZE", "XDD_CONTENTSTORE"),
    PAGES: ("XWD_ID", "XWD_FULLNAME"),
}
"""The columns that are read from the dump, as XWiki's xwiki.hbm.xml names them. The stand-in and
releases before 9.10 lack the store, old ones the long size, which is -1 where it is not known.
"""

ON_DISK = "file"

Look = Callable[[str], dict[str, int]]
"""Gives the files of a folder (path below the root, no slash at its end): name to size in bytes."""


@dataclass(frozen=True, slots=True)
class Row:
    """An attachment as the database has it; `page` is the id of its page."""

    wiki: str
    page: str
    name: str
    size: int


@dataclass(frozen=True)
class Miss:
    """An attachment whose bytes are not among the copied files, and where they were looked for."""

    row: Row
    reference: str
    folders: tuple[str, ...]
    why: str

    @property
    def words(self) -> str:
        """One line for the operator."""
        return f"{self.row.wiki}:{self.reference} / {self.row.name}: {self.why}"


@dataclass
class Attachments:
    """All rows of a dump whose bytes should lie on disk, and the names of their pages."""

    rows: list[Row] = field(default_factory=list)
    pages: dict[tuple[str, str], str] = field(default_factory=dict)
    elsewhere: int = 0

    def row(self, wiki: str, values: dict[str, str | None]) -> None:
        """Take a row of `xwikiattachment`."""
        # None is the store that is configured, and that is the disk unless somebody says otherwise.
        if (values.get("XDD_CONTENTSTORE") or ON_DISK) != ON_DISK:
            # In the database or in a blob store; not ours to look for.
            self.elsewhere += 1
            return
        page, name = values["XWA_DOC_ID"] or "", values["XWA_FILENAME"] or ""
        long = int(values.get("XWA_LONGSIZE") or -1)
        size = long if long >= 0 else int(values["XWA_SIZE"] or 0)
        self.rows.append(Row(wiki, page, name, size))
        self.pages.setdefault((wiki, page), "")

    def page(self, wiki: str, values: dict[str, str | None]) -> None:
        """Take a row of `xwikidoc`. The dump has tables by name, so attachments came before."""
        key = (wiki, values["XWD_ID"] or "")
        if key in self.pages:
            self.pages[key] = values["XWD_FULLNAME"] or ""

    @property
    def bytes(self) -> int:
        """Of all attachments, as the database says."""
        return sum(row.size for row in self.rows)

    def misses(self, look: Look, follow: Callable[[str], str]) -> list[Miss]:
        """The rows whose file is absent or of another size.

        follow: gives the text of a link file (`f.lnk`, 16.4 and later), a name beside it.
        """
        return [miss for row in self.rows if (miss := self._miss(row, look, follow))]

    def _miss(self, row: Row, look: Look, follow: Callable[[str], str]) -> Miss | None:
        reference = self.pages[row.wiki, row.page]
        if not reference:
            return Miss(row, f"page id {row.page}", (), "its page is not in the dump")
        folders = tuple(_folders(row.wiki, reference, row.name))
        sizes: list[int] = []
        for folder in folders:
            files = look(folder)
            for name in _contents(files):
                target = follow(f"{folder}/{name}") if name == LINK else name
                if target in files:
                    sizes.append(files[target])
        if row.size in sizes:
            return None
        why = f"{sizes[0]} bytes instead of {row.size}" if sizes else "no file"
        return Miss(row, reference, folders, why)


LINK = "f.lnk"


def _contents(files: Iterable[str]) -> list[str]:
    """Names that may hold the current bytes: `f.png`, `f`, or the link; `fv1.1.png` is history."""
    return [name for name in files if name == "f" or name.startswith("f.")]


def _folders(wiki: str, reference: str, name: str) -> Iterator[str]:
    for cut in (1, 2):
        page, file = _hashed(reference, cut), _hashed(name, cut)
        for inner in ("", "/~this"):
            yield f"store/file/{wiki}/{page}{inner}/attachments/{file}"


def _hashed(text: str, cut: int) -> str:
    digits = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    return f"{digits[:cut]}/{digits[cut : 2 * cut]}/{digits[2 * cut :]}"
