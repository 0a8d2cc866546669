"""The rooms keep their doors shut: who may start programs, print, and know paths."""

import ast
import re
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from xwiki_stack import repo

PACKAGE = repo.ROOT / "scripts" / "xwiki_stack"

STARTS = re.compile(r"os\.(exec|spawn|posix_spawn|fork|system|popen|startfile)\w*")
"""The ways of the standard library to start a program beside `subprocess`."""

STARTERS = {
    "proc",
    # No room of ours but a program beside the engine, without this package on its path.
    "ociruntime",
}


def violations(module: str, source: str) -> list[str]:
    """What a module does that only another one may do."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        if any(name.partition(".")[0] == "tests" for name in names):
            found.append("needs tests, which nobody has who installs this package")
        starts = isinstance(node, ast.Attribute) and STARTS.fullmatch(ast.unparse(node))
        if ("subprocess" in names or starts) and module not in STARTERS:
            found.append("starts programs; `proc` does that")
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            found.append("hides which part of `os` it uses; `import os`")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "print" and module != "cli":
                found.append("prints; `cli` does that")
            if node.func.id == "input" and module != "cli":
                found.append("asks; `cli` does that")
        if isinstance(node, ast.Attribute) and node.attr == "home" and module != "repo":
            found.append("knows the home folder; `repo` does that")
        if isinstance(node, ast.Name) and node.id == "__file__" and module != "repo":
            found.append("knows where it lies; `repo` does that")
    return found


def modules() -> list[Path]:
    found = sorted(PACKAGE.rglob("*.py"))
    assert len(found) > 15, "the sweep looked at too little"
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_a_module_does_only_what_is_its_own(path: Path) -> None:
    assert violations(path.stem, path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import subprocess",
        "from subprocess import run",
        "from tests.backups import wiki",
        "import tests.backups.wiki",
        "import os\nos.execvp('sh', [])",
        "import os\nos.spawnlp(0, 'sh')",
        "import os\nos.posix_spawn('sh', [], {})",
        "import os\nos.system('sh')",
        "import os\nos.popen('sh')",
        "import os\nos.fork()",
        "from os import execv",
        "print(1)",
        "input()",
        "from pathlib import Path\nPath.home()",
        "x = __file__",
    ],
)
def test_a_module_that_oversteps_is_noticed(source: str) -> None:
    assert len(violations("sizing", source)) == 1


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_modules_and_public_names_say_what_they_are(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the module has no docstring"
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"


def test_no_room_has_a_name_that_says_nothing() -> None:
    banned = {"utils", "util", "misc", "helpers", "helper", "manager", "common", "lib", "hack"}
    tracked = [p for p in repo.ROOT.rglob("*") if ".venv" not in p.parts and ".git" not in p.parts]
    assert len(tracked) > 50
    assert not [p for p in tracked if p.stem in banned]


def needs(source: str) -> set[str]:
    """The rooms that a module asks for when it is loaded."""
    found: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.ImportFrom) and node.module == "xwiki_stack":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("xwiki_stack."):
            found.add(str(node.module).split(".")[1])
    return found


def rooms() -> dict[str, set[str]]:
    """Each room, a module or a folder of them, with those that it needs beside itself.

    The cli of a folder is a part of the command, which loads it and which no room needs.
    """
    found: dict[str, set[str]] = {}
    for path in modules():
        own = path.stem if path.stem == "cli" else path.relative_to(PACKAGE).parts[0]
        own = own.removesuffix(".py")
        found.setdefault(own, set()).update(needs(path.read_text()) - {own})
    return found


def circle(found: Mapping[str, set[str]]) -> list[str]:
    """Rooms that need each other, in a ring; none when there is an order."""
    try:
        TopologicalSorter(found).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_rooms_do_not_need_each_other_in_a_circle() -> None:
    """Which one is loaded first must not matter: the command and the tests begin elsewhere."""
    found = rooms()
    assert len(found) > 30
    assert sum(map(len, found.values())) > 100
    assert circle(found) == []
    assert circle({**found, "render": found["render"] | needs("from xwiki_stack import generate")})
