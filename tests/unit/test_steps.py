"""Steps run in order of need, overlap by lane, and fail with their log's path."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from xwiki_stack import proc, repo, steps
from xwiki_stack.errors import MachineError
from xwiki_stack.steps import Log, Step


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(repo.CACHE_VARIABLE, str(tmp_path))


def test_a_step_waits_for_what_it_needs_and_reports_its_outcome() -> None:
    order: list[str] = []
    lines: list[str] = []

    def work(name: str) -> Step:
        def run(_log: Log) -> str:
            order.append(name)
            return f"made {name}"

        return Step(name, name, run, needs=("a",) if name == "b" else ())

    done = steps.execute([work("b"), work("a")], lines.append)
    assert order == ["a", "b"]
    assert [item.outcome for item in done] == ["made a", "made b"]
    assert [line.split(" (")[0] for line in lines] == ["[1/2] a: made a", "[2/2] b: made b"]


def test_steps_of_one_lane_never_overlap_and_others_do() -> None:
    meet = threading.Barrier(2, timeout=5)
    inside: list[int] = []
    most: list[int] = []

    def alone(_log: Log) -> None:
        inside.append(1)
        time.sleep(0.05)  # long enough for another one to come in
        most.append(len(inside))
        inside.pop()

    def together(_log: Log) -> None:
        meet.wait()

    lane = [Step(f"lane-{n}", f"lane {n}", alone, lane="go") for n in range(4)]
    free = [Step(f"free-{n}", f"free {n}", together) for n in range(2)]
    steps.execute([*lane, *free], lambda _line: None)
    assert max(most) == 1


def test_a_failing_step_names_itself_and_its_log_and_stops_the_rest() -> None:
    later: list[str] = []

    def fail(log: Log) -> None:
        log.run(["sh", "-c", "echo disk full >&2; exit 1"])

    def never(_log: Log) -> None:
        later.append("ran")

    with pytest.raises(MachineError) as caught:
        steps.execute(
            [Step("bad", "Bad step", fail), Step("next", "Next", never, needs=("bad",))],
            lambda _line: None,
        )
    log = repo.logs() / "bad.log"
    assert str(caught.value).startswith("Bad step: ")
    assert str(log) in str(caught.value)
    assert "disk full" in log.read_text()
    assert not later


def test_a_need_that_names_no_step_and_a_circle_are_refused() -> None:
    def nothing(_log: Log) -> None: ...

    with pytest.raises(ValueError, match="unknown"):
        steps.execute([Step("a", "a", nothing, needs=("z",))], lambda _line: None)
    with pytest.raises(ValueError, match="need each other"):
        steps.execute(
            [Step("a", "a", nothing, needs=("b",)), Step("b", "b", nothing, needs=("a",))],
            lambda _line: None,
        )


def test_a_long_step_says_that_it_still_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "PULSE", 0.0)
    lines: list[str] = []

    def slow(log: Log) -> None:
        log.say("7 of 33")
        log.run(["sleep", "1.5"])

    steps.execute([Step("slow", "Slow", slow)], lines.append)
    assert any("Slow" in line and "7 of 33" in line for line in lines[:-1])


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.42, "0.4 s"), (12.4, "12 s"), (185, "3 min 05 s")]
)
def test_time_is_told_as_people_read_it(seconds: float, text: str) -> None:
    assert steps.clock(seconds) == text


def forever(_log: Log) -> None:
    """Waits as every step must."""
    while True:
        proc.pause(0.5)


def sleeps(log: Log) -> None:
    log.run(["sleep", "60"])


def pipes(_log: Log) -> None:
    proc.pipe(["sleep", "60"], ["cat"])


WAYS_TO_WAIT = pytest.mark.parametrize("wait", [forever, sleeps, pipes])


@WAYS_TO_WAIT
def test_ctrl_c_ends_a_step_whatever_it_waits_for(wait: Callable[[Log], None]) -> None:
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        steps.execute([Step("wait", "Wait", wait)], lambda _line: None)
    assert time.monotonic() - began < 2.5
    assert proc.run(["echo", "on"]).out == "on\n", "after an interrupt nothing starts any more"


@WAYS_TO_WAIT
def test_a_failing_step_ends_those_beside_it(wait: Callable[[Log], None]) -> None:
    def fail(_log: Log) -> None:
        time.sleep(0.5)
        raise MachineError("no room left")

    began = time.monotonic()
    with pytest.raises(MachineError, match="no room left"):
        steps.execute([Step("fail", "Fail", fail), Step("wait", "Wait", wait)], lambda _line: None)
    assert time.monotonic() - began < 2.5
    done = steps.execute([Step("next", "Next", lambda _log: "made")], lambda _line: None)
    assert [item.outcome for item in done] == ["made"]
