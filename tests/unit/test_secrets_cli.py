"""What a person is asked for a Secret, and what the answers mean."""

import getpass
import sys
from pathlib import Path

import pytest

from xwiki_stack.errors import IntentError
from xwiki_stack.secrets import cli


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a person at a terminal types without an echo, one after the other; then Ctrl-D."""
    lines: list[str] = []

    def typed(_question: str) -> str:
        if not lines:
            raise EOFError
        return lines.pop(0)

    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(getpass, "getpass", typed)
    return lines


def test_an_answer_is_the_value_or_the_file_that_holds_it(
    answers: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "receivers.yaml"
    file.write_text("route:\n  receiver: people\n")
    answers += ["typed", "", f"@{file}"]
    ask = cli._asker()
    assert [ask("a"), ask("b"), ask("c"), ask("d")] == ["typed", "", file.read_text(), ""]


def test_a_file_that_is_not_there_is_said(answers: list[str]) -> None:
    answers += ["@no-such-file"]
    with pytest.raises(IntentError, match="no-such-file: cannot be read"):
        cli._asker()("a")


def test_nobody_is_asked_where_nobody_can_answer(
    answers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers += ["typed"]
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    assert cli._asker()("a") == ""
    assert answers == ["typed"]
