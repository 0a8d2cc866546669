"""restic as the file engine, on the same days: what it costs, and which of our rules it breaks.

Rules are those of the decision page. k8up runs restic and adds none of its own to these; it needs
a cluster, so what is said of it is read in its source, not run.
"""

import re
import statistics
from collections import Counter
from pathlib import Path

from tests.benchmarks import results
from tests.benchmarks.bed import Bed
from tests.benchmarks.daily import History, history
from tests.benchmarks.restic import Restic
from xwiki_stack.figures import Figure

POWERLESS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search",
             "--inh-caps=-dac_override,-dac_read_search")  # fmt: skip
"""Root whom files' modes bind as they bind everybody."""

TRIED = 8
"""Packs that are looked at for the one whose loss costs most."""


def measure(bed: Bed) -> list[Figure]:
    """Times of the days, then what a lost object, a taken writer and an unreadable file do."""
    lived = history(bed)
    first, later = lived.days[0], lived.days[1:]
    small = [day for day in later if not day.full]
    version = " ".join(lived.restic.run("version").out.split()[:2])
    return [
        results.compared(
            "first backup", [first.ours.seconds], [first.theirs.seconds], version, results.seconds
        ),
        results.compared(
            "a day's backup, ours with a database, median of days without a full copy",
            [statistics.median(day.ours.seconds for day in small)],
            [statistics.median(day.theirs.seconds for day in small)],
            version,
            results.seconds,
        ),
        results.compared(
            "most memory of one process, first backup",
            [max(first.ours.resident.values())],
            [max(first.theirs.resident.values())],
            version,
            results.mebibytes,
        ),
        _unreadable(bed, lived),
        _taken(bed, lived),
        _lost(lived),
    ]


def _unreadable(bed: Bed, lived: History) -> Figure:
    """A file that cannot be read: is there a set that lacks it?"""
    path = lived.wiki.write("store/file/unreadable", b"no")
    path.chmod(0)
    before = lived.restic.snapshots(), len(lived.sets)
    ours = bed.backup(lived.wiki, "run", codes=(0, 8), before=POWERLESS)
    theirs = lived.restic.backup(lived.wiki.root, codes=(0, 1, 3), before=POWERLESS)
    made = len(lived.sets) - before[1]
    fresh = [one for one in lived.restic.snapshots() if one not in before[0]]
    lived.restic.run("forget", *fresh) if fresh else None
    path.unlink()
    return Figure(
        "one file cannot be read",
        f"exit code {ours.code}, {made} sets made",
        f"restic exit code {theirs.code}, {len(fresh)} snapshot made without it; k8up takes 3 for"
        " success (`restic/cli/command.go`, read, not run)",
        goal="no set without all it names: " + ("reached" if ours.code and not made else "MISSED"),
    )


def _taken(bed: Bed, lived: History) -> Figure:
    """Who takes the writer's keys: what of the oldest backup can be read?"""
    oldest, path = lived.restic.snapshots()[0], _old_path(lived)
    writer = str(lived.wiki.folder / "keys" / "writer")
    lived.wiki.changes["keys__identityFiles"] = [writer]
    spent = bed.backup(lived.wiki, "verify", "--opened", "--no-record", lived.sets[0].manifest.id,
                       codes=(0, 9))  # fmt: skip
    del lived.wiki.changes["keys__identityFiles"]
    shut = "no key that is here opens it" in spent.out
    theirs = lived.restic.opens(oldest, path)
    return Figure(
        "the writer's keys are taken: files of the oldest backup",
        "stay shut" if shut else "OPEN",
        f"restic {'open' if theirs else 'stay shut'}: it has one password; so with k8up, whose job"
        " has it as RESTIC_PASSWORD",
        goal="only public keys in the cluster: " + ("reached" if shut else "MISSED"),
    )


def _old_path(lived: History) -> str:
    listed = lived.restic.run("ls", lived.restic.snapshots()[0]).out.splitlines()
    return next(line.lstrip("/") for line in listed if line.endswith("/f.bin"))


def _lost(lived: History) -> Figure:
    """One object of the first day is lost: how many backups cannot be brought back whole?"""
    sets, restic = lived.sets, lived.restic
    named = Counter(pack.key for item in sets for pack in item.manifest.packs)
    worst = max(named.values())
    found = {pack: _holding(restic, pack) for pack in lived.first_packs[:TRIED]}
    victim = max(found, key=lambda pack: len(found[pack]))
    snapshots = restic.snapshots()
    newest = snapshots[-1]
    content = victim.read_bytes()
    victim.unlink()
    tried = [restic.opens(one, found[victim][one[:8]]) for one in (snapshots[0], newest)]
    checked = restic.run("check", "--no-lock", codes=(0, 1)).code
    victim.write_bytes(content)
    dead, limit = len(found[victim]), lived.wiki.loaded().limits.generation_sets
    return Figure(
        "one stored object is lost: backups that lack something then",
        f"{worst} of {len(sets)} sets",
        f"restic {dead} of {len(snapshots)} snapshots; the file sought in the oldest and newest"
        f" {'does not come' if not any(tried) else 'COMES'} out, `check` ends with {checked}",
        f"{worst / dead:.2f}",
        f"<= {limit} sets: {'reached' if worst <= limit else 'MISSED'}",
    )


def _holding(restic: Restic, pack: Path) -> dict[str, str]:
    """Snapshots (8 digits) that hold files of a pack, each with one of these."""
    holding, path = dict[str, str](), ""
    for line in restic.run("find", "--no-lock", "--pack", pack.name).out.splitlines():
        if file := re.match(r" \.\.\. in file /(.+)", line):
            path = file[1]
        elif snapshot := re.match(r" \.\.\. in snapshot ([0-9a-f]{8})", line):
            holding.setdefault(snapshot[1], path)
    return holding
