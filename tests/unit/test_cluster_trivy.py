"""Trivy: one on PATH that fits goes before the re-upload, and a machine may have none."""

from pathlib import Path

import pytest

from xwiki_stack import repo
from xwiki_stack.cluster import golang, machine, pins, trivy
from xwiki_stack.steps import Log


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on PATH, beside an empty cache."""
    monkeypatch.setenv(repo.CACHE_VARIABLE, str(tmp_path / "cache"))
    path = tmp_path / "bin"
    path.mkdir()
    monkeypatch.setenv("PATH", f"{path}:/usr/bin:/bin")
    return path


def put(folder: Path, version: str) -> Path:
    """A program that says it is Trivy of a version."""
    program = folder / "trivy"
    program.write_text(f"#!/bin/sh\necho 'Version: {version}'\n")
    program.chmod(0o755)
    return program


def log(folder: Path) -> Log:
    """A log that nobody reads."""
    return Log(folder / "log", lambda _text: None)


def test_one_on_path_that_fits_goes_first(folder: Path) -> None:
    program = put(folder, pins.scanner().version)
    assert trivy.program() == program
    assert trivy.install(log(folder)) == f"{pins.scanner().version} from PATH"


def test_a_malicious_or_other_release_on_path_is_not_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = put(folder, "0.69.4")
    monkeypatch.setattr(machine, "go_platform", lambda: pins.scanner().platform)
    found = trivy.program()
    assert found
    assert found != program
    assert found.is_relative_to(repo.cache())


def test_the_wheel_is_taken_by_its_hash(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def download(package: str, number: str, sha256: str, target: Path, _log: Log) -> Path:
        asked.append((package, number, sha256))
        raise RuntimeError

    monkeypatch.setattr(machine, "go_platform", lambda: pins.scanner().platform)
    monkeypatch.setattr(golang, "download", download)
    with pytest.raises(RuntimeError):
        trivy.install(log(folder))
    scanner = pins.scanner()
    assert asked == [(scanner.package, scanner.release, scanner.sha256)]
    assert len(scanner.sha256) == 64
    assert scanner.release.startswith(f"{scanner.version}.")


def test_another_machine_has_none_and_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "go_platform", lambda: ("darwin", "arm64"))
    assert trivy.program() is None
    assert trivy.install(log(folder)) == "there is none for this machine: hosted CI scans"
