"""Which tests share a worker of pytest-xdist: those that share a wiki, a cluster or images."""

GROUPS = {
    "tests/backups/test_bench_site.py": "backups of a running wiki",
    "tests/backups/test_drill.py": "backups of a running wiki",
    "tests/backups/test_xar.py": "backups of a running wiki",
    "tests/backups/test_xar_restore.py": "backups of a running wiki",
    "tests/backups/test_damage.py": "backups at fault",
    "tests/backups/test_failures.py": "backups at fault",
    "tests/backups/test_faults.py": "backups at fault",
    "tests/backups/test_survival.py": "backups at fault",
    "tests/backups/": "backups",
    "tests/supply/": "supply",
    "tests/contract/": "images",
    "tests/images/": "registry",
    "tests/e2e/test_broken_states.py": "broken states",
    "tests/e2e/test_nodes.py": "two nodes",
    "tests/e2e/test_reconcile.py": "reconciled",
    "tests/e2e/test_backups.py": "brought back",
    "tests/e2e/test_drill.py": "tried",
    "tests/e2e/test_xar.py": "exported",
    "tests/e2e/test_matrix.py": "the stage of flows",
    "tests/e2e/test_semantics.py": "the cases of policies",
    "tests/e2e/": "shared wiki",
    "tests/render/test_flux.py": "trees for Flux",
    "tests/render/test_secrets.py": "sealed Secrets",
}
"""Beginning of a test's id to its group; the first that fits counts. Others go one by one."""


def group(nodeid: str) -> str:
    """What must stay with one worker: the name of a group, or the test alone."""
    return next((name for start, name in GROUPS.items() if nodeid.startswith(start)), nodeid)
