"""Go programs: what decides about them is in their key, and what they leave is in our cache."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from xwiki_stack import repo
from xwiki_stack.cluster import artefacts, golang, machine, pins
from xwiki_stack.errors import MachineError
from xwiki_stack.steps import Log

AMD64 = ("linux", "amd64")

GO = """#!/bin/sh
# A Go that notes how it is called and builds nothing.
case $1 in
version) echo "go version go{version} linux/amd64" ;;
list) echo example.org/one; echo example.org/two ;;
build)
    env | sort >"{notes}/env"
    printf '%s\\n' "$@" >"{notes}/words"
    while [ "$1" != -o ]; do shift; done
    mkdir -p "$2" && : >"$2/pause" ;;
esac
"""


@pytest.fixture(autouse=True)
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a Go on PATH; gives the folder of its notes."""
    monkeypatch.setenv(repo.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    _have_go(tmp_path, "1.26.1")
    return tmp_path


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "step.log", lambda _text: None)


def _have_go(folder: Path, version: str) -> None:
    golang._says.cache_clear()
    go = folder / "bin" / "go"
    go.parent.mkdir(exist_ok=True)
    go.write_text(GO.format(version=version, notes=folder))
    go.chmod(0o755)


def test_a_key_follows_everything_that_go_build_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    module = pins.modules()["etcd"]
    before = golang.key(module, AMD64)
    assert before == golang.key(module, AMD64)
    assert before != golang.key(module, ("linux", "arm64"))
    others = [
        replace(module, version="0"),
        replace(module, binaries=("other",)),
        replace(module, built_as="other"),
        replace(module, tags=("other",)),
        replace(module, stamps={"a": "b"}),
        replace(module, folder="other"),
        replace(module, of_module="other"),
    ]
    assert len({before, *(golang.key(other, AMD64) for other in others)}) == 8
    assert len(golang.ENVIRONMENT) >= 7
    for name in golang.ENVIRONMENT:
        with monkeypatch.context() as changed:
            changed.setattr(golang, "ENVIRONMENT", {**golang.ENVIRONMENT, name: "other"})
            assert golang.key(module, AMD64) != before, name
    monkeypatch.setattr(golang, "_build_words", lambda _module: ["build", "-race"])
    assert golang.key(module, AMD64) != before


def test_what_the_key_counts_is_what_go_build_is_told(notes: Path, log: Log) -> None:
    module = pins.modules()["pause"]
    assert golang.build(module, log, AMD64) == "made"
    told = dict(line.split("=", 1) for line in (notes / "env").read_text().splitlines())
    for name, value in golang._environment(AMD64).items():
        assert told[name] == value
    words = (notes / "words").read_text().splitlines()
    assert words[: words.index("-o")] == golang._build_words(module)
    # What it needs beside that is where its caches and temporary files are: in ours.
    for name in ("GOCACHE", "GOMODCACHE", "GOTMPDIR", "TMPDIR"):
        assert Path(told[name]).is_relative_to(repo.cache() / "work" / "go"), name
    assert Path(told["GOTMPDIR"]).is_dir()


def test_a_key_follows_gos_minor_release_not_its_patches(tmp_path: Path) -> None:
    module = pins.modules()["pause"]
    before = golang.key(module, AMD64)
    _have_go(tmp_path, "1.26.9")
    assert golang.key(module, AMD64) == before
    _have_go(tmp_path, "1.27.0")
    assert golang.key(module, AMD64) != before
    # Too old: the pinned wheel compiles, and counts.
    _have_go(tmp_path, "1.25.0")
    assert golang._release() == golang.version(f"go{pins.toolchain().version}") == (1, 26)
    (tmp_path / "bin" / "go").write_text("no program")
    golang._says.cache_clear()
    assert golang._release() == (1, 26)


def test_caches_go_unless_another_run_compiles_with_them() -> None:
    assert golang.drop_caches() == "nothing to do"
    kept = artefacts.folder("work", "go", "mod")
    (kept / "file").write_text("")
    kept.chmod(0o500)
    with artefacts.lock(golang.LANE):
        assert golang.drop_caches() == "another run compiles, and removes them"
        assert kept.exists()
    assert golang.drop_caches() == "removed"
    assert not kept.exists()


def test_a_build_holds_the_lock_that_keeps_its_caches(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    free: list[bool] = []

    def toolchain(_log: Log) -> Path:
        with artefacts.lock_if_free(golang.LANE) as held:
            free.append(held)
        raise MachineError("enough seen")

    monkeypatch.setattr(golang, "toolchain", toolchain)
    with pytest.raises(MachineError, match="enough seen"):
        golang.build(pins.modules()["pause"], log, AMD64)
    assert free == [False]


def test_every_machine_has_a_pinned_go_and_a_way_to_every_tool() -> None:
    machines = {f"{system}/{cpu}" for system in ("linux", "darwin") for cpu in ("amd64", "arm64")}
    pinned = pins.toolchain().sha256
    assert set(pinned) == machines
    assert len(set(pinned.values())) == len(machines)
    for digest in (*pinned.values(), pins.wheel().sha256):
        assert len(bytes.fromhex(digest)) == 32
    assert "/".join(pins.wheel().platform) in machines
    for tool in pins.tools().values():
        assert tool.module in pins.modules(), f"{tool.name}: nothing but its wheel"


def test_a_machine_without_any_go_is_one_line(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _have_go(tmp_path, "1.9")
    monkeypatch.setattr(machine, "go_platform", lambda: ("linux", "riscv64"))
    with pytest.raises(MachineError, match=r"no Go 1\.26 on PATH, and no wheel of it for linux/r"):
        golang.toolchain(log)


def test_no_module_asks_for_a_newer_go_than_the_pinned_one() -> None:
    asked = {
        path.parent.name: tuple(map(int, found[1].split(".")))
        for path in (repo.ROOT / "ci" / "bed" / "go").glob("*/go.mod")
        if (found := re.search(r"^go ([\d.]+)$", path.read_text(), re.MULTILINE))
    }
    assert asked.keys() == {module.name for module in pins.modules().values()}
    pinned = tuple(map(int, pins.toolchain().version.split(".")))
    assert [name for name, version in asked.items() if version > pinned] == []
