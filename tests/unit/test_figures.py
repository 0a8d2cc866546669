"""Results and the pages made of them: whose figures, and that nobody edits by hand."""

import json
from pathlib import Path

import pytest
from tests.benchmarks import results as backups

from xwiki_stack import bench, figures, proc, repo
from xwiki_stack.errors import MachineError
from xwiki_stack.figures import Document, Figure, Group, commit

PLAIN = Group("abc", "2 x Some CPU", "2026-01-02", [Figure("render", "5 ms")])
HELD = Group(
    "def", "another", "2026-03-04", [Figure("all", "9 s", "p", "2", "<= 90 s", "8 to 10")], "Small."
)


@pytest.fixture
def document(tmp_path: Path) -> Document:
    page = tmp_path / "decision.md"
    page.write_text("before\n<!-- figures: up -->\nold\n<!-- end of figures -->\nafter\n")
    return Document(tmp_path / "r.json", tmp_path / "page.md", ("# Title",), {"up": page})


def test_every_figure_is_on_the_page_under_its_own_run(document: Document) -> None:
    first, second = document.text({"generate": PLAIN, "up": HELD}).split("## ")[1:]
    assert "Commit abc, 2026-01-02, on 2 x Some CPU." in first
    assert "| render | 5 ms |  |  |  |\n" in first
    assert "least to most" not in first
    assert "Commit def, 2026-03-04, on another. Small." in second
    assert "| all | 9 s | p | 2 | <= 90 s | 8 to 10 |" in second
    assert "def" not in first


def test_a_table_stands_between_its_marks_and_nothing_else_is_touched(document: Document) -> None:
    document.write({"generate": PLAIN, "up": HELD})
    text = document.blocks["up"].read_text()
    assert text.startswith("before\n<!-- figures: up -->\nCommit def")
    assert text.endswith("| 8 to 10 |\n<!-- end of figures -->\nafter\n")
    assert "old" not in text
    # Twice gives the same, and what was written is read.
    document.write(document.read())
    assert document.blocks["up"].read_text() == text
    assert document.read() == {"generate": PLAIN, "up": HELD}
    with pytest.raises(ValueError, match="there is no <!-- figures: up -->"):
        figures.embedded("no marks", "up", [])


def test_what_nobody_measures_any_more_goes() -> None:
    groups = {"gone": PLAIN, "up": HELD, "generate": PLAIN}
    assert list(figures.keep(["generate", "up", "later"], groups)) == ["generate", "up"]


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        (0, "", "abc"),
        (0, " M scripts/x.py\n", "abc with uncommitted changes"),
        (128, "", "unknown"),
    ],
)
def test_a_commit_is_named_and_a_changed_checkout_is_marked(
    code: int, status: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def run(argv: list[str], **_options: object) -> proc.Result:
        asked.append(argv)
        return proc.Result((), code, "abc\n" if "rev-parse" in argv else status, "")

    monkeypatch.setattr(proc, "run", run)
    assert backups.DOCUMENT.measured([]).commit == said
    if code == 0:
        # What the last run wrote is no change of what is measured.
        own = {word for word in asked[-1] if word.startswith(":!docs/")}
        assert len(own) == 3
        assert ":!docs/results/backups.json" in own


def test_without_git_a_commit_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> proc.Result:
        raise MachineError("`git` is not installed")

    monkeypatch.setattr(proc, "run", run)
    assert commit() == "unknown"


@pytest.mark.parametrize("document", [bench.DOCUMENT, backups.DOCUMENT], ids=["bench", "backups"])
def test_pages_are_what_the_results_say(document: Document) -> None:
    groups = document.read()
    assert groups
    assert set(document.blocks) <= set(groups)
    for path, text in document.pages(groups).items():
        assert path.read_text() == text, f"{repo.relative(path)} was edited, or its results were"
    stated = json.loads(document.results.read_text())
    assert all({"commit", "machine", "date", "figures"} <= set(group) for group in stated.values())
