"""Programs from npm: what a lock may say, where Node.js comes from, and who has to have them."""

import json
from pathlib import Path

import pytest

from xwiki_stack import repo
from xwiki_stack.cluster import bed, machine, npm, pins
from xwiki_stack.errors import MachineError
from xwiki_stack.steps import Log

LOCKS = sorted(pins.NPM.glob("*/package-lock.json"))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.parent.name)
def test_a_lock_holds_every_package_by_its_hash_and_names_no_registry(lock: Path) -> None:
    packages = {
        name: told for name, told in json.loads(lock.read_text())["packages"].items() if name
    }
    assert len(packages) > 10
    assert [name for name, told in packages.items() if not told.get("integrity")] == []
    assert [name for name, told in packages.items() if "resolved" in told] == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.parent.name)
def test_what_we_ask_of_npm_is_one_version(lock: Path) -> None:
    asked = json.loads((lock.parent / "package.json").read_text())["dependencies"]
    locked = json.loads(lock.read_text())["packages"]
    assert asked
    for name, version in asked.items():
        assert locked[f"node_modules/{name}"]["version"] == version


def test_there_are_locks() -> None:
    assert [lock.parent.name for lock in LOCKS] == ["renovate"]


def test_a_machine_that_nodejs_is_not_made_for_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(repo.CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setattr(machine, "go_platform", lambda: ("plan9", "mips"))
    log = Log(tmp_path / "log", lambda _text: None)
    with pytest.raises(MachineError, match=r"there is no Node\.js for plan9/mips"):
        npm.install("renovate", log)


def test_another_nodejs_or_lock_is_another_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = npm.package("renovate")
    monkeypatch.setattr(pins, "nodejs", lambda: pins.NodeJs("nodejs", "1", {}))
    assert npm.package("renovate") != before
    monkeypatch.undo()
    assert npm.package("renovate") == before
    (tmp_path / "renovate").mkdir()
    for file in npm.LOCKED:
        (tmp_path / "renovate" / file).write_text("{}")
    monkeypatch.setattr(pins, "NPM", tmp_path)
    assert npm.package("renovate") != before


def test_only_tests_and_checks_bring_it() -> None:
    assert "renovate" in {step.name for step in bed.tool_steps(extras=True)}
    assert "renovate" not in {step.name for step in bed.tool_steps()}
