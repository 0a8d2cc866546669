"""Which set a drill takes, what a canary says, and what status tells of drills."""

import re
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.unit.test_backup_retention import NOW, history, made, proof

from xwiki_stack import sizing
from xwiki_stack.backup import (
    canary,
    config,
    drill,
    evidence,
    manifest,
    probes,
    report,
    retention,
)
from xwiki_stack.backup.manifest import Listing, Manifest
from xwiki_stack.backup.web import GUEST
from xwiki_stack.errors import DamagedError, IntentError, RefusedError

SETS = history(days=3)

MONTHLY = config.Config(
    path=Path("backup.yaml"),
    environment="staging",
    purpose="staging",
    store=config.Bucket("", "", "b", "", False, "", "", "", Path(), Path(), None, None),
    keys=config.Keys((), None, (), None, ()),
    database=None,
    files=None,
    drill=config.Drill(rto_hours=2, max_age_days=35),
)


def test_the_newest_proven_set_is_taken() -> None:
    records = [proof(item, evidence.OPENED) for item in SETS[:3]]
    assert drill.pick(SETS, records, older=False) is SETS[2]
    # What is proven intact will be opened by the restore itself: nothing newer is passed over.
    records.append(proof(SETS[4], evidence.INTACT))
    assert drill.pick(SETS, records, older=False) is SETS[4]


def test_a_set_that_failed_a_proof_is_not_taken() -> None:
    good = [proof(SETS[1], evidence.INTACT), proof(SETS[2], evidence.INTACT)]
    failed = proof(SETS[2], evidence.OPENED, held=False)
    assert drill.pick(SETS, [*good, failed], older=False) is SETS[1]
    # A proof of a manifest that was replaced since is none.
    other = proof(SETS[3], evidence.INTACT, manifest="another")
    assert drill.pick(SETS, [*good, failed, other], older=False) is SETS[1]


@pytest.mark.parametrize("records", [[], [proof(SETS[0], evidence.DRILL)]])
def test_without_any_proof_there_is_nothing_to_try(records: list[evidence.Record]) -> None:
    with pytest.raises(IntentError, match="no set is proven"):
        drill.pick(SETS, records, older=False)


def test_an_older_one_is_any_but_the_newest_unless_it_is_the_only_one() -> None:
    records = [proof(item, evidence.INTACT) for item in SETS]
    taken = {drill.pick(SETS, records, older=True).manifest.id for _ in range(300)}
    assert taken == {item.manifest.id for item in SETS[:-1]}
    assert drill.pick(SETS, records[:1], older=True) is SETS[0]


@pytest.mark.parametrize("schedule", [range(1, 13), range(1, 13, 3)], ids=["monthly", "quarterly"])
def test_every_other_drill_takes_an_older_one(schedule: range) -> None:
    due = [drill.older_is_due(datetime(2026, month, 1, tzinfo=UTC)) for month in schedule]
    assert due == [False, True] * (len(due) // 2)


def test_a_canary_says_in_its_page_what_it_is() -> None:
    made = canary.Canary("2026-11-26T01:02:03Z", "t" * 32, "canary-a.bin", "0" * 64)
    assert dict(canary._LINE.findall(made.text)) == vars(made)
    assert made.time == datetime(2026, 11, 26, 1, 2, 3, tzinfo=UTC)


class Door:
    """As whom a wiki serves the right password, and a wrong one."""

    def __init__(self, right: str, wrong: str) -> None:
        self.answers = {False: right, True: wrong}

    def served(self, *, wrong: bool = False) -> str:
        return self.answers[wrong]


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ("xwiki:XWiki.superadmin", GUEST, ""),
        (GUEST, GUEST, "the right password does not let in"),
        ("", GUEST, "the right password does not let in"),
        ("xwiki:XWiki.superadmin", "xwiki:XWiki.superadmin", "a wrong password lets in"),
        ("xwiki:XWiki.superadmin", "", "a wrong password lets in"),
    ],
)
def test_a_login_tells_right_from_wrong(right: str, wrong: str, words: str) -> None:
    door: Any = Door(right, wrong)
    if not words:
        assert "nobody by a wrong one" in probes.login(door)
        return
    with pytest.raises(DamagedError, match=words):
        probes.login(door)


# What status says


def drilled(days: float, *, held: bool = True, **facts: Any) -> evidence.Record:
    at = f"{NOW - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"
    told = {"objective_seconds": 7200, **({"rto_seconds": 600} if held else {}), **facts}
    words = "" if held else "home: there is no page Main.WebHome"
    return evidence.Record(SETS[-1].manifest.id, SETS[-1].sha256, evidence.DRILL, held, at, 900, 1,
                           words, facts=told)  # fmt: skip


def judged(*records: evidence.Record, known: config.Config = MONTHLY) -> report.Report:
    proofs = [proof(SETS[-1], kind) for kind in (evidence.INTACT, evidence.OPENED)]
    sets = {manifest.SITE: Listing[Manifest]([*SETS]), manifest.XAR: Listing[Manifest]()}
    return report.judge(known, sets, [*proofs, *records], NOW)


def test_a_fresh_quick_drill_is_told_with_its_set_and_times() -> None:
    told = judged(drilled(10))
    assert told.healthy, told.text
    assert f"{SETS[-1].manifest.id}, 10.0 d ago, back in 10 min 00 s" in told.text
    assert "(promised: at most 120 min 00 s)" in told.text


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ([], "no restore of a site set was ever tried; next: run CronJob drill"),
        ([drilled(36)], "the last site drill is 36.0 d old, 35 d are promised"),
        (
            [drilled(5), drilled(1, held=False)],
            "the last site drill failed: home: there is no page",
        ),
        (
            [drilled(1, rto_seconds=3601)],
            "the last site drill was slow: 60 min 01 s of 120 min 00 s",
        ),
        ([drilled(1, held=False, rto_seconds=7201)], "the last site drill failed"),
    ],
)
def test_what_is_wrong_with_drills_is_told_with_what_to_do(
    records: list[evidence.Record], words: str
) -> None:
    told = judged(*records)
    (problem,) = told.problems
    assert problem.startswith(words)
    assert "next: " in problem


def test_drills_that_are_good_enough_are_no_problem() -> None:
    for records in ([drilled(34.9)], [drilled(1, rto_seconds=3600)],
                    [drilled(9, held=False), drilled(1)]):  # fmt: skip
        assert judged(*records).healthy


def opened(count: int, there: int, kind: str = manifest.SITE) -> report.Report:
    """Status where so many sets are there and so many of them proven to open."""
    sets = history(days=there, every=24)
    other = manifest.XAR if kind == manifest.SITE else manifest.SITE
    proofs = [proof(sets[-1], evidence.INTACT), *(proof(s, evidence.OPENED) for s in sets[:count])]
    listings = {kind: Listing[Manifest]([*sets]), other: Listing[Manifest]()}
    records = [replace(record, sets=kind) for record in proofs]
    return report.judge(replace(MONTHLY, drill=None), listings, records, NOW)


@pytest.mark.parametrize(
    ("count", "there", "kind", "told", "wrong"),
    [
        (1, 3, "site", "1 of 7 that prune needs; next: `xwiki-stack backup verify --opened", False),
        (1, 7, "site", "1 of 7 that prune needs", False),
        (6, 8, "site", "6 of 7 that prune needs", True),
        (7, 8, "site", "7 (prune needs 7)", False),
        (9, 9, "site", "9 (prune needs 7)", False),
        (1, 2, "xar", "1 of 2 that prune needs", False),
        (1, 3, "xar", "1 of 2 that prune needs", True),
        (2, 3, "xar", "2 (prune needs 2)", False),
    ],
)
def test_that_prune_waits_for_proofs_is_told_and_in_the_end_a_problem(
    count: int, there: int, kind: str, told: str, wrong: bool
) -> None:
    found = opened(count, there, kind)
    assert re.search(rf"^{kind} sets proven to open: +{re.escape(told)}", found.text, re.M)
    needed = 7 if kind == "site" else 2
    problem = (
        f"prune lets no {kind} set go: {count} of {needed} are proven to open, there are {there};"
        " next: `xwiki-stack backup verify --opened --all` where a key is"
    )
    assert (problem in found.problems) == wrong
    assert [words for words in found.problems if "prune" in words] == [problem] * wrong
    # Status and prune are of one mind.
    rules = MONTHLY.retention if kind == "site" else MONTHLY.xar_retention
    sets = history(days=there, every=24)
    proofs = [proof(sets[-1], evidence.INTACT), *(proof(s, evidence.OPENED) for s in sets[:count])]
    refuses = pytest.raises(RefusedError, match=f"{count} sets are proven to open, {needed} must")
    with refuses if count < needed else nullcontext():
        retention.plan(sets, proofs, NOW, rules)


@pytest.mark.parametrize("rpo", [1, 12, 24, 48])
def test_an_export_is_late_when_the_alert_says_so(rpo: int) -> None:
    minutes = sizing.schedules(rpo).minutes
    known = replace(MONTHLY, limits=config.Limits(run_minutes=minutes))
    late = timedelta(minutes=sizing.alerts(rpo).xar_stale_minutes)
    for age, wrong in ((late, False), (late + timedelta(minutes=1), True)):
        exports = Listing[Manifest]([made(NOW - age)])
        sets = {manifest.SITE: Listing[Manifest](), manifest.XAR: exports}
        found = report.judge(known, sets, [], NOW).problems
        assert any(words.startswith("the newest xar set is") for words in found) == wrong


def test_each_kind_has_its_own_drill() -> None:
    exported = replace(drilled(1, held=False), sets=manifest.XAR)
    sets = {manifest.SITE: Listing[Manifest]([*SETS]), manifest.XAR: Listing[Manifest]([SETS[0]])}
    proofs = [proof(item, kind) for item in (SETS[0], SETS[-1])
              for kind in (evidence.INTACT, evidence.OPENED)]  # fmt: skip
    told = report.judge(MONTHLY, sets, [*proofs, drilled(1), exported], NOW)
    (problem,) = [words for words in told.problems if "drill" in words]
    assert problem.startswith("the last xar drill failed")
    assert "drill-xar now" in problem
    told = report.judge(MONTHLY, sets, [*proofs, drilled(1)], NOW)
    assert [w for w in told.problems if w.startswith("no restore of a xar set was ever tried")]


def test_where_no_drill_is_promised_none_is_missed_but_a_failed_one_is_told() -> None:
    known = replace(MONTHLY, drill=None)
    assert judged(known=known).healthy
    assert judged(drilled(100), known=known).healthy
    assert not judged(drilled(1, held=False), known=known).healthy


def test_the_drills_configuration_is_read(tmp_path: Path) -> None:
    import yaml

    document = {
        "environment": "staging", "purpose": "staging", "keys": {},
        "store": {"bucket": "sets", "accessKeyFile": "/a", "secretKeyFile": "/b"},
    }  # fmt: skip
    path = tmp_path / "backup.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(IntentError, match="drill: is missing"):
        config.load(path).need_drill()
    said = {"rtoHours": 3, "maxAgeDays": 100, "source": "prod", "canarySince": "2026-11-26",
            "marker": "/m", "databaseMinutes": 4, "wikiMinutes": 5}  # fmt: skip
    path.write_text(yaml.safe_dump({**document, "drill": said}))
    assert config.load(path).need_drill() == config.Drill(
        3, 100, "prod", datetime(2026, 11, 26, tzinfo=UTC), Path("/m"), 4, 5
    )
    path.write_text(yaml.safe_dump({**document, "drill": {"canarySince": "26.11.2026"}}))
    with pytest.raises(IntentError, match="canarySince"):
        config.load(path)
    path.write_text(yaml.safe_dump({**document, "drill": {}}))
    assert config.load(path).need_drill() == config.Drill()
