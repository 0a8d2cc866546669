"""What this machine is and has: its kind, its rights, its system packages, its package mirror."""

import os
import platform
import sys
from pathlib import Path

from xwiki_stack import proc
from xwiki_stack.cluster import ociruntime
from xwiki_stack.errors import MachineError
from xwiki_stack.steps import Log

# Program that must be there -> Debian package that brings it. docker.io: `dockerd`, because
# machines exist that have the client alone.
ENGINE_PACKAGES = {"dockerd": "docker.io", "iptables": "iptables"}
BED_PACKAGES = {
    "debootstrap": "debootstrap",
    "mvn": "maven",
    "update-ca-certificates": "ca-certificates",
}
# What backups are measured against.
PEER_PACKAGES = {
    "aws": "awscli",
    "curl": "curl",
    "mydumper": "mydumper",
    "rclone": "rclone",
    "restic": "restic",
    "zstd": "zstd",
}

SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def go_platform() -> tuple[str, str]:
    """Operating system and architecture of this machine in Go's words: ("linux", "amd64")."""
    known = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
    word = platform.machine().lower()
    return sys.platform, known.get(word, word)


def lacking_capabilities() -> set[str]:
    """Capabilities that not even root can have here; empty where the question has no meaning."""
    return ociruntime.lacking()


def system_path() -> str:
    """PATH with the folders of system programs, which an ordinary user's PATH may lack."""
    return os.pathsep.join([os.environ.get("PATH", ""), *SBIN])


def has(program: str) -> bool:
    """Whether a program is on PATH or among the system programs."""
    if proc.which(program):
        return True
    return any(os.access(Path(folder) / program, os.X_OK) for folder in SBIN)


def missing_packages(*, engine: bool, bed: bool, peers: bool = False) -> list[str]:
    """Debian packages to install for our own engine, the offline bed, peers of a bench; sorted."""
    wanted = (ENGINE_PACKAGES if engine else {}) | (BED_PACKAGES if bed else {})
    wanted |= PEER_PACKAGES if peers else {}
    return sorted(package for program, package in wanted.items() if not has(program))


def installer(packages: list[str]) -> list[str]:
    """The words before apt-get that let it install packages: none for root, else sudo.

    sudo must not ask for a password: apt-get runs in the background, where nobody can answer.
    Raises MachineError where there is no apt-get or no right to use it.
    """
    names = " ".join(packages)
    if not proc.which("apt-get"):
        raise MachineError(
            f"missing: {names}, and this system has no apt-get",
            next="install a container engine (Docker) that can reach an image registry",
        )
    if os.geteuid() == 0:
        return []
    sudo = ["sudo", "-n"]
    if not proc.which("sudo"):
        raise MachineError(f"installing {names} needs root", next="run as root, or install sudo")
    if proc.run([*sudo, "true"], check=False).code != 0:
        raise MachineError(
            f"installing {names} needs root, and sudo asks for a password",
            next="run `sudo -v` first, or run as root",
        )
    return sudo


def install(packages: list[str], log: Log) -> None:
    """Install Debian packages without starting their services where systemd does not run.

    Raises MachineError as `installer` does.
    """
    if not packages:
        return
    prefix = installer(packages)
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    if not Path("/run/systemd/system").is_dir():
        # invoke-rc.d starts nothing in runlevel 1: without systemd we start the engine ourselves.
        env["RUNLEVEL"] = "1"
    keep = ["env", *(f"{name}={value}" for name, value in env.items())]
    log.say("apt-get update")
    log.run([*prefix, "apt-get", "update", "-q"])
    log.say(f"apt-get install {' '.join(packages)}")
    log.run(
        [*prefix, *keep, "apt-get", "install", "-q", "-y", "--no-install-recommends", *packages]
    )


def debian_mirror() -> str:
    """The package mirror of this machine's own apt configuration.

    Shape: the URI of the archive that serves Debian's component main, not the security archive.
    Raises MachineError where apt knows none.
    """
    targets = proc.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)"],
        check=False,
    )
    mirror = choose_mirror(targets.out)
    if not mirror:
        raise MachineError(
            "apt knows no Debian archive here, and the offline bed is made of Debian packages",
            next="use a machine with Debian, or one that reaches a container registry",
        )
    return mirror


def choose_mirror(targets: str) -> str:
    """The first Debian main archive of apt's index targets (origin|label|component|uri)."""
    for line in targets.splitlines():
        origin, label, component, uri = (*line.split("|"), "", "", "", "")[:4]
        if (origin, label, component) == ("Debian", "Debian", "main"):
            return uri.rstrip("/")
    return ""
