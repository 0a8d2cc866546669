"""Whole runs under faults: one line says why, all is left as it was, the next run is free."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.backups.amounts import ALL, AWAY, POWER_CUTS
from tests.backups.processes import resident
from tests.backups.proxy import HOLD, TRICKLE, Answer, Fault, Request, always, away, proxy
from tests.backups.s3 import S3, served
from tests.backups.test_failures import (
    failed,
    programs,
    silent_about_secrets,
    stored,
    told,
    unharmed,
)
from tests.backups.test_sets import later, run, silent
from tests.backups.test_survival import LIMIT
from tests.backups.wiki import Wiki, command
from tests.e2e.patience import eventually
from xwiki_stack import proc
from xwiki_stack.backup import deadline, keyring, restore, site, store, verify
from xwiki_stack.backup.store import MIB, Store

PROGRAM = str(Path(sys.executable).parent / "xwiki-stack")


@pytest.fixture
def kept(wiki: Wiki) -> Wiki:
    """A wiki with a set, and with files that an upload in parts has to bring next."""
    run(wiki)
    later()
    wiki.write("store/large", random.Random(9).randbytes(21 * MIB))  # noqa: S311
    return wiki


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small parts, and waits between tries that are shorter than ours."""
    monkeypatch.setattr(store, "PART_SIZES", ((4, 5 * MIB), (100, 6 * MIB)))
    monkeypatch.setattr(proc, "pause", lambda seconds: time.sleep(min(seconds, 0.05)))


def started(config: Path) -> "subprocess.Popen[str]":
    """A run in a process of its own, all that it says in one pipe."""
    return subprocess.Popen(
        [PROGRAM, "backup", "run", "--config", config],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def through(wiki: Wiki, fault: Fault, code: int, words: str) -> list[str]:
    """A run through a proxy fails as it should; kinds of what it asked for. Then one succeeds."""
    with proxy(wiki.s3.port, fault) as between:
        failed(wiki, code, words, store__endpoint=between.endpoint, limits__packMiB=48)
    free(wiki)
    return between.seen


def free(wiki: Wiki) -> None:
    """The next run finds no lock and makes a set that opens."""
    later()
    made = run(wiki).manifest
    verify.opened(Store(wiki.loaded()), made, keyring.openers(wiki.loaded()))


# The store before the work


@contextlib.contextmanager
def mute(*, answers: bool) -> Iterator[str]:
    """A port that says nothing. answers: it takes connections; else the kernel drops them."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(64 if answers else 0)
        if not answers:
            # The queue is full, so whoever comes next gets no word, as behind a blackhole.
            for _ in range(2):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.fault(1)
@pytest.mark.parametrize("answers", [True, False], ids=["silent", "blackhole"])
def test_a_store_that_says_nothing_is_told_before_the_dump(
    wiki: Wiki, answers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not ALL:
        # The sample waits for a word less long; the limit of 30 s is for the real patience.
        soon = replace(store.HASTY, connect=2, silence=2, within=4)
        monkeypatch.setattr(store, "HASTY", soon)
    flag = wiki.folder / "dumped"
    dumping = programs(wiki, f'touch {flag}; exec "$real" "$@"')
    with mute(answers=answers) as endpoint:
        began = time.monotonic()
        failed(wiki, 10, "time", store__endpoint=endpoint, database__programs=dumping)
        assert time.monotonic() - began < 30
    assert not flag.exists()
    run(wiki, database__programs=dumping)
    assert flag.exists(), "the dump would have been noticed"


# The store on the way


@pytest.mark.fault(2)
def test_a_store_that_is_away_for_a_while_gets_it_all_within_the_memory(
    kept: Wiki, record_property: Callable[[str, object], None]
) -> None:
    kept.write("store/large", os.urandom(60 * MIB))
    with proxy(kept.s3.port, away(AWAY, "part")) as between:
        path = kept.config(name="apart", store__endpoint=between.endpoint, limits__packMiB=48)
        child = started(path)
        peak = 0
        while child.poll() is None:
            peak = max([peak, *resident(child.pid).values()])
            time.sleep(0.02)
        out, _ = child.communicate()
        assert child.returncode == 0, out
    assert between.seen.count("part") > 6
    assert peak <= LIMIT
    record_property("looked", f"away for {AWAY:.0f} s, at most {peak >> 20} MiB of memory")
    tree = kept.tree()
    kept.destroy()
    restore.restore(kept.loaded(account="root"), restore.Wish(), silent)
    assert kept.tree() == tree


@pytest.mark.fault(3)
def test_a_store_that_is_gone_for_good_ends_the_run_and_its_parts_are_swept(
    kept: Wiki, quick: None
) -> None:
    assert command(kept, "verify", "--opened").code == 0
    with proxy(kept.s3.port, away(3600, "part")) as between:
        failed(kept, 10, "upload part failed", store__endpoint=between.endpoint,
               limits__packMiB=48)  # fmt: skip
    assert "abort" in between.seen, "it tried to take its parts back"
    assert between.seen.count("part") <= 2 + 2 * store.STEADY.attempts
    client = Store(kept.loaded())
    (left,) = client.uploads()
    assert left[0].startswith("packs/")
    (folder,) = (kept.s3.objects / ".sgwtmp" / "multipart").glob("*/*")
    os.utime(folder, (time.time() - 49 * 3600,) * 2)
    assert command(kept, "prune", "--apply").code == 0
    assert list(client.uploads()) == []
    free_after_the_lock_has_expired(kept)


def free_after_the_lock_has_expired(wiki: Wiki) -> None:
    """The store was gone, so nobody could give the lock back: it expires by the store's time."""
    assert command(wiki, "run").code == 75
    os.utime(wiki.objects / "locks/site.json", (time.time() - 24 * 3600,) * 2)
    free(wiki)


@pytest.mark.fault(5)
@pytest.mark.fault(6)
@pytest.mark.fault(9)
@pytest.mark.fault(24)
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (always("complete", Answer(200, "InternalError")), "InternalError"),
        (always("part", Answer(403, "ExpiredToken")), "renew the temporary credentials"),
        (always("begin", Answer(403, "InvalidAccessKeyId")), "store.accessKeyFile"),
        (always("part", Answer(507, "InsufficientStorage")), "nothing was pruned"),
        (always("part", Answer(403, "QuotaExceeded")), "nothing was pruned"),
        (always("begin", Answer(403, "RequestTimeTooSkewed")), "set this machine's clock"),
    ],
    ids=["200 with an error", "expired token", "key withdrawn", "full", "quota", "clock"],
)
def test_a_store_that_refuses_in_the_middle_ends_the_run_in_one_line(
    kept: Wiki, quick: None, fault: Fault, words: str
) -> None:
    seen = through(kept, fault, 10, words)
    if "InternalError" not in words:
        assert seen.count("part") <= 4, "no storm of tries"
        assert seen.count("begin") == 1


class Small(S3):
    """A server on a disk of 24 MiB of its own, in a mount namespace of its own."""

    @property
    def objects(self) -> Path:
        if not self.pid_file.exists():
            return super().objects
        pid = self.pid_file.read_text().split()[0]
        return Path(f"/proc/{pid}/root{super().objects}")


@pytest.mark.fault(9)
def test_a_store_whose_disk_is_full_ends_the_run_and_prunes_nothing(
    make: Callable[..., Wiki], quick: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("small")
    (folder / "data").mkdir()
    script = 'mount -t tmpfs -o size=24m none "$0" && mkdir -p "$0/sets" && exec "$@"'
    own = ("unshare", "--map-root-user", "--mount", "sh", "-c", script, folder / "data")
    with served(Small(folder, before=own)) as small:
        wiki = make(s3=small)
        wiki.create()
        wiki.fill(rows=5)
        run(wiki)
        later()
        wiki.write("store/large", os.urandom(30 * MIB))
        failed(wiki, 10, "next: ", limits__packMiB=48)
        (wiki.root / "store/large").unlink()
        free(wiki)


@pytest.mark.fault(18)
def test_an_upload_at_a_byte_a_second_ends_with_the_runs_time(
    kept: Wiki, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as shorter, proxy(kept.s3.port, always("part", TRICKLE)) as between:
        real = deadline.within
        shorter.setattr(deadline, "within", lambda _minutes: real(0.08))
        began = time.monotonic()
        failed(kept, 8, "took longer than", store__endpoint=between.endpoint, limits__packMiB=48)
        assert time.monotonic() - began < 20
        assert 0 < between.trickled < 30
    free(kept)


@pytest.mark.parametrize("words", [["verify"], ["verify", "--opened"]])
def test_a_proof_of_a_store_that_keeps_waiting_ends_with_its_time(
    kept: Wiki, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    real = deadline.within
    monkeypatch.setattr(deadline, "within", lambda _minutes: real(0.03))
    with proxy(kept.s3.port, always("get", HOLD)) as between:
        result = command(kept, *words, store__endpoint=between.endpoint)
    assert result.code == 8, result.err
    assert "took longer than" in result.err
    assert not kept.keys("evidence/")


# The clock


@pytest.mark.fault(24)
@pytest.mark.parametrize("minutes", [20, -20, 400 * 24 * 60])
def test_a_clock_that_is_wrong_is_told_before_the_dump(kept: Wiki, minutes: int) -> None:
    with proxy(kept.s3.port, silent_fault, skew=timedelta(minutes=minutes)) as between:
        said = failed(kept, 10, "min off the store's", store__endpoint=between.endpoint,
                      database__port=9)  # fmt: skip
        assert f"clock is {abs(minutes)} min off" in said or f"{abs(minutes) - 1} min off" in said


@pytest.mark.fault(24)
@pytest.mark.parametrize("days", [400, -400])
def test_prune_does_nothing_by_a_clock_that_is_wrong(kept: Wiki, days: int) -> None:
    assert command(kept, "verify", "--opened").code == 0
    orphan = kept.objects / "packs" / "0000" / f"{0:032x}"
    orphan.parent.mkdir(parents=True)
    orphan.write_bytes(b"of a run that is still at work")
    before, sets = stored(kept), kept.sets()
    with proxy(kept.s3.port, silent_fault, skew=timedelta(days=days)) as between:
        result = command(kept, "prune", "--apply", store__endpoint=between.endpoint)
    assert result.code == 10, result.out
    assert "min off the store's" in result.err
    told(result.err)
    unharmed(kept, before, sets)


def silent_fault(_request: Request) -> None:
    """No fault."""


# This machine


def confined(wiki: Wiki, size: str, *words: str, **changes: Any) -> "proc.Result":
    """A command whose only writable place is a tiny disk: below HOME, TMPDIR and `small`."""
    small = wiki.folder / "small"
    small.mkdir(exist_ok=True)
    path = wiki.config(name="confined", **changes)
    script = (
        f'mount -t tmpfs -o size={size} none "$0" && mount -o remount,bind,ro / / && '
        'cd / && exec "$@"'
    )
    return proc.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script, small, PROGRAM, "backup",
         *words, "--config", path],
        env={"HOME": str(small), "TMPDIR": str(small), "XWIKI_STACK_CACHE": str(small)},
        check=False,
        timeout=120,
    )  # fmt: skip


@pytest.mark.fault(10)
def test_a_run_needs_no_disk_of_its_own(kept: Wiki) -> None:
    result = confined(kept, "64k", "run")
    assert result.code == 0, result.err
    assert len(kept.sets()) == 2
    result = confined(kept, "64k", "verify", "--opened")
    assert result.code == 0, result.err


@pytest.mark.fault(10)
def test_a_restore_into_a_full_disk_says_so(kept: Wiki) -> None:
    run(kept)
    small = kept.folder / "small"
    result = confined(kept, "1m", "restore", "--only", "files", files__root=str(small))
    assert result.code == 8, result.err
    assert "No space left on device" in result.err
    assert f"empty {small} and run again" in result.err
    told(result.err)
    silent_about_secrets(kept, result.out + result.err)


# The database


SLOW = '"$real" "$@" | (head -c 9000; touch {flag}; while [ ! -e {go} ]; do sleep 0.05; done; cat);'


def held_up(wiki: Wiki, meanwhile: Callable[[], object]) -> str:
    """Client programs whose first dump stands still after 9000 bytes until `meanwhile` is done."""
    flag, go = wiki.folder / "flag", wiki.folder / "go"
    wiki.server.sql(
        "CREATE TABLE a_long_one (id INT PRIMARY KEY, words LONGTEXT) ENGINE=InnoDB;"
        "INSERT INTO a_long_one SELECT n, REPEAT('word ', 100000) FROM (SELECT 1 n UNION SELECT 2"
        " UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6) AS numbers;",
        wiki.schema,
    )

    def work() -> None:
        eventually(flag.exists, seconds=30, pause=0.02)
        meanwhile()
        go.touch()

    threading.Thread(target=work, daemon=True).start()
    return programs(wiki, SLOW.format(flag=flag, go=go) + " exit ${PIPESTATUS[0]}")


def cut_off(wiki: Wiki) -> None:
    """End the backup account's sessions."""
    found = wiki.server.sql(
        f"SELECT ID FROM information_schema.processlist WHERE USER = '{wiki.user}'"
    )
    wiki.server.sql("".join(f"KILL {number};" for number in found))


@pytest.mark.fault(11)
def test_a_session_that_the_server_ends_makes_no_set(kept: Wiki) -> None:
    dumping = held_up(kept, lambda: cut_off(kept))
    failed(kept, 8, "somebody ended the session", database__programs=dumping)
    free(kept)


@pytest.mark.fault(13)
@pytest.mark.parametrize(
    ("statement", "query"),
    [
        ("ALTER TABLE xwikidoc ADD COLUMN XWD_NEW INT, ALGORITHM=COPY",
         "SHOW COLUMNS FROM xwikidoc LIKE 'XWD_NEW'"),
        ("ALTER TABLE xwikidoc ADD COLUMN XWD_NEW INT",
         "SHOW COLUMNS FROM xwikidoc LIKE 'XWD_NEW'"),
        ("ALTER TABLE nasty MODIFY bytes LONGBLOB NOT NULL",
         "SHOW COLUMNS FROM nasty WHERE `Null` = 'NO' AND Field = 'bytes'"),
        ("RENAME TABLE empty_one TO empty_two", "SHOW TABLES LIKE 'empty_two'"),
    ],
    ids=["copied", "in place", "modified", "renamed"],
)  # fmt: skip
def test_a_table_that_is_altered_during_the_dump_is_dumped_again(
    wiki: Wiki, statement: str, query: str
) -> None:
    lines: list[str] = []
    changed = held_up(wiki, lambda: wiki.server.sql(statement, wiki.schema))
    made = site.run(wiki.loaded(database__programs=changed), lines.append).found.manifest
    assert any("dumping again" in line for line in lines), lines
    assert made.database.key.endswith("db2.sql.zst.age")
    wiki.destroy()
    restore.restore(wiki.loaded(account="root"), restore.Wish(), silent)
    assert wiki.server.sql(query, wiki.schema)


# All at once


@pytest.mark.fault(16)
@pytest.mark.parametrize("seed", range(POWER_CUTS))
def test_a_power_cut_leaves_no_set_and_the_next_run_works(
    make: Callable[..., Wiki], tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """Engine, store and sessions end at one moment, without a word: what a reboot does to them."""
    chance = random.Random(seed)  # noqa: S311
    with served(S3(tmp_path_factory.mktemp("node"))) as node:
        wiki = make(s3=node)
        wiki.create()
        wiki.fill(rows=5)
        run(wiki)
        later()
        wiki.write("store/large", chance.randbytes(100 * MIB))
        before, sets = stored(wiki), wiki.sets()
        child = started(wiki.config(name="apart"))
        eventually(lambda: len(wiki.keys("sets/")) > len(sets) * 3, seconds=30, pause=0.01)
        time.sleep(chance.uniform(0, 0.4))
        assert child.poll() is None, "the run had ended before the cut: nothing is proven"
        child.send_signal(signal.SIGKILL)
        os.kill(int(node.pid_file.read_text().split()[0]), signal.SIGKILL)
        cut_off(wiki)
        child.communicate()
        node.pid_file.unlink()
        node.start()
        unharmed(wiki, before, sets)
        free_after_the_lock_has_expired(wiki)
        assert command(wiki, "verify", "--opened", "--all").code == 0


@pytest.mark.fault(17)
def test_of_two_runs_at_once_one_makes_a_set_and_the_other_is_busy(kept: Wiki) -> None:
    children = [started(kept.config(name=f"apart{number}")) for number in range(3)]
    said = [child.communicate(timeout=120)[0] for child in children]
    assert sorted(child.returncode for child in children) == [0, 75, 75], said
    for out, child in zip(said, children, strict=True):
        if child.returncode == 75:
            told(out.splitlines()[-1])
    assert len(kept.sets()) == 2
    free(kept)
