"""A user's mistake ends as one line on standard error, with what to do and its exit code."""

import socket
from pathlib import Path

import pytest

from xwiki_stack import cli, portforward, repo


@pytest.fixture(autouse=True)
def _no_clusters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(repo.CACHE_VARIABLE, str(tmp_path))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("up --env stagin", 2, "did you mean 'staging'"),
        ("up --env staging", 6, "belongs to cluster main"),
        ("up --env prod", 4, "mysql (decision 1), backups.target (decision 2), host (decision 3)"),
        ("generate --env prod", 4, "--preview"),
        ("generate --env nope", 2, "local, prod, staging"),
        ("decisions --env nope", 2, "local, prod, staging"),
        ("sizing --cluster nope", 2, "local, main"),
        ("status", 5, "there is no cluster xwiki-stack on this machine; next: `make up`"),
        ("password", 5, "there is no cluster"),
        ("expand", 5, "there is no cluster"),
        ("kubectl get pods", 5, "there is no cluster"),
        ("bench nope", 2, "allowed: generate, template, up"),
    ],
)
def test_a_mistake_is_one_line_with_its_exit_code(
    words: str, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words.split()) == code
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert error.startswith("xwiki-stack: ")


def test_a_taken_port_is_found_before_anything_is_made(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with socket.socket() as other:
        other.bind((portforward.ADDRESS, 0))
        other.listen()
        port = other.getsockname()[1]
        assert cli.main(["up", "--port", str(port)]) == 3
    assert f"port {port}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["up", "--port", "99999"])
    assert ended.value.code == 2
    assert "1 to 65535" in capsys.readouterr().err


def test_an_interrupt_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_env: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("xwiki_stack.decisions.text", interrupted)
    assert cli.main(["decisions"]) == 130
    assert "run the same command again" in capsys.readouterr().err


def test_a_question_is_asked_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = cli._parser().parse_args(["delete"])
    monkeypatch.delenv("YES", raising=False)
    asked: list[str] = []

    def answer(question: str) -> str:
        asked.append(question)
        return "n"

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    assert not cli._asker(arguments)("Go on?")
    monkeypatch.setenv("YES", "1")
    assert cli._asker(arguments)("Go on?")
    monkeypatch.delenv("YES")
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    assert cli._asker(arguments)("Go on?")
    assert len(asked) == 1


def test_nothing_is_deleted_unasked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("YES", raising=False)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    deleted: list[str] = []
    monkeypatch.setattr("xwiki_stack.up.delete", lambda name: deleted.append(name) or "gone")
    assert cli.main(["delete"]) == 6
    assert "nothing was deleted" in capsys.readouterr().err
    assert deleted == []
    assert cli.main(["delete", "--yes"]) == 0
    assert deleted == ["xwiki-stack"]
