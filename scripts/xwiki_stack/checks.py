"""Everything that needs no cluster, in one run: types, style, charts, tests."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from xwiki_stack import cluster, proc, repo, scan, steps

FLOORS = ("unit", "render", "policy", "review", "supply")
"""Folders of tests that need no cluster (docs/testing.md)."""

COMMANDS: dict[str, list[str]] = {
    "style (ruff)": ["ruff", "check", "scripts", "tests"],
    "format (ruff)": ["ruff", "format", "--check", "--quiet", "scripts", "tests"],
    "types (mypy)": ["mypy"],
    "YAML (yamllint)": ["yamllint", "--strict", "."],
    "values of upstream charts": ["xwiki-stack", "upstream"],
    "Secrets": ["xwiki-stack", "secrets", "check"],
    "chart (helm lint)": ["helm", "lint", "--strict", "--quiet", "."],
    "workflows (actionlint)": ["actionlint", "-shellcheck=", "-pyflakes="],
    "scanners (checkov, kube-score, Trivy)": ["xwiki-stack", "scan", "--check"],
    "tests": ["python", "-m", "pytest", "-q", *(f"tests/{name}" for name in FLOORS)],
}
"""Title to command, in the order of speed; the programs come from .venv and the pinned tools.
actionlint asks no others that a machine may have or not: the result is the same everywhere."""


def check(emit: Callable[[str], None]) -> int:
    """Run every command, also after one failed; give 1 if any did, else 0."""
    steps.execute([*scan.tool_steps(), *cluster.tool_steps(extras=True)], emit)
    environment = cluster.environment()
    own = Path(sys.executable).parent
    environment["PATH"] = f"{own}:{environment['PATH']}:{cluster.tools().actionlint.parent}"
    failed = []
    for title, argv in COMMANDS.items():
        began = time.monotonic()
        program = _program(argv[0], environment["PATH"])
        code = proc.attached([program, *argv[1:]], env=environment, cwd=repo.ROOT)
        outcome = "ok" if code == 0 else f"FAILED (exit code {code})"
        emit(f"{title}: {outcome} ({steps.clock(time.monotonic() - began)})")
        if code != 0:
            failed.append(title)
    emit("check failed: " + ", ".join(failed) if failed else "check: all good")
    return 1 if failed else 0


def _program(name: str, path: str) -> str:
    """A program by its name on the PATH the child will have, not on ours."""
    for folder in path.split(":"):
        if (Path(folder) / name).is_file():
            return str(Path(folder) / name)
    return name
