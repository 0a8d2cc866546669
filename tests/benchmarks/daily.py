"""P3: a month of daily sets with few changes, against restic: what is sent, what is kept."""

import shutil
import statistics
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from tests.backups.wiki import Wiki, attachment_path
from tests.benchmarks import results
from tests.benchmarks.bed import Bed, file_of, sets_of, stored
from tests.benchmarks.content import Content
from tests.benchmarks.programs import Spent
from tests.benchmarks.restic import Restic
from xwiki_stack.backup import evidence, retention
from xwiki_stack.backup.config import Retention
from xwiki_stack.backup.manifest import Found, Site, new_id
from xwiki_stack.figures import Figure

SHARE = 0.01
"""Of all files, added or replaced a day."""

BEGINNING = datetime(2026, 10, 1, 2, tzinfo=UTC)


@dataclass(frozen=True)
class Day:
    """Bytes that changed, what each tool sent, what it took. full: ours copied everything."""

    changed: int
    ours: Spent
    theirs: Spent
    sent: int
    sent_theirs: int
    full: bool


@dataclass(frozen=True)
class History:
    """All days of one wiki under both tools."""

    wiki: Wiki
    restic: Restic
    days: list[Day]
    first_packs: list[Path]
    """restic's objects after its first snapshot."""

    @property
    def sets(self) -> list[Found[Site]]:
        """Our sets, oldest first."""
        return sets_of(self.wiki)


@cache
def history(bed: Bed) -> History:
    """Live through the days. Made once for all parts that look at it."""
    wiki = Wiki(bed.server, bed.s3, bed.new("daily"), "daily", changes={"limits": {}})
    wiki.create()
    shutil.copytree(bed.tree, wiki.root, dirs_exist_ok=True)
    restic, days, packs = Restic(bed, "daily"), list[Day](), list[Path]()
    for number in range(bed.size.days):
        changed = _live(bed, wiki.root, number) if number else 0
        before = stored(bed.s3, wiki.schema), stored(bed.s3, restic.prefix)
        ours = bed.backup(wiki, "run")
        moment = BEGINNING + timedelta(days=number)
        theirs = restic.backup(wiki.root, f"{moment:%Y-%m-%d %H:%M:%S}")
        sent = stored(bed.s3, wiki.schema) - before[0]
        full = "set 1 of its generation" in ours.out
        days.append(
            Day(changed, ours, theirs, sent, stored(bed.s3, restic.prefix) - before[1], full)
        )
        packs = packs or restic.packs()
        bed.emit(
            f"  day {number + 1}: ours {ours.seconds:.1f} s, {sent / 1e6:.1f} MB sent"
            f"{' (full copy)' if full else ''}; restic {theirs.seconds:.1f} s,"
            f" {days[-1].sent_theirs / 1e6:.1f} MB; {changed / 1e6:.1f} MB had changed"
        )
        time.sleep(max(0.0, 1.1 - ours.seconds))  # a set's id has whole seconds
    return History(wiki, restic, days, packs)


def _live(bed: Bed, root: Path, day: int) -> int:
    """Add some files and replace some, of the sizes that files have; give their bytes."""
    chance = Content(1000 + day)
    count = max(2, round(bed.size.count * SHARE))
    mean = bed.size.files // bed.size.count
    existing = sorted(path for path in (root / "store" / "file").rglob("f.bin"))
    # Half of a day's sizes are those of new files: many would only be seen on many days.
    replaced = chance.choose(existing, count // 2)
    first = bed.size.count + day * count
    added = [root / attachment_path(*file_of(first + n)) for n in range(count - count // 2)]
    total = 0
    for path, size in zip([*replaced, *added], chance.sizes(count, count * mean), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        # XWiki writes beside it and renames.
        fresh = path.with_suffix(".fresh")
        fresh.write_bytes(chance.bytes(size))
        fresh.rename(path)
        total += size
    return total


def pruned(sets: list[Found[Site]], rules: Retention) -> int:
    """Bytes that stay when sets of consecutive days meet the rules day after day.

    The sets were made within minutes; each gets the day that it stands for.
    """
    dated = [
        replace(
            item, manifest=replace(item.manifest, id=new_id(BEGINNING + timedelta(days=number)))
        )
        for number, item in enumerate(sets)
    ]
    kept: list[Found[Site]] = []
    for number, item in enumerate(dated):
        kept.append(item)
        proofs = [_proven(one, kind) for one in kept for kind in (evidence.INTACT, evidence.OPENED)]
        now = BEGINNING + timedelta(days=number, hours=1)
        if len(kept) >= rules.opened:
            plan = retention.plan(kept, proofs, now, rules)
            kept = [one for one in kept if one.manifest.id not in plan.drop]
    return sum({pack.key: pack.bytes for one in kept for pack in one.manifest.objects}.values())


def _proven(item: Found[Site], kind: str) -> evidence.Record:
    return evidence.Record(item.manifest.id, item.sha256, kind, True, "", 0, 0, "")


def measure(bed: Bed) -> list[Figure]:
    """Bytes of the month, ours and restic's."""
    lived = history(bed)
    days, restic = lived.days, lived.restic
    count, ours, theirs = (
        len(days),
        stored(bed.s3, lived.wiki.schema),
        stored(bed.s3, restic.prefix),
    )
    small = [day for day in days[1:] if not day.full]
    later = days[1:]
    rules = Retention()
    kept = pruned(lived.sets, rules)
    tidied = restic.copied(bed, "pruned")
    tidied.run("forget", "--prune", "--keep-last", str(rules.last), "--keep-daily",
               str(rules.daily), "--keep-weekly", str(rules.weekly), "--keep-monthly",
               str(rules.monthly))  # fmt: skip
    kept_theirs = stored(bed.s3, tidied.prefix)
    full = sum(day.full for day in days)
    every = statistics.mean(day.sent for day in days if day.full)
    daily = sum(day.sent for day in small)
    return [
        results.compared(
            f"stored, {count} daily sets, {full} of them full copies, nothing pruned",
            [ours], [theirs], "restic", results.megabytes, goal=results.Goal(most=1.3),
        ),
        results.compared(
            "stored after the default keep rules, applied day after day",
            [kept], [kept_theirs], "restic, same rules, pruned", results.megabytes,
            goal=results.Goal(most=1.3),
        ),
        results.compared(
            f"reckoned: stored if one generation lasted all {count} days, nothing pruned",
            [every + daily + sum(day.changed for day in later if day.full)], [theirs], "restic",
            results.megabytes,
        ),
        results.compared(
            f"sent on {len(small)} days without a full copy",
            [daily], [sum(day.changed for day in small)], "bytes of changed files",
            results.megabytes, goal=results.Goal(most=1.2),
        ),
        results.compared(
            "sent on the same days",
            [daily], [sum(day.sent_theirs for day in small)], "restic", results.megabytes,
        ),
        results.compared(
            f"sent on all {count} days",
            [sum(day.sent for day in days)], [sum(day.sent_theirs for day in days)], "restic",
            results.megabytes,
        ),
    ]  # fmt: skip
