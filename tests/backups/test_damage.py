"""Sets that were damaged, forged or swapped: refused before the target is touched."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyrage
import pytest

from tests.backups.amounts import CUTS, FLIPS
from tests.backups.test_sets import later, run, silent
from tests.backups.wiki import Wiki, command
from xwiki_stack.backup import keyring, manifest, restore, signature, verify
from xwiki_stack.backup.store import Store
from xwiki_stack.errors import DamagedError, IntentError, RefusedError, StackError

WHOLE = 12
"""Of 50 damages, so many meet the restore as an operator calls it."""


@pytest.fixture
def lost(wiki: Wiki) -> Wiki:
    """A wiki that is gone, with one set of it."""
    run(wiki)
    wiki.destroy()
    return wiki


@pytest.fixture
def untouched(lost: Wiki) -> Iterator[Wiki]:
    """The same; and at the end nothing may have been written."""
    yield lost
    assert list(lost.root.iterdir()) == []
    assert lost.server.sql(f"SHOW DATABASES LIKE '{lost.schema}'") == []


def refused(wiki: Wiki, kind: type[StackError], words: str, wish: restore.Wish | None = None,
            **changes: object) -> None:  # fmt: skip
    with pytest.raises(kind, match=words):
        restore.restore(wiki.loaded(account="root", **changes), wish or restore.Wish(), silent)


@dataclass
class Attempts:
    """Restores of a wiki that is gone, one for each damage."""

    wiki: Wiki
    count: int = 0

    def __post_init__(self) -> None:
        self.known = self.wiki.loaded(account="root")
        # One for all: to make a client takes longer than to read a small set.
        self.store, self.openers = Store(self.known), keyring.openers(self.known)

    def refused(self, key: str, damaged: bytes) -> None:
        """An object with other bytes stops a restore; then it is put right again."""
        path = self.wiki.objects / key
        content = path.read_bytes()
        assert content != damaged
        overwrite(path, damaged)
        self.count += 1
        with pytest.raises(DamagedError):
            if self.count % 50 <= WHOLE:
                restore.restore(self.known, restore.Wish(), silent)
            else:
                # What it calls before its first write, without the database's part: quicker.
                found = restore.choose(self.known, self.store, restore.Wish(), manifest.Site)
                verify.opened(self.store, found.manifest, self.openers)
        overwrite(path, content)


def objects(wiki: Wiki) -> list[str]:
    """Keys of all that a set is made of: dump, index, manifest, pack."""
    keys = [*wiki.keys("sets/"), *wiki.keys("packs/")]
    assert len(keys) == 4
    return keys


@pytest.mark.fault(19)
def test_every_flipped_bit_is_detected_before_the_first_write(
    untouched: Wiki, record_property: Callable[[str, object], None]
) -> None:
    chance = random.Random(7)  # noqa: S311
    keys, attempts = objects(untouched), Attempts(untouched)
    for number in range(FLIPS):
        key = keys[number % len(keys)]
        damaged = bytearray((untouched.objects / key).read_bytes())
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        attempts.refused(key, bytes(damaged))
    record_property("looked", f"{FLIPS} flipped bits over the {len(keys)} objects of a set")
    assert command(untouched, "verify").code == 0, "the last damage was taken back"


@pytest.mark.fault(20)
def test_every_cut_is_detected_before_the_first_write(
    untouched: Wiki, record_property: Callable[[str, object], None]
) -> None:
    keys, attempts = objects(untouched), Attempts(untouched)
    for key in keys:
        content = (untouched.objects / key).read_bytes()
        for number in range(CUTS):
            attempts.refused(key, content[: len(content) * number // CUTS])
        attempts.refused(key, content[:-1])
        attempts.refused(key, content + b"\0")
    record_property("looked", f"{CUTS} cuts of each of the {len(keys)} objects of a set")
    assert command(untouched, "verify").code == 0, "the last damage was taken back"


def overwrite(path: Path, content: bytes) -> None:
    """Change an object in its place, as a bad disk does: its attributes stay."""
    with path.open("r+b") as file:
        file.write(content)
        file.truncate()


@pytest.mark.fault(19)
def test_verify_finds_damage_without_any_key_and_status_tells_it(lost: Wiki) -> None:
    path = lost.objects / lost.keys("packs/")[0]
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 1
    overwrite(path, bytes(damaged))
    result = command(lost, "verify", keys__identityFiles=[])
    assert result.code == 9
    assert "is not what was stored" in result.err
    status = command(lost, "status")
    assert status.code == 5
    assert "is not intact" in status.out


@pytest.mark.fault(21)
@pytest.mark.parametrize("kind", ["packs/", "sets/"])
def test_a_missing_object_is_named(untouched: Wiki, kind: str) -> None:
    path = next(key for key in untouched.keys(kind) if not key.endswith("manifest.json"))
    (untouched.objects / path).unlink()
    refused(untouched, DamagedError, "is missing")
    assert command(untouched, "verify").code == 9


@pytest.mark.fault(21)
@pytest.mark.parametrize("part", ["db.sql.zst.age", "index.zst.age"])
def test_where_an_object_is_gone_the_older_set_is_offered(wiki: Wiki, part: str) -> None:
    first = run(wiki).manifest.id
    rows, tree = wiki.rows(), wiki.tree()
    later()
    second = run(wiki).manifest.id
    wiki.destroy()
    (wiki.objects / manifest.key_of(manifest.SITE, second, part)).unlink()
    assert command(wiki, "verify", keys__identityFiles=[]).code == 9
    refused(wiki, DamagedError, f"{part}: is missing; next: restore an older set")
    status = command(wiki, "status")
    assert (status.code, f"set {second} is not intact" in status.out) == (5, True)
    restore.restore(wiki.loaded(account="root"), restore.Wish(first), silent)
    assert (wiki.rows(), wiki.tree()) == (rows, tree)


@pytest.mark.fault(23)
def test_a_wrong_key_opens_nothing(untouched: Wiki) -> None:
    other = untouched.folder / "keys" / "other"
    other.write_text(str(pyrage.x25519.Identity.generate()))
    refused(untouched, DamagedError, "no key that is here opens it",
            keys__identityFiles=[str(other)])  # fmt: skip
    refused(untouched, IntentError, "without a key no set opens", keys__identityFiles=[])
    result = command(untouched, "verify", "--opened", keys__identityFiles=[str(other)])
    assert result.code == 9
    assert "no key that is here opens it; next: " in result.err
    assert "is not opened" in command(untouched, "status").out


@pytest.mark.fault(22)
def test_a_changed_manifest_is_refused(untouched: Wiki) -> None:
    path = untouched.objects / manifest.key_of(manifest.SITE, untouched.sets()[0])
    envelope = json.loads(path.read_bytes())
    envelope["body"]["tables"][f"{untouched.schema}.nasty"] = 1
    overwrite(path, signature.canonical(envelope))
    refused(untouched, DamagedError, "was changed after it was signed")


@pytest.mark.fault(22)
def test_a_manifest_signed_by_a_stranger_is_refused(
    untouched: Wiki, make: Callable[..., Wiki]
) -> None:
    stranger = make()
    path = untouched.objects / manifest.key_of(manifest.SITE, untouched.sets()[0])
    body = json.loads(path.read_bytes())["body"]
    overwrite(path, signature.seal("set", body, stranger.signing))
    refused(untouched, DamagedError, "is not trusted here")


@pytest.mark.fault(22)
def test_evidence_never_passes_for_a_manifest(untouched: Wiki) -> None:
    path = untouched.objects / manifest.key_of(manifest.SITE, untouched.sets()[0])
    body = json.loads(path.read_bytes())["body"]
    overwrite(path, signature.seal("evidence", body, untouched.signing))
    refused(untouched, DamagedError, "was changed after it was signed")


@pytest.mark.fault(22)
def test_a_manifest_swapped_between_sets_is_refused(wiki: Wiki) -> None:
    first = run(wiki).manifest.id
    later()
    second = run(wiki).manifest.id
    wiki.destroy()
    shutil.copyfile(
        wiki.objects / manifest.key_of(manifest.SITE, first),
        wiki.objects / manifest.key_of(manifest.SITE, second),
    )
    refused(wiki, DamagedError, "was moved here from another set", restore.Wish(second))
    assert list(wiki.root.iterdir()) == []


@pytest.mark.fault(22)
def test_a_set_replaced_under_its_followers_breaks_the_chain(wiki: Wiki) -> None:
    first = run(wiki).manifest.id
    later()
    run(wiki)
    # Signed by the right key, under the same name, but not what its follower knew.
    path = wiki.objects / manifest.key_of(manifest.SITE, first)
    body = json.loads(path.read_bytes())["body"]
    body["files"]["vanished"] = 5
    overwrite(path, signature.seal("set", body, wiki.signing))
    wiki.destroy()
    refused(wiki, DamagedError, "was replaced", restore.Wish(first))
    assert command(wiki, "verify", "--all").code == 9


@pytest.mark.fault(27)
def test_what_holds_anything_is_no_target(wiki: Wiki) -> None:
    run(wiki)
    refused(wiki, RefusedError, "hold 6 tables, views or routines already")
    refused(wiki, RefusedError, "is not empty: configuration.properties",
            restore.Wish(part=restore.FILES))  # fmt: skip
    rows, tree = wiki.rows(), wiki.tree()
    wiki.server.sql(f"DROP DATABASE `{wiki.schema}`")
    refused(wiki, RefusedError, "is not empty")
    assert wiki.tree() == tree
    assert wiki.server.sql(f"SHOW DATABASES LIKE '{wiki.schema}'") == []
    restore.restore(wiki.loaded(account="root"), restore.Wish(part=restore.DATABASE), silent)
    assert wiki.rows() == rows
    wiki.server.sql("SELECT 1")
    shutil.rmtree(wiki.root)
    wiki.root.mkdir()
    restore.restore(wiki.loaded(account="root"), restore.Wish(part=restore.FILES), silent)
    assert wiki.tree() == {**tree}


@pytest.mark.fault(27)
def test_production_takes_no_set_of_another_and_others_only_when_told(untouched: Wiki) -> None:
    refused(untouched, RefusedError, "is production: no set of staging comes into it",
            restore.Wish(source="staging"), environment="prod", purpose="prod")  # fmt: skip
    refused(untouched, DamagedError, "is a set of staging, not of local",
            environment="local", purpose="local")  # fmt: skip


def test_another_environment_takes_it_when_it_is_named(lost: Wiki) -> None:
    wish = restore.Wish(source="staging")
    known = lost.loaded(account="root", environment="local", purpose="local", host="localhost")
    assert restore.restore(known, wish, silent).files == 10


@pytest.mark.fault(28)
def test_a_set_of_a_newer_server_is_refused(
    untouched: Wiki, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xwiki_stack.backup import mysql

    monkeypatch.setattr(mysql.Server, "facts", lambda _self: mysql.Facts("8.4.10", True))
    refused(untouched, RefusedError, r"the set is from MySQL 9\.7\.\d+, this server is 8\.4\.10")


@pytest.mark.fault(28)
def test_a_set_of_an_older_server_comes_back(lost: Wiki) -> None:
    """The manifest says so; its dump is of the only server that is here."""
    path = lost.objects / manifest.key_of(manifest.SITE, lost.sets()[0])
    body = json.loads(path.read_bytes())["body"]
    body["server"] = body["mysqldump"] = "8.4.3"
    overwrite(path, signature.seal("set", body, lost.signing))
    outcome = restore.restore(lost.loaded(account="root"), restore.Wish(), silent)
    assert outcome.found.manifest.server == "8.4.3"
    assert (lost.root / "store/solr/search/index/segments_1").stat().st_size == 5000


@pytest.mark.fault(27)
def test_schemas_that_are_not_named_are_not_written(untouched: Wiki) -> None:
    refused(untouched, RefusedError, "holds schemas that are not named here",
            database__schemas=["something_else"])  # fmt: skip
