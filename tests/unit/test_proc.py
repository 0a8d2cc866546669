"""Programs are started, masked, timed out and ended as `proc` promises."""

import time
from pathlib import Path

import pytest

from xwiki_stack import proc
from xwiki_stack.errors import MachineError


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
