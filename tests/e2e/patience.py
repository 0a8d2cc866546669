"""Waiting for what a cluster does in its own time."""

import time
from collections.abc import Callable
from typing import TypeVar

from xwiki_stack.errors import StackError

T = TypeVar("T")


def eventually(look: Callable[[], T], *, seconds: float = 120, pause: float = 0.5) -> T:
    """Call `look` until it gives something true; give that.

    A failed assertion, a connection (requests' errors are OSErrors) or a command counts as "not
    yet"; the last one is raised when time is up, so that the report shows what was wrong.
    """
    deadline = time.monotonic() + seconds
    last: Exception = AssertionError(f"never true within {seconds:.0f} s")
    while time.monotonic() < deadline:
        try:
            if found := look():
                return found
        except (AssertionError, OSError, StackError) as error:
            last = error
        time.sleep(pause)
    raise last
