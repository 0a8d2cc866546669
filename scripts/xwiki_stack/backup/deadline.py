"""The end of a run's time: whatever hangs, the run ends and the next one is free."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator

from xwiki_stack.errors import IncompleteError


@contextlib.contextmanager
def within(minutes: float, key: str = "limits.runMinutes") -> Iterator[Callable[[], None]]:
    """Give the block so long; gives what a loop calls to see whether its time is over.

    key: what an operator may raise. In the main thread a signal also interrupts what waits, such as
    an upload that stands still.
    Raises IncompleteError.
    """
    end = time.monotonic() + 60 * minutes

    def over() -> IncompleteError:
        return IncompleteError(
            f"took longer than {minutes:g} min and was ended",
            next=f"see what was slow (network, database), or raise {key}",
        )

    def check() -> None:
        if time.monotonic() > end:
            raise over()

    if threading.current_thread() is not threading.main_thread():
        yield check
        return

    def ring(_number: int, _frame: object) -> None:
        raise over()

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 60 * minutes)
    try:
        yield check
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
