"""The table of faults: complete, each proven by tests that exist, its page what the results say."""

import ast
from pathlib import Path

import pytest

from xwiki_stack import faults, proofs, repo
from xwiki_stack.faults import Fault, Finding, Results
from xwiki_stack.proofs import Case


def marked(source: str) -> dict[str, set[int]]:
    """Test functions of a module and the faults that they are marked to prove."""
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            calls = [item for item in node.decorator_list if isinstance(item, ast.Call)]
            numbers = {
                ast.literal_eval(call.args[0])
                for call in calls
                if ast.unparse(call.func) == "pytest.mark.fault"
            }
            if numbers:
                found[node.name] = numbers
    return found


def marks() -> dict[str, set[int]]:
    """All marked tests of the suite by their id."""
    return {
        f"{path.relative_to(repo.ROOT).as_posix()}::{name}": numbers
        for path in sorted((repo.ROOT / "tests").rglob("test_*.py"))
        for name, numbers in marked(path.read_text()).items()
    }


def test_there_are_28_faults_in_order() -> None:
    assert [fault.id for fault in faults.table()] == list(range(1, 29))
    for fault in faults.table():
        assert fault.name and fault.expectation.endswith("."), fault.id
        assert "|" not in fault.name + fault.expectation + fault.open, fault.id


def test_each_fault_is_proven_by_tests_that_exist() -> None:
    proven = marks()
    assert len(proven) > 40
    numbers = set().union(*proven.values())
    assert numbers == {fault.id for fault in faults.table()}


def test_a_mark_is_read_as_pytest_reads_it() -> None:
    source = (
        "@pytest.mark.fault(3)\n@pytest.mark.fault(5)\ndef test_x(): pass\ndef test_y(): pass\n"
    )
    assert marked(source) == {"test_x": {3, 5}}


def test_the_page_is_what_the_results_say() -> None:
    results = faults.earlier()
    assert results, "`xwiki-stack faults` writes them"
    assert faults.PAGE.read_text() == faults.page(faults.table(), results)
    assert [item.id for item in results.faults] == list(range(1, 29))
    proven = marks()
    for item in results.faults:
        assert item.tests, item.id
        assert [test for test in item.tests if item.id not in proven.get(test, ())] == []


REPORT = """<testsuites><testsuite>
<testcase classname="tests.backups.test_a" name="test_x[one]"><properties>
<property name="fault" value="1"/><property name="fault" value="2"/>
<property name="looked" value="5 cuts"/></properties></testcase>
<testcase classname="tests.backups.test_a" name="test_x[two]"><properties>
<property name="fault" value="1"/></properties>{end}</testcase>
<testcase classname="tests.backups.test_a" name="test_of_no_fault"/>
</testsuite></testsuites>"""

FAULTS = [Fault(1, "one", "Ends well."), Fault(2, "two", "Ends.", "much"), Fault(3, "three", "E.")]


@pytest.mark.parametrize(
    ("end", "held"),
    [("", True), ("<failure/>", False), ("<error/>", False), ("<skipped/>", False)],
)
def test_a_fault_held_if_every_case_of_it_passed(end: str, held: bool, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT.format(end=end))
    test = "tests/backups/test_a.py::test_x"
    assert faults.findings(FAULTS, list(proofs.cases(report))) == [
        Finding(1, "one", held, ["5 cuts"], [test]),
        Finding(2, "two", True, ["5 cuts"], [test]),
        Finding(3, "three", False),
    ]


def test_the_page_tells_what_did_not_hold_and_what_is_open() -> None:
    found = faults.findings(
        FAULTS, [Case("tests/backups/test_a.py::test_x", True, {"fault": ("1",)})]
    )
    text = faults.page(FAULTS, Results("abc", "a machine", "2026-01-02", found))
    assert "**1 of 3 held**, commit abc, 2026-01-02, on a machine." in text
    assert "| 1 | one | Ends well. | yes |  | `backups/test_a.py::test_x` |" in text
    assert "| 2 | two | Ends. *Open: much* | **no** |  |  |" in text
