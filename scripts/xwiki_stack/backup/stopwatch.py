"""How long the parts of a run take."""

import contextlib
import time
from collections.abc import Iterator


class Stopwatch:
    """Runs from its making. `steps`: name to seconds, also of one that failed."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.steps: dict[str, float] = {}

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Take the time of the block."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.steps[name] = time.monotonic() - began

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return time.monotonic() - self._began
