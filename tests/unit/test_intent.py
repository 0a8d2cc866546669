"""Intents are loaded as they are meant, and every mistake is one line that helps."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from xwiki_stack import intent, repo
from xwiki_stack.errors import IntentError

GOOD = """\
cluster: local
purpose: local
host: localhost
xwiki: 17.10.13
mysql: "9.7"
size: small
storage:
  mysql: 50Gi
  xwiki: 20Gi
flavor: none
"""

Write = Callable[[str], Path]


@pytest.fixture
def values(tmp_path: Path) -> Path:
    """A values folder with the real clusters and no environment."""
    shutil.copytree(intent.VALUES / "clusters", tmp_path / "clusters")
    (tmp_path / "envs").mkdir()
    return tmp_path


def loaded(values: Path, text: str) -> intent.Environment:
    (values / "envs" / "test.yaml").write_text(text)
    return intent.load_environment("test", values)


def refused(values: Path, text: str) -> str:
    with pytest.raises(IntentError) as caught:
        loaded(values, text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_good_intent_is_loaded(values: Path) -> None:
    environment = loaded(values, GOOD)
    assert environment.namespace == "wiki-test"
    assert environment.mysql_claim_template == "50Gi"
    assert environment.undecided == ()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("size:", "sise:", ["sise: unknown key", "did you mean 'size'", "size: is missing"]),
        ("size: small", "size: smal", ["size: 'smal' is not allowed", "did you mean 'small'"]),
        ("mysql: 50Gi", "mysql: 50", ["storage.mysql", "does not fit"]),
        ("mysql: 50Gi", "mysql: 40Gi", ["less than a new volume is born with (50Gi)"]),
        ("  xwiki: 20Gi", "  xwiky: 20Gi", ["storage.xwiky", "did you mean 'xwiki'"]),
        ('"9.7"', "9.3.0", ["9.3.0 is no LTS line", "innovation", '"9.7", "8.4"']),
        ('"9.7"', "9.7.2", ["single release of an LTS line", 'write "9.7"']),
        ('"9.7"', "9.7", ["mysql: 9.7 does not fit"]),
        ("17.10.13", "17.3.0", ["17.3.0 does not run without root", "17.10.12"]),
        ("17.10.13", "18.4.3", ["18.4.3", "18.4.4"]),
        ("cluster: local", "cluster: lokal", ["'lokal' is no cluster", "local, main"]),
        ("flavor: none", "flavor: xip", ["xip", "archive"]),
        ("host: localhost", "host: Not_A_Host", ["host: 'Not_A_Host' does not fit"]),
        ("flavor: none", "flavor: none\nflavor: xip", ["'flavor' stands twice (line 11)"]),
        ("flavor: none", "flavor: [", ["test.yaml:11", "not YAML"]),
        ("flavor: none", "", ["flavor: is missing"]),
    ],
)
def test_a_mistake_is_one_line_that_says_where_what_and_what_else(
    values: Path, old: str, new: str, words: list[str]
) -> None:
    assert old in GOOD
    said = refused(values, GOOD.replace(old, new, 1))
    for word in words:
        assert word in said
    assert "envs/test.yaml" in said


def test_all_mistakes_of_a_file_are_told_at_once(values: Path) -> None:
    said = refused(values, GOOD.replace("size: small", "size: tiny").replace("host:", "hots:"))
    assert "size: 'tiny'" in said
    assert "hots: unknown key" in said


@pytest.mark.parametrize(
    ("xwiki", "fits"),
    [
        ("17.10.12", True),
        ("18.4.4", True),
        ("18.7.0", True),
        ("18.8.1", True),
        ("17.10.11", False),
        ("18.6.2", False),
    ],
)
def test_the_oldest_xwiki_that_runs_is_known_per_line(values: Path, xwiki: str, fits: bool) -> None:
    text = GOOD.replace("17.10.13", xwiki)
    if fits:
        assert loaded(values, text).xwiki == xwiki
    else:
        refused(values, text)


def test_an_unknown_environment_lists_the_known_ones() -> None:
    with pytest.raises(IntentError) as caught:
        intent.load_environment("stagin")
    assert "did you mean 'staging'" in str(caught.value)
    assert "local, prod, staging" in str(caught.value)


def test_every_environment_of_the_repository_is_good_and_short() -> None:
    files = [*intent.VALUES.glob("envs/*.yaml"), *intent.VALUES.glob("clusters/*.yaml")]
    assert len(files) >= 5
    for path in files:
        assert len(path.read_text().splitlines()) <= 40, repo.relative(path)
    for name in intent.environments():
        environment = intent.load_environment(name)
        assert intent.load_cluster_of(name).name == environment.cluster


def test_prod_waits_for_its_four_decisions() -> None:
    undecided = intent.load_environment("prod").undecided
    assert {item.partition("(")[2] for item in undecided} == {
        f"decision {n})" for n in (1, 2, 3, 4)
    }


@pytest.mark.parametrize(
    ("quantity", "size"),
    [("50Gi", 50 * 2**30), ("1.5Gi", 3 * 2**29), ("24M", 24_000_000), ("4096", 4096)],
)
def test_quantities_are_read_as_kubernetes_writes_them(quantity: str, size: int) -> None:
    assert intent.bytes_of(quantity) == size


@pytest.mark.parametrize("quantity", ["50 Gi", "Gi", "5Pi", "-1Gi", ""])
def test_what_is_no_quantity_is_refused(quantity: str) -> None:
    with pytest.raises(IntentError):
        intent.bytes_of(quantity)
