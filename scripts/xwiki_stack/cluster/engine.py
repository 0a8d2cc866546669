"""The container engine: the one that answers, else Debian's Docker, started by hand.

Our own engine keeps everything below the cache: data, sockets, log and pid file. It is the same
`dockerd` that Debian's docker.io package installs; only where this machine lacks capabilities its
default runtime is a wrapper around runc (ociruntime.py).
"""

import contextlib
import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from xwiki_stack import proc, repo
from xwiki_stack.cluster import artefacts, machine, ociruntime
from xwiki_stack.errors import MachineError
from xwiki_stack.steps import Log

SOCKET_LIMIT = 100
"""Unix socket paths end at 108 bytes; the engine's own containerd adds a few of them."""

START_SECONDS = 60.0


@dataclass(frozen=True)
class Engine:
    """An engine that answers. `host`: value of DOCKER_HOST, '' for the client's own default."""

    host: str

    @property
    def ours(self) -> bool:
        """Whether we started it."""
        return bool(self.host)

    @property
    def environment(self) -> dict[str, str]:
        """What a child needs to reach it: DOCKER_HOST, and a client that fits on PATH."""
        if not self.ours:
            return {}
        return {"DOCKER_HOST": self.host, "PATH": f"{_home() / 'bin'}{os.pathsep}{_path()}"}

    def docker(self, *words: str | Path) -> list[str | Path]:
        """The argv of a docker command on this engine."""
        if not self.ours:
            return ["docker", *words]
        return [_home() / "bin" / "docker", "--host", self.host, *words]

    @property
    def data_root(self) -> Path | None:
        """Where it keeps images and containers; None where that is not a folder of this machine."""
        if self.ours:
            return _home() / "data"
        asked = proc.run(self.docker("info", "--format", "{{.DockerRootDir}}"), check=False)
        root = Path(asked.out.strip() or "/nowhere")
        return root if root.is_dir() else None

    def forget_older(self, repository: str, current: str) -> None:
        """Drop images of a repository, but for `current` and the newest other one.

        Another checkout of this machine may be on that; what a container uses stays by itself.
        """
        form = "{{.Repository}}:{{.Tag}}"
        newest_first = proc.run(self.docker("image", "list", "--format", form, repository)).out
        for older in [name for name in newest_first.split() if name != current][1:]:
            proc.run(self.docker("image", "rm", older), check=False)

    def has_image(self, reference: str) -> bool:
        """Whether an image of that name is in the engine's store."""
        asked = proc.run(self.docker("image", "inspect", "--format", "-", reference), check=False)
        return asked.code == 0


def running() -> Engine | None:
    """The engine that answers now: ours if it runs, else the machine's."""
    if proc.alive(_pid_file()):
        ours = Engine(f"unix://{_socket()}")
        if _answers(ours):
            return ours
    machines = Engine("")
    return machines if proc.which("docker") and _answers(machines) else None


def require() -> Engine:
    """The engine that answers, or MachineError."""
    found = running()
    if not found:
        raise MachineError("no container engine answers", next="`make up` starts one")
    return found


def resident() -> int:
    """Bytes of memory that our dockerd holds, with what it started itself; 0 if it does not run."""
    daemon, total = proc.alive(_pid_file()), 0
    for status in Path("/proc").glob("[1-9]*/status") if daemon else ():
        with contextlib.suppress(OSError):  # processes end between any two looks
            told = dict(line.split(":", 1) for line in status.read_text().splitlines())
            if str(daemon) in (told["Pid"].strip(), told["PPid"].strip()):
                total += int(told.get("VmRSS", "0 kB").split()[0]) * 1024
    return total


def start(log: Log) -> str:
    """Have an engine that answers; start our own when there is none. Gives the outcome.

    Raises MachineError, one line: no rights on the engine, not Linux, not root, no start.
    """
    if found := running():
        return "nothing to do" if found.ours else "the machine's own engine answers"
    _refuse_without_rights()
    with artefacts.lock("engine", log):
        if found := running():
            return "started by another run"
        _start(log)
    return "started" + (" with reduced capabilities" if machine.lacking_capabilities() else "")


def stop() -> bool:
    """Stop our own engine, with all containers on it; say whether it ran."""
    ended = proc.end(_pid_file(), patience=60)
    data = _home() / "data"
    if ended and os.path.ismount(data):
        # dockerd mounts its data onto itself and leaves it so; nobody could remove the cache.
        proc.run(["umount", data], env={"PATH": _path()}, check=False)
    return ended


def wanted_packages() -> bool:
    """Whether this machine needs the packages of an engine of our own."""
    return sys.platform == "linux" and running() is None


def _start(log: Log) -> None:
    home = _home()
    if len(str(_socket())) > SOCKET_LIMIT:
        raise MachineError(
            f"{_socket()} is too long for a socket",
            next=f"point {repo.CACHE_VARIABLE} to a shorter path",
        )
    log_file = repo.logs() / "dockerd.log"
    if not proc.alive(_pid_file()):
        _forget_earlier_boot()
        (home / "dockerd.pid").unlink(missing_ok=True)
        for name in ("bin", "run"):
            artefacts.folder("engine", name)
        _link_client()
        log.say("starting dockerd")
        proc.spawn(_argv(), log=log_file, pid_file=_pid_file(), env={"PATH": _path()})
    engine = Engine(f"unix://{_socket()}")
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and proc.alive(_pid_file()):
        if _answers(engine):
            return
        proc.pause(0.3)
    proc.end(_pid_file())
    last = [line for line in log_file.read_text(errors="replace").splitlines() if line.strip()]
    raise MachineError(
        "dockerd did not start" + (f": {last[-1][:200]}" if last else ""), next=f"read {log_file}"
    )


def _forget_earlier_boot() -> None:
    """Drop sockets and pid files of before a reboot: their pids belong to others by now.

    Of the same boot they stay: containers outlive a dockerd that was killed, and the next one
    finds them by these files.
    """
    home = _home()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    noted = home / "boot"
    if noted.exists() and noted.read_text().strip() == boot:
        return
    artefacts.remove(home / "run")
    artefacts.folder("engine")
    noted.write_text(f"{boot}\n")


def _argv() -> list[str | Path]:
    home = _home()
    config = home / "daemon.json"
    settings: dict[str, object] = {
        "data-root": str(home / "data"),
        "exec-root": str(home / "run"),
        "pidfile": str(home / "dockerd.pid"),
        "hosts": [f"unix://{_socket()}"],
        "storage-driver": "overlay2",
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "log-opts": {"max-size": "10m"},
    }
    if machine.lacking_capabilities():
        settings["runtimes"] = {"reduced": {"path": str(_install_runtime())}}
        settings["default-runtime"] = "reduced"
    config.write_text(json.dumps(settings, indent=2) + "\n")
    return [_system_program("dockerd"), "--config-file", config]


def _install_runtime() -> Path:
    """The runtime wrapper as a program of the engine's own: checkouts move, engines stay."""
    home = _home()
    source = home / "ociruntime.py"
    shutil.copyfile(Path(ociruntime.__file__), source)
    launcher = home / "oci-runtime"
    python = Path(sys.executable).resolve()
    # containerd's shim starts it with a bare environment.
    search = f'PATH="{":".join(machine.SBIN)}:/usr/local/bin:/usr/bin:/bin"'
    launcher.write_text(f'#!/bin/sh\n{search} exec "{python}" -I -S "{source}" "$@"\n')
    launcher.chmod(0o755)
    return launcher


def _link_client() -> None:
    """A docker client of the engine's own age: a much newer one refuses to talk to it."""
    link = _home() / "bin" / "docker"
    link.unlink(missing_ok=True)
    beside = _system_program("dockerd").with_name("docker")
    packaged = Path("/usr/bin/docker")
    client = next((path for path in (packaged, beside) if path.exists()), proc.which("docker"))
    if client is None:
        raise MachineError("there is no docker client", next="install docker.io or docker-cli")
    link.symlink_to(client)


def _system_program(name: str) -> Path:
    found = shutil.which(name, path=machine.system_path())
    if not found:
        raise MachineError(f"`{name}` is not installed", next="`make up` installs what is needed")
    return Path(found)


def _refuse_without_rights() -> None:
    said = ""
    if proc.which("docker"):
        said = proc.run(["docker", "info"], check=False, timeout=30).err
    if "permission denied" in said.lower():
        raise MachineError(
            "you have no rights on the container engine",
            next="join the group docker and log in again, or run as root",
        )
    if sys.platform != "linux":
        raise MachineError("no container engine answers", next="start Docker and run this again")
    if os.geteuid() != 0:
        raise MachineError(
            "no container engine answers, and starting one needs root",
            next="start Docker, or run as root",
        )


def _answers(engine: Engine) -> bool:
    try:
        asked = proc.run(
            engine.docker("version", "--format", "{{.Server.Version}}"), check=False, timeout=30
        )
    except MachineError:
        return False
    return asked.code == 0


def _home() -> Path:
    return repo.cache() / "engine"


def _socket() -> Path:
    return _home() / "docker.sock"


def _pid_file() -> Path:
    return _home() / "engine.pid"


def _path() -> str:
    return machine.system_path()
