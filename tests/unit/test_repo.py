"""A content key depends on content alone."""

from pathlib import Path

import pytest

from xwiki_stack import repo
from xwiki_stack.errors import IntentError


def tree(root: Path) -> Path:
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "file").write_text("text")
    return root


def test_the_same_content_in_two_places_has_one_key(tmp_path: Path) -> None:
    assert repo.digest(tree(tmp_path / "one")) == repo.digest(tree(tmp_path / "two"))


@pytest.mark.parametrize("change", ["content", "name", "mode"])
def test_every_change_that_matters_changes_the_key(tmp_path: Path, change: str) -> None:
    before = repo.digest(tree(tmp_path / "one"))
    file = tree(tmp_path / "two") / "sub" / "file"
    if change == "content":
        file.write_text("other")
    elif change == "name":
        file.rename(file.with_name("renamed"))
    else:
        file.chmod(0o755)
    assert repo.digest(tmp_path / "two") != before


def test_parts_do_not_run_into_each_other() -> None:
    assert repo.digest("ab", "c") != repo.digest("a", "bc")


def test_the_cache_moves_by_one_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(repo.CACHE_VARIABLE, str(tmp_path))
    assert repo.cache() == tmp_path
    assert repo.state("c").is_relative_to(tmp_path)
    assert repo.logs().is_relative_to(tmp_path)


@pytest.mark.parametrize("name", ["", "/", "/etc", "..", "a/b", "-a", "a.b", "A", "a\n", "a" * 50])
def test_a_name_that_is_a_path_or_nothing_names_no_cluster(name: str) -> None:
    assert repo.state("a-1").name == "a-1"
    assert repo.state("a" * 49)
    with pytest.raises(IntentError, match="cannot name a cluster; allowed: 1 to 49"):
        repo.state(name)
