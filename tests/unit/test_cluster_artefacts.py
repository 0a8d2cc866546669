"""Artefacts: made once, never half, found again by what made them."""

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from xwiki_stack import proc, repo
from xwiki_stack.cluster import artefacts, engine, golang, machine, nodeimage, pins, programs
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


def test_a_version_that_fails_costs_none_of_the_older_ones(log: Log) -> None:
    for key in ("older", "old"):
        artefacts.make("thing", key, _fill, log)

    def failing(_folder: Path) -> None:
        raise MachineError("no")

    with pytest.raises(MachineError):
        artefacts.make("thing", "new", failing, log)
    assert artefacts.place("thing", "old").exists()
    assert artefacts.place("thing", "older").exists()
    assert not artefacts.place("thing", "new").exists()


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


def test_another_disk_is_not_moved_by_our_variable(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"needed; next: free some space$"):
        artefacts.require_disk(1e9, tmp_path)


def test_a_lock_of_another_run_is_seen_and_a_wait_for_it_can_be_ended(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not artefacts.busy()

    def interrupted(_seconds: float) -> None:
        raise proc.Interrupted

    monkeypatch.setattr(proc, "pause", interrupted)
    with artefacts.lock("thing"):
        assert artefacts.busy()
        with artefacts.lock_if_free("thing") as held:
            assert not held
        with pytest.raises(proc.Interrupted), artefacts.lock("thing", log):
            pytest.fail("two runs held one lock")
    assert "another run is making the same" in log.path.read_text()
    assert not artefacts.busy()
    with artefacts.lock_if_free("thing") as held:
        assert held


def _unusable(message: str) -> str:
    return rf"{message}; next: point {repo.CACHE_VARIABLE} to a folder of yours"


@pytest.mark.parametrize(
    "use",
    [
        lambda: artefacts.folder("engine"),
        lambda: artefacts.lock("x").__enter__(),
        lambda: artefacts.workspace("x").__enter__(),
        lambda: artefacts.require_disk(0),
    ],
)
def test_a_cache_that_cannot_be_one_is_one_line(
    use: Callable[[], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    places = {tmp_path / "file": "file exists|not a directory", Path("/proc/nope"): "no such file"}
    for place, why in places.items():
        monkeypatch.setenv(repo.CACHE_VARIABLE, str(place))
        with pytest.raises(
            MachineError, match=_unusable(f"{place}.*: cannot be written: ({why}).*")
        ):
            use()


def test_a_lock_of_another_user_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    (artefacts.folder("locks") / "x.lock").mkdir()  # cannot be opened, whoever we are
    with pytest.raises(MachineError, match=_unusable("cannot be written: is a directory")):
        artefacts.lock("x").__enter__()


def test_a_disk_that_fills_up_is_one_line_and_other_mistakes_stay_themselves() -> None:
    with (
        pytest.raises(MachineError, match=_unusable("cannot be written: no space left on device")),
        artefacts.workspace("thing"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(FileNotFoundError), artefacts.workspace("thing") as work:
        (work / "missing").read_text()
    assert list((repo.cache() / "work").iterdir()) == []


def test_the_node_image_follows_every_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def references() -> tuple[str, str]:
        return nodeimage.root_reference(), nodeimage.reference()

    before = references()
    assert before[1].startswith(f"{nodeimage.NODE_REPOSITORY}:v1.36.3-")
    assert references() == before
    changed = tmp_path / "node"
    changed.mkdir()
    (changed / "install").write_text("another recipe")
    (changed / "packages.txt").write_text("\n".join(nodeimage.packages()))
    with monkeypatch.context() as other:
        other.setattr(nodeimage, "RECIPE", changed)
        assert nodeimage.root_reference() == before[0]
        assert nodeimage.reference() != before[1]
        (changed / "packages.txt").write_text("systemd")
        assert nodeimage.root_reference() != before[0]
    told = nodeimage._debootstrap()
    for name, value in {
        "WASTE": (),
        "IMPORT": (),
        "SUITE": "trixie",
        "_debootstrap": lambda: ["--variant=buildd", *told[1:]],
    }.items():
        with monkeypatch.context() as other:
            other.setattr(nodeimage, name, value)
            root, node = references()
            assert root != before[0], name
            assert node != before[1], name
    # The node's kubectl, and what it is built for.
    with monkeypatch.context() as other:
        other.setattr(programs, "key", lambda _tool: "another kubectl")
        assert nodeimage.reference() != before[1]
    with monkeypatch.context() as other:
        other.setattr(golang, "node_platform", lambda: ("linux", "s390x"))
        assert nodeimage.root_reference() != before[0]


def test_a_tools_key_follows_its_wheel_and_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    helm, kind = pins.tools()["helm"], pins.tools()["kind"]
    monkeypatch.setattr(machine, "go_platform", lambda: ("linux", "amd64"))
    before = programs.key(helm)
    wheel = pins.wheel()
    with monkeypatch.context() as other:
        other.setattr(wheel.__class__, "__repr__", lambda _self: "another hash")
        assert programs.key(helm) != before
    own = programs.key(kind)
    with monkeypatch.context() as other:
        other.setattr(golang, "ENVIRONMENT", {**golang.ENVIRONMENT, "CGO_ENABLED": "1"})
        assert programs.key(helm) == before, "the wheel is not compiled here"
        assert programs.key(kind) != own
    monkeypatch.setattr(machine, "go_platform", lambda: ("darwin", "amd64"))
    assert programs.key(helm) != before
    assert programs.key(kind) != own


def test_the_version_before_stays_for_another_checkout(log: Log) -> None:
    for age, key in enumerate(("k1", "k2", "k3")):
        artefacts.make("thing", key, _fill, log)
        os.utime(artefacts.place("thing", key), (age, age))
    artefacts.make("thing", "k4", _fill, log)
    assert {path.name for path in artefacts.place("thing", "k4").parent.iterdir()} == {"k3", "k4"}


def test_the_image_before_stays_for_another_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[object] = []

    def run(argv: list[object], **_options: object) -> proc.Result:
        if "rm" in argv:
            removed.append(argv[-1])
        return proc.Result((), 0, "local/x:now\nlocal/x:before\nlocal/x:old\nlocal/x:older\n", "")

    monkeypatch.setattr(proc, "run", run)
    engine.Engine("").forget_older("local/x", "local/x:now")
    assert removed == ["local/x:old", "local/x:older"]
