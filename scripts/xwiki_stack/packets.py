"""The table of flows by packets: what a run on a cluster found, written down for its page.

tests/e2e/test_matrix.py probes and tells; `make test` changes one policy of each kind, this run
every one. The oracle's own score is `mutation`'s.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from xwiki_stack import figures, proofs, repo
from xwiki_stack.errors import StackError
from xwiki_stack.proofs import Case

RESULTS = repo.ROOT / "docs" / "results" / "packets.json"

TESTS = "tests/e2e/test_matrix.py"
OPEN = f"{TESTS}::test_without_policies_all_is_open"
"""The positive control: every probe of the stage, all of which connect."""

ALL = "XWIKI_STACK_PACKETS"
"""Set to 1, tests change every policy instead of one of each kind."""

Run = Callable[[Sequence[str], Mapping[str, str]], object]
"""Runs tests on a cluster: pytest's words, and more of the environment (`suite.test`)."""


@dataclass(frozen=True)
class Results:
    """What one run found: of which commit, on which machine, on which day (UTC).

    probes: connections that were tried side by side, in `seconds`; the table's verdicts on them.
    noticed, living: changes of policies, by name, that packets told and that they did not.
    failed: tests that did not pass.
    """

    commit: str
    machine: str
    date: str
    probes: int
    seconds: float
    open: int
    silent: int
    noticed: list[str]
    living: list[str]
    failed: list[str]

    @property
    def summary(self) -> str:
        """What was found, in a line."""
        changes = len(self.noticed) + len(self.living)
        words = f"{self.probes} probes in {self.seconds:.0f} s; "
        words += f"{len(self.noticed)} of {changes} changed policies are noticed by packets"
        return words + (f"; failed: {', '.join(self.failed)}" if self.failed else "")


def prove(run: Run) -> Results:
    """Run the tests by packets with every policy changed in turn; write results.

    Raises StackError when pytest did not come to its end, or probed nothing; what was written
    before stays.
    """
    origin = figures.origin(RESULTS)
    report, words = proofs.report("packets")
    run([*words, TESTS], {ALL: "1"})
    cases = list(proofs.cases(report))
    probes, seconds = _probed(cases)
    noticed = _told(cases, "noticed")
    results = Results(
        *origin,
        probes=probes,
        seconds=seconds,
        open=sum(map(int, _told(cases, "open"))),
        silent=sum(map(int, _told(cases, "silent"))),
        noticed=noticed,
        living=[words for words in _told(cases, "changed") if words not in noticed],
        failed=sorted({case.test for case in cases if not case.passed}),
    )
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(asdict(results), indent=2) + "\n")
    return results


def measured(run: Run) -> tuple[int, float]:
    """How many probes the positive control made side by side, and in how many seconds."""
    report, words = proofs.report("probes")
    run([*words, OPEN], {})
    return _probed(list(proofs.cases(report)))


def _told(cases: Sequence[Case], name: str) -> list[str]:
    """What the tests of a run recorded by a name, in order."""
    return [words for case in cases for words in case.told.get(name, ())]


def _probed(cases: Sequence[Case]) -> tuple[int, float]:
    """The probes of the positive control, and their seconds, 0 where it failed.

    Raises StackError without any probe.
    """
    probes = sum(map(int, _told(cases, "probes")))
    if not probes:
        raise StackError("no probe was made", next="see what pytest said")
    return probes, sum(map(float, _told(cases, "seconds")))


def earlier() -> Results | None:
    """The results that are written down, if there are any."""
    return Results(**json.loads(RESULTS.read_text())) if RESULTS.exists() else None


def lines() -> list[str]:
    """What the newest run found, for docs/reference/network.md; nothing where there was none."""
    found = earlier()
    if found is None:
        return []
    changes = len(found.noticed) + len(found.living)
    return [
        "",
        "## By packets",
        "",
        "On a kind cluster whose engine enforces policies, a pod stands in for every peer and"
        f" servers of the bed for what lies outside: {found.probes} connections, all open without"
        f" policies ({found.seconds:.0f} s for all, many at a time). With the policies of the table"
        f" {found.open} connect and {found.silent} get no answer, as the table says. Then each"
        " policy is deleted, and widened to everybody.",
        "",
        f"**{len(found.noticed)} of {changes} changes noticed**, commit {found.commit},"
        f" {found.date}, on {found.machine}. Not noticed: {'; '.join(found.living) or 'none'}."
        f" Tests that failed: {', '.join(f'`{test}`' for test in found.failed) or 'none'}.",
    ]
