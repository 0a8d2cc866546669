"""pytest's exit codes are not ours, and what it did not come to is said."""

from pathlib import Path

import pytest

from xwiki_stack import cluster, proc, repo, steps, suite, up
from xwiki_stack.cluster import kind
from xwiki_stack.errors import StackError


@pytest.fixture(autouse=True)
def _prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up, "install_system_packages", lambda *_: None)
    monkeypatch.setattr(cluster, "delete", lambda _name: True)
    monkeypatch.setattr(cluster, "prepare", lambda _config: [])
    monkeypatch.setattr(cluster, "environment", lambda name: {"KUBECONFIG": name})
    monkeypatch.setattr(steps, "execute", lambda *_: None)


def run(monkeypatch: pytest.MonkeyPatch, code: int) -> int:
    """The suite with a pytest that ends with this code."""
    monkeypatch.setattr(proc, "attached", lambda *_, **__: code)
    return suite.test(["-k", "nothing"], emit=lambda _line: None, ask=lambda _question: True)


@pytest.mark.parametrize("code", [0, 1])
def test_passed_and_failed_are_handed_on(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    assert run(monkeypatch, code) == code


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (2, "stopped before its end"),
        (3, "met an error of its own"),
        (4, "was given arguments that it does not know"),
        (5, "found no test to run"),
        (-9, "ended with exit code -9"),
    ],
)
def test_anything_else_is_a_failure_in_words(
    monkeypatch: pytest.MonkeyPatch, code: int, said: str
) -> None:
    with pytest.raises(StackError, match=f"^pytest {said}") as caught:
        run(monkeypatch, code)
    assert caught.value.exit_code == 1
    assert set(suite.UNFINISHED) < {item.value for item in pytest.ExitCode}


def test_a_cluster_that_is_to_stay_is_not_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    deleted: list[str] = []
    monkeypatch.setattr(cluster, "delete", deleted.append)
    monkeypatch.setenv(suite.KEEP, "1")
    run(monkeypatch, 0)
    assert deleted == []
    monkeypatch.delenv(suite.KEEP)
    run(monkeypatch, 0)
    assert deleted == [suite.CLUSTER, suite.CLUSTER], "before, as an earlier run left it, and after"


def test_a_whole_run_has_workers_and_a_story_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(proc, "attached", lambda argv, **_: started.append(argv) or 0)
    for words in ([], ["tests/unit"]):
        suite.test(words, emit=lambda _line: None, ask=lambda _question: True)
    assert [argv[3:] for argv in started] == [list(suite.WORKERS), ["tests/unit"]]


def test_each_checkout_has_a_test_cluster_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    key = repo.checkout_key()
    assert f"{cluster.TEST_PREFIX}-{key}" == suite.CLUSTER
    assert repo.state(f"{suite.CLUSTER}-two"), "also its clusters beside it have names that fit"
    monkeypatch.setattr(repo, "ROOT", repo.ROOT / "elsewhere")
    assert repo.checkout_key() != key


def test_a_test_cluster_whose_checkout_is_gone_is_deleted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(repo.CACHE_VARIABLE, str(tmp_path / "cache"))
    (tmp_path / "alive").mkdir()
    for name, checkout in (
        ("xwiki-stack-test-1", tmp_path / "gone"),
        ("xwiki-stack-test-2", tmp_path / "alive"),
        ("xwiki-stack", tmp_path / "gone"),
        ("xwiki-stack-test", None),
    ):
        repo.state(name).mkdir(parents=True)
        if checkout:
            (repo.state(name) / kind.CHECKOUT).write_text(str(checkout))
    deleted: list[str] = []
    monkeypatch.setattr(cluster, "delete", deleted.append)
    run(monkeypatch, 0)
    assert deleted == [suite.CLUSTER, "xwiki-stack-test-1", suite.CLUSTER]
