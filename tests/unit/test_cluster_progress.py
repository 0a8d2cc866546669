"""How far a program is, from what it says."""

import time
from pathlib import Path

import pytest

from xwiki_stack.cluster import progress
from xwiki_stack.steps import Log


def test_compiled_packages_are_counted_and_nothing_else() -> None:
    lines = ["k8s.io/api/core/v1", "vendor/golang.org/x/net", "go: downloading a v1", "-- 3 of 4"]
    assert progress.packages(9)("\n".join(lines)) == "2 of 9 packages"


def test_debootstrap_is_as_far_as_its_last_stage() -> None:
    assert progress.debootstrap("nothing yet") == ""
    text = "I: Retrieving a\nI: Retrieving b\n"
    assert progress.debootstrap(text) == "retrieving packages, 2 so far"
    assert progress.debootstrap(f"{text}I: Unpacking a...\n") == "unpacking packages, 1 so far"


def test_a_pull_is_as_far_as_its_layers() -> None:
    assert progress.layers("v1: Pulling from kindest/node\n") == ""
    text = "".join(
        f"{layer * 12}: {stage}\n"
        for layer, stage in [
            ("a", "Pulling fs layer"),
            ("b", "Already exists"),
            ("c", "Pulling fs layer"),
            ("a", "Download complete"),
            ("a", "Pull complete"),
        ]
    )
    assert progress.layers(f"v1: Pulling from kindest/node\n{text}") == "2 of 3 layers"


def test_a_watch_tells_while_the_program_runs_and_then_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS", 0.01)
    said: list[str] = []
    log = Log(tmp_path / "log", said.append)
    with progress.Watch(log, lambda text: f"{text.count('done')} done" if text else ""):
        time.sleep(0.05)
        assert said == [], "there was nothing to tell"
        log.path.write_text("done\n")
        deadline = time.monotonic() + 5
        while not said and time.monotonic() < deadline:
            time.sleep(0.01)
    assert "1 done" in said
    count = len(said)
    time.sleep(0.05)
    assert len(said) == count
