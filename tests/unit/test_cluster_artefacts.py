"""Artefacts: made once, never half, found again by what made them."""

import threading
import time
from pathlib import Path

import pytest

from xwiki_stack import repo
from xwiki_stack.cluster import artefacts, golang, nodeimage, pins
from xwiki_stack.errors import MachineError
from xwiki_stack.steps import Log


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(repo.CACHE_VARIABLE, str(tmp_path / "cache"))


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "step.log", lambda _text: None)


def _fill(folder: Path) -> None:
    (folder / "f").write_text("content")


def test_an_artefact_is_made_once(log: Log) -> None:
    made: list[Path] = []

    def build(folder: Path) -> None:
        made.append(folder)
        (folder / "file").write_text("content")

    assert artefacts.make("thing", "k1", build, log) == "made"
    assert artefacts.make("thing", "k1", build, log) == "nothing to do"
    assert len(made) == 1
    assert (artefacts.place("thing", "k1") / "file").read_text() == "content"


def test_an_interrupted_build_leaves_nothing_behind(log: Log) -> None:
    def interrupted(folder: Path) -> None:
        (folder / "half").write_text("")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        artefacts.make("thing", "k1", interrupted, log)
    assert not artefacts.place("thing", "k1").exists()
    assert list((repo.cache() / "work").iterdir()) == []


def test_what_a_killed_run_left_is_dropped_by_the_next() -> None:
    left = repo.cache() / "work" / "work-thing-abc"
    (left / "deep").mkdir(parents=True)
    (left / "deep").chmod(0o500)
    other = repo.cache() / "work" / "work-other-abc"
    other.mkdir()
    with artefacts.workspace("thing") as folder:
        assert folder.is_dir()
        assert not left.exists()
        assert other.exists(), "the work of another artefact was dropped"
    assert not folder.exists()


def test_a_new_version_replaces_the_old_one_only_when_it_stands(log: Log) -> None:
    artefacts.make("thing", "old", _fill, log)

    def failing(_folder: Path) -> None:
        raise MachineError("no")

    with pytest.raises(MachineError):
        artefacts.make("thing", "new", failing, log)
    assert artefacts.place("thing", "old").exists()
    artefacts.make("thing", "new", _fill, log)
    assert not artefacts.place("thing", "old").exists()


def test_two_runs_at_once_make_it_once(log: Log) -> None:
    count: list[int] = []
    outcomes: list[str] = []

    def slow(_folder: Path) -> None:
        count.append(1)
        time.sleep(0.2)

    def run() -> None:
        outcomes.append(artefacts.make("thing", "k", slow, log))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(count) == 1
    assert sorted(outcomes) == ["made", "made by another run"]


def test_too_little_disk_is_one_line_with_a_way_out() -> None:
    artefacts.require_disk(0)
    with pytest.raises(MachineError, match=rf"needed; next: .*{repo.CACHE_VARIABLE}") as refused:
        artefacts.require_disk(1e9)
    assert "\n" not in str(refused.value)


def test_a_modules_key_follows_its_pins_flags_and_platform() -> None:
    module = pins.modules()["etcd"]
    amd = golang.key(module, ("linux", "amd64"))
    assert amd == golang.key(module, ("linux", "amd64"))
    assert amd != golang.key(module, ("linux", "arm64"))
    tagged = pins.Module("etcd", module.version, module.binaries, tags=("other",))
    stamped = pins.Module("etcd", module.version, module.binaries, stamps={"a": "b"})
    assert len({amd, *(golang.key(m, ("linux", "amd64")) for m in (tagged, stamped))}) == 3


def test_the_node_image_follows_every_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = nodeimage.reference()
    assert before.startswith(f"{nodeimage.NODE_REPOSITORY}:v1.36.3-")
    changed = tmp_path / "node"
    changed.mkdir()
    (changed / "install").write_text("another recipe")
    monkeypatch.setattr(nodeimage, "RECIPE", changed)
    assert nodeimage.reference() != before
