"""Programs under the clock: seconds, memory, bytes to disk, and when they said what."""

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.backups.processes import resident, written
from xwiki_stack.errors import StackError

PULSE = 0.05
"""Seconds between two looks at a program; what it held at most, the kernel remembers itself."""

TAIL = 3


@dataclass(frozen=True)
class Spent:
    """What one program cost, children included.

    resident: most bytes that each process held, by name; written: bytes given to disks.
    said: its lines, each with the seconds from the start.
    """

    code: int
    seconds: float
    resident: dict[str, int] = field(default_factory=dict)
    written: int = 0
    said: tuple[tuple[float, str], ...] = ()

    @property
    def out(self) -> str:
        """All its lines."""
        return "\n".join(line for _, line in self.said)

    def at(self, words: str) -> float:
        """When the first line came that holds these words. Raises StackError where none did."""
        for moment, line in self.said:
            if words in line:
                return moment
        raise StackError(f"a program never said {words!r}, but: {self.out[-500:]}")


class Programs:
    """Starts programs with the environment that all of them share: credentials and the like."""

    def __init__(self, env: Mapping[str, str], folder: Path) -> None:
        self._env, self._folder = dict(env), folder

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        codes: Sequence[int] = (0,),
    ) -> Spent:
        """Run a program to its end. Raises StackError for an exit code not among `codes`."""
        began = time.monotonic()
        child = subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**self._env, **(env or {})},
            cwd=cwd or self._folder,
            start_new_session=True,
        )
        said: list[tuple[float, str]] = []

        def listen() -> None:
            with child.stdout or contextlib.nullcontext(()) as lines:
                for line in lines:
                    words = line.decode(errors="replace").rstrip()
                    said.append((time.monotonic() - began, words))

        reader = threading.Thread(target=listen, daemon=True)
        reader.start()
        held: dict[str, int] = {}
        gave: dict[str, int] = {}
        try:
            while True:
                # Looked at first, so that the shortest program is seen once.
                for name, size in resident(child.pid).items():
                    held[name] = max(size, held.get(name, 0))
                gave.update(written(child.pid))
                try:
                    child.wait(timeout=PULSE)
                    break
                except subprocess.TimeoutExpired:
                    continue
        except BaseException:
            os.killpg(child.pid, 15)
            raise
        seconds = time.monotonic() - began
        reader.join(timeout=5)
        spent = Spent(child.returncode, seconds, held, sum(gave.values()), tuple(said))
        if spent.code not in codes:
            last = " | ".join(line for _, line in said[-TAIL:])
            name = " ".join(str(word) for word in argv[:3])
            raise StackError(f"`{name}` ended with exit code {spent.code}: {last}")
        return spent

    def shell(self, script: str, *, env: Mapping[str, str] | None = None) -> Spent:
        """Run a pipeline in which no part may fail."""
        return self.run(["bash", "-e", "-o", "pipefail", "-c", script], env=env)


def largest(spent: Spent, name: str, *, others: bool = False) -> int:
    """Most bytes that one process held whose name begins so, or (`others`) does not.

    Not their sum: a process that is about to become another program shares its parent's memory,
    and programs that ran one after the other never held theirs at once.
    """
    return max(
        (size for process, size in spent.resident.items() if process.startswith(name) != others),
        default=0,
    )
