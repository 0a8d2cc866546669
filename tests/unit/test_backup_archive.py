"""XWiki's archives, read in pieces of any size: whole ones pass unchanged, no other does."""

import hashlib
import io
import re
import zipfile
from collections.abc import Iterator

import pytest
from tests.backups.xars import Entry, pack, package, page, xar

from xwiki_stack.backup import archive
from xwiki_stack.backup.archive import Archive
from xwiki_stack.errors import DamagedError

PAGES = {f"Space{n}.Sub.Page{n}": f"text {n}\n" * (40 * n) for n in range(6)}


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    return (content[at : at + size] for at in range(0, len(content), size))


def read(content: bytes, size: int = 1000) -> Archive:
    """Read an archive; what passes must be what came."""
    found = Archive("here")
    assert b"".join(found.passing(pieces(content, size))) == content
    return found


def entry(reference: str, text: str) -> Entry:
    return (f"{reference.replace('.', '/')}.xml", text)


@pytest.mark.parametrize("size", [1, 7, 100, 65536])
def test_a_whole_archive_passes_unchanged_and_is_known(size: int) -> None:
    found = read(xar(PAGES), size)
    assert {p.reference: p.content for p in found.pages} == {
        reference: archive.digest(text) for reference, text in PAGES.items()
    }
    assert len(found.originals) == len(PAGES)


def test_translations_attachments_and_names_are_counted() -> None:
    files = {"a b.bin": bytes(range(256)) * 300, "empty": b"", "one": b"1"}
    texts = [
        entry("A.v1\\.0.Päge & <x>", page("A.v1\\.0.Päge & <x>", attachments=files)),
        ("A/Page.fr.xml", page("A.Page", "bonjour", locale="fr")),
        entry("A.Page", page("A.Page")),
        ("META-INF/MANIFEST.MF", "not XML & ignored"),
    ]
    found = read(pack(texts, [("A.Page", "fr"), ("A.Page", ""), ("A.v1\\.0.Päge & <x>", "")]), 11)
    assert [p.name for p in found.pages] == ["A.v1\\.0.Päge & <x>", "A.Page (fr)", "A.Page"]
    assert found.pages[0].attachments == {name: len(data) for name, data in files.items()}
    assert len(found.originals) == 2
    assert found.attachments == 3


def test_an_old_page_without_a_reference_is_named_by_its_parts() -> None:
    text = re.sub(r" reference=[^>]*>", ">", page("Old.Page", locale="de"))
    assert "reference" not in text
    (found,) = read(pack([("x.xml", text)], [("Old.Page", "de")])).pages
    assert (found.reference, found.locale) == ("Old.Page", "de")


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_control_characters_of_xml_1_1_pass_and_are_not_compared(size: int) -> None:
    for reference in ("&#1;", "&#x1F;", "&#x0b;", "&#012;", "&#31;"):
        text = page("A.Page", extra=f"<comment>x{reference}y</comment>")
        (found,) = read(pack([entry("A.Page", text)], [("A.Page", "")]), size).pages
        assert found.content == ""
    ordinary = page("A.Page", extra="<comment>&#9;&#x41;&amp;&#xA;</comment>")
    (found,) = read(pack([entry("A.Page", ordinary)], [("A.Page", "")]), size).pages
    assert found.content == archive.digest("text")


def test_line_ends_make_no_difference() -> None:
    text = page("A.Page", "X").replace(">X<", ">one\r\ntwo&#13;\nthree<")
    (found,) = read(pack([entry("A.Page", text)], [("A.Page", "")]), 5).pages
    assert found.content == archive.digest("one\ntwo\r\nthree")


def test_an_archive_of_many_entries_and_of_zip64_is_read() -> None:
    many = {f"S.P{n}": "x" for n in range(1500)}
    assert len(read(xar(many)).pages) == 1500
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, text in (("A/P.xml", page("A.P")), ("package.xml", package([("A.P", "")]))):
            with packed.open(name, "w", force_zip64=True) as file:
                file.write(text.encode())
    assert len(read(target.getvalue()).pages) == 1


def test_an_end_in_zip64_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)
    content = xar(PAGES)
    assert b"PK\6\6" in content
    assert len(read(content, 100).pages) == len(PAGES)
    with pytest.raises(DamagedError, match="central directory"):
        read(content.replace(b"PK\6\6", b"PK\6\5"))


def test_every_cut_is_noticed() -> None:
    content = xar(PAGES)
    for length in range(0, len(content), max(1, len(content) // 300)):
        with pytest.raises(DamagedError):
            read(content[:length])


def test_a_flipped_byte_is_noticed_or_means_nothing() -> None:
    content, quiet = xar(PAGES), 0
    whole = read(content).pages
    for place in range(0, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= 0x10
        try:
            # Dates and versions of the tool that packed it may change; pages may not.
            assert read(bytes(changed)).pages == whole
            quiet += 1
        except DamagedError:
            pass
    assert quiet < 0.15 * len(content) / 7


A, B = entry("A.A", page("A.A")), entry("A.B", page("A.B"))
BOTH = [("A.A", ""), ("A.B", "")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "ends in the middle"),
        (b"<!DOCTYPE html><html>login</html>", "is no ZIP"),
        (pack([A, B], None), "has no package.xml"),
        (pack([A, B], BOTH[:1]), "holds, but does not name in package.xml 1 pages: A.B"),
        (pack([A], BOTH), "names in package.xml, but does not hold 1 pages: A.B"),
        (pack([A, B, ("C.xml", B[1])], BOTH), "holds twice 1 pages: A.B"),
        (pack([A, B], [*BOTH, BOTH[0]]), "names twice in package.xml 1 pages: A.A"),
        (pack([A, B, ("package.xml", package(BOTH))], BOTH), "has package.xml twice"),
        (pack([A, ("A/B.xml", "<xwikidoc>")], BOTH), "A/B.xml is no whole XML"),
        (pack([A, ("A/B.xml", "<html/>")], BOTH), "A/B.xml is no page of XWiki"),
        (pack([A, ("A/B.xml", "")], BOTH), "A/B.xml is no whole XML"),
        (pack([A, ("A/B.xml", page("A.B", extra="<x>&#0;</x>"))], BOTH), "invalid character"),
        (pack([A, ("A/B.xml", "<!DOCTYPE x []><xwikidoc/>")], BOTH), "declares a document"),
        (pack([A, B, ("package.xml", "<wiki/>")], None), "is no package of XWiki"),
        (pack([A, B], BOTH) + b"more", "central directory"),
        (pack([A, B], BOTH)[: -22], "central directory"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_no_whole_archive_is_refused_by_its_reason(content: bytes, words: str) -> None:
    with pytest.raises(DamagedError, match=re.escape(words)):
        read(content)


def test_an_attachment_shorter_than_it_says_is_refused() -> None:
    text = page("A.A", attachments={"x.png": b"12345"}).replace("<filesize>5<", "<filesize>6<")
    with pytest.raises(DamagedError, match=r"A/A\.xml has 5 bytes of attachment x\.png instead of"):
        read(pack([entry("A.A", text)], [("A.A", "")]))


def test_a_central_directory_of_other_entries_is_refused() -> None:
    content = xar(PAGES)
    at = content.rindex(b"PK\1\2")
    # The directory's name of the last entry, not that before the entry itself.
    other = content[:at] + content[at:].replace(b"package.xml", b"pockage.xml")
    with pytest.raises(DamagedError, match="are not the"):
        read(other)


def test_memory_does_not_grow_with_an_attachment() -> None:
    import tracemalloc

    data = hashlib.sha256(b"x").digest() * (1 << 19)
    content = pack([entry("A.A", page("A.A", attachments={"big": data}))], [("A.A", "")])
    found = Archive("here")
    tracemalloc.start()
    for _ in found.passing(pieces(content, 65536)):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.pages[0].attachments == {"big": len(data)}
    assert peak < 4 << 20 < len(data)
