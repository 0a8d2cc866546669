"""How far long work is: one that says nothing for an hour looks like one that hangs."""

import time
from collections.abc import Callable

from xwiki_stack.backup.words import rate, size

SECONDS = 5.0
"""Between two lines; work that is shorter says nothing."""


class Progress:
    """Says now and then how many bytes have passed, of how many where that is known, how fast."""

    def __init__(self, what: str, emit: Callable[[str], None], total: int = 0) -> None:
        self._what, self._emit, self._total = what, emit, total
        self.done = 0
        self._began = self._spoke = time.monotonic()

    def add(self, count: int) -> None:
        """So many more."""
        self.done += count
        now = time.monotonic()
        if now - self._spoke >= SECONDS:
            self._spoke = now
            far = f"{size(self.done)} of {size(self._total)}" if self._total else size(self.done)
            self._emit(f"{self._what}: {far}, {rate(self.done, now - self._began)}")
