"""How sets follow each other: shared packs, generations, the chain, one run at a time."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.backups.wiki import Wiki, command
from xwiki_stack.backup import keyring, lock, manifest, restore, site, verify
from xwiki_stack.backup.store import Store
from xwiki_stack.errors import BusyError, DamagedError, RefusedError


def silent(_line: str) -> None:
    """Nobody listens."""


def run(wiki: Wiki, **changes: object) -> manifest.Found[manifest.Site]:
    return site.run(wiki.loaded(**changes), silent).found


def later() -> None:
    """Let a second pass, by the store's clock, whose word may be some time old: ids have it."""
    time.sleep(1.1)


def test_a_second_set_sends_only_what_changed_and_both_come_back(wiki: Wiki) -> None:
    first = run(wiki)
    before = wiki.tree()
    later()
    wiki.attach("Space9.Page", "new.png", b"n" * 4000)
    wiki.write("configuration.properties", b"key = other\n")
    (wiki.root / "extension/repository/a.jar").unlink()
    second = site.run(wiki.loaded(), silent)
    packs = [pack.key for pack in second.found.manifest.packs]
    assert {pack.key for pack in first.manifest.packs} < set(packs)
    assert len(packs) == 2
    assert second.found.manifest.generation["id"] == first.manifest.generation["id"]
    assert second.found.manifest.generation["number"] == 2
    assert second.found.manifest.previous == {"id": first.manifest.id, "sha256": first.sha256}
    assert second.sent < 0.8 * second.found.manifest.bytes
    after = wiki.tree()
    for found, tree in ((first, before), (second.found, after)):
        wiki.destroy()
        wish = restore.Wish(found.manifest.id)
        restore.restore(wiki.loaded(account="root"), wish, silent)
        assert wiki.tree() == tree


def test_the_next_generation_is_a_full_copy(wiki: Wiki) -> None:
    numbers = []
    for _ in range(3):
        made = run(wiki, limits__generationSets=2).manifest
        numbers.append((made.generation["number"], made.generation["id"], made.packs))
        later()
    assert [number for number, _, _ in numbers] == [1, 2, 1]
    assert numbers[0][1] == numbers[1][1] != numbers[2][1]
    assert numbers[0][2] == numbers[1][2]
    assert not {p.key for p in numbers[0][2]} & {p.key for p in numbers[2][2]}


def test_a_lost_pack_is_noticed_and_all_is_copied_anew(wiki: Wiki) -> None:
    first = run(wiki).manifest
    (wiki.objects / first.packs[0].key).unlink()
    later()
    lines: list[str] = []
    second = site.run(wiki.loaded(), lines.append).found.manifest
    assert second.generation["number"] == 1
    assert any("are missing: all is copied anew" in line for line in lines)


def test_no_name_and_no_plain_hash_can_be_read_in_the_bucket(wiki: Wiki) -> None:
    run(wiki)
    jar = (wiki.root / "extension/repository/a.jar").read_bytes()
    for key in wiki.keys(""):
        content = (wiki.objects / key).read_bytes()
        for secret in (b"repository", b"a.jar", b"Space0", hashlib.sha256(jar).hexdigest().encode(),
                       jar[:50]):  # fmt: skip
            assert secret not in content, key
            assert secret.decode(errors="replace") not in key


def test_the_writers_own_key_opens_indexes_and_nothing_else(wiki: Wiki) -> None:
    made = run(wiki).manifest
    store, writer = Store(wiki.loaded()), keyring.writer(wiki.loaded())
    assert verify.index_of(store, made, [writer]).entries
    with pytest.raises(DamagedError, match="no key that is here opens it"):
        verify.opened(store, made, [writer], content=False)
    with pytest.raises(DamagedError, match="no key that is here opens it"):
        verify.opened(store, made, [writer], database=False)


@pytest.mark.fault(17)
def test_a_run_beside_another_ends_busy_and_a_stale_lock_is_taken(wiki: Wiki) -> None:
    store = Store(wiki.loaded())
    with lock.hold(store, manifest.SITE, minutes=30):
        result = command(wiki, "run")
        assert result.code == 75
        assert "is at work since" in result.err
        assert wiki.sets() == []
        # Left behind 31 minutes ago, by the store's own time.
        held = wiki.objects / "locks/site.json"
        os.utime(held, (time.time() - 31 * 60,) * 2)
        run(wiki)
        assert len(wiki.sets()) == 1
    assert json.loads(held.read_bytes()) == {"state": "free"}
    with lock.hold(store, manifest.SITE, minutes=30):
        held.write_bytes(b"not a claim")
        with pytest.raises(BusyError, match="someone unknown"), lock.hold(store, manifest.SITE, 1):
            pass


def test_the_lock_is_free_after_a_failure(wiki: Wiki) -> None:
    wiki.attach("Space1.Page", "lost.png", b"x", row_only=True)
    for _ in range(2):
        result = command(wiki, "run")
        assert result.code == 8, result.err


@pytest.mark.fault(24)
def test_a_set_of_the_future_stops_the_next_run(wiki: Wiki) -> None:
    run(wiki)
    store, known = Store(wiki.loaded()), wiki.loaded()
    old = manifest.listing(store, known.need_trusted(), "staging", manifest.Site).sets[0].manifest
    name = "20990101T000000Z-00000000"
    parts = {
        part: replace(getattr(old, part), key=manifest.key_of(manifest.SITE, name, part))
        for part in ("database", "index")
    }
    far = replace(old, id=name, **parts)
    manifest.publish(store, far, keyring.signing(known))
    with pytest.raises(RefusedError, match="lies in the future"):
        run(wiki)


def test_the_wikis_own_prefix_and_environment_keep_sets_apart(
    wiki: Wiki, make: Callable[..., Wiki]
) -> None:
    run(wiki)
    with pytest.raises(DamagedError, match="is a set of staging, not of other"):
        restore.choose(wiki.loaded(environment="other"), Store(wiki.loaded()),
                       restore.Wish(), manifest.Site)  # fmt: skip
