"""`make test`: all of pytest in one run, on what the bed needs and has ready before it starts."""

import os
import sys
from collections.abc import Callable, Sequence

from xwiki_stack import cluster, proc, repo, steps, up

CLUSTER = "xwiki-stack-test"
"""The kind cluster of the end-to-end tests; the user's own is never touched by them."""

KEEP = "XWIKI_STACK_KEEP"
"""Set to 1, the test cluster stays after the run and the next run goes on with it as it is."""


def keeps() -> bool:
    """Whether the test cluster outlives a run."""
    return os.environ.get(KEEP) == "1"


def test(words: Sequence[str], *, emit: Callable[[str], None], ask: Callable[[str], bool]) -> int:
    """Prepare what tests need (with progress), then run pytest with `words`; give its exit code.

    The cluster is made anew, since tests leave grown claims and rotated passwords behind.
    """
    up.install_system_packages(emit, ask)
    if not keeps() and cluster.delete(CLUSTER):
        emit(f"deleted the cluster {CLUSTER} of an earlier run")
    steps.execute(cluster.prepare(cluster.Config(name=CLUSTER, extras=True)), emit)
    argv = [sys.executable, "-m", "pytest", *words]
    return proc.attached(argv, env=cluster.environment(CLUSTER), cwd=repo.ROOT)
