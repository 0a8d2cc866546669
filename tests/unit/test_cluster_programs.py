"""Tools: which version does, and that every pin is said the same way everywhere."""

import re
from pathlib import Path

import pytest

from xwiki_stack import proc, repo
from xwiki_stack.cluster import golang, machine, pins, programs
from xwiki_stack.steps import Log


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("v4.2.3+g54c7f17", "4.2.3"),
        ("Client Version: v1.36.3\nKustomize Version: v5.8.1", "1.36.3"),
        ("kind v0.33.0 go1.26.8 linux/amd64", "0.33.0"),
        ("not a version", ""),
    ],
)
def test_a_tools_version_is_read_from_what_it_says(said: str, number: str) -> None:
    assert programs.said_version(said) == number


def test_a_fitting_version_does_and_others_do_not() -> None:
    kubectl = pins.tools()["kubectl"]
    assert programs.fits(kubectl, "Client Version: v1.36.0")
    assert programs.fits(kubectl, "Client Version: v1.37.1")
    assert not programs.fits(kubectl, "Client Version: v1.32.4-dispatcher")
    assert not programs.fits(kubectl, "Client Version: v1.3.6")
    assert not programs.fits(kubectl, "no such command")
    helm = pins.tools()["helm"]
    assert programs.fits(helm, "v4.2.3+g1")
    assert not programs.fits(helm, "v3.22.0+g1")
    assert not programs.fits(helm, "v4.20.0"), "4.20 is not 4.2"


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("go version go1.26.8 linux/amd64", (1, 26)),
        ("go version go1.9 darwin/arm64", (1, 9)),
        ("gofish 1.26", None),
    ],
)
def test_gos_version_is_compared_as_numbers(said: str, number: tuple[int, int] | None) -> None:
    assert golang.version(said) == number
    assert pins.toolchain().at_least > (1, 9)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that the wheel does not fit, with an empty cache; gives a folder on PATH."""
    monkeypatch.setenv(repo.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(machine, "go_platform", lambda: ("darwin", "arm64"))
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def _program(folder: Path, says: str) -> Path:
    program = folder / "helm"
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    return program


def test_elsewhere_a_fitting_tool_on_path_is_taken(elsewhere: Path, tmp_path: Path) -> None:
    program = _program(elsewhere, "v4.2.1+gabc")
    log = Log(tmp_path / "log", lambda _text: None)
    assert programs.install("helm", log) == "4.2.3 from PATH"
    assert programs.tools().helm.resolve() == program
    assert proc.run([programs.tools().helm]).out.strip() == "v4.2.1+gabc"
    assert programs.install("helm", log) == "nothing to do"


def test_elsewhere_an_unfitting_tool_on_path_is_built_instead(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _program(elsewhere, "v3.12.0")
    built: list[tuple[str, tuple[str, str]]] = []

    def build(module: pins.Module, _log: Log, platform: tuple[str, str]) -> str:
        built.append((module.name, platform))
        binary = golang.binaries(module, platform) / "helm"
        binary.parent.mkdir(parents=True)
        binary.write_text("")
        return "made"

    monkeypatch.setattr(golang, "build", build)
    log = Log(tmp_path / "log", lambda _text: None)
    assert programs.install("helm", log) == "4.2.3 from Go modules"
    assert built == [("helm", ("darwin", "arm64"))]


def test_every_pin_is_the_version_that_its_go_mod_requires() -> None:
    modules = pins.modules()
    for name, module in modules.items():
        text = (module.source / "go.mod").read_text()
        required = re.findall(r"^(?:require\s+|\s+)(\S+) v(\S+)", text, re.M)
        versions = {version for path, version in required if name in path or name == "kubectl"}
        if name == "pause":
            continue  # ours, without dependencies
        expected = {module.version, re.sub(r"^1\.", "0.", module.version)}
        if name == "prometheus":  # its 3.15.1 is v0.315.1 to Go
            expected = {re.sub(r"^(\d+)\.(\d\d)\.", r"0.\1\2.", module.version)}
        where = "helm.sh/helm/" if name in ("helm", "helm3") else ""
        if where:
            versions = {version for path, version in required if path.startswith(where)}
        assert versions & expected, (name, versions)
        assert (module.source / "go.sum").stat().st_size > 0, name
    assert len(modules) >= 10


def test_kubernetes_stamps_and_kubectl_say_the_same_version() -> None:
    modules, version = pins.modules(), pins.modules()["kubernetes"].version
    for name in ("kubernetes", "kubectl"):
        stamps = modules[name].stamps
        assert stamps["k8s.io/component-base/version.gitVersion"] == f"v{version}"
        major, minor, _patch = version.split(".")
        assert stamps["k8s.io/component-base/version.gitMajor"] == major
        assert stamps["k8s.io/component-base/version.gitMinor"] == minor
    assert pins.tools()["kubectl"].version == version


def test_every_tool_can_be_built_where_its_wheel_does_not_fit() -> None:
    modules = pins.modules()
    for tool in pins.tools().values():
        module = modules[tool.module]
        assert tool.binary in module.binaries
        assert module.version == tool.version
        assert any(tool.version.startswith(prefix) for prefix in tool.fits)
