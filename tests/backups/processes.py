"""What a program holds and writes while it runs, its children too; read from Linux' /proc."""

import contextlib
from collections.abc import Iterator
from pathlib import Path


def resident(pid: int) -> dict[str, int]:
    """Most bytes of memory that a process and all below it ever held, by name and pid."""
    found = {}
    for number in family(pid):
        with contextlib.suppress(OSError, KeyError):  # processes end between any two looks
            lines = Path(f"/proc/{number}/status").read_text().splitlines()
            told = dict(line.split(":", 1) for line in lines)
            found[f"{told['Name'].strip()} {number}"] = int(told["VmHWM"].split()[0]) * 1024
    return found


def written(pid: int) -> dict[str, int]:
    """Bytes that a process and all below it gave to disks, by pid."""
    found = {}
    for number in family(pid):
        with contextlib.suppress(OSError, KeyError):
            lines = Path(f"/proc/{number}/io").read_text().splitlines()
            told = dict(line.split(":", 1) for line in lines)
            found[str(number)] = int(told["write_bytes"])
    return found


def family(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    with contextlib.suppress(OSError):
        for listed in Path(f"/proc/{pid}/task").glob("*/children"):
            for number in listed.read_text().split():
                yield from family(int(number))
