"""Sets that were damaged, forged or swapped: refused before the target is touched."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyrage
import pytest

from tests.backups.test_sets import later, run, silent
from tests.backups.wiki import Wiki, command
from xwiki_stack.backup import manifest, restore, signature
from xwiki_stack.errors import DamagedError, IntentError, RefusedError, StackError

FLIPS, CUTS = 40, 12
"""A sample; `make bench-backups` does them all."""


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


def test_flipped_bits_and_cut_objects_are_all_detected(untouched: Wiki) -> None:
    chance = random.Random(7)  # noqa: S311
    keys = [*untouched.keys("sets/"), *untouched.keys("packs/")]
    assert len(keys) == 4
    for number in range(FLIPS + CUTS):
        path = untouched.objects / keys[number % len(keys)]
        content = path.read_bytes()
        damaged = bytearray(content)
        if number < FLIPS:
            damaged[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        else:
            damaged = damaged[: chance.randrange(len(content))]
        overwrite(path, bytes(damaged))
        with pytest.raises(DamagedError):
            restore.restore(untouched.loaded(account="root"), restore.Wish(), silent)
        overwrite(path, content)
    assert command(untouched, "verify").code == 0, "the last damage was taken back"


def overwrite(path: Path, content: bytes) -> None:
    """Change an object in its place, as a bad disk does: its attributes stay."""
    with path.open("r+b") as file:
        file.write(content)
        file.truncate()


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


@pytest.mark.parametrize("kind", ["packs/", "sets/"])
def test_a_missing_object_is_named(untouched: Wiki, kind: str) -> None:
    path = next(key for key in untouched.keys(kind) if not key.endswith("manifest.json"))
    (untouched.objects / path).unlink()
    refused(untouched, DamagedError, "is missing")
    assert command(untouched, "verify").code == 9


def test_a_wrong_key_opens_nothing(untouched: Wiki) -> None:
    other = untouched.folder / "keys" / "other"
    other.write_text(str(pyrage.x25519.Identity.generate()))
    refused(untouched, DamagedError, "no key that is here opens it",
            keys__identityFiles=[str(other)])  # fmt: skip
    refused(untouched, IntentError, "without a key no set opens", keys__identityFiles=[])


def test_a_changed_manifest_is_refused(untouched: Wiki) -> None:
    path = untouched.objects / manifest.key_of(manifest.SITE, untouched.sets()[0])
    envelope = json.loads(path.read_bytes())
    envelope["body"]["tables"][f"{untouched.schema}.nasty"] = 1
    overwrite(path, signature.canonical(envelope))
    refused(untouched, DamagedError, "was changed after it was signed")


def test_a_manifest_signed_by_a_stranger_is_refused(
    untouched: Wiki, make: Callable[..., Wiki]
) -> None:
    stranger = make()
    path = untouched.objects / manifest.key_of(manifest.SITE, untouched.sets()[0])
    body = json.loads(path.read_bytes())["body"]
    overwrite(path, signature.seal("set", body, stranger.signing))
    refused(untouched, DamagedError, "is not trusted here")


def test_evidence_never_passes_for_a_manifest(untouched: Wiki) -> None:
    path = untouched.objects / manifest.key_of(manifest.SITE, untouched.sets()[0])
    body = json.loads(path.read_bytes())["body"]
    overwrite(path, signature.seal("evidence", body, untouched.signing))
    refused(untouched, DamagedError, "was changed after it was signed")


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


def test_production_takes_no_set_of_another_and_others_only_when_told(untouched: Wiki) -> None:
    refused(untouched, RefusedError, "is production: no set of staging comes into it",
            restore.Wish(source="staging"), environment="prod", purpose="prod")  # fmt: skip
    refused(untouched, DamagedError, "is a set of staging, not of local",
            environment="local", purpose="local")  # fmt: skip


def test_another_environment_takes_it_when_it_is_named(lost: Wiki) -> None:
    wish = restore.Wish(source="staging")
    known = lost.loaded(account="root", environment="local", purpose="local", host="localhost")
    assert restore.restore(known, wish, silent).files == 10


def test_a_set_of_a_newer_server_is_refused(
    untouched: Wiki, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xwiki_stack.backup import mysql

    monkeypatch.setattr(mysql.Server, "facts", lambda _self: mysql.Facts("8.4.10", True))
    refused(untouched, RefusedError, r"the set is from MySQL 9\.7\.\d+, this server is 8\.4\.10")


def test_schemas_that_are_not_named_are_not_written(untouched: Wiki) -> None:
    refused(untouched, RefusedError, "holds schemas that are not named here",
            database__schemas=["something_else"])  # fmt: skip
