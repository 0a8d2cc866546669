"""docs/security.md: each claim names tests, and pytest runs every one of them."""

import re
import sys

import pytest

from xwiki_stack import proc, repo

PAGE = repo.ROOT / "docs" / "security.md"
THEFTS = ["A stolen pod", "A stolen key of the S3 writer", "A stolen token of Git"]
ID = re.compile(r"`([\w/]+\.py::\w+)`")


def claims(text: str) -> dict[str, list[tuple[str, str, list[str]]]]:
    """Per theft the rows of its table: can or cannot, the claim, the tests that it names."""
    found = {}
    for section in text.split("\n## ")[1:]:
        title, _, rest = section.partition("\n")
        rows = [line.strip("| ").split(" | ") for line in rest.splitlines() if "| can" in line[:5]]
        if rows:
            found[title] = [(row[0], row[1], ID.findall(row[2])) for row in rows]
    return found


def uncollected(tests: list[str]) -> list[str]:
    """Those that pytest does not find, or finds and leaves out."""
    words = ["--collect-only", "--quiet", "--no-header", "-p", "no:cacheprovider"]
    argv = [sys.executable, "-m", "pytest", *words, *(f"tests/{name}" for name in tests)]
    said = proc.run(argv, cwd=repo.ROOT, check=False, timeout=120)
    collected = {line.partition("[")[0] for line in said.out.splitlines()}
    return [name for name in tests if f"tests/{name}" not in collected]


def test_each_theft_has_what_can_be_done_and_what_cannot() -> None:
    found = claims(PAGE.read_text())
    assert list(found) == THEFTS
    for title, rows in found.items():
        assert {kind for kind, _, _ in rows} == {"can", "cannot"}, title
        assert len(rows) >= 7, title
        assert [claim for _, claim, tests in rows if not tests] == []


def test_every_test_that_a_claim_names_is_one_that_pytest_runs() -> None:
    rows = [row for found in claims(PAGE.read_text()).values() for row in found]
    tests = sorted({name for _, _, names in rows for name in names})
    assert len(tests) > 30
    assert uncollected(tests) == []


@pytest.mark.parametrize(
    "name",
    [
        "unit/test_security.py::test_of_a_dream",
        "unit/test_dream.py::test_x",
        "unit/test_security.py::claims",
    ],
)
def test_a_test_that_is_not_there_is_noticed(name: str) -> None:
    assert uncollected([name]) == [name]


def test_a_claim_without_a_test_is_noticed() -> None:
    text = (
        "\n## A stolen pod\n\n| can | eat | `unit/test_x.py::test_y` |\n| cannot | fly | surely |\n"
    )
    assert claims(text) == {
        "A stolen pod": [("can", "eat", ["unit/test_x.py::test_y"]), ("cannot", "fly", [])]
    }
