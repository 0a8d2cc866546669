"""How far a program is, read from what it says into its log while it runs."""

import re
import threading
from collections.abc import Callable

from xwiki_stack.steps import Log

SECONDS = 4.0
"""Between two looks at a log."""


class Watch:
    """Tells every few seconds how far a program is; `read` makes words of its whole log so far."""

    def __init__(self, log: Log, read: Callable[[str], str]) -> None:
        self._log, self._read = log, read
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _tell(self) -> None:
        while not self._ended.wait(SECONDS):
            if words := self._read(self._log.path.read_text(errors="replace")):
                self._log.say(words)


def packages(total: int) -> Callable[[str], str]:
    """For `go build -v`, which names each of `total` packages when it is compiled."""
    name = re.compile(r"[\w.-]+(/[\w.~-]+)*")

    def read(text: str) -> str:
        done = sum(1 for line in text.splitlines() if name.fullmatch(line))
        return f"{done} of {total} packages"

    return read


def debootstrap(text: str) -> str:
    """For debootstrap: what it does with its packages, and with how many it has done it."""
    counts = {
        word: text.count(f"I: {word} ")
        for word in ("Retrieving", "Extracting", "Unpacking", "Configuring")
    }
    reached = [word for word, count in counts.items() if count]
    return f"{reached[-1].lower()} packages, {counts[reached[-1]]} so far" if reached else ""


def layers(text: str) -> str:
    """For `docker pull` without a terminal: one line per layer and stage."""
    stages = dict(re.findall(r"^([0-9a-f]{12}): (.+)$", text, re.M))
    done = [stage for stage in stages.values() if stage in ("Pull complete", "Already exists")]
    return f"{len(done)} of {len(stages)} layers" if stages else ""
