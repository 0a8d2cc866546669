"""What the machine is asked, and what it lacks."""

import os
import sys
from pathlib import Path

import pytest

from xwiki_stack import proc
from xwiki_stack.cluster import engine, machine
from xwiki_stack.errors import MachineError
from xwiki_stack.steps import Log


def test_the_mirror_is_the_machines_own_archive_not_the_security_one() -> None:
    targets = (
        "Debian|Debian-Security|main|http://security.example/debian-security/\n"
        "Other|Other|main|http://other.example/\n"
        "Debian|Debian|contrib|http://mirror.example/debian/\n"
        "Debian|Debian|main|http://mirror.example/debian/\n"
        "Debian|Debian|main|http://second.example/debian/\n"
    )
    assert machine.choose_mirror(targets) == "http://mirror.example/debian"
    assert machine.choose_mirror("Ubuntu|Ubuntu|main|http://u.example/") == ""
    assert machine.choose_mirror("broken line") == ""


def test_without_a_debian_archive_the_offline_bed_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nothing = proc.Result((), 0, "", "")
    monkeypatch.setattr(proc, "run", lambda *_, **__: nothing)
    with pytest.raises(MachineError, match="apt knows no Debian archive"):
        machine.debian_mirror()


def test_only_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "has", lambda program: program not in ("debootstrap", "dockerd"))
    assert machine.missing_packages(engine=True, bed=True) == ["debootstrap", "docker.io"]
    assert machine.missing_packages(engine=False, bed=True) == ["debootstrap"]
    assert machine.missing_packages(engine=False, bed=False) == []
    assert machine.missing_packages(engine=False, bed=False, peers=True) == []
    monkeypatch.setattr(machine, "has", lambda program: program not in ("aws", "restic"))
    assert machine.missing_packages(engine=True, bed=True, peers=True) == ["awscli", "restic"]


def test_nothing_is_installed_where_there_is_no_apt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(tmp_path / "log", lambda _text: None)
    monkeypatch.setattr(proc, "which", lambda _tool: None)
    machine.install([], log)
    with pytest.raises(MachineError, match=r"missing: maven, and this system has no apt-get; next"):
        machine.install(["maven"], log)


@pytest.mark.parametrize(
    ("root", "sudo", "code", "gives"),
    [
        (True, None, 0, []),
        (False, "/usr/bin/sudo", 0, ["sudo", "-n"]),
        (False, "/usr/bin/sudo", 1, "sudo asks for a password; next: run `sudo -v` first"),
        (False, None, 0, "needs root; next: run as root, or install sudo"),
    ],
)
def test_sudo_is_never_left_waiting_for_a_password(
    root: bool,
    sudo: str | None,
    code: int,
    gives: list[str] | str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[list[str]] = []

    def run(argv: list[str], **_options: object) -> proc.Result:
        said.append(argv)
        return proc.Result((), code, "", "")

    monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1000)
    monkeypatch.setattr(proc, "which", lambda tool: sudo if tool == "sudo" else tool)
    monkeypatch.setattr(proc, "run", run)
    if isinstance(gives, str):
        with pytest.raises(MachineError, match=gives):
            machine.installer(["maven"])
    else:
        assert machine.installer(["maven"]) == gives
    assert all(argv == ["sudo", "-n", "true"] for argv in said)


def test_packages_are_installed_with_the_right_that_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(tmp_path / "log", lambda _text: None)
    said: list[list[str]] = []
    monkeypatch.setattr(machine, "installer", lambda _packages: ["sudo", "-n"])
    monkeypatch.setattr(proc, "run", lambda argv, **_: said.append(argv))
    machine.install(["maven"], log)
    assert [argv[:2] for argv in said] == [["sudo", "-n"]] * 2
    assert said[1][-1] == "maven"


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine on which no engine answers."""
    refused = proc.Result((), 1, "", "Cannot connect to the Docker daemon")
    monkeypatch.setattr(engine, "running", lambda: None)
    monkeypatch.setattr(proc, "which", Path)
    monkeypatch.setattr(proc, "run", lambda *_, **__: refused)
    return monkeypatch


def test_no_rights_on_the_engine_is_one_line(silent: pytest.MonkeyPatch, tmp_path: Path) -> None:
    denied = proc.Result(
        (), 1, "", "permission denied while trying to connect to the Docker daemon"
    )
    silent.setattr(proc, "run", lambda *_, **__: denied)
    with pytest.raises(MachineError, match="no rights on the container engine; next: join"):
        engine.start(Log(tmp_path / "log", lambda _text: None))


def test_starting_an_engine_needs_root(silent: pytest.MonkeyPatch, tmp_path: Path) -> None:
    silent.setattr(os, "geteuid", lambda: 1000)
    silent.setattr(sys, "platform", "linux")
    with pytest.raises(MachineError, match="starting one needs root; next: start Docker"):
        engine.start(Log(tmp_path / "log", lambda _text: None))


def test_on_a_mac_docker_is_asked_for(silent: pytest.MonkeyPatch, tmp_path: Path) -> None:
    silent.setattr(sys, "platform", "darwin")
    with pytest.raises(MachineError, match="no container engine answers; next: start Docker"):
        engine.start(Log(tmp_path / "log", lambda _text: None))


def test_an_engine_that_answers_is_taken_as_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(engine, "running", lambda: engine.Engine(""))
    said = engine.start(Log(tmp_path / "log", lambda _text: None))
    assert said == "the machine's own engine answers"
    assert engine.Engine("").environment == {}
    assert engine.Engine("").docker("ps") == ["docker", "ps"]


def test_a_cache_path_too_long_for_sockets_is_refused_before_anything_starts(
    silent: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    silent.setenv("XWIKI_STACK_CACHE", str(tmp_path / ("x" * 120)))
    silent.setattr(os, "geteuid", lambda: 0)
    silent.setattr(sys, "platform", "linux")
    with pytest.raises(MachineError, match="too long for a socket; next: point XWIKI_STACK_CACHE"):
        engine.start(Log(tmp_path / "log", lambda _text: None))


def test_an_engines_images_lie_where_it_says_if_that_is_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XWIKI_STACK_CACHE", str(tmp_path))
    assert engine.Engine("unix:///s").data_root == tmp_path / "engine" / "data"
    for said, root in ((f"{tmp_path}\n", tmp_path), ("/in/a/virtual/machine\n", None), ("", None)):
        answer = proc.Result((), 0, said, "")
        monkeypatch.setattr(proc, "run", lambda *_, answer=answer, **__: answer)
        assert engine.Engine("").data_root == root


def test_a_start_that_takes_long_can_be_ended(silent: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(_seconds: float) -> None:
        raise proc.Interrupted

    silent.setenv("XWIKI_STACK_CACHE", str(tmp_path))
    silent.setattr(os, "geteuid", lambda: 0)
    silent.setattr(sys, "platform", "linux")
    silent.setattr(proc, "alive", lambda _file: 1)
    silent.setattr(proc, "pause", interrupted)
    with pytest.raises(proc.Interrupted):
        engine.start(Log(tmp_path / "log", lambda _text: None))
