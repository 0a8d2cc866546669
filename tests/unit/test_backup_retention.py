"""What prune would do: a fake clock, sets and records of any age, no store."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from xwiki_stack.backup import evidence, retention
from xwiki_stack.backup.config import Retention
from xwiki_stack.backup.manifest import Artefact, Found, Site
from xwiki_stack.errors import RefusedError

NOW = datetime(2026, 11, 26, 6, 0, tzinfo=UTC)
RULES = Retention(opened=3, last=4, daily=7, weekly=4, monthly=6)


def made(moment: datetime) -> Found[Site]:
    """A set of that moment."""
    name = f"{moment:%Y%m%dT%H%M%SZ}-00000000"
    part = Artefact("x", 1, "0", 1, "0")
    manifest = Site(
        id=name, environment="e", snapshot="", tool="", server="9.7.1", mysqldump="9.7.1",
        position={}, schemas=[], tables={}, database=part, index=part, packs=[], generation={},
        files={}, attachments={}, producers={}, recipients=[],
    )  # fmt: skip
    return Found(manifest, f"hash of {name}")


def proof(
    item: Found[Site], kind: str, *, held: bool = True, manifest: str = ""
) -> evidence.Record:
    return evidence.Record(item.manifest.id, manifest or item.sha256, kind, held, "2026", 1, 1, "")


def history(days: int, *, every: int = 12, newest: datetime = NOW) -> list[Found[Site]]:
    """Sets every so many hours, for so many days, oldest first."""
    count = days * 24 // every
    return [made(newest - timedelta(hours=every * n)) for n in reversed(range(count))]


def proven(sets: list[Found[Site]], opened: int = 3) -> list[evidence.Record]:
    return [proof(sets[-1], evidence.INTACT), *(proof(s, evidence.OPENED) for s in sets[:opened])]


def test_grandfathers_stay_and_few_go_at_a_time() -> None:
    sets = history(days=200)
    decided = retention.plan(sets, proven(sets), NOW, RULES)
    assert len(sets) == 400
    assert len(decided.drop) == 80
    assert list(decided.drop) == sorted(decided.drop)
    assert set(decided.keep).isdisjoint(decided.drop)
    reasons = [reason for why in decided.keep.values() for reason in why]
    counts = {reason: reasons.count(reason) for reason in set(reasons)}
    assert counts == {"last": 4, "opened": 3, "daily": 7, "weekly": 4, "monthly": 6}
    assert len(decided.keep) + len(decided.drop) + decided.held_back == 400


def test_the_set_of_the_last_drill_that_held_stays_with_its_record() -> None:
    sets = history(days=200)
    drills = [proof(sets[1], evidence.DRILL), proof(sets[5], evidence.DRILL),
              proof(sets[7], evidence.DRILL, held=False)]  # fmt: skip
    decided = retention.plan(sets, [*proven(sets), *drills], NOW, RULES)
    names = [name for name, why in decided.keep.items() if "drilled" in why]
    assert names == [sets[5].manifest.id]


def test_run_after_run_it_comes_to_rest_and_never_below_the_rules() -> None:
    sets = history(days=200)
    records = proven(sets)
    for _ in range(60):
        decided = retention.plan(sets, records, NOW, RULES)
        assert len(decided.drop) <= max(1, len(sets) // 5)
        sets = [item for item in sets if item.manifest.id not in decided.drop]
    assert not decided.drop
    assert len(sets) == len(decided.keep)
    assert sum("opened" in why for why in decided.keep.values()) == 3


@pytest.mark.fault(26)
def test_no_good_backup_for_60_days_then_prune_keeps_the_proven_ones() -> None:
    old = history(days=10, newest=NOW - timedelta(days=60))
    sets = [*old, made(NOW)]
    decided = retention.plan(sets, proven(sets), NOW, RULES)
    assert {item.manifest.id for item in sets[:3]} <= set(decided.keep)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda _sets: [], "is not proven intact"),
        (lambda sets: [proof(sets[-2], evidence.INTACT)], "is not proven intact"),
        (lambda sets: [proof(sets[-1], evidence.INTACT, held=False)], "is not proven intact"),
        (lambda sets: [proof(sets[-1], evidence.INTACT, manifest="another")], "not proven intact"),
        (lambda sets: [proof(sets[-1], evidence.INTACT)], "0 sets are proven to open, 3 must be"),
        (lambda sets: proven(sets, opened=2), "2 sets are proven to open, 3 must be"),
        (lambda sets: [*proven(sets), proof(sets[-1], evidence.INTACT, held=False)],
         "is not proven intact"),
        (lambda sets: [*proven(sets), proof(sets[0], evidence.OPENED, held=False)],
         "2 sets are proven to open"),
    ],
)  # fmt: skip
def test_it_refuses_while_the_newest_or_too_few_are_proven(change: object, words: str) -> None:
    sets = history(days=30)
    with pytest.raises(RefusedError, match=words):
        retention.plan(sets, change(sets), NOW, RULES)  # type: ignore[operator]


@pytest.mark.fault(24)
def test_a_set_of_the_future_stops_everything() -> None:
    sets = [*history(days=30), made(NOW + timedelta(days=400))]
    with pytest.raises(RefusedError, match="lies in the future"):
        retention.plan(sets, proven(sets), NOW, RULES)


def test_one_may_go_of_few_and_none_of_none() -> None:
    rules = Retention(opened=1, last=1, daily=0, weekly=0, monthly=0)
    sets = history(days=1, every=8)
    records = [proof(sets[-1], evidence.INTACT), proof(sets[-1], evidence.OPENED)]
    assert retention.plan(sets, records, NOW, rules).drop == (sets[0].manifest.id,)
    assert retention.plan([], [], NOW, rules).drop == ()


def test_paths_of_an_index_stay_inside() -> None:
    from xwiki_stack.backup.files import is_inside

    assert is_inside("store/file/x")
    for path in ("", "/etc/passwd", "a/../b", "..", "a//b", "./a", "a\0b"):
        assert not is_inside(path), path
    assert Path("/data") / "store" in (Path("/data") / "store/file").parents
