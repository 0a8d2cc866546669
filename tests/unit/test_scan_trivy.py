"""Trivy: one on PATH that fits goes first, and the re-upload is for where nobody works."""

from pathlib import Path

import pytest

from xwiki_stack import repo
from xwiki_stack.cluster import golang, machine, pins, registry
from xwiki_stack.scan import trivy
from xwiki_stack.steps import Log

UNPROVEN = "none that fits on PATH; unproven: hosted CI scans"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on PATH, beside an empty cache, on a machine of the offline bed that is no CI."""
    monkeypatch.setenv(repo.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(registry.VARIABLE, "offline")
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(machine, "go_platform", lambda: pins.scanner().platform)
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", f"{path}:/usr/bin:/bin")
    return path


def put(program: Path, version: str = pins.scanner().version) -> Path:
    """A program that says it is Trivy of a version."""
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f"#!/bin/sh\necho 'Version: {version}'\n")
    program.chmod(0o755)
    return program


def log(folder: Path) -> Log:
    """A log that nobody reads."""
    return Log(folder / "log", lambda _text: None)


def test_one_on_path_that_fits_goes_first(folder: Path) -> None:
    put(trivy._wheel())
    program = put(folder / "trivy")
    assert trivy.program() == program
    assert trivy.install(log(folder)) == f"{pins.scanner().version} from PATH"


def test_a_malicious_or_other_release_on_path_is_not_taken(folder: Path) -> None:
    put(folder / "trivy", "0.69.4")
    assert trivy.program() is None
    wheel = put(trivy._wheel())
    assert trivy.program() == wheel
    assert wheel.is_relative_to(repo.cache())


@pytest.mark.parametrize("where", [{}, {"CI": "true", registry.VARIABLE: "registry"}], ids=str)
def test_the_wheel_is_taken_by_its_hash_on_the_offline_bed_and_in_ci(
    folder: Path, monkeypatch: pytest.MonkeyPatch, where: dict[str, str]
) -> None:
    asked: list[tuple[str, ...]] = []

    def download(package: str, number: str, sha256: str, target: Path, _log: Log) -> Path:
        asked.append((package, number, sha256))
        raise RuntimeError

    for name, value in where.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(golang, "download", download)
    with pytest.raises(RuntimeError):
        trivy.install(log(folder))
    scanner = pins.scanner()
    assert asked == [(scanner.package, scanner.release, scanner.sha256)]
    assert len(scanner.sha256) == 64
    assert scanner.release.startswith(f"{scanner.version}.")


@pytest.mark.parametrize("ci", ["", "false"])
def test_at_a_desk_with_a_registry_the_wheel_is_neither_brought_nor_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch, ci: str
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(golang, "download", lambda *_: pytest.fail("it was downloaded"))
    wheel = put(trivy._wheel())
    assert trivy.program() == wheel
    monkeypatch.setenv(registry.VARIABLE, "registry")
    assert trivy.program() is None
    assert trivy.install(log(folder)) == UNPROVEN


def test_another_machine_has_none_and_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "go_platform", lambda: ("darwin", "arm64"))
    assert trivy.program() is None
    assert trivy.install(log(folder)) == UNPROVEN
