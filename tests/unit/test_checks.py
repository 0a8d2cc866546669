"""`make check` runs everything, says what failed, and stops at Ctrl-C."""

import sys

import pytest

from xwiki_stack import checks, cluster, proc, scan, steps


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The programs that were started: `bad` fails, `stop` is interrupted."""
    started: list[str] = []

    def attached(argv: list[str], **_options: object) -> int:
        started.append(argv[0])
        if argv[0] == "stop":
            raise KeyboardInterrupt
        return 3 if argv[0] == "bad" else 0

    monkeypatch.setattr(cluster, "tool_steps", lambda **_: [])
    monkeypatch.setattr(scan, "tool_steps", lambda: [])
    monkeypatch.setattr(cluster, "environment", lambda: {"PATH": "/nowhere"})
    monkeypatch.setattr(steps, "execute", lambda *_: None)
    monkeypatch.setattr(proc, "attached", attached)
    return started


def check(monkeypatch: pytest.MonkeyPatch, *programs: str) -> tuple[int, list[str]]:
    said: list[str] = []
    monkeypatch.setattr(checks, "COMMANDS", {name: [name] for name in programs})
    return checks.check(said.append), said


def test_all_run_and_the_failed_are_named(monkeypatch: pytest.MonkeyPatch, ran: list[str]) -> None:
    code, said = check(monkeypatch, "good", "bad", "fine")
    assert (code, ran) == (1, ["good", "bad", "fine"])
    assert said[1].startswith("bad: FAILED (exit code 3)")
    assert said[-1] == "check failed: bad"
    assert check(monkeypatch, "good") == (0, [said[0], "check: all good"])


def test_ctrl_c_ends_the_check_and_not_only_one_command(
    monkeypatch: pytest.MonkeyPatch, ran: list[str]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        check(monkeypatch, "good", "stop", "fine")
    assert ran == ["good", "stop"]


def test_a_program_is_looked_for_where_the_child_would() -> None:
    folder, _, name = sys.executable.rpartition("/")
    assert checks._program(name, f"/nowhere:{folder}") == sys.executable
    assert checks._program("no-such-program", folder) == "no-such-program"
