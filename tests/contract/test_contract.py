"""The contract itself: which image it looks at, what it leaves behind, what is said of it."""

import re
from pathlib import Path

import pytest

from tests.contract.conftest import image_under_test
from tests.contract.containers import Host
from xwiki_stack import repo
from xwiki_stack.cluster import images, registry
from xwiki_stack.cluster.engine import Engine

FOLDER = repo.ROOT / "tests" / "contract"
STANDIN = repo.ROOT / "images" / "xwiki-standin"
DOCKER = """#!/bin/sh
echo "$@" >>"$0.asked"
case $1 in
image) test -e "$0.pulled" ;;
pull) touch "$0.pulled" ;;
esac
"""
"""A docker client of an engine that has nothing until it is told to pull."""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the client on PATH was asked for, one line each."""
    client = tmp_path / "docker"
    client.write_text(DOCKER)
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path / "docker.asked"


@pytest.mark.parametrize("chosen", ["docker.io/library/xwiki:1", None])
def test_an_image_that_the_engine_lacks_is_pulled(
    chosen: str | None, asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(registry.VARIABLE, "registry")
    (table,) = [image for image in images.table() if image.name == "xwiki"]
    host = Host(Engine(""))
    image = image_under_test(host, "xwiki", chosen)
    assert image == (chosen or table.upstream)
    assert asked.read_text().splitlines()[-2:] == [
        f"image inspect --format - {image}",
        f"pull {image}",
    ]
    host.obtain(image)
    assert asked.read_text().count("pull") == 1


def test_no_fixture_outlives_the_package() -> None:
    files = sorted(FOLDER.glob("*.py"))
    assert len(files) > 6
    scopes = {path.name: set(re.findall(r'scope="(\w+)"', path.read_text())) for path in files}
    assert scopes["conftest.py"] >= {"package"}
    assert {name for name, found in scopes.items() if "session" in found} == set()


def test_every_behaviour_and_every_fault_names_its_test() -> None:
    readme = (STANDIN / "README.md").read_text()
    code = "".join(path.read_text() for path in FOLDER.glob("test_*.py"))
    tests = set(re.findall(r"`(test_\w+)`", readme))
    assert len(tests) > 20
    assert {name for name in tests if f"def {name}(" not in code} == set()
    java = (STANDIN / "src/org/xwikistack/standin/Faults.java").read_text()
    faults = set(re.findall(r'"(STANDIN_\w+)"', java))
    assert len(faults) > 5
    assert faults == set(re.findall(r"^\| `(STANDIN_\w+)`", readme, re.M))
    assert {name for name in faults if name not in code} == set()
