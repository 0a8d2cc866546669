"""An OCI runtime for machines that lack capabilities: it asks for less, then becomes runc.

Docker's `--privileged` asks for every capability; where one is missing from the bounding set of
the machine (a CI sandbox without CAP_SYS_RESOURCE), runc refuses with "unable to apply caps". This
program takes the missing ones out of the bundle's config.json (create, run, restore) or out of
the process file (exec) and executes runc with its own arguments.

The engine copies this file beside itself, so it uses the standard library only.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# Bit numbers of include/uapi/linux/capability.h.
CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)

# Options of runc that take a value, before and after the command.
GLOBAL_VALUES = {"--log", "--log-format", "--root", "--criu", "--rootless"}
BUNDLE_COMMANDS = {"create", "run", "restore"}


@dataclass(frozen=True)
class Call:
    """What runc is asked: its command, and the file that lists capabilities, if any."""

    command: str
    file: Path | None


def parse(arguments: Sequence[str]) -> Call:
    """Understand runc's arguments as far as needed.

    Shapes: `runc [global options] create --bundle DIR ID`, `runc ... exec --process FILE ID`;
    options as `--name value`, `--name=value`, `-b value`. Without --bundle runc takes the current
    folder.
    """
    words = list(arguments)
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if option in GLOBAL_VALUES and words:
            words.pop(0)
    if not words:
        return Call("", None)
    command, rest = words[0], words[1:]
    if command in BUNDLE_COMMANDS:
        bundle = _option(rest, "--bundle", "-b") or "."
        return Call(command, Path(bundle) / "config.json")
    if command == "exec":
        process = _option(rest, "--process", "-p")
        return Call(command, Path(process) if process else None)
    return Call(command, None)


def _option(words: Sequence[str], long: str, short: str) -> str:
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name in (long, short):
            following = words[number + 1] if number + 1 < len(words) else ""
            return value if equals else following
    return ""


def lacking() -> set[str]:
    """Names of the capabilities that not even root can have here; empty where there are none."""
    status, last = Path("/proc/self/status"), Path("/proc/sys/kernel/cap_last_cap")
    if not status.exists():
        return set()
    newest = int(last.read_text()) if last.exists() else len(CAPABILITIES) - 1
    return missing(status.read_text(), newest)


def missing(status: str, newest: int) -> set[str]:
    """Names of the capabilities that are not in the bounding set of a /proc/PID/status text.

    newest: number of the kernel's last one; what an older kernel does not know is not missing.
    """
    for line in status.splitlines():
        if line.startswith("CapBnd:"):
            bits = int(line.split()[1], 16)
            known = CAPABILITIES[: newest + 1]
            return {name for bit, name in enumerate(known) if not bits >> bit & 1}
    return set()


def reduced(text: str, absent: set[str]) -> str:
    """A config.json or process file without the lacking capabilities; the rest stays as it is."""
    document = json.loads(text)
    process = document.get("process", document)
    sets = process.get("capabilities") or {}
    for kind, names in sets.items():
        sets[kind] = [name for name in names if name not in absent]
    return json.dumps(document)


def main(arguments: Sequence[str]) -> None:
    """Reduce what is asked, then become runc."""
    call = parse(arguments)
    absent = lacking()
    if call.file and absent:
        text = reduced(call.file.read_text(), absent)
        temporary = call.file.with_name(f"{call.file.name}.{os.getpid()}")
        temporary.write_text(text)
        temporary.replace(call.file)
    os.execvp("runc", ["runc", *arguments])  # noqa: S606, S607 - no shell; the engine sets PATH


if __name__ == "__main__":
    main(sys.argv[1:])
