"""Long work as named steps: what overlaps, what is under way, how far, how long, and the log.

A step runs as soon as the steps it needs are done. Steps of one lane never overlap (two compilers
on two cores gain nothing), steps of different lanes do. Every step writes its own log file; when
one fails, its error names that file, no new step starts, and what runs is ended.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xwiki_stack import proc, repo
from xwiki_stack.errors import StackError

PULSE = 15.0
"""Seconds of silence after which a running step says that it still runs."""


class Log:
    """What a step is handed: its log file, and a voice for its progress."""

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self.path, self._say = path, say
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")

    def say(self, text: str) -> None:
        """Tell how far the step is; shown with its next line of progress and kept in the log."""
        with self.path.open("a") as file:
            file.write(f"-- {text}\n")
        self._say(text)

    def run(self, argv: proc.Argv, **options: Any) -> proc.Result:
        """`proc.run` with this log."""
        return proc.run(argv, log=self.path, **options)


@dataclass(frozen=True)
class Step:
    """One piece of work. `run` returns its outcome in a few words ("built", "nothing to do")."""

    name: str
    title: str
    run: Callable[[Log], str | None]
    needs: tuple[str, ...] = ()
    lane: str = ""


@dataclass(frozen=True)
class Done:
    """A finished step: how it ended and how long it took, in seconds."""

    name: str
    title: str
    outcome: str
    seconds: float


class _Board:
    """Prints when a step starts, ends, and every PULSE seconds while nothing else was said."""

    def __init__(self, emit: Callable[[str], None], total: int) -> None:
        self._emit, self._total, self._finished = emit, total, 0
        self._lock = threading.Lock()
        self._began: dict[str, float] = {}
        self._said: dict[str, str] = {}
        self._spoke = time.monotonic()

    def start(self, step: Step) -> None:
        with self._lock:
            self._began[step.title] = time.monotonic()
            self._said[step.title] = ""

    def say(self, step: Step, text: str) -> None:
        with self._lock:
            self._said[step.title] = text

    def finish(self, step: Step, outcome: str) -> float:
        with self._lock:
            seconds = time.monotonic() - self._began.pop(step.title)
            self._said.pop(step.title, None)
            self._finished += 1
            width = len(str(self._total))
            count = f"[{self._finished:>{width}}/{self._total}]"
            self._line(f"{count} {step.title}: {outcome} ({clock(seconds)})")
            return seconds

    def pulse(self) -> None:
        with self._lock:
            if self._began and time.monotonic() - self._spoke >= PULSE:
                now = time.monotonic()
                running = [
                    f"{title} {clock(now - began)}"
                    + (f", {self._said[title]}" if self._said[title] else "")
                    for title, began in self._began.items()
                ]
                self._line("      ... " + "; ".join(running))

    def _line(self, text: str) -> None:
        self._spoke = time.monotonic()
        self._emit(text)


def execute(steps: Sequence[Step], emit: Callable[[str], None], *, jobs: int = 4) -> list[Done]:
    """Run all steps, each after what it needs; return them in the order they ended.

    Raises the first failing step's StackError with the path of its log; anything else a step
    raises goes through unchanged. A need that names no step is a mistake of ours: ValueError.
    """
    known = {step.name for step in steps}
    for step in steps:
        if missing := set(step.needs) - known:
            raise ValueError(f"step {step.name} needs unknown {sorted(missing)}")
    proc.resume()
    board = _Board(emit, len(steps))
    waiting = list(steps)
    running: dict[Future[Done], Step] = {}
    done: list[Done] = []
    pool = ThreadPoolExecutor(max_workers=jobs)
    try:
        while waiting or running:
            ready = {item.name for item in done}
            for step in list(waiting):
                lanes = {other.lane for other in running.values() if other.lane}
                free = step.lane not in lanes and len(running) < jobs
                if free and ready.issuperset(step.needs):
                    waiting.remove(step)
                    board.start(step)
                    running[pool.submit(_run, step, board)] = step
            if not running:
                raise ValueError(f"steps need each other: {[step.name for step in waiting]}")
            finished, _ = wait(running, timeout=1, return_when=FIRST_COMPLETED)
            board.pulse()
            for future in finished:
                del running[future]
                done.append(future.result())
    except BaseException:
        proc.end_children()
        pool.shutdown()
        proc.resume()
        raise
    pool.shutdown()
    return done


def _run(step: Step, board: _Board) -> Done:
    log = Log(repo.logs() / f"{step.name}.log", lambda text: board.say(step, text))
    try:
        outcome = step.run(log) or "done"
    except StackError as error:
        log_named = str(log.path) in str(error)
        error.args = (f"{step.title}: {error}" + ("" if log_named else f"; log: {log.path}"),)
        raise
    return Done(step.name, step.title, outcome, board.finish(step, outcome))


def clock(seconds: float) -> str:
    """Seconds as a person reads them: 0.4 s, 12 s, 3 min 05 s."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
