"""A page under another reference: what names it is replaced, every other byte stays."""

import base64
import re

import pytest
from tests.backups.xars import page as page_xml

from xwiki_stack.backup import page
from xwiki_stack.backup.archive import Archive, Page

OBJECT = (
    "<object><name>A.Page</name><number>0</number><className>A.Page</className>"
    "<guid>1f4e-77</guid><class><name>A.Page</name></class>"
    "<property><text>about A.Page &amp; <![CDATA[<name>A.Page</name>]]></text></property></object>"
)
EXTRA = (
    "<class><name>A.Page</name><customClass/></class><parent>A.Page</parent>"
    f"<comment>odd &#1; &gt; and\n&#x1f;</comment>{OBJECT}<object><name/><guid/></object>"
)


def pieces(text: bytes, size: int) -> list[bytes]:
    return [text[at : at + size] for at in range(0, len(text), size)]


def copied(text: str, target: str, size: int) -> str:
    copy, out = page._Copy("A/Page.xml", target), b""
    for piece in pieces(text.encode(), size):
        copy.feed(piece)
        out += copy.taken()
    copy.close()
    return (out + copy.taken()).decode()


@pytest.mark.parametrize("size", [1, 2, 7, 50, 100_000])
def test_only_what_names_the_page_is_replaced(size: int) -> None:
    files = {"a.bin": bytes(range(256)) * 50}
    text = page_xml("A.Page", "A.Page & <name>é</name>\n" * 9, attachments=files, extra=EXTRA)
    new = "B.C.v1\\.0 &lt;x&gt;"
    wanted = text
    for old, other in (
        ('reference="A.Page"', f'reference="{new}"'),
        ("<web>A</web><name>Page</name>", "<web>B.C</web><name>v1.0 &lt;x&gt;</name>"),
        ("<guid>1f4e-77</guid>", ""),
        ("<guid/>", ""),
        ("<object><name>A.Page</name>", f"<object><name>{new}</name>"),
        ("<object><name/>", f"<object><name>{new}</name>"),
        ("</attachment><class><name>A.Page", f"</attachment><class><name>{new}"),
    ):
        assert wanted.count(old) == 1
        wanted = wanted.replace(old, other)
    assert wanted.count("B.C") == 5
    assert copied(text, "B.C.v1\\.0 <x>", size) == wanted


def test_an_old_page_without_attributes_is_renamed_too() -> None:
    text = re.sub(r" reference=[^>]*>", ">", page_xml("A.Page"))
    assert "<web>B</web><name>Other</name>" in copied(text, "B.Other", 10)


def test_the_copies_are_an_archive_that_holds_just_them() -> None:
    texts = {"": page_xml("A.Page", attachments={"x": b"1"}), "fr": page_xml("A.Page", locale="fr")}
    entries = (
        (Page("A/Page.xml", "A.Page", locale, "1.1", "", {}), iter(pieces(text.encode(), 40)))
        for locale, text in texts.items()
    )
    found = Archive("here")
    found.read(page._archive(entries, "B.Copy"))
    assert [(p.reference, p.locale) for p in found.pages] == [("B.Copy", ""), ("B.Copy", "fr")]
    assert found.pages[0].attachments == {"x": 1}


@pytest.mark.parametrize("size", [1, 3, 64, 100_000])
def test_an_attachment_comes_out_byte_for_byte(size: int) -> None:
    files = {"a": b"first", "b c.bin": bytes(range(256)) * 40 + b"x", "d": b""}
    text = page_xml("A.Page", attachments=files).encode()
    for name, data in files.items():
        held = Page("e", "A.Page", "", "1.1", "", {})
        got = page._attached(iter([(held, iter(pieces(text, size)))]), "here", name)
        assert b"".join(got) == data
    assert base64.b64encode(files["b c.bin"])[:8] in text


@pytest.mark.parametrize(
    ("reference", "copy"),
    [
        ("A.Page", "A.Page (day)"),
        ("A.B.WebHome", "A.B (day).WebHome"),
        ("Main.WebHome", "Main (day).WebHome"),
        ("WebHome", "WebHome (day)"),
        ("A.v1\\.0", "A.v1\\.0 (day)"),
    ],
)
def test_a_copy_lies_beside_its_page(reference: str, copy: str) -> None:
    assert page._sibling(reference, "(day)") == copy


def test_a_copy_of_an_attachment_keeps_its_ending() -> None:
    assert page._dated("a map.tar.gz", "(day)") == "a map.tar (day).gz"
    assert page._dated("README", "(day)") == "README (day)"
