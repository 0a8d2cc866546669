"""The 28 faults of backups: each is brought about by tests, and what they found is written down.

tests/backups/faults.yaml says what must hold; a test that proves it carries the marker `fault(id)`;
a whole run of those tests, everything tried instead of a sample, writes the results and the page.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from xwiki_stack import cluster, figures, proc, proofs, repo, steps
from xwiki_stack.errors import StackError
from xwiki_stack.proofs import Case

TABLE = repo.ROOT / "tests" / "backups" / "faults.yaml"
RESULTS = repo.ROOT / "docs" / "results" / "faults.json"
PAGE = repo.ROOT / "docs" / "reference" / "faults.md"

ALL = "XWIKI_STACK_FAULTS"
"""Set to 1, tests try everything instead of a sample: every cut, flip and moment to be killed."""

Emit = Callable[[str], None]


@dataclass(frozen=True)
class Fault:
    """What may happen, and in one sentence what must hold then. open: what no test shows yet."""

    id: int
    name: str
    expectation: str
    open: str = ""


@dataclass(frozen=True)
class Finding:
    """Whether a fault's expectation held: in every case of every test that proves it."""

    id: int
    name: str
    held: bool
    looked: list[str] = field(default_factory=list)
    tests: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Results:
    """The findings of one run: of which commit, on which machine, on which day (UTC)."""

    commit: str
    machine: str
    date: str
    faults: list[Finding]

    @property
    def held(self) -> bool:
        """Whether all held."""
        return all(item.held for item in self.faults)

    @property
    def summary(self) -> str:
        """What held, in a line."""
        bad = [str(item.id) for item in self.faults if not item.held]
        words = f"not so: {', '.join(bad)}" if bad else "none is left"
        return f"{len(self.faults) - len(bad)} of {len(self.faults)} faults held; {words}"


def prove(*, emit: Emit) -> Results:
    """Run every test of a fault with all that can be tried, write results and page.

    Raises StackError when pytest did not come to its end; what was written before stays.
    """
    steps.execute(cluster.tool_steps(), emit)
    report, words = proofs.report("faults")
    origin = figures.origin(RESULTS, PAGE)
    argv = [sys.executable, "-m", "pytest", "-m", "fault", *words]
    code = proc.attached(argv, env={**os.environ, ALL: "1"}, cwd=repo.ROOT)
    if code not in (0, 1) or not report.exists():
        raise StackError(f"pytest ended with exit code {code}", next="see what it said")
    results = Results(*origin, findings(table(), list(proofs.cases(report))))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(asdict(results), indent=2) + "\n")
    PAGE.write_text(page(table(), results))
    emit(f"written: {repo.relative(RESULTS)}, {repo.relative(PAGE)}")
    return results


def table(path: Path = TABLE) -> list[Fault]:
    """All faults, in order."""
    return [Fault(**row) for row in yaml.safe_load(path.read_text())]


def findings(faults: Sequence[Fault], found: Sequence[Case]) -> list[Finding]:
    """What the cases say of each fault. One that no case proves did not hold."""
    made = []
    for fault in faults:
        own = [case for case in found if str(fault.id) in case.told.get("fault", ())]
        made.append(
            Finding(
                id=fault.id,
                name=fault.name,
                held=bool(own) and all(case.passed for case in own),
                looked=sorted({words for case in own for words in case.told.get("looked", ())}),
                tests=sorted({case.test for case in own}),
            )
        )
    return made


def earlier() -> Results | None:
    """The results that are written down, if there are any."""
    if not RESULTS.exists():
        return None
    document: dict[str, Any] = json.loads(RESULTS.read_text())
    return Results(**{**document, "faults": [Finding(**item) for item in document["faults"]]})


def page(faults: Sequence[Fault], results: Results) -> str:
    """docs/reference/faults.md out of the table and the results."""
    found = {item.id: item for item in results.faults}
    held = sum(item.held for item in results.faults)
    lines = [
        "# Faults",
        "",
        "Written by `xwiki-stack faults` from `tests/backups/faults.yaml` and",
        "`docs/results/faults.json`; do not edit. Each fault is brought about on a real MySQL and",
        "a real S3 server. Unless its row says otherwise, in every case: exit code other than 0,",
        "no manifest, all that lay in the bucket as it was, nothing pruned, one line with the",
        "cause and what to do, no secret in it nor in the bucket. `make test` tries a sample of",
        "cuts, flips and kills; this run tried all.",
        "",
        f"**{held} of {len(faults)} held**, commit {results.commit}, {results.date}, on"
        f" {results.machine}.",
        "",
        "| # | fault | expectation | held | looked at | tests |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for fault in faults:
        item = found.get(fault.id, Finding(fault.id, fault.name, held=False))
        words = fault.expectation + (f" *Open: {fault.open}*" if fault.open else "")
        tests = "<br>".join(f"`{test.removeprefix('tests/')}`" for test in item.tests)
        cells = [str(fault.id), fault.name, words, "yes" if item.held else "**no**",
                 "; ".join(item.looked), tests]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
