"""Figures of backups: the arithmetic, what is made to be measured, and what a run leaves behind."""

import hashlib
import os
import sys
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.backups.processes import family
from tests.benchmarks import __main__ as benchmarks
from tests.benchmarks import daily, engine, results
from tests.benchmarks.bed import Bed, identity
from tests.benchmarks.content import SIZES, Content
from tests.benchmarks.programs import Programs, Spent, largest

from xwiki_stack import bench, cluster, proc, steps, up
from xwiki_stack.backup.config import Retention
from xwiki_stack.backup.manifest import Artefact, Found, Pack, Site, new_id
from xwiki_stack.errors import MachineError, StackError
from xwiki_stack.figures import Document, Figure
from xwiki_stack.steps import Step


def test_a_ratio_is_of_medians_and_its_spread_of_pairs() -> None:
    figure = results.compared(
        "x", [10, 30, 12], [20, 15, 10], "peer", results.seconds, goal=results.Goal(most=0.9)
    )
    assert (figure.ours, figure.peer, figure.ratio) == ("12.0 s", "peer 15.0 s", "0.80")
    assert figure.goal == "<= 0.9: reached"
    assert figure.spread == "10.0 s to 30.0 s; ratio 0.50 to 2.00"
    assert results.compared("x", [1], [2], "p", results.seconds).spread == ""


@pytest.mark.parametrize(
    ("goal", "ratio", "words"),
    [
        (results.Goal(least=0.95), 0.95, ">= 0.95: reached"),
        (results.Goal(least=0.95), 0.94, ">= 0.95: MISSED"),
        (results.Goal(most=1.1), 1.1, "<= 1.1: reached"),
        (results.Goal(most=1.1), 1.11, "<= 1.1: MISSED"),
    ],
)
def test_a_goal_that_is_missed_is_said_loudly(goal: results.Goal, ratio: float, words: str) -> None:
    assert goal.judged(ratio) == words


def test_a_limit_holds_in_the_worst_run() -> None:
    limit = 150 * 2**20
    held = results.bounded("memory", [100 * 2**20, 151 * 2**20], limit, results.mebibytes)
    assert (held.ours, held.goal) == ("151 MiB", "<= 150 MiB: MISSED")
    assert held.spread == "100 MiB to 151 MiB"
    assert "reached" in results.bounded("memory", [limit], limit, results.mebibytes).goal
    assert results.alone("x", [1e6, 3e6, 2e6], results.megabytes).ours == "2.0 MB"
    assert (results.speed(12.3e6), results.minutes(600)) == ("12.3 MB/s", "10 min")


def test_content_is_the_same_every_time_and_of_the_size_that_was_asked_for() -> None:
    sizes = Content(1).sizes(1000, 50_000_000)
    assert sizes == Content(1).sizes(1000, 50_000_000)
    assert sum(sizes) == pytest.approx(50_000_000, rel=0.01)
    assert max(sizes) > 20 * sorted(sizes)[500], "most bytes should lie in few files"
    made = [Content(2), Content(2)]
    drawn = [[one.bytes(3000) for _ in range(300)] for one in made]
    assert drawn[0] == drawn[1]
    assert {len(item) for item in drawn[0]} == {3000}
    words = sum(item.isascii() for item in drawn[0])
    assert 60 <= words <= 120, "about three in ten are text"
    pages = list(Content(3).pages(100_000))
    assert sum(len(now) + len(before) for _, now, before in pages) == pytest.approx(1e5, rel=0.2)
    assert not any(sign in text for _, *both in pages for text in both for sign in "'\\")


def test_a_page_has_the_key_that_the_stand_in_gives_it() -> None:
    # Long.parseUnsignedLong of the first 16 digits of the MD5, which Java holds signed.
    numbers = {name: identity(name) for name in (f"Main.Page{n}" for n in range(50))}
    for name, number in numbers.items():
        digits = hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()[:16]
        assert number % 2**64 == int(digits, 16)
    assert all(-(2**63) <= number < 2**63 for number in numbers.values())
    assert min(numbers.values()) < 0 < max(numbers.values())


def test_full_size_is_what_was_asked_for_and_both_sizes_can_be_named() -> None:
    full = SIZES["full"]
    assert (full.sql, full.files, full.count) == (10**9, 10**9, 5000)
    assert (full.runs, full.days) == (3, 30)
    assert tuple(SIZES) == bench.SIZES
    assert set(benchmarks.GIGABYTES) == set(SIZES)
    assert set(benchmarks.BUDGET) <= set(benchmarks.PARTS)
    assert sum(benchmarks.BUDGET.values()) <= 40


def _sets(days: int, generation: int) -> list[Found[Site]]:
    """Sets of consecutive days: 100 bytes for a full copy, 1 a day besides, 10 of their own."""
    made: list[Found[Site]] = []
    packs: list[Pack] = []
    for day in range(days):
        if day % generation == 0:
            packs = []
        packs = [*packs, Pack(f"packs/{day}", 1 if packs else 100, "")]
        name = new_id(daily.BEGINNING + timedelta(days=day))
        own = [Artefact(f"sets/site/{name}/{part}", 5, "", 5, "") for part in ("db", "index")]
        site: Any = object.__new__(Site)
        facts = {"id": name, "database": own[0], "index": own[1], "packs": packs}
        for key, value in facts.items():
            object.__setattr__(site, key, value)
        made.append(Found(site, f"hash {day}"))
    return made


def test_what_is_kept_after_a_month_is_what_the_rules_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    # `replace` would ask for the fields that a set of this test has not.
    def redated(item: Any, **changes: Any) -> Any:
        if isinstance(item, Found):
            return replace(item, **changes)
        made: Any = object.__new__(Site)
        for key, value in {**item.__dict__, **changes}.items():
            object.__setattr__(made, key, value)
        return made

    monkeypatch.setattr(daily, "replace", redated)
    everything = Retention(opened=1, last=30, daily=30, weekly=30, monthly=30)
    # 5 full copies, 25 small packs, two objects of each set's own.
    assert daily.pruned(_sets(30, 7), everything) == 5 * 100 + 25 + 30 * 10
    newest = Retention(opened=1, last=1, daily=1, weekly=1, monthly=1)
    # Of the last day's generation: a full copy and what the second day added.
    assert daily.pruned(_sets(30, 7), newest) == 100 + 1 + 10
    month = daily.pruned(_sets(30, 7), Retention())
    assert 3 * 100 < month < 5 * 100 + 25 + 30 * 10


def test_snapshots_that_hold_a_pack_are_read_from_what_restic_says() -> None:
    said = (
        "Found blob 41c6\n ... in file /store/a/f.bin\n     (tree 7569)\n"
        " ... in snapshot c30c5f88 (2026-11-26 08:01:39)\nFound blob 70a6\n"
        " ... in file /store/b c/f.bin\n     (tree 7569)\n"
        " ... in snapshot c30c5f88 (2026-11-26 08:01:39)\nFound blob 70a6\n"
        " ... in file /store/b c/f.bin\n ... in snapshot 3cc22fbc (2026-11-26 08:01:38)\n"
    )

    class Says:
        def run(self, *_words: str) -> Spent:
            return Spent(0, 1.0, said=tuple((0.0, line) for line in said.splitlines()))

    says: Any = Says()
    found = engine._holding(says, Path("41c6"))
    assert found == {"c30c5f88": "store/a/f.bin", "3cc22fbc": "store/b c/f.bin"}


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs({"PATH": "/usr/bin:/bin", "GIVEN": "yes"}, tmp_path)


def test_a_program_is_measured_with_its_children(programs: Programs, tmp_path: Path) -> None:
    child = "import time; held = bytes([1]) * 80_000_000; time.sleep(0.4)"
    script = (
        # A child of a child: a program behind a wrapper, as mysqldump is here.
        f"echo $GIVEN; sh -c '{sys.executable} -c \"{child}\"; true'; sleep 0.3;"
        " dd if=/dev/zero of=written bs=1M count=8 status=none; sleep 0.3; echo end"
    )
    spent = programs.shell(script)
    assert spent.code == 0
    assert spent.out == "yes\nend"
    # The last line may be heard a moment after its program has ended.
    assert spent.at("yes") + 0.5 < spent.at("end") < spent.seconds + 5
    assert largest(spent, "python") > 80_000_000
    assert largest(spent, "python", others=True) < 20_000_000
    # What a short-lived program gave to the disk its parent's account takes when it has ended.
    assert (tmp_path / "written").stat().st_size == 8 * 2**20
    with pytest.raises(StackError, match="never said 'nothing'"):
        spent.at("nothing")


def test_memory_is_that_of_one_process() -> None:
    held = {"xwiki-stack 7": 100, "xwiki-stack 8": 90, "mysqldump 9": 30, "mysql 10": 40}
    spent = Spent(0, 1.0, held)
    assert largest(spent, "xwiki-stack") == 100
    assert largest(spent, "xwiki-stack", others=True) == 40
    assert largest(spent, "nothing") == 0


def test_bytes_given_to_disks_are_noticed(programs: Programs, tmp_path: Path) -> None:
    write = (
        "import os, time; f = open('large', 'wb'); f.write(b'x' * 5_000_000); f.flush();"
        " os.fsync(f.fileno()); time.sleep(0.3)"
    )
    assert programs.run([sys.executable, "-c", write]).written >= 5_000_000
    assert programs.run([sys.executable, "-c", "import time; time.sleep(0.2)"]).written == 0


def test_a_program_that_fails_anywhere_in_a_pipeline_is_no_measurement(programs: Programs) -> None:
    with pytest.raises(StackError, match=r"`bash -e -o` ended with exit code 7: why"):
        programs.shell("(echo why >&2; exit 7) | cat")
    assert programs.run(["sh", "-c", "exit 3"], codes=(0, 3)).code == 3


def test_a_family_is_a_process_and_all_below_it(programs: Programs) -> None:
    assert next(family(os.getpid())) == os.getpid()
    seen = Counter(family(os.getpid()))
    assert set(seen.values()) == {1}


@pytest.fixture
def document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Document:
    made = Document(tmp_path / "backups.json", tmp_path / "page.md", ("# Title",), {})
    monkeypatch.setattr(benchmarks, "DOCUMENT", made)
    monkeypatch.setenv("XWIKI_STACK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(benchmarks, "GIGABYTES", {"small": 0, "full": 0})
    return made


def test_what_is_finished_stays_when_the_next_part_fails(
    document: Document, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders: list[Path] = []

    def works(bed: Bed) -> list[Figure]:
        folders.append(bed.folder)
        return [Figure("x", "1 s")]

    def fails(_bed: Bed) -> list[Figure]:
        raise MachineError("no disk")

    monkeypatch.setattr(benchmarks, "PARTS", {"later": works, "works": works, "fails": fails})
    assert benchmarks.main(["--size", "small", "works", "fails", "later"]) == 3
    assert "bench-backups: no disk" in capsys.readouterr().err
    assert list(document.read()) == ["works"]
    assert "A TRIAL of the code" in document.read()["works"].circumstances
    assert not any(folder.exists() for folder in folders)
    # A part that is measured later takes its place, the others stay.
    assert benchmarks.main(["later"]) == 0
    assert list(document.read()) == ["later", "works"]
    assert "TRIAL" not in document.read()["later"].circumstances
    assert "| x | 1 s |" in document.page.read_text()


def test_a_part_that_does_not_exist_is_one_line(
    document: Document, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmarks.main(["dmup"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("bench-backups: no part is called dmup; allowed: dump, restore, daily")
    assert len(said.splitlines()) == 1
    assert not document.results.exists()


def test_the_verb_prepares_servers_and_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    did: list[Any] = []

    def step(name: str, *needs: str) -> Step:
        return Step(name, name, lambda _log: did.append(name), needs)

    plan = [step("bed"), step("engine"), step("disk", "engine"), step("tool-versitygw"),
            step("image-base", "disk"), step("image-mysql", "image-base"),
            step("cluster", "disk")]  # fmt: skip
    monkeypatch.setattr(up, "install_system_packages", lambda *_, peers: did.append(peers))
    monkeypatch.setattr(cluster, "prepare", lambda _config: plan)
    monkeypatch.setattr(cluster, "environment", lambda _name: {})
    monkeypatch.setattr(proc, "attached", lambda argv, **_: did.append(argv[1:]) or 10)
    monkeypatch.setattr(steps, "execute", lambda some, _emit: did.extend(s.name for s in some))
    monkeypatch.setattr(sys, "platform", "linux")
    code = bench.backups(["dump"], "small", emit=lambda _: None, ask=lambda _: True)
    assert code == 10
    assert did == [
        True, "engine", "disk", "tool-versitygw", "image-base", "image-mysql",
        ["-m", "tests.benchmarks", "--size", "small", "dump"],
    ]  # fmt: skip
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(MachineError, match="/proc"):
        bench.backups([], "small", emit=lambda _: None, ask=lambda _: True)


def test_the_steps_it_prepares_are_those_of_a_real_cluster(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XWIKI_STACK_BED", "offline")
    monkeypatch.setenv("XWIKI_STACK_CACHE", str(tmp_path))
    plan = cluster.prepare(cluster.Config(name=bench.CLUSTER, extras=True))
    found = {step.name for step in bench._needed(plan, bench.BACKUPS)}
    assert set(bench.BACKUPS) <= found
    assert "cluster" not in found
