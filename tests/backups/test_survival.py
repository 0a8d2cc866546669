"""Runs that are killed, many rows, files that move: no half set, no memory, nothing silent."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.backups.amounts import KILLS
from tests.backups.processes import resident
from tests.backups.test_failures import stored, unharmed
from tests.backups.test_sets import later, run, silent
from tests.backups.wiki import Wiki
from tests.e2e.patience import eventually
from xwiki_stack import proc
from xwiki_stack.backup import keyring, lock, restore, site, verify
from xwiki_stack.backup.store import Store

LIMIT = 150 * 2**20
"""Bytes of memory that a run may hold."""

PROGRAM = str(Path(sys.executable).parent / "xwiki-stack")


def start(wiki: Wiki, *words: str) -> "subprocess.Popen[bytes]":
    argv = [PROGRAM, "backup", *words, "--config", str(wiki.config(name="apart"))]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.mark.fault(15)
@pytest.mark.parametrize("seed", range(KILLS))
def test_a_run_killed_at_any_moment_leaves_no_set_and_the_next_one_works(
    wiki: Wiki, seed: int, record_property: Callable[[str, object], None]
) -> None:
    run(wiki)
    later()
    chance = random.Random(seed)  # noqa: S311
    wiki.write("store/large", chance.randbytes(20 * 2**20))
    before, sets = stored(wiki), wiki.sets()
    child = start(wiki, "run")
    # Python alone takes the first third of a second; the whole run two seconds.
    time.sleep(chance.uniform(0.3, 2.2))
    child.send_signal(signal.SIGKILL)
    child.communicate()
    # Killed after its last word, it has made a set, a whole one.
    done = [name for name in wiki.sets() if name not in sets]
    unharmed(wiki, before, [*sets, *done])
    sessions = f"SELECT ID FROM information_schema.processlist WHERE USER = '{wiki.user}'"
    eventually(lambda: not wiki.server.sql(sessions), seconds=20, pause=0.1)
    held = wiki.objects / "locks/site.json"
    if held.exists():
        os.utime(held, (time.time() - 24 * 3600,) * 2)
    later()
    made = run(wiki).manifest
    assert wiki.sets() == [*sets, *done, made.id]
    verify.opened(Store(wiki.loaded()), made, keyring.openers(wiki.loaded()))
    record_property("looked", f"{KILLS} runs killed")


def test_a_run_that_is_asked_to_end_frees_the_lock(wiki: Wiki) -> None:
    wiki.write("store/large", random.Random(1).randbytes(60 * 2**20))  # noqa: S311
    child = start(wiki, "run")
    deadline = time.monotonic() + 30
    while not (wiki.objects / "locks/site.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGTERM)
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 130, out
    assert wiki.sets() == []
    run(wiki)


def test_memory_stays_bounded_whatever_the_size(wiki: Wiki) -> None:
    """150 MiB of dump with rows of 12 MB, a file of 180 MiB, 3000 small ones."""
    chance = random.Random(5)  # noqa: S311
    wiki.server.sql("SET GLOBAL max_allowed_packet = 1073741824")
    for _ in range(4):
        wiki.server.sql("INSERT INTO nasty (bytes) SELECT RANDOM_BYTES(1024)"
                        " FROM information_schema.columns LIMIT 3000", wiki.schema)  # fmt: skip
    double = "INSERT INTO nasty (words) SELECT words FROM nasty WHERE LENGTH(words) > 9000000;"
    huge = "INSERT INTO nasty (words) SELECT REPEAT('it''s ),( \\\\', 1200000);"
    wiki.server.sql(huge + 2 * double, wiki.schema)
    with (wiki.root / "store/large").open("wb") as large:
        for _ in range(180):
            large.write(chance.randbytes(2**20))
    for number in range(3000):
        wiki.write(f"store/small/{number % 50}/{number}", chance.randbytes(900))
    for words in (["run"], ["verify", "--opened"]):
        child = start(wiki, *words)
        peaks: dict[str, int] = {}
        while child.poll() is None:
            for name, peak in resident(child.pid).items():
                peaks[name] = max(peak, peaks.get(name, 0))
            time.sleep(0.01)
        out = child.communicate()[0].decode()
        assert child.returncode == 0, out
        assert max(peaks.values()) <= LIMIT, peaks


def test_a_file_that_changes_while_it_is_read_is_read_again(
    wiki: Wiki, monkeypatch: pytest.MonkeyPatch
) -> None:
    wiki.write("store/moving", b"a" * 3_000_000)
    wiki.write("store/restless", b"a" * 3_000_000)
    seen: list[str] = []
    real = os.fstat

    def fstat(handle: int) -> os.stat_result:
        name = Path(f"/proc/self/fd/{handle}").readlink().name
        facts = real(handle)
        if name in ("moving", "restless"):
            seen.append(name)
            if name == "restless" or seen.count("moving") == 1:
                # Written to between the first look and the last one.
                wiki.write(f"store/{name}", bytes([65 + len(seen)]) * 2_500_000)
        return facts

    monkeypatch.setattr(os, "fstat", fstat)
    made = site.run(wiki.loaded(), silent).found.manifest
    monkeypatch.undo()
    assert seen.count("moving") == 4
    assert seen.count("restless") == 6
    assert made.files["changed"] == 1
    verify.opened(Store(wiki.loaded()), made, keyring.openers(wiki.loaded()))
    later()
    # Quiet now: the next set has what lies there.
    run(wiki)
    tree = wiki.tree()
    wiki.destroy()
    restore.restore(wiki.loaded(account="root"), restore.Wish(), silent)
    assert wiki.tree() == tree


def test_counts_of_nasty_rows_are_those_of_the_server(wiki: Wiki) -> None:
    wiki.fill(pages=3, rows=400, seed=11)
    made = run(wiki).manifest
    for table, rows in made.tables.items():
        assert wiki.server.sql(f"SELECT COUNT(*) FROM {table}") == [str(rows)]
    assert made.tables[f"{wiki.schema}.nasty"] == 460


def test_a_lock_whose_answer_never_came_is_given_back(
    wiki: Wiki, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(wiki.loaded())

    def act(name: str, content: bytes) -> str:
        Store.put_new(store, name, content)
        raise proc.Interrupted

    monkeypatch.setattr(store, "put_new", act)
    with pytest.raises(proc.Interrupted), lock.hold(store, "site", minutes=30):
        pass
    monkeypatch.undo()
    with lock.hold(store, "site", minutes=30):
        assert wiki.keys("locks/") == ["locks/site.json"]
