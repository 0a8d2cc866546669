"""What tests by packets tell of themselves becomes results, and those the page."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from xwiki_stack import packets
from xwiki_stack.errors import StackError

REPORT = """<testsuites><testsuite>
<testcase classname="tests.e2e.test_matrix" name="test_without_policies_all_is_open"><properties>
<property name="probes" value="4000"/><property name="seconds" value="31.5"/>
</properties></testcase>
<testcase classname="tests.e2e.test_matrix" name="test_the_full_set"><properties>
<property name="open" value="400"/><property name="silent" value="3600"/></properties></testcase>
<testcase classname="tests.e2e.test_matrix" name="test_a_policy[a]"><properties>
<property name="changed" value="apps/a deleted"/><property name="noticed" value="apps/a deleted"/>
<property name="changed" value="apps/a widened"/></properties><failure/></testcase>
</testsuite></testsuites>"""


class Report:
    """A run of tests that ends with a report; how it was called."""

    def __init__(self) -> None:
        self.report, self.words, self.env = REPORT, "", {"": ""}

    def __call__(self, words: Sequence[str], env: Mapping[str, str]) -> int:
        self.words, self.env = " ".join(words), dict(env)
        (told,) = [word for word in words if word.startswith("--junitxml=")]
        Path(told.partition("=")[2]).write_text(self.report)
        return 1


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Report:
    monkeypatch.setenv("XWIKI_STACK_CACHE", str(tmp_path))
    monkeypatch.setattr(packets, "RESULTS", tmp_path / "packets.json")
    return Report()


def test_a_run_s_facts_are_written_with_what_nobody_noticed_and_what_failed(
    run: Report,
) -> None:
    found = packets.prove(run)
    assert run.env == {packets.ALL: "1"}
    assert found == packets.earlier()
    assert (found.probes, found.seconds, found.open, found.silent) == (4000, 31.5, 400, 3600)
    assert (found.noticed, found.living) == (["apps/a deleted"], ["apps/a widened"])
    assert found.failed == ["tests/e2e/test_matrix.py::test_a_policy"]
    assert "1 of 2 changed policies are noticed by packets; failed: " in found.summary
    page = "\n".join(packets.lines())
    assert "4000 connections" in page and "400 connect and 3600 get no answer" in page
    assert "**1 of 2 changes noticed**" in page and "Not noticed: apps/a widened." in page


def test_the_bench_asks_for_the_control_alone(run: Report) -> None:
    assert packets.measured(run) == (4000, 31.5)
    assert packets.OPEN in run.words
    assert not run.env


def test_a_run_that_probed_nothing_writes_nothing(run: Report) -> None:
    run.report = "<testsuites><testsuite/></testsuites>"
    before = json.dumps({"kept": True})
    packets.RESULTS.write_text(before)
    with pytest.raises(StackError, match="no probe was made"):
        packets.prove(run)
    assert packets.RESULTS.read_text() == before


def test_the_control_is_a_test_that_exists() -> None:
    file, _, name = packets.OPEN.partition("::")
    assert f"def {name}(" in Path(file).read_text()
