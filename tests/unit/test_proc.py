"""Programs are started, masked, timed out and ended as `proc` promises."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from xwiki_stack import proc
from xwiki_stack.errors import MachineError


@pytest.fixture(autouse=True)
def _resumed() -> Iterator[None]:
    yield
    proc.resume()


def eventually(done: Callable[[], bool], seconds: float = 5) -> bool:
    """Whether it becomes true in that time."""
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(0.02)
    return done()


def words_run(words: str) -> bool:
    """Whether a process runs whose command line holds these words."""
    for folder in Path("/proc").glob("[1-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if words in line and folder.name != str(os.getpid()):
            return True
    return False


def test_a_program_gives_both_outputs_and_its_code() -> None:
    result = proc.run(["sh", "-c", "echo out; echo err >&2; exit 3"], check=False)
    assert (result.out, result.err, result.code) == ("out\n", "err\n", 3)


def test_a_failing_program_is_one_line_with_its_last_words() -> None:
    with pytest.raises(proc.CommandFailed) as caught:
        proc.run(["sh", "-c", "echo no room left >&2; exit 7"])
    assert "exit code 7: no room left" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_program_says_so() -> None:
    with pytest.raises(MachineError, match="`no-such-tool` is not installed"):
        proc.run(["no-such-tool"])


def test_a_program_over_its_time_is_ended_with_its_children(tmp_path: Path) -> None:
    marker = tmp_path / "late"
    with pytest.raises(MachineError, match="did not end within"):
        proc.run(["sh", "-c", f"(sleep 2; touch {marker}) & sleep 30"], timeout=0.3)
    time.sleep(2.2)
    assert not marker.exists()


def test_secrets_are_masked_in_the_log_and_in_the_error(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(proc.CommandFailed) as caught:
        proc.run(["sh", "-c", "echo hunter2 >&2; exit 1"], log=log, secrets=["hunter2"])
    assert "hunter2" not in str(caught.value) + log.read_text()
    assert "***" in log.read_text()


def test_standard_input_reaches_a_program_that_may_not_read_it() -> None:
    assert proc.run(["cat"], stdin="text").out == "text"
    assert proc.run(["true"], stdin="x" * 1_000_000).code == 0


@pytest.mark.parametrize(
    ("first", "second", "culprit"),
    [("exit 4", "cat >/dev/null", "exit code 4"), ("yes", "exit 5", "exit code 5")],
)
def test_a_pipe_names_the_half_that_failed(first: str, second: str, culprit: str) -> None:
    with pytest.raises(proc.CommandFailed, match=culprit):
        proc.pipe(["sh", "-c", first], ["sh", "-c", second])


def test_a_pipe_carries_bytes(tmp_path: Path) -> None:
    target = tmp_path / "out"
    proc.pipe(["printf", "abc"], ["sh", "-c", f"cat >{target}"])
    assert target.read_text() == "abc"


def test_a_daemon_is_known_by_its_pid_file_and_ended(tmp_path: Path) -> None:
    pid_file = tmp_path / "daemon.pid"
    pid = proc.spawn(["sleep", "60"], log=tmp_path / "log", pid_file=pid_file)
    assert proc.alive(pid_file) == pid
    assert proc.end(pid_file)
    assert proc.alive(pid_file) is None
    assert not proc.end(pid_file)


def test_a_recycled_pid_is_never_taken_for_ours(tmp_path: Path) -> None:
    other = proc.spawn(["sleep", "60"], log=tmp_path / "log", pid_file=tmp_path / "other.pid")
    stale = tmp_path / "stale.pid"
    stale.write_text(f"{other} 12345\n")
    assert proc.alive(stale) is None
    assert not proc.end(stale)
    assert proc.alive(tmp_path / "other.pid") == other, "the process was ended by a stale pid"
    assert proc.end(tmp_path / "other.pid")


def test_a_daemon_that_died_is_not_alive(tmp_path: Path) -> None:
    pid_file = tmp_path / "daemon.pid"
    proc.spawn(["sh", "-c", "kill -KILL $$"], log=tmp_path / "log", pid_file=pid_file)
    time.sleep(0.3)
    assert proc.alive(pid_file) is None


def test_a_daemon_ends_with_what_it_started_when_its_leader_ends_first(tmp_path: Path) -> None:
    pid_file = tmp_path / "daemon.pid"
    stubborn = "(trap '' TERM; while :; do sleep 0.1; done) & echo $! >child; sleep 60"
    proc.spawn(["sh", "-c", f"cd {tmp_path}; {stubborn}"], log=tmp_path / "log", pid_file=pid_file)
    note = tmp_path / "child"
    assert eventually(lambda: note.exists() and note.read_text().endswith("\n"))
    assert proc.alive(pid_file)
    child = int(note.read_text())
    assert proc.end(pid_file, patience=0.5)
    assert eventually(lambda: not proc._born(child), 1), "what ignores SIGTERM outlived its leader"


@pytest.mark.parametrize("text", ["", "x y", "12", "1 2 3", "\x00"])
def test_a_pid_file_that_makes_no_sense_names_no_daemon(tmp_path: Path, text: str) -> None:
    pid_file = tmp_path / "daemon.pid"
    pid_file.write_text(text)
    assert proc.alive(pid_file) is None
    assert not proc.end(pid_file)
    assert not pid_file.exists()


def test_a_process_that_dies_while_it_is_looked_at_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two looks at /proc anything may happen; a folder without its file stands for it."""
    monkeypatch.setattr(proc, "PROCESSES", tmp_path)
    (tmp_path / "77").mkdir()
    (tmp_path / "78").mkdir()
    (tmp_path / "78" / "stat").touch()
    for pid in (77, 78, 79):
        assert proc._born(pid) == ""
        assert not proc._group_lives(pid)


HEADLESS = """
import ctypes, socket, threading, time
server = socket.create_server(("127.0.0.1", 0))
open("port", "w").write(str(server.getsockname()[1]))
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="told by Linux' /proc alone")
def test_a_process_whose_first_thread_has_ended_runs_while_others_do(tmp_path: Path) -> None:
    pid_file = tmp_path / "daemon.pid"
    argv = ["sh", "-c", f'cd {tmp_path} && exec "$0" -c "$1"', sys.executable, HEADLESS]
    pid = proc.spawn(argv, log=tmp_path / "log", pid_file=pid_file)
    try:
        assert eventually(lambda: proc._stat(Path(f"/proc/{pid}"))[0] == "Z"), "it still leads"
        # What it listened on is not free yet.
        socket.create_connection(("127.0.0.1", int((tmp_path / "port").read_text()))).close()
        assert proc._group_lives(pid)
    finally:
        os.killpg(pid, signal.SIGKILL)
    assert eventually(lambda: not proc._group_lives(pid), 5)


def test_a_program_that_cannot_be_started_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"cannot be started: .*Permission denied"):
        proc.run([tmp_path])
    with pytest.raises(MachineError, match=r"cannot be started: .*No such file .*absent"):
        proc.run(["true"], cwd=tmp_path / "absent")
    for start in (proc.attached, proc.become):
        with pytest.raises(MachineError, match="`/no/such/tool` is not installed"):
            start(["/no/such/tool"])


@pytest.mark.parametrize(
    "work",
    [
        lambda: proc.pause(60),
        lambda: proc.run(["sleep", "7.7101"]),
        lambda: proc.run(["sleep", "7.7101"], check=False),
        lambda: proc.pipe(["sleep", "7.7101"], ["cat"]),
    ],
    ids=["pause", "run", "unchecked run", "pipe"],
)
def test_whatever_a_worker_does_it_can_be_ended(work: Callable[[], object]) -> None:
    raised: list[BaseException] = []

    def worker() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=worker)
    thread.start()
    time.sleep(0.3)
    began = time.monotonic()
    proc.end_children()
    thread.join(timeout=5)
    assert not thread.is_alive()
    assert time.monotonic() - began < 1.5
    assert [type(error) for error in raised] == [proc.Interrupted]
    assert not words_run("sleep 7.7101")


def test_while_work_is_being_ended_nothing_starts(tmp_path: Path) -> None:
    proc.end_children()
    with pytest.raises(proc.Interrupted):
        proc.run(["touch", tmp_path / "made"])
    with pytest.raises(proc.Interrupted):
        proc.pipe(["true"], ["touch", tmp_path / "made"])
    with pytest.raises(proc.Interrupted):
        proc.spawn(["touch", tmp_path / "made"], log=tmp_path / "l", pid_file=tmp_path / "p")
    proc.resume()
    assert list(tmp_path.glob("made")) == []
    proc.run(["touch", tmp_path / "made"])


def test_many_stubborn_programs_end_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other they would take the patience of each."""
    monkeypatch.setattr(proc, "_end", partial(proc._end, patience=1))
    stubborn = ["sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"]
    workers = [threading.Thread(target=_quietly, args=(stubborn,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    assert eventually(lambda: len(proc._running) == 3)
    time.sleep(0.3)
    began = time.monotonic()
    proc.end_children()
    assert time.monotonic() - began < 2
    for worker in workers:
        worker.join(timeout=2)
        assert not worker.is_alive()


def _quietly(argv: list[str]) -> None:
    with contextlib.suppress(proc.Interrupted):
        proc.run(argv)


@pytest.mark.parametrize("error", [KeyboardInterrupt, proc.Interrupted])
def test_an_attached_program_cleans_up_and_then_the_interrupt_goes_on(
    tmp_path: Path, error: type[BaseException]
) -> None:
    """On a terminal both of us get the Ctrl-C; a signal to us alone is handed on."""
    ready, clean = tmp_path / "ready", tmp_path / "clean"
    words = f"trap 'sleep 0.3; touch {clean}; exit 0' INT; echo $$ >{ready}; "

    def raise_it(_number: int, _frame: object) -> None:
        raise error

    def interrupt() -> None:
        eventually(lambda: ready.exists() and bool(ready.read_text()))
        time.sleep(1)  # the program may be ready before we have come to wait for it
        if error is KeyboardInterrupt:
            os.kill(int(ready.read_text()), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, raise_it)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(error):
            proc.attached(["sh", "-c", words + "while :; do sleep 0.05; done"])
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    assert clean.exists()


def test_an_attached_program_that_ignores_ctrl_c_is_ended_all_the_same(tmp_path: Path) -> None:
    """Both of us do so where a script has started us in the background."""
    ready, ended = tmp_path / "ready", tmp_path / "ended"
    argv = ["sh", "-c", f"trap 'touch {ended}; exit 0' TERM; touch {ready};"
                        " while :; do sleep 0.05; done"]  # fmt: skip
    script = (
        "import signal, sys; from xwiki_stack import cli, proc\n"
        f"with cli._interruptible(): proc.attached({argv!r})"
    )
    words = "trap '' INT; exec \"$@\""
    program = subprocess.Popen(["/bin/sh", "-c", words, "sh", sys.executable, "-c", script])
    try:
        eventually(ready.exists)
        time.sleep(0.5)  # the program may be ready before its starter has come to wait for it
        program.terminate()
        program.wait(timeout=10)
    finally:
        program.kill()
    assert ended.exists()


def test_a_flow_gives_bytes_and_the_end_tells_of_failure() -> None:
    with proc.flow(["sh", "-c", "printf abc; echo what went wrong >&2; exit 3"]) as flow:
        got = b""
        while block := flow.read(2):
            got += block
        with pytest.raises(proc.CommandFailed, match="exit code 3: what went wrong"):
            flow.end()
    assert got == b"abc"


def test_a_flow_gives_whole_blocks_however_small_the_pieces_are() -> None:
    pieces = "for _ in 1 2 3 4 5; do printf abc; sleep 0.02; done"
    with proc.flow(["sh", "-c", pieces]) as flow:
        assert [flow.read(6) for _ in range(4)] == [b"abcabc", b"abcabc", b"abc", b""]
        flow.end()


def test_a_flow_takes_bytes_and_notices_a_reader_that_left(tmp_path: Path) -> None:
    target = tmp_path / "got"
    with proc.flow(["sh", "-c", f"cat > {target}"], into=True) as flow:
        flow.write(b"x" * 300_000)
        flow.end()
    assert target.stat().st_size == 300_000
    with (
        pytest.raises(proc.CommandFailed, match="exit code 4: enough"),
        proc.flow(["sh", "-c", "echo enough >&2; exit 4"], into=True) as flow,
    ):
        for _ in range(100):
            flow.write(b"x" * 100_000)


def test_a_flow_ends_its_program_when_the_reader_fails() -> None:
    with pytest.raises(RuntimeError), proc.flow(["sleep", "60"]) as flow:
        pid = flow.pid
        raise RuntimeError
    assert not Path(f"/proc/{pid}").exists() or proc._born(pid) == ""


def test_what_is_handed_is_read_as_a_file_and_stands_in_no_argument() -> None:
    script = 'cat "$1"; tr "\\0" " " < /proc/self/cmdline'
    said = proc.run(["sh", "-c", script, "-", proc.HANDED], handed="password=s3cret\n").out
    assert said.startswith("password=s3cret\n")
    assert said.count("s3cret") == 1
    with proc.flow(["cat", proc.HANDED], handed="again", secrets=["again"]) as flow:
        assert flow.read(100) == b"again"
        flow.end()
