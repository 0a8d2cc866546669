"""A XAR set brought back: into a fresh wiki, and one page or attachment beside the live one."""

import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest

from tests.backups.live import Live
from tests.backups.pretender import Pretender, pretending
from tests.backups.test_sets import silent
from tests.backups.wiki import Wiki as Kept
from tests.backups.wiki import command
from tests.contract.wiki import SPACES, Wiki, element
from xwiki_stack.backup import manifest, restore, xar, xar_restore
from xwiki_stack.backup.store import Store
from xwiki_stack.errors import DamagedError, IncompleteError, IntentError, RefusedError, StackError

PICTURE = bytes(range(256)) * 40
MAP = "/Travel/pages/Rome/attachments/a%20map.png"
ROME = "/Travel/pages/Rome"
ALICE = ("Alice", "Alice7password")
DAY = f"(restored {datetime.now(UTC):%Y-%m-%d})"
LOST = "Travel.Lost"
ATTACHED = (f"a map.png\t{len(PICTURE)}", "empty\t0")


@pytest.fixture(scope="module")
def source(go_live: Callable[..., Live]) -> Live:
    """A wiki of which a set exists: pages of two versions and authors, attachments, objects."""
    made = go_live()
    wiki = made.wiki
    wiki.make_user(*ALICE)
    wiki.give_right("Alice", "edit")
    wiki.put(ROME, "Rome", "first")
    wiki.put(ROME, "Rome", "all roads <lead> here & there", user=ALICE)
    wiki.put("/Travel/pages/Lost", "Lost", "found", user=ALICE)
    wiki.put("/Travel/spaces/Inner/pages/WebHome", "Inner", "nested")
    wiki.put("/Main/pages/WebHome", "Home", "our own home")
    wiki.attach(MAP, PICTURE)
    wiki.attach("/Travel/pages/Rome/attachments/empty", b"")
    wiki.add(ROME, "XWiki.Tags", tags="a|b")
    xar.run(made.kept.loaded(), silent)
    return made


@pytest.fixture(scope="module")
def fresh(go_live: Callable[..., Live]) -> Live:
    """A wiki as XWiki and the bootstrap Job make it, and no person."""
    made = go_live()
    made.wiki.put("/Main/pages/WebHome", "Welcome", "made by the bootstrap")
    return made


def into(source: Live, target: Live, **changes: Any) -> dict[str, Any]:
    """Changes of the source's configuration that lead to another wiki."""
    return {"web__url": target.wiki.url, **changes}


def pages(wiki: Wiki) -> dict[str, tuple[str, ...]]:
    """What the database has of each page."""
    columns = "XWD_FULLNAME, XWD_VERSION, XWD_AUTHOR, XWD_TITLE, XWD_CONTENT, XWD_CREATION_DATE"
    rows = wiki.schema.query(f"SELECT {columns} FROM xwikidoc ORDER BY 1")
    return {row.split("\t")[0]: tuple(row.split("\t")[1:]) for row in rows}


def objects(wiki: Wiki) -> list[str]:
    """Objects with their properties, and attachments."""
    return [
        *wiki.schema.query("SELECT XWO_NAME, XWO_CLASSNAME, XWP_NAME, XWP_VALUE FROM xwikiobjects"
                           " LEFT JOIN xwikiproperties ON XWO_ID = XWP_ID ORDER BY 1, 2, 3"),
        *wiki.schema.query("SELECT XWA_FILENAME, XWA_SIZE FROM xwikiattachment ORDER BY 1"),
    ]  # fmt: skip


def refused(
    source: Kept,
    kind: type[StackError],
    words: str,
    wish: restore.Wish | None = None,
    **changes: Any,
) -> None:
    with pytest.raises(kind, match=words):
        xar_restore.restore_xar(source.loaded(**changes), wish or restore.Wish(), silent)


def test_a_fresh_wiki_becomes_the_exported_one_and_a_used_one_is_left_alone(
    source: Live, fresh: Live
) -> None:
    here = into(source, fresh)
    said = command(source.kept, "restore", "--kind", "xar", **here)
    assert said.code == 0, said.err
    wanted = pages(source.wiki)
    assert pages(fresh.wiki) == wanted
    assert wanted["Travel.Rome"][:2] == ("1.2", "XWiki.Alice")
    assert objects(fresh.wiki) == objects(source.wiki)
    assert fresh.wiki.get(MAP).content == PICTURE
    assert "each of them is there, as the set holds it" in said.out
    assert f"{len(wanted)} pages and translations, 2 attachments" in said.out
    # All of it is now by people, and the same: what broke off may go on.
    assert command(source.kept, "restore", "--kind", "xar", **here).code == 0
    assert fresh.wiki.put(ROME, "Rome", "work of this hour", user=ALICE).status_code == 202
    said = command(source.kept, "restore", "--kind", "xar", **here)
    assert said.code == 6
    assert "is not fresh: 1 pages" in said.err and "Travel.Rome by XWiki.Alice" in said.err
    assert element(fresh.wiki.get(ROME)).text("content") == "work of this hour"
    told = said.out + said.err
    assert not [secret for secret in source.kept.secrets if secret in told]


@pytest.mark.usefixtures("standin")
def test_a_page_that_did_not_come_is_named(source: Live, go_live: Callable[..., Live]) -> None:
    """By the stand-in, which leaves one page out and answers 200 all the same."""
    faulty = go_live({"STANDIN_IMPORT_FAIL_PAGE": LOST})
    here = into(source, faulty)
    refused(source.kept, IncompleteError, f"1 pages did not come into wiki xwiki: {LOST};", **here)
    # There before, by the machine, with another text: only its text tells.
    faulty.wiki.put("/Travel/pages/Lost", "Lost", "of the machine")
    refused(source.kept, IncompleteError, r"Travel\.Lost \(another text\)", **here)
    # Under a name that the stand-in does save, the same page comes.
    assert command(source.kept, "restore", "--page", LOST, **here).code == 0


def test_what_stands_against_it_is_said_before_anything_is_sent(source: Live, fresh: Live) -> None:
    kept, here = source.kept, into(source, fresh)
    before = pages(fresh.wiki)
    for kind, words, changes in (
        (RefusedError, "is production: no set of staging", {"environment": "p", "purpose": "prod"}),
        (IntentError, "without a key no set opens", {"keys__identityFiles": None}),
        (DamagedError, "no key that is here opens it",
         {"keys__identityFiles": [str(kept.folder / "keys" / "writer")]}),
        (RefusedError, "is served as a guest", source.user("superadmin", "wrong")),
        (RefusedError, "instead of an archive", source.user("Alice", ALICE[1])),
        (IntentError, "web: is missing", {"web": None}),
    ):  # fmt: skip
        wish = restore.Wish(source="staging") if "environment" in changes else restore.Wish()
        merged = {**here, **changes}
        if "web" in changes:
            del merged["web__url"]
        refused(kept, kind, words, wish, **merged)
    with pretending(
        Pretender(lambda _pages: (200, {"Content-Type": "application/zip"}, b""))
    ) as old:
        old.version = "16.10.5"
        refused(kept, RefusedError, "the set is from XWiki 17.10", web__url=old.url)
        old.version = "17.10.1"
        refused(kept, RefusedError, "there is no wiki xwiki", web__url=old.url)
        assert not [path for path in old.asked if path.startswith("POST")]
    assert pages(fresh.wiki) == before


def test_a_set_that_was_damaged_is_not_sent(source: Live, fresh: Live) -> None:
    config = source.kept.loaded()
    (found,) = manifest.listing(Store(config), config.need_trusted(), "staging", manifest.Xar).sets
    path = source.kept.objects / found.manifest.wikis[0].archive.key
    whole, before = path.read_bytes(), pages(fresh.wiki)
    try:
        path.write_bytes(whole[:-20])
        refused(source.kept, DamagedError, "changed or cut", **into(source, fresh))
    finally:
        path.write_bytes(whole)
    assert pages(fresh.wiki) == before


def place(*names: str) -> str:
    """REST's path below the spaces of a page."""
    *spaces, last = names
    return "/spaces".join(f"/{quote(space)}" for space in spaces) + f"/pages/{quote(last)}"


def test_one_page_comes_back_beside_the_live_one(source: Live) -> None:
    wiki, kept = source.wiki, source.kept
    wiki.put(ROME, "Rome", "what somebody made of it", user=ALICE)
    wiki.request("DELETE", f"{SPACES}{MAP}")
    before, live_objects = pages(wiki), objects(wiki)
    said = command(kept, "restore", "--page", "Travel.Rome")
    assert said.code == 0, said.err
    reference = f"Travel.Rome {DAY}"
    assert f"made xwiki:{reference}: {wiki.url}/bin/view/Travel/" in said.out
    (url,) = re.findall(r"http\S+", said.out.splitlines()[-1])
    shown = wiki.request("GET", url.removeprefix(wiki.url))
    assert shown.status_code == 200 and "all roads &lt;lead&gt; here &amp; there" in shown.text
    copy = place("Travel", f"Rome {DAY}")
    assert element(wiki.get(copy)).text("content") == "all roads <lead> here & there"
    assert element(wiki.get(copy)).text("author") == "XWiki.Alice"
    assert wiki.get(f"{copy}/attachments/a%20map.png").content == PICTURE
    assert wiki.get(f"{copy}/attachments/empty").content == b""
    assert "XWiki.Tags" in wiki.get(f"{copy}/objects").text
    after = pages(wiki)
    assert set(after) - set(before) == {reference}
    assert {name: after[name] for name in before} == before, "the live ones are as they were"
    added = list((Counter(objects(wiki)) - Counter(live_objects)).elements())
    assert added == [f"{reference}\tXWiki.Tags\ttags\ta|b", *ATTACHED]
    assert not Counter(live_objects) - Counter(objects(wiki))
    said = command(kept, "restore", "--page", "Travel.Rome")
    assert said.code == 6 and "is there already" in said.err
    assert pages(wiki) == after
    said = command(kept, "restore", "--page", "xwiki:Travel.Rome", "--as", "Other.Rome again")
    assert said.code == 0, said.err
    assert wiki.get("/Other/pages/Rome%20again").status_code == 200
    assert command(kept, "restore", "--page", "Travel.Inner.WebHome").code == 0
    assert element(wiki.get(place("Travel", f"Inner {DAY}", "WebHome"))).text("content") == "nested"


def test_one_attachment_comes_back_beside_the_live_one(source: Live) -> None:
    wiki, kept = source.wiki, source.kept
    wiki.attach(MAP, b"painted over")
    before = pages(wiki)
    words = ["restore", "--page", "Travel.Rome", "--attachment", "a map.png"]
    said = command(kept, *words)
    assert said.code == 0, said.err
    (url,) = re.findall(r"http\S+", said.out.splitlines()[-1])
    assert wiki.request("GET", url.removeprefix(wiki.url)).content == PICTURE
    assert wiki.get(f"{ROME}/attachments/{quote(f'a map {DAY}.png')}").content == PICTURE
    assert wiki.get(MAP).content == b"painted over"
    assert pages(wiki) == before
    said = command(kept, *words)
    assert said.code == 6 and "is there already" in said.err
    assert command(kept, *words, "--as", "a map.png").code == 6
    assert wiki.get(MAP).content == b"painted over"
    assert command(kept, *words, "--as", "other.png").code == 0
    assert wiki.get(f"{ROME}/attachments/other.png").content == PICTURE


def test_what_is_not_there_is_said_with_what_is(source: Live) -> None:
    for words, code, told in (
        (["--page", "Travel.Roma"], 2, "holds no page Travel.Roma; allowed: Travel.Rome"),
        (["--page", "sub:Travel.Rome"], 2, "holds no wiki 'sub'; allowed: xwiki"),
        (["--page", "Travel.Rome", "--attachment", "a mop.png"], 2, "allowed: a map.png"),
        (["--page", "Gone.Page", "--attachment", "a"], 6, "no page Gone.Page to attach to"),
        (["--attachment", "a map.png"], 2, "need --page"),
        (["--page", "Travel.Rome", "--kind", "site"], 2, "of kind xar"),
        # A variable that is empty asks for no whole wiki, and no whole page.
        (["--page", ""], 2, "--page: is empty"),
        (["--page", "Travel.Rome", "--attachment", ""], 2, "--attachment: is empty"),
        (["--kind", "xar", "--only", "files"], 2, "for sets of kind site"),
        (["2020", "--page", "Travel.Rome"], 2, "no sets are called '2020'"),
    ):
        said = command(source.kept, "restore", *words)
        assert (said.code, told in said.err) == (code, True), said.err
        assert len(said.err.splitlines()) == 1
