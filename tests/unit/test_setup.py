"""ci/setup: when .venv is made, when it is left, and what it leaves elsewhere."""

import os
import shutil
from pathlib import Path

import pytest

from xwiki_stack import proc, repo

PYTHON = """#!/bin/sh
# A Python that notes what it is asked, and whose venv is a copy of itself.
echo "$*" >>"{notes}"
case $* in
*cache_tag*) echo "{tag}" ;;
"-m venv"*) mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
*"pip install"*) echo "PIP_CACHE_DIR=$PIP_CACHE_DIR" >>"{notes}" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with nothing but ci/setup and its locks, and a Python on PATH."""
    folder = tmp_path / "checkout"
    for name in ("ci/setup", "requirements/dev.txt", "pyproject.toml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(repo.ROOT / name, folder / name)
    monkeypatch.setenv(repo.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("PYTHON", raising=False)
    _python(tmp_path / "bin" / "python3", "cpython-311")
    return folder


def _python(place: Path, tag: str) -> None:
    place.parent.mkdir(exist_ok=True)
    place.write_text(PYTHON.format(notes=place.parents[1] / "notes", tag=tag))
    place.chmod(0o755)


def _made(checkout: Path) -> bool:
    """Whether a run of ci/setup made .venv anew."""
    notes = checkout.parent / "notes"
    notes.unlink(missing_ok=True)
    proc.run([checkout / "ci" / "setup"])
    return notes.exists() and "-m venv" in notes.read_text()


def test_what_is_made_is_left_alone_until_something_it_is_made_of_changes(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _made(checkout)
    assert not _made(checkout)
    (checkout / "requirements" / "dev.txt").write_text("another lock")
    assert _made(checkout)
    (checkout / ".venv" / "stamp").unlink()  # interrupted
    assert _made(checkout)
    assert not _made(checkout)
    # Its Python became another one, as when the system's is upgraded beneath it.
    _python(checkout.parent / "bin" / "python3", "cpython-312")
    assert not _made(checkout), "its own Python is still the same"
    shutil.copy2(checkout.parent / "bin" / "python3", checkout / ".venv" / "bin" / "python")
    assert _made(checkout)
    # Its Python has gone.
    (checkout / ".venv" / "bin" / "python").unlink()
    assert _made(checkout)
    # Another one is asked for, once.
    other = checkout.parent / "bin" / "python3.13"
    _python(other, "cpython-313")
    monkeypatch.setenv("PYTHON", str(other))
    assert _made(checkout)
    assert not _made(checkout)
    monkeypatch.delenv("PYTHON")
    assert not _made(checkout)


def test_pips_cache_lies_in_ours(checkout: Path) -> None:
    assert _made(checkout)
    notes = (checkout.parent / "notes").read_text().splitlines()
    kept = [line for line in notes if line.startswith("PIP_CACHE_DIR=")]
    assert kept == [f"PIP_CACHE_DIR={repo.cache() / 'pip'}"] * 2


def test_a_cache_that_cannot_be_one_is_one_line(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = checkout.parent / "file"
    place.write_text("")
    for cache in (place, Path("/proc/nope")):
        monkeypatch.setenv(repo.CACHE_VARIABLE, str(cache))
        said = proc.run([checkout / "ci" / "setup"], check=False)
        assert said.code == 3
        (line,) = said.err.splitlines()
        assert f"{cache} cannot be written; next: point {repo.CACHE_VARIABLE}" in line
    assert not (checkout / ".venv").exists()
