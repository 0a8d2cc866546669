"""P2: from a set to a wiki that answers, against a bare load, a bare copy and a bare start."""

import shutil

from tests.benchmarks import results
from tests.benchmarks.bed import Bed
from xwiki_stack.figures import Figure

SQL, FILES = 20e9, 50e9
"""Bytes of the site whose time is reckoned."""

HOUR = 3600.0

ENDS = ("opening all of it", "opened: ", "rows, as the set states", "each with the hash")
"""What a restore says as a part begins and as each ends; its progress between says other words."""

NEAR_BARE = results.Goal(most=1.15)


def measure(bed: Bed) -> list[Figure]:
    """Ours, and two bare loads: as dumped, which keeps the binary log quiet, and logged."""
    site, programs, root = bed.site, bed.programs, bed.site.wiki.root
    made = site.set.manifest
    sql, files = made.database.plain_bytes, made.files["bytes"]
    original, copied = bed.folder / "original", bed.folder / "copied"
    packed = {name: bed.folder / f"{name}.sql.zst" for name in ("quiet", "logged")}
    programs.shell(f"{site.mysqldump} | zstd -3 -q -o {packed['quiet']}")
    unswitched = site.mysqldump.replace("--set-gtid-purged=COMMENTED", "--set-gtid-purged=OFF")
    programs.shell(f"{unswitched} | zstd -3 -q -o {packed['logged']}")
    root.rename(original)
    options = site.options_of("root", bed.server.password)
    client = f"{bed.server.programs}/mysql --defaults-file={options} --binary-mode"
    ours, bare, starts = [], {"quiet": list[float](), "logged": list[float]()}, []
    synced: list[float] = []
    phases: dict[str, list[float]] = {"open": [], "load": [], "write": []}
    for number in range(1, bed.size.runs + 1):
        site.lose_rows()
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        spent = bed.backup(site.wiki, "restore", account="root")
        starts.append(site.start(root))
        ours.append(spent.seconds + starts[-1])
        moments = [spent.at(words) for words in ENDS]
        for name, begin, end in zip(phases, moments, moments[1:], strict=False):
            phases[name].append(end - begin)
        for name, path in packed.items():
            site.lose_rows()
            shutil.rmtree(copied, ignore_errors=True)
            load = programs.shell(f"zstd -dcq {path} | {client}")
            copy = programs.shell(f"cp -a {original} {copied}")
            brought = programs.shell(f"sync -f {copied}")
            bare[name].append(load.seconds + copy.seconds + site.start(copied))
        synced.append(bare["logged"][-1] + brought.seconds)
        parts = ", ".join(f"{name} {took[-1]:.1f}" for name, took in phases.items())
        bed.emit(
            f"  restore, run {number}: ours {ours[-1]:.1f} s ({parts}), bare"
            f" {bare['quiet'][-1]:.1f} s, logged {bare['logged'][-1]:.1f} s"
        )
    shutil.rmtree(copied)
    reckoned = [
        (SQL + FILES) / (sql + files) * phases["open"][n]
        + SQL / sql * phases["load"][n]
        + FILES / files * phases["write"][n]
        + starts[n]
        for n in range(bed.size.runs)
    ]
    name = "set to verified application: all opened first, loaded, counted, hashed, synced"
    return [
        results.compared(
            name, ours, bare["logged"], "bare load into the binary log, `cp -a`, start",
            results.seconds, goal=NEAR_BARE,
        ),
        results.compared(
            "the same",
            ours,
            synced,
            "the same, and `sync` of the files",
            results.seconds,
        ),
        results.compared(
            "the same", ours, bare["quiet"], "bare load past the binary log, `cp -a`, start",
            results.seconds,
        ),
        results.alone("of it: everything opened, nothing written", phases["open"], results.seconds),
        results.alone("of it: rows loaded and counted", phases["load"], results.seconds),
        results.alone("of it: files written, hashed, synced", phases["write"], results.seconds),
        results.alone("of it: start of XWiki (the stand-in)", starts, results.seconds),
        results.bounded(
            "reckoned from these speeds, not measured: 20 GB of SQL and 50 GB of files",
            reckoned, HOUR, results.minutes,
        ),
    ]  # fmt: skip
