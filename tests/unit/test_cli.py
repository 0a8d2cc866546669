"""A user's mistake ends as one line on standard error, with what to do and its exit code."""

import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from xwiki_stack import cli, cluster, portforward, proc, repo, up


@pytest.fixture(autouse=True)
def _no_clusters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(repo.CACHE_VARIABLE, str(tmp_path))
    monkeypatch.delenv("XWIKI_STACK_CLUSTER", raising=False)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("up --env stagin", 2, "did you mean 'staging'"),
        ("up --env staging", 6, "belongs to cluster main"),
        ("status --env staging", 6, "reach it with --kubeconfig FILE [--context NAME]"),
        ("expand --env staging", 6, "reach it with --kubeconfig FILE [--context NAME]"),
        ("status --env staging --kubeconfig /no", 2, "/no: no client can be made from this"),
        ("expand --env staging --kubeconfig /no", 2, "/no: no client can be made from this"),
        ("status --context main", 2, "--context names a context of a file"),
        ("up --port abc", 2, "argument --port: a port is a number from 1 to 65535"),
        ("up --port 99999", 2, "argument --port: a port is a number from 1 to 65535"),
        ("up --nope", 2, "unrecognized arguments: --nope; next: `xwiki-stack up --help`"),
        ("backup list x", 2, "unrecognized arguments: x; next: `xwiki-stack backup list --help`"),
        ("--nope", 2, "next: `xwiki-stack --help`"),
        ("backup verify 2026 --all", 2, "2026 and --all do not go together; allowed: one of them"),
        ("down --cluster", 2, "expected one argument; next: `xwiki-stack down --help`"),
        ("fly", 2, "invalid choice: 'fly'"),
        ("status --cluster Wiki", 2, "'Wiki' cannot name a cluster; allowed: 1 to 49 of a-z"),
        (
            "up --env prod",
            4,
            "backups.recipients (decision 2), backups.trusted (decision 2)",
        ),
        ("generate --env prod", 4, "--preview"),
        ("generate --env nope", 2, "local, prod, staging"),
        ("decisions --env nope", 2, "local, prod, staging"),
        ("sizing --cluster nope", 2, "local, main"),
        ("status", 5, "there is no cluster xwiki-stack on this machine; next: `make up`"),
        ("password", 5, "there is no cluster"),
        ("expand", 5, "there is no cluster"),
        ("kubectl get pods", 5, "there is no cluster"),
        ("render --env nope", 2, "local, prod, staging"),
        ("render --env prod", 4, "`--preview` shows what the rest would give"),
        ("review --env nope", 2, "allowed: local, staging"),
        ("review --env prod", 4, "prod has no committed values at either end"),
        ("review --from nope", 2, "Git knows no commit 'nope' here"),
        ("review --format html", 2, "invalid choice: 'html'"),
        ("upgrade --env staging", 2, "arguments --xwiki --mysql --to-ref is required"),
        ("upgrade --xwiki 18.4.5", 2, "arguments are required: --env"),
        ("upgrade --env nope --xwiki 18.4.5", 2, "local, prod, staging"),
        ("upgrade --env local --xwiki 18", 2, "a release of XWiki is three numbers"),
        ("upgrade --env local --xwiki 18.4.1", 2, "allowed: at least 17.10.12, 18.4.4, 18.7.0"),
        ("upgrade --env local --mysql 26.7", 2, 'allowed: "9.7", "8.4"'),
        ("upgrade --env local --mysql 9.7.4", 2, "a single release of an LTS line"),
        ("upgrade --env local --mysql 8.4", 6, "MySQL would go back, 9.7.1 -> 8.4.10"),
        ("upgrade --env local --xwiki 17.10.12", 6, "restore a set that XWiki 17.10.12 made"),
        ("upgrade --env local --xwiki 19.4.0", 6, "`xwiki-stack upgrade --env local --xwiki 18.10"),
        ("upgrade --env local --to-ref nope", 2, "Git knows no commit 'nope' here"),
        ("upgrade --env local --xwiki 18.4.5 --force x", 2, "allowed: --write --force"),
        ("upgrade --env local --xwiki 18.4.5 --write --force=", 2, "allowed: --write --force"),
        ("upgrade --env local --xwiki 18.4.5 --digest x", 2, "a digest is sha256: and 64 hex"),
        ("upgrade --env local --xwiki 18.4.5 --hours 0", 2, "hours are a whole number from 1"),
        ("upgrade --env prod --xwiki 18.4.5", 4, "prod has open blocking decisions"),
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


@pytest.mark.parametrize("value", ["", "0", "no", "true"])
def test_only_one_word_of_the_environment_is_a_yes(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    arguments = cli._parser().parse_args(["delete"])
    monkeypatch.setenv("YES", value)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    assert not cli._asker(arguments, unattended=False)("Go on?")


def test_an_ended_input_is_a_no(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ctrl_d(_question: str) -> str:
        raise EOFError

    monkeypatch.delenv("YES", raising=False)
    monkeypatch.setattr("builtins.input", ctrl_d)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    assert cli.main(["delete"]) == 6
    assert "nothing was deleted" in capsys.readouterr().err


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


@pytest.mark.parametrize("name", ["/etc", "..", ".", "a/b", "-a", "a.b", "A", "a" * 50, " "])
def test_nothing_outside_is_deleted_by_the_name_of_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    victim = tmp_path / "keep"
    victim.touch()
    monkeypatch.setattr("xwiki_stack.up.delete", lambda _name: pytest.fail("it went on"))
    assert cli.main(["delete", "--yes", f"--cluster={name}"]) == 2
    monkeypatch.setenv("XWIKI_STACK_CLUSTER", name)
    assert cli.main(["delete", "--yes"]) == 2
    assert victim.exists()


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []
    for value in ("", "other"):
        monkeypatch.setenv("XWIKI_STACK_CLUSTER", value)
        parsed.append(cli._parser().parse_args(["delete"]).cluster)
    assert parsed == [up.CLUSTER, "other"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_every_way_to_end_the_command_ends_what_it_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    started = []

    def work(_env: str) -> str:
        threading.Timer(0.3, os.kill, (os.getpid(), number)).start()
        started.append(time.monotonic())
        return proc.run(["sleep", "60"]).out

    monkeypatch.setattr("xwiki_stack.decisions.text", work)
    assert cli.main(["decisions"]) == 130
    assert time.monotonic() - started[0] < 2
    assert proc._running == set()
    assert "run the same command again" in capsys.readouterr().err
    assert signal.getsignal(number) is before


def test_an_ignored_hangup_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under nohup."""

    def work(_env: str) -> str:
        os.kill(os.getpid(), signal.SIGHUP)
        return "done"

    monkeypatch.setattr("xwiki_stack.decisions.text", work)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert cli.main(["decisions"]) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_the_machine_refuses_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(_env: str) -> str:
        raise OSError(28, "No space left on device", "/some/file")

    (tmp_path / "file").touch()
    monkeypatch.setenv(repo.CACHE_VARIABLE, str(tmp_path / "file"))
    monkeypatch.setattr(cluster, "delete", lambda name: repo.state(name).mkdir(parents=True))
    assert cli.main(["delete", "--yes"]) == 3
    monkeypatch.setattr("xwiki_stack.decisions.text", full)
    assert cli.main(["decisions"]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "Not a directory" in lines[0]
    assert "No space left on device: '/some/file'; next: " in lines[1]
    assert "XWIKI_STACK_CACHE" in lines[1]


def test_kubectl_that_was_never_installed_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.kubeconfig(up.CLUSTER).parent.mkdir(parents=True)
    cluster.kubeconfig(up.CLUSTER).touch()
    assert cli.main(["kubectl", "get", "pods"]) == 3
    assert "is not installed; next: `make up`" in capsys.readouterr().err
    became: list[list[str]] = []
    monkeypatch.setattr(proc, "become", became.append)
    cli.main(["kubectl", "-n", "other", "get", "pods", "-n", "third"])
    (argv,) = became
    assert argv[-6:] == ["-n", "other", "get", "pods", "-n", "third"]


@pytest.mark.parametrize(
    ("words", "environment", "said"),
    [
        ("up", {}, "xwiki-stack up"),
        ("up", {"PORT": "3000", "ENV": "production"}, "xwiki-stack up"),
        ("up PORT=81 ENV=local", {}, "xwiki-stack up --env 'local' --port '81'"),
        ("delete YES=0", {}, "xwiki-stack delete"),
        ("delete YES=1", {}, "xwiki-stack delete"),
        ("test", {"TESTS": "x"}, "xwiki-stack test --"),
        ("test TESTS=tests/unit", {}, "xwiki-stack test -- tests/unit"),
    ],
)
def test_make_hands_on_what_it_was_given_and_nothing_else(
    words: str, environment: dict[str, str], said: str
) -> None:
    argv: list[str | Path] = ["make", "--dry-run", "-C", repo.ROOT, *words.split()]
    unset = dict.fromkeys(("PORT", "ENV", "TESTS", "MAKEFLAGS"), "")
    lines = proc.run(argv, env={**unset, **environment}).out.splitlines()
    assert [" ".join(line.split()) for line in lines if "xwiki-stack" in line] == [
        f".venv/bin/{said}"
    ]
