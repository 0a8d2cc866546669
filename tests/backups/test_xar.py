"""Sets of the second kind: what XWiki exports, what only seems to be one, and their prune."""

import io
import re
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.backups.live import Live
from tests.backups.pretender import ZIP, Pretender, pretending
from tests.backups.test_prune import FEW, age
from tests.backups.test_sets import later, silent
from tests.backups.wiki import Wiki, command, number_of
from tests.backups.xars import pack, page, xar
from tests.contract.wiki import archive
from xwiki_stack.backup import canary, deadline, evidence, keyring, lock, manifest, retention, site
from xwiki_stack.backup import xar as engine
from xwiki_stack.backup.store import Store
from xwiki_stack.errors import (
    BusyError,
    DamagedError,
    IncompleteError,
    MachineError,
    RefusedError,
    StackError,
)

PICTURE = bytes(range(256)) * 40
EXPORT = "/bin/export/Main/WebHome?format=xar&name=backup&backup=true&history=true"


@pytest.fixture(scope="module")
def live(
    go_live: Callable[..., Live],
) -> Live:
    """A wiki with pages, an attachment and a user who is no admin."""
    made = go_live()
    made.wiki.put("/Travel/pages/Rome", "Rome", "all roads <lead> here & there")
    made.wiki.put("/Travel/spaces/Inner/pages/WebHome", "Inner", "nested")
    made.wiki.attach("/Travel/pages/Rome/attachments/a%20map.png", PICTURE)
    made.wiki.make_user("Alice", "Alice7password")
    made.wiki.give_right("Somebody", "admin")
    return made


@pytest.fixture
def exporting(wiki: Wiki) -> Iterator[Callable[..., Wiki]]:
    """Makes a pretender export for a wiki whose pages lie in a real database."""
    with ExitStack() as stack:

        def start(pretender: Pretender) -> Wiki:
            stack.enter_context(pretending(pretender))
            password = str(wiki.folder / "keys" / "root")
            wiki.changes["web"] = {"url": pretender.url, "passwordFile": password}
            return wiki

        yield start


PAGES = {f"Space{number}.Page": "text" for number in range(5)}
"""What `Wiki.fill` makes."""


def answers(
    body: bytes, kind: str = ZIP, *, status: int = 200, length: str | None = None
) -> Pretender:
    """Exports just that, whatever is asked."""
    said = {"Content-Length": str(len(body)) if length is None else length}
    return Pretender(lambda _pages: (status, {"Content-Type": kind, **said}, body))


def refused(wiki: Wiki, kind: type[StackError], words: str, **changes: object) -> None:
    """A run fails with these words and leaves no set and no lock."""
    before = wiki.sets()
    with pytest.raises(kind, match=words):
        engine.run(wiki.loaded(**changes), silent)
    assert wiki.sets() == before
    with lock.hold(Store(wiki.loaded()), manifest.XAR, minutes=1):
        pass


def test_a_wiki_is_exported_proven_and_told_of(live: Live) -> None:
    kept = live.kept
    said = command(kept, "run", "xar", apart=True)
    assert said.code == 0, said.err
    config = kept.loaded()
    listing = manifest.listing(Store(config), config.need_trusted(), "staging", manifest.Xar)
    first = listing.sets[-1]
    (export,) = first.manifest.wikis
    exported = archive(live.wiki.request("GET", EXPORT).content)
    assert export.pages == export.entries == export.rows == len(exported.pages) == 4
    assert export.attachments == 1
    assert first.manifest.xwiki.startswith("17.10")
    assert f"all {export.rows} rows that the database had throughout are in it" in said.out
    assert export.archive.key == f"sets/xar/{first.manifest.id}/xwiki.xar.zst.age"
    stored = (kept.objects / export.archive.key).read_bytes()
    assert b"PK" not in stored[:4] and b"Travel" not in stored
    with engine.stored(Store(config), export, keyring.openers(config)) as blocks:
        plain = b"".join(blocks)
    with zipfile.ZipFile(io.BytesIO(plain)) as packed:
        assert set(packed.namelist()) == exported.names
    later()
    second = engine.run(config, silent).found.manifest
    assert second.previous == {"id": first.manifest.id, "sha256": first.sha256}
    told = []
    for words, code, expected in (
        (["list"], 0, "xar"),
        (["list", "--kind", "site"], 0, "no set in"),
        (["show", second.id[:17]], 0, "17.10"),
        (["show", "--kind", "xar"], 0, f"{export.pages} pages, 0 translations, 1 attachments"),
        (["status"], 5, "there is no site set"),
        (["verify"], 0, "xar  intact"),
        (["verify", "--opened", first.manifest.id], 0, "xar  opened"),
        (["verify", "--kind", "site"], 2, "there is no set"),
    ):
        result = command(kept, *words)
        told.append(result.out + result.err)
        assert result.code == code, told[-1]
        assert expected in told[-1], told[-1]
    told += [said.out + said.err, command(kept, "status").out]
    assert re.search(rf"newest xar opened: +{first.manifest.id}", told[-1])
    assert not [secret for secret in kept.secrets if secret in "".join(told)]


def test_a_wrong_password_is_no_guests_backup(live: Live) -> None:
    refused(live.kept, RefusedError, "is served as a guest",
            **live.user("superadmin", "wrong"))  # fmt: skip


def test_who_is_no_admin_is_told_so_before_anything_is_written(live: Live) -> None:
    refused(live.kept, RefusedError, "given text/html instead of an archive",
            **live.user("Alice", "Alice7password"))  # fmt: skip


def test_a_canary_whose_new_pod_is_not_let_out_yet_awaits_the_wiki(wiki: Wiki) -> None:
    """Some network plugins refuse a pod until its rules have landed."""
    pretender = answers(b"")
    with pretending(pretender):
        wiki.changes["web"] = {
            "url": pretender.url,
            "passwordFile": str(wiki.folder / "keys" / "root"),
        }
    with ExitStack() as stack:
        landed = threading.Timer(2, lambda: stack.enter_context(pretending(pretender)))
        landed.start()
        # It takes no page; but it answers.
        with pytest.raises(MachineError, match="is answered with 501"):
            canary.write(wiki.loaded())
        landed.join()


def test_a_canary_whose_wiki_keeps_silent_ends_with_its_time(
    wiki: Wiki, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = deadline.within
    monkeypatch.setattr(deadline, "within", lambda _minutes: real(0.03))
    password = str(wiki.folder / "keys" / "root")
    with socket.create_server(("127.0.0.1", 0)) as silence:
        url = f"http://127.0.0.1:{silence.getsockname()[1]}"
        said = command(wiki, "canary", web={"url": url, "passwordFile": password})
    assert said.code == 8, said.err
    assert "took longer than" in said.err


@pytest.mark.usefixtures("standin")
def test_an_export_cut_short_is_no_set(go_live: Callable[..., Live]) -> None:
    """By the stand-in, which answers 200 and ends after some bytes, as a server that fails."""
    kept = go_live({"STANDIN_EXPORT_TRUNCATE": "400"}).kept
    refused(kept, IncompleteError, "export of wiki xwiki: ends in the middle")
    (record,) = evidence.read(Store(kept.loaded()), kept.loaded().need_trusted())
    assert (record.kind, record.sets, record.held) == (evidence.RUN, "xar", False)
    assert "ends in the middle" in command(kept, "status").out


A, B = ("A/A.xml", page("A.A")), ("A/B.xml", page("A.B"))


@pytest.mark.parametrize(
    ("pretender", "kind", "words"),
    [
        (answers(b"<html>", "text/html"), RefusedError, "given text/html instead of an archive"),
        (answers(b"", status=302), RefusedError, "sent to the login"),
        (answers(b"", status=401), RefusedError, "sent to the login"),
        (answers(b"", status=500), MachineError, "answered with 500"),
        (answers(b"<html>not allowed</html>"), IncompleteError, "is no ZIP"),
        (answers(b""), IncompleteError, "ends in the middle"),
        (answers(xar(PAGES)[:-30]), IncompleteError, "central directory"),
        (answers(xar(PAGES), length="9999999"), MachineError, "breaks off"),
        (answers(pack([A], None)), IncompleteError, "has no package.xml"),
        (answers(pack([A], [("A.A", ""), ("A.B", "")])), IncompleteError, "does not hold 1 pages"),
        (answers(xar({**PAGES, "A.B": "x"}).replace(b"A/B.xml", b"A/C.xml", 1)), IncompleteError,
         "entries in its central directory that are not"),
        (answers(xar(dict(list(PAGES.items())[:-1]))), IncompleteError,
         "lacks 1 of 5 pages and translations .*: Space4.Page"),
    ],
    ids=lambda value: value[:25] if isinstance(value, str) else "",
)  # fmt: skip
def test_what_only_looks_like_an_export_is_no_set(
    exporting: Callable[..., Wiki], pretender: Pretender, kind: type[StackError], words: str
) -> None:
    refused(exporting(pretender), kind, words)


def test_a_guest_is_found_out_by_the_header(exporting: Callable[..., Wiki]) -> None:
    made = answers(xar(PAGES))
    made.user = "xwiki:XWiki.XWikiGuest"
    refused(exporting(made), RefusedError, "is served as a guest")


def test_a_byte_that_changed_on_the_way_is_noticed(exporting: Callable[..., Wiki]) -> None:
    whole = xar({**PAGES, "A.A": "x" * 500})
    broken = bytearray(whole)
    broken[whole.index(b"A/A.xml") + 60] ^= 1
    refused(exporting(answers(bytes(broken))), IncompleteError, "A/A.xml")


def test_pages_that_come_and_go_meanwhile_fail_no_run(exporting: Callable[..., Wiki]) -> None:
    wiki: Wiki

    def export(pages: str) -> tuple[int, dict[str, str], bytes]:
        if not pages:
            wiki.server.sql(
                f"DELETE FROM xwikidoc WHERE XWD_ID = {number_of('Space0.Page')};"
                "INSERT INTO xwikidoc VALUES (1, 'New.Page', ''), (2, 'Newer.Page', '')",
                wiki.schema,
            )
        # One that went is not there, one of those that came is.
        there = {**dict.fromkeys(list(PAGES)[1:], "x"), "New.Page": "x"}
        return 200, {"Content-Type": ZIP}, xar(there)

    wiki = exporting(Pretender(export))
    (made,) = engine.run(wiki.loaded(), silent).found.manifest.wikis
    assert (made.pages, made.rows) == (5, 6)


def test_a_lost_translation_is_missed(exporting: Callable[..., Wiki]) -> None:
    wiki = exporting(answers(xar(PAGES)))
    wiki.server.sql("INSERT INTO xwikidoc VALUES (1, 'Space1.Page', 'en français')", wiki.schema)
    refused(wiki, IncompleteError, "lacks 1 of 6 pages and translations .*: Space1.Page")
    texts = [(f"{name}.xml", page(name)) for name in PAGES]
    texts.append(("fr.xml", page("Space1.Page", locale="fr")))
    listed = [*((name, "") for name in PAGES), ("Space1.Page", "fr")]
    wiki = exporting(answers(pack(texts, listed)))
    (made,) = engine.run(wiki.loaded(), silent).found.manifest.wikis
    assert (made.pages, made.entries, made.rows) == (5, 6, 6)


def test_each_schema_is_a_wiki_of_its_own(exporting: Callable[..., Wiki]) -> None:
    """The stand-in has one wiki; what is asked of XWiki for another is its documentation's."""
    asked: list[str] = []

    def export(pages: str) -> tuple[int, dict[str, str], bytes]:
        asked.append(pages)
        return 200, {"Content-Type": ZIP}, xar({"Sub.Page": "x"} if pages == "sub:%" else PAGES)

    wiki = exporting(Pretender(export))
    second = f"{wiki.schema}_sub"
    wiki.server.sql(f"CREATE DATABASE {second}; GRANT SELECT ON {second}.* TO {wiki.user}")
    table = "CREATE TABLE xwikidoc (XWD_FULLNAME VARCHAR(700) NOT NULL)"
    wiki.server.sql(f"{table}; INSERT INTO xwikidoc VALUES ('Sub.Page')", second)
    try:
        named = {"database__schemas": [wiki.schema, second],
                 "database__prefix": f"{wiki.schema}_"}  # fmt: skip
        made = engine.run(wiki.loaded(**named), silent).found.manifest
        assert [(export.wiki, export.pages) for export in made.wikis] == [("xwiki", 5), ("sub", 1)]
        assert asked[1:] == ["", "sub:%"]
        wiki.server.sql("INSERT INTO xwikidoc VALUES ('Sub.Other')", second)
        refused(wiki, IncompleteError, "wiki sub: lacks 1 of 2", **named)
    finally:
        wiki.server.sql(f"DROP DATABASE {second}")


def test_missing_rights_and_schemas_are_named_first(exporting: Callable[..., Wiki]) -> None:
    wiki = exporting(answers(xar(PAGES)))
    # A schema nobody granted anything on.
    refused(wiki, RefusedError, "lacks SELECT on mysql", database__schemas=[wiki.schema, "mysql"])
    refused(wiki, MachineError, "no connection", web__url="http://127.0.0.1:9")


def test_one_kind_never_waits_for_the_other(exporting: Callable[..., Wiki]) -> None:
    wiki = exporting(answers(xar(PAGES)))
    store = Store(wiki.loaded())
    with lock.hold(store, manifest.SITE, minutes=30):
        engine.run(wiki.loaded(), silent)
    with lock.hold(store, manifest.XAR, minutes=30):
        site.run(wiki.loaded(), silent)
        with pytest.raises(BusyError):
            engine.run(wiki.loaded(), silent)


def test_a_set_of_one_kind_is_none_of_the_other(exporting: Callable[..., Wiki]) -> None:
    wiki = exporting(answers(xar(PAGES)))
    made = engine.run(wiki.loaded(), silent).found.manifest
    config = wiki.loaded()
    store = Store(config)
    store.put_new(
        manifest.key_of(manifest.SITE, made.id),
        store.get(manifest.key_of(manifest.XAR, made.id)),
    )
    listing = manifest.listing(store, config.need_trusted(), "staging", manifest.Site)
    assert "has schema 1 of 'xar'" in str(listing.unreadable[made.id])


def test_damage_of_a_stored_export_is_found(exporting: Callable[..., Wiki]) -> None:
    wiki = exporting(answers(xar(PAGES)))
    made = engine.run(wiki.loaded(), silent).found.manifest
    assert command(wiki, "verify", "--opened").code == 0
    path = wiki.objects / made.wikis[0].archive.key
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:200] + bytes([whole[200] ^ 1]) + whole[201:], None):
        # In place, since the server keeps what it knows of an object beside its bytes.
        path.unlink() if damaged is None else path.write_bytes(damaged)
        said = command(wiki, "verify")
        assert said.code == 9, said.out
        with pytest.raises(DamagedError):
            engine.opened(Store(wiki.loaded()), made, keyring.openers(wiki.loaded()))
    assert command(wiki, "status").code == 5


def test_a_broken_kind_keeps_nothing_of_the_other(exporting: Callable[..., Wiki]) -> None:
    wiki = exporting(answers(xar(PAGES)))
    made: dict[str, list[str]] = {"site": [], "xar": []}
    for _ in range(2):
        made["site"].append(site.run(wiki.loaded(), silent).found.manifest.id)
        made["xar"].append(engine.run(wiki.loaded(), silent).found.manifest.id)
        later()
    few: dict[str, Any] = {"retention": FEW, "xarRetention": FEW}
    assert command(wiki, "verify", "--opened", **few).code == 0
    for key in wiki.keys(""):
        age(wiki.objects / key, hours=49)
    broken = wiki.objects / f"sets/xar/{made['xar'][1]}/manifest.json"
    whole = broken.read_bytes()
    broken.write_bytes(whole.replace(b'"rows":5', b'"rows":4'))
    said = command(wiki, "prune", "--apply", **few)
    assert said.code == 6
    assert "xar: " in said.out and "cannot be trusted" in said.err
    assert set(wiki.sets()) == {made["site"][1], *made["xar"]}
    broken.write_bytes(whole)
    site_manifest = wiki.objects / f"sets/site/{made['site'][1]}/manifest.json"
    site_manifest.write_bytes(site_manifest.read_bytes().replace(b'"rows":5', b'"rows":4'))
    stray = wiki.objects / "sets/xar/20200101T000000Z-00000000/xwiki.xar.zst.age"
    stray.parent.mkdir()
    stray.write_bytes(b"half a set")
    age(stray, hours=50)
    said = command(wiki, "prune", "--apply", **few)
    assert said.code == 6
    assert set(wiki.sets()) == {made["site"][1], made["xar"][1]}
    assert not stray.exists()
    assert wiki.keys("packs/"), "what belongs to the other kind is left alone"
    assert retention.prune(
        wiki.loaded(**few), silent, apply=False, shape=manifest.Xar
    ).plan.keep == {made["xar"][1]: ("last", "opened")}  # fmt: skip


def test_a_run_ends_when_its_time_is_over(
    exporting: Callable[..., Wiki], monkeypatch: pytest.MonkeyPatch
) -> None:
    wiki = exporting(answers(xar(PAGES)))
    monkeypatch.setattr(
        "xwiki_stack.backup.deadline.time.monotonic", iter(range(0, 10**9, 4000)).__next__
    )
    refused(wiki, IncompleteError, "took longer than", limits__runMinutes=1)
