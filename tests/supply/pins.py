"""Every pin of a checkout, read without Renovate: versions, tags and digests by file and line.

Not looked at: prose, tests (their versions are examples), what is generated or locked from pins,
and EXCEPTIONS.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.supply.renovate import Dependency
from xwiki_stack.generate import MARK

TOKEN = re.compile(
    r"sha256:[0-9a-f]{64}|\b[0-9a-f]{40}\b"
    r"|(?<![\w.])v?\d+\.\d+\.\d+(?:[-+][\w.+-]*\w)?(?![\w/]|\.\d)"
)
"""A digest, the hash of a commit, a version of three numbers with what hangs on it."""

NAMED = re.compile(
    r"""(?:^|[\s{,])(?:tag|version|rev|release)["']?: *["']?(v?\d+(?:\.\d+)*)["']?\s*(?:[,}]|$)"""
    r"|(?:[\w-]+\.)+[\w-]+(?:/[\w.-]+)+:(v?\d+(?:\.\d+)?)(?![\w.])"
    r"|runs-on: \w+-(\d+\.\d+)"
)
"""A version of any length, where a key, an image's name or a runner's says that it is one."""

LOCKED_PYTHON = re.compile(r"^[\w.-]+==(\S+)")

PROSE = re.compile(r"(^|/)(docs|tests)/|\.(md|schema\.json)$|^LICENSE$")

DERIVED = re.compile(r"(^|/)(go\.sum|package-lock\.json|Chart\.lock)$")
"""Written by tools from the pins beside them."""

OURS = re.compile(
    r"(^|/)Chart\.yaml$|^(pyproject\.toml|chartpress\.yaml|ci/images\.yaml|charts/backups/values\.yaml)$"
)
"""Where the chart's own version stands: a release moves it."""


@dataclass(frozen=True)
class Pin:
    """A version or digest, and where it stands."""

    file: str
    line: int
    value: str

    def __str__(self) -> str:
        """As a reader looks it up."""
        return f"{self.file}:{self.line}: {self.value}"


@dataclass(frozen=True)
class Exempt:
    """Lines that look like pins: patterns of file and line, and why they are none."""

    file: str
    line: str
    why: str

    def covers(self, file: str, line: str) -> bool:
        """Whether a line is one of these."""
        return bool(re.search(self.file, file) and re.search(self.line, line))


EXCEPTIONS = (
    Exempt(r"^ci/tools\.yaml$", r"^    fits: ", "versions that do as well, when they are on PATH"),
    Exempt(r"^ci/tools\.yaml$", r"^    version: 1\.0\.0$", "pause, ours"),
    Exempt(r"^ci/images\.yaml$", r"^    (made|notCovered): ", "prose"),
    Exempt(
        r"^ci/images\.yaml$",
        r'^    version: "\d+\.\d+"$',
        "the line of Debian's server; images/mysql/build fails on another",
    ),
    Exempt(r"^Chart\.yaml$", r"^kubeVersion: ", "the lowest that the chart takes"),
    Exempt(r"^templates/validate\.yaml$", r"17\.10\.12", "the lowest that the chart takes"),
    Exempt(
        r"/upgrade/(cli|versions)\.py$",
        r"e\.g\. \d|--xwiki \d",
        "what an operator may type, for example",
    ),
    Exempt(r"/default-cni\.yaml$", r"cniVersion", "version of a format"),
    Exempt(
        r"/cluster/nodeimage\.py$",
        r"registry\.k8s\.io/",
        "what kubeadm asks for; ci/bed/node/install fails on anything else",
    ),
)


def of(folder: Path, names: Iterable[str]) -> list[Pin]:
    """The pins of a checkout, each once for a line."""
    own = str(yaml.safe_load((folder / "Chart.yaml").read_text())["version"])
    found: list[Pin] = []
    for name in names:
        text = _text(folder / name)
        if PROSE.search(name) or DERIVED.search(name) or text.startswith(MARK):
            continue
        for number, line in _lines(name, text):
            if any(item.covers(name, line) for item in EXCEPTIONS):
                continue
            values = {
                # The stand-in's version is that of the image it stands in for, and says so.
                value.removesuffix("-standin")
                for value in _values(name, line)
                if not (value == own and OURS.search(name))
            }
            found += [Pin(name, number, value) for value in sorted(values)]
    return found


def missed(pins: Iterable[Pin], dependencies: Iterable[Dependency]) -> list[Pin]:
    """Pins that are no dependency's: of each value in a file as many as there are too few."""
    left = Counter(
        (file, value)
        for dependency in dependencies
        for file in dependency["files"]
        for value in _of_dependency(dependency)
    )
    found = []
    for pin in pins:
        if left[pin.file, pin.value] > 0:
            left[pin.file, pin.value] -= 1
        else:
            found.append(pin)
    return found


def unused(folder: Path, names: Iterable[str]) -> list[Exempt]:
    """Exceptions that no line needs any more."""
    lines = [(name, line) for name in names for _n, line in _lines(name, _text(folder / name))]
    return [item for item in EXCEPTIONS if not any(item.covers(*pair) for pair in lines)]


def _of_dependency(dependency: Dependency) -> set[str]:
    """What a dependency says of its version, also inside a range such as `>=1.2.3`."""
    keys = ("currentValue", "currentDigest", "currentVersion", "lockedVersion")
    said = {str(dependency[key]) for key in keys if dependency.get(key)}
    return said | {token for text in said for token in TOKEN.findall(text)}


def _values(name: str, line: str) -> Iterator[str]:
    if re.search(r"^requirements/", name):
        # The hashes of a package go with its version.
        if locked := LOCKED_PYTHON.match(line):
            yield locked[1]
        return
    yield from TOKEN.findall(line)
    for groups in NAMED.findall(line):
        yield from filter(None, groups)


def _text(path: Path) -> str:
    """A file's text; '' for what is none."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def _lines(name: str, text: str) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers, less what is said to people."""
    if name.endswith(".py"):
        yield from _strings(text)
        return
    if name.endswith((".tpl", ".java")):
        text = re.sub(r"/\*.*?\*/|//.*", lambda said: "\n" * said[0].count("\n"), text, flags=re.S)
    for number, line in enumerate(text.splitlines(), 1):
        yield number, re.sub(r"(^|\s)#.*", "", line)


def _strings(source: str) -> Iterator[tuple[int, str]]:
    """Python's texts, but for docstrings: those of names as well."""
    tree = ast.parse(source)
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node.lineno, node.value
