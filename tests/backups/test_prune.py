"""Prune on a real store: what goes, what stays, and listings of more than one page."""

import os
import time
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.backups.test_sets import later, run, silent
from tests.backups.wiki import Wiki, command
from xwiki_stack.backup import evidence, keyring, manifest, restore, retention, signature
from xwiki_stack.backup.store import Store
from xwiki_stack.errors import RefusedError

FEW = {"opened": 1, "last": 1, "daily": 0, "weekly": 0, "monthly": 0}


def age(path: Path, hours: float) -> None:
    """Make an object older by the store's own time."""
    os.utime(path, (time.time() - hours * 3600,) * 2)


def test_sets_go_with_their_objects_and_shared_packs_stay(wiki: Wiki) -> None:
    first = run(wiki).manifest
    later()
    second = run(wiki, limits__generationSets=1).manifest
    later()
    wiki.write("store/new", b"new")
    third = run(wiki).manifest
    assert {pack.key for pack in second.packs} < {pack.key for pack in third.packs}
    for key in wiki.keys(""):
        age(wiki.objects / key, hours=49)
    known = wiki.loaded(retention=FEW)
    with pytest.raises(RefusedError, match="is not proven intact"):
        retention.prune(known, silent, apply=True)
    assert command(wiki, "verify", "--opened").code == 0
    lines: list[str] = []
    shown = retention.prune(known, lines.append, apply=False)
    assert shown.plan.drop == (first.id,)
    assert shown.plan.held_back == 1
    assert wiki.sets() == [first.id, second.id, third.id], "only said, not done"
    outcome = retention.prune(known, silent, apply=True)
    assert outcome.plan == shown.plan
    assert wiki.sets() == [second.id, third.id]
    assert not [key for key in wiki.keys("") if first.id in key]
    assert not {pack.key for pack in first.packs} & set(wiki.keys("packs/"))
    later()
    assert retention.prune(known, silent, apply=True).plan.drop == (second.id,)
    assert {pack.key for pack in third.packs} == set(wiki.keys("packs/"))
    wiki.destroy()
    assert restore.restore(wiki.loaded(account="root"), restore.Wish(), silent).files == 11


def records(wiki: Wiki, kind: str) -> list[evidence.Record]:
    known = wiki.loaded()
    return [r for r in evidence.read(Store(known), known.need_trusted()) if r.kind == kind]


def test_prune_leaves_a_record_beside_the_newest_set_and_none_where_it_only_speaks(
    wiki: Wiki,
) -> None:
    first = run(wiki).manifest
    later()
    newest = run(wiki)
    assert command(wiki, "verify", "--opened").code == 0
    known = wiki.loaded(retention=FEW)
    retention.prune(known, silent, apply=False)
    assert records(wiki, evidence.PRUNE) == []
    outcome = retention.prune(known, silent, apply=True)
    (said,) = records(wiki, evidence.PRUNE)
    assert outcome.plan.drop == (first.id,)
    assert (said.set, said.manifest, said.sets) == (newest.manifest.id, newest.sha256, "site")
    assert said.facts == {"dropped": 1, "kept": 1, "orphans": 0, "bytes": outcome.bytes}
    assert outcome.bytes > 1000


def test_without_a_signing_key_prune_works_as_ever_and_says_so(wiki: Wiki) -> None:
    first = run(wiki).manifest
    later()
    run(wiki)
    assert command(wiki, "verify", "--opened").code == 0
    said = command(wiki, "prune", "--apply", retention=FEW, keys__signingKeyFile=None)
    assert said.code == 0
    assert "no record of this run is left" in said.out
    assert "keys.signingKeyFile is missing" in said.out
    assert first.id not in wiki.sets()
    assert records(wiki, evidence.PRUNE) == []


def test_a_signing_key_that_does_not_fit_ends_prune_before_anything_goes(wiki: Wiki) -> None:
    run(wiki)
    later()
    run(wiki)
    assert command(wiki, "verify", "--opened").code == 0
    before = wiki.keys("")
    said = command(wiki, "prune", "--apply", retention=FEW, keys__signingKeyFile="/no/such/key")
    assert said.code == 2
    assert "keys.signingKeyFile" in said.err
    assert [key for key in wiki.keys("") if "locks/" not in key] == [
        key for key in before if "locks/" not in key
    ]


def test_how_a_drill_ended_is_known_for_longer_than_its_set(wiki: Wiki) -> None:
    first = run(wiki)
    known = wiki.loaded(retention=FEW)
    drill = evidence.Record(first.manifest.id, first.sha256, evidence.DRILL, False,
                            first.manifest.snapshot, 1, 1, "tried")  # fmt: skip
    evidence.write(Store(known), drill, keyring.signing(known))
    assert command(wiki, "verify").code == 0
    later()
    run(wiki)
    assert command(wiki, "verify", "--opened").code == 0
    retention.prune(known, silent, apply=True)
    assert first.manifest.id not in wiki.sets()
    left = [key for key in wiki.keys("") if first.manifest.id in key]
    assert len(left) == 1
    assert records(wiki, evidence.DRILL) == [drill]


@pytest.mark.fault(25)
def test_orphans_beyond_the_first_page_go_and_young_ones_stay(wiki: Wiki) -> None:
    run(wiki)
    folder = wiki.objects / "packs" / "0000"
    folder.mkdir(parents=True)
    for number in range(2300):
        path = folder / f"{number:032x}"
        path.write_bytes(b"lost")
        if number % 2:
            age(path, hours=50)
    half = wiki.objects / "sets/site/20200101T000000Z-00000000/db.sql.zst.age"
    half.parent.mkdir()
    half.write_bytes(b"half a set")
    age(half, hours=50)
    assert command(wiki, "verify", "--opened").code == 0
    known = wiki.loaded(retention=FEW)
    assert len(retention.prune(known, silent, apply=False).orphans) == 1151
    assert len(retention.prune(known, silent, apply=True).orphans) == 1151
    assert len(wiki.keys("packs/0000")) == 1150
    assert len(wiki.sets()) == 1
    assert command(wiki, "verify", "--opened").code == 0


def test_a_manifest_that_cannot_be_read_stops_prune(wiki: Wiki) -> None:
    made = run(wiki).manifest
    assert command(wiki, "verify", "--opened").code == 0
    later()
    run(wiki)
    path = wiki.objects / f"sets/site/{made.id}/manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"rows":5', b'"rows":4'))
    with pytest.raises(RefusedError, match="cannot be trusted"):
        retention.prune(wiki.loaded(retention=FEW), silent, apply=True)


def long_ago(wiki: Wiki, found: manifest.Found[manifest.Site], days: int) -> str:
    """Let a set be of that many days ago, as if no run had come to its end since; its id."""
    old = found.manifest
    moment = old.time - timedelta(days=days)
    name = f"{moment:%Y%m%dT%H%M%SZ}-{old.id[-8:]}"
    source = wiki.objects / manifest.folder_of(manifest.SITE) / old.id
    parts = {
        part: replace(
            getattr(old, part),
            key=getattr(old, part).key.replace(old.id, name),
        )
        for part in ("database", "index")
    }
    made = replace(old, id=name, previous=None, **parts)
    source.rename(source.with_name(name))
    content = signature.seal("set", asdict(made), wiki.signing)
    (source.with_name(name) / manifest.NAME).write_bytes(content)
    return name


@pytest.mark.fault(26)
def test_after_60_days_without_a_good_set_the_proven_ones_stay(wiki: Wiki) -> None:
    old = []
    for number in range(3):
        old.append(long_ago(wiki, run(wiki, limits__generationSets=1), 60 + number))
    old.sort()
    assert command(wiki, "verify", "--opened", "--all").code == 0
    newest = run(wiki).manifest.id
    rules = {"opened": 3, "last": 1, "daily": 1, "weekly": 0, "monthly": 0}
    known = wiki.loaded(retention=rules)
    with pytest.raises(RefusedError, match="is not proven intact"):
        retention.prune(known, silent, apply=True)
    assert command(wiki, "verify", keys__identityFiles=[]).code == 0
    assert retention.prune(known, silent, apply=True).plan.drop == ()
    assert wiki.sets() == [*old, newest]
    # The rule keeps them and nothing else: with a smaller number the oldest goes.
    fewer = wiki.loaded(retention={**rules, "opened": 2})
    assert retention.prune(fewer, silent, apply=True).plan.drop == (old[0],)
    assert command(wiki, "verify", "--opened", "--all").code == 0
