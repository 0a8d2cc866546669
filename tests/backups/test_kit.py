"""The recovery sheet: true, without a secret, and not believed before its key opened the set."""

import re
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

import pyrage
import pytest
import segno

from tests.backups.wiki import Wiki, command
from xwiki_stack.backup import kit, manifest, site


def silent(_line: str) -> None:
    """Nobody listens."""


@pytest.fixture
def saved(wiki: Wiki) -> Wiki:
    """A wiki with a set."""
    site.run(wiki.loaded(), silent)
    return wiki


@pytest.mark.parametrize("quick", [True, False])
def test_the_sheet_says_where_all_is_and_that_the_key_opens(saved: Wiki, quick: bool) -> None:
    page = saved.folder / "kit.html"
    said = command(saved, "kit", "--html", str(page), *(["--quick"] if quick else []))
    assert said.code == 0, said.err
    recipient = str(saved.opener.to_public())
    for words in (
        saved.s3.endpoint, "sets", f"{saved.schema}/", "us-east-1", saved.sets()[0], recipient,
        saved.loaded().keys.trusted[0], str(saved.folder / "keys" / "opener"), "helm 4.2",
    ):  # fmt: skip
        assert words in said.out, words
        assert words in page.read_text(), words
    opened = "its index and the beginning of its dump" if quick else "all of it, "
    assert f"opens the newest set today: {opened}" in said.out
    assert [line for line in said.out.splitlines() if re.match(r"  \d+\. ", line)]
    assert len(said.out.splitlines()) < 60, "more than a page"
    both = said.out + said.err + page.read_text()
    assert not [text for text in saved.secrets if text in both]
    assert "script" not in page.read_text()
    assert page.read_text().count("http") == said.out.count("http")


@pytest.mark.parametrize("quick", [True, False])
def test_a_key_that_does_not_open_is_said_and_is_9(saved: Wiki, quick: bool) -> None:
    (saved.folder / "keys" / "opener").write_text(f"{pyrage.x25519.Identity.generate()}\n")
    said = command(saved, "kit", *(["--quick"] if quick else []))
    assert said.code == 9
    assert "DOES NOT OPEN the newest set" in said.out
    assert "no key that is here opens it" in said.err


@pytest.mark.parametrize("part", ["db.sql.zst.age", "index.zst.age"])
def test_a_damaged_set_is_noticed_even_quickly(saved: Wiki, part: str) -> None:
    path = saved.objects / manifest.key_of(manifest.SITE, saved.sets()[0], part)
    content = bytearray(path.read_bytes())
    content[300] ^= 1
    path.write_bytes(content)
    assert command(saved, "kit", "--quick").code == 9


def test_damage_behind_the_beginning_needs_the_whole_look(saved: Wiki) -> None:
    pack = next(p for p in saved.objects.rglob("packs/*/*") if p.is_file())
    pack.write_bytes(pack.read_bytes()[:-1])
    assert command(saved, "kit", "--quick").code == 0
    assert command(saved, "kit").code == 9


def test_the_quick_look_reads_the_beginning_of_a_dump_and_no_more(wiki: Wiki) -> None:
    data = secrets.token_hex(600_000)
    wiki.server.sql(f"INSERT INTO nasty (bytes) VALUES (0x{data})", wiki.schema)
    site.run(wiki.loaded(), silent)
    path = wiki.objects / manifest.key_of(manifest.SITE, wiki.sets()[0], "db.sql.zst.age")
    path.write_bytes(path.read_bytes()[:-1])
    assert command(wiki, "kit", "--quick").code == 0
    assert command(wiki, "kit").code == 9


def test_without_a_set_or_a_key_there_is_no_kit(wiki: Wiki) -> None:
    said = command(wiki, "kit")
    assert said.code == 2
    assert "this kit brings nothing back" in said.err
    assert "NONE" in said.out
    site.run(wiki.loaded(), silent)
    said = command(wiki, "kit", keys__identityFiles=None)
    assert said.code == 2
    assert "without a key no set opens" in said.err


def test_the_key_is_drawn_only_on_request_and_for_its_owner_s_eyes(saved: Wiki) -> None:
    path = saved.folder / "key.svg"
    said = command(saved, "kit", "--quick", "--qr", str(path))
    assert said.code == 0, said.err
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = command(saved, "kit", "--quick", "--qr", str(path))
    assert again.code == 6
    assert "exists" in again.err
    assert not [text for text in saved.secrets if text in said.out + said.err + again.err]
    refused = command(saved, "kit", "--quick", "--qr", "-")
    assert refused.code == 6
    assert "never into a log or a pipe" in refused.err
    assert refused.out == ""


def test_the_drawing_holds_the_key_itself(saved: Wiki) -> None:
    wanted = segno.make(str(saved.opener), error="m", micro=False).matrix
    drawn = kit.drawn(saved.loaded(), ".txt").decode()
    assert read(drawn) == [[int(cell) & 1 for cell in row] for row in wanted]
    other = segno.make(str(pyrage.x25519.Identity.generate()), error="m", micro=False).matrix
    assert read(drawn) != [[int(cell) & 1 for cell in row] for row in other]
    for kind, start in ((".png", b"\x89PNG"), (".svg", b"<?xml")):
        assert kit.drawn(saved.loaded(), kind).startswith(start)


def read(drawn: str) -> list[list[int]]:
    """The modules of a code drawn in half blocks, its quiet zone cut off; 1 is dark."""
    rows = []
    for line in re.sub(r"\x1b\[[0-9;]*m", "", drawn).splitlines():
        rows.append([int(cell in " ▄") for cell in line])
        rows.append([int(cell in " ▀") for cell in line])
    dark = [n for n, row in enumerate(rows) if 1 in row[4:-4]]
    rows = rows[dark[0] : dark[0] + len(rows[0]) - 8]
    return [row[4:-4] for row in rows]


@pytest.mark.parametrize(
    ("qr", "changes", "told"),
    [("key.gif", {}, "no kind of drawing"), ("key.svg", {"keys__identityFiles": []}, "0 keys")],
)
def test_a_drawing_that_cannot_be_is_refused(
    saved: Wiki, qr: str, changes: dict[str, list[str]], told: str
) -> None:
    said = command(saved, "kit", "--qr", str(saved.folder / qr), **changes)  # type: ignore[arg-type]
    assert said.code == 2
    assert told in said.err
    assert not (saved.folder / qr).exists()


def test_a_token_in_gits_address_is_not_printed(
    saved: Wiki, monkeypatch: pytest.MonkeyPatch
) -> None:
    git: Callable[..., str] = lambda *words: (  # noqa: E731
        "https://me:token@git.example.org/wiki.git" if words[0] == "remote" else "abc"
    )
    monkeypatch.setattr(kit, "_git", git)
    said = command(saved, "kit", "--quick")
    assert "https://git.example.org/wiki.git" in said.out
    assert "me:token" not in said.out


def test_the_steps_are_the_runbooks_headings(saved: Wiki) -> None:
    sheet = kit.kit(saved.loaded(), quick=True)
    text = Path(kit.RUNBOOK).read_text()
    assert len(sheet.steps) >= 5
    assert all(f". {step}\n" in text for step in sheet.steps)
