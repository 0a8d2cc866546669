"""Tests that share something are never torn apart, and each file is where it should be."""

from tests import groups

from xwiki_stack import repo


def test_the_stories_of_the_shared_wiki_have_one_worker() -> None:
    stories = {
        groups.group(f"tests/e2e/{path.name}::test_x")
        for path in (repo.ROOT / "tests" / "e2e").glob("test_*.py")
        if "wiki: Wiki" in path.read_text()
    }
    assert stories == {"shared wiki"}


def test_groups_are_files_and_folders_that_exist() -> None:
    assert all((repo.ROOT / start).exists() for start in groups.GROUPS)
    assert groups.group("tests/e2e/test_nodes.py::test_x") == "two nodes"
    assert groups.group("tests/contract/test_x.py::test_y[z]") == "images"


def test_a_unit_test_goes_alone() -> None:
    assert groups.group("tests/unit/test_x.py::test_y") == "tests/unit/test_x.py::test_y"
