"""`make test`: all of pytest in one run, on what the bed needs and has ready before it starts."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from xwiki_stack import cluster, intent, proc, repo, steps, up
from xwiki_stack.errors import StackError

CLUSTER = f"{cluster.TEST_PREFIX}-{repo.checkout_key()}"
"""The kind cluster of this checkout's end-to-end tests; neither the user's own nor another
checkout's is touched by them."""

KEEP = "XWIKI_STACK_KEEP"
"""Set to 1, the test cluster stays after the run and the next run goes on with it as it is."""

WORKERS = ("-n", "3")
"""Of pytest-xdist, for a whole run: what waits for a cluster leaves the cores to the others.
tests/groups.py says which tests share a worker."""

UNFINISHED = {
    2: "stopped before its end: a test file that cannot be loaded, or an interrupt",
    3: "met an error of its own",
    4: "was given arguments that it does not know",
    5: "found no test to run",
}
"""pytest's own exit codes beyond 0 and 1 (its ExitCode). Ours mean something else."""


def keeps() -> bool:
    """Whether the test cluster outlives a run."""
    return os.environ.get(KEEP) == "1"


def config() -> cluster.Config:
    """The test cluster: as many nodes as `up` will ask for, and what only tests need."""
    nodes = intent.load_cluster_of("local").nodes
    return cluster.Config(name=CLUSTER, nodes=nodes, extras=True)


def test(
    words: Sequence[str],
    env: Mapping[str, str] = MappingProxyType({}),
    *,
    emit: Callable[[str], None],
    ask: Callable[[str], bool],
) -> int:
    """Prepare what tests need (with progress), then run pytest with `words`; 1 if a test failed.

    Without words every test, by several workers. The cluster is made anew, since tests leave
    grown claims and rotated passwords behind, and deleted afterwards. env: more of it, for tests.
    Raises StackError when pytest did not come to an end, or had nothing to run.
    """
    up.install_system_packages(emit, ask, CLUSTER)
    if not keeps() and cluster.delete(CLUSTER):
        emit(f"deleted the cluster {CLUSTER} of an earlier run")
    for name in cluster.abandoned():
        cluster.delete(name)
        emit(f"deleted the cluster {name}, whose checkout is gone")
    steps.execute(cluster.prepare(config()), emit)
    argv = [sys.executable, "-m", "pytest", *(words or WORKERS)]
    try:
        code = proc.attached(argv, env={**cluster.environment(CLUSTER), **env}, cwd=repo.ROOT)
    finally:
        if not keeps():
            cluster.delete(CLUSTER)
    if code not in (0, 1):
        raise StackError(f"pytest {UNFINISHED.get(code, f'ended with exit code {code}')}")
    return code
