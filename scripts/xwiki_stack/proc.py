"""The only module that starts programs.

Children get their own process group, so that Ctrl-C reaches them through us, in order: a build is
ended, its temporary folder is dropped, nothing half-made stays. Daemons are spawned detached and
remembered by pid *and* start time, so that a recycled pid is never mistaken for ours.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from xwiki_stack.errors import MachineError

Argv = Sequence[str | Path]

_running: set[int] = set()
_lock = threading.Lock()


@dataclass(frozen=True)
class Result:
    """What a program said: its exit code and both outputs as text."""

    argv: tuple[str, ...]
    code: int
    out: str
    err: str


class CommandFailed(MachineError):  # noqa: N818 - it reads as what happened
    """A program ended with an error; `tail` holds the last lines it said."""

    def __init__(self, argv: Sequence[str], code: int, tail: str, log: Path | None = None) -> None:
        self.argv, self.code, self.tail = tuple(argv), code, tail
        said = " | ".join(line.strip() for line in tail.strip().splitlines()[-3:])
        name = Path(argv[0]).name
        words = " ".join([name, *argv[1:3]])
        super().__init__(
            f"`{words}` ended with exit code {code}" + (f": {said}" if said else ""),
            next=f"read {log}" if log else "",
        )


def run(
    argv: Argv,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | bytes | None = None,
    log: Path | None = None,
    timeout: float | None = None,
    check: bool = True,
    secrets: Sequence[str] = (),
) -> Result:
    """Run a program to its end.

    env: added to our own environment. log: both outputs are appended there as they come.
    timeout: seconds, then the whole process group is ended. secrets: masked in log and errors.
    Raises MachineError when the program is missing or runs over its time, CommandFailed when it
    fails and `check` is set.
    """
    words = [str(word) for word in argv]
    data = stdin.encode() if isinstance(stdin, str) else stdin
    child = _start(words, cwd=cwd, env=env, stdin=subprocess.PIPE if data is not None else None)
    sink = _Sink(log, secrets)
    out: list[bytes] = []
    err: list[bytes] = []
    readers = [
        threading.Thread(target=sink.drain, args=(child.stdout, out), daemon=True),
        threading.Thread(target=sink.drain, args=(child.stderr, err), daemon=True),
    ]
    try:
        for reader in readers:
            reader.start()
        if data is not None and child.stdin is not None:
            # A program may end without reading all; its exit code tells why.
            with contextlib.suppress(BrokenPipeError), child.stdin:
                child.stdin.write(data)
        code = child.wait(timeout=timeout)
        for reader in readers:
            reader.join(timeout=5)
    except subprocess.TimeoutExpired as late:
        _end_group(child.pid)
        raise MachineError(
            f"`{Path(words[0]).name} {' '.join(words[1:3])}` did not end within {timeout:.0f} s",
            next=f"read {log}" if log else "",
        ) from late
    except BaseException:
        _end_group(child.pid)
        raise
    finally:
        child.wait()
        with _lock:
            _running.discard(child.pid)
        sink.close()
    said, complained = (b"".join(lines).decode(errors="replace") for lines in (out, err))
    if check and code != 0:
        tail = sink.mask(complained or said)
        raise CommandFailed([sink.mask(word) for word in words], code, tail, log)
    return Result(tuple(words), code, said, complained)


def pipe(first: Argv, second: Argv, *, log: Path | None = None) -> None:
    """`first | second`, with both exit codes checked.

    Raises CommandFailed for the program that failed, the consumer before the producer.
    """
    left, right = [[str(word) for word in argv] for argv in (first, second)]
    with (log or Path(os.devnull)).open("ab") as sink:
        producer = subprocess.Popen(left, stdout=subprocess.PIPE, stderr=sink, process_group=0)
        consumer = subprocess.Popen(
            right, stdin=producer.stdout, stdout=sink, stderr=sink, process_group=0
        )
        if producer.stdout is not None:
            producer.stdout.close()  # so that the producer sees the consumer's death
        try:
            if consumer.wait() != 0:
                _end_group(producer.pid)
            producer.wait()
        except BaseException:
            _end_group(producer.pid)
            _end_group(consumer.pid)
            raise
    # A producer ended by its consumer's death is not the culprit.
    for words, child in ((right, consumer), (left, producer)):
        if child.returncode != 0:
            raise CommandFailed(words, child.returncode, "", log)


def attached(argv: Argv, *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> int:
    """Run a program on our own terminal, its output untouched; give its exit code.

    It stays in our process group: Ctrl-C reaches it, and it may clean up in its own time.
    """
    words = [str(word) for word in argv]
    with subprocess.Popen(words, env={**os.environ, **(env or {})}, cwd=cwd) as child:
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:
                continue  # the child got it too; its exit code tells what it made of it


def spawn(argv: Argv, *, log: Path, pid_file: Path, env: Mapping[str, str] | None = None) -> int:
    """Start a daemon that outlives us; its output goes to `log`, its identity to `pid_file`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    pid_file.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        child = subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    # A daemon that ends while we live must not stay as a zombie that looks alive.
    threading.Thread(target=child.wait, daemon=True).start()
    pid_file.write_text(f"{child.pid} {_born(child.pid)}\n")
    return child.pid


def alive(pid_file: Path) -> int | None:
    """The pid of the daemon in `pid_file` if that very process still runs, else None."""
    try:
        pid, born = pid_file.read_text().split(maxsplit=1)
    except (FileNotFoundError, ValueError):
        return None
    return int(pid) if born.strip() and _born(int(pid)) == born.strip() else None


def end(pid_file: Path, *, patience: float = 20) -> bool:
    """End the daemon in `pid_file` if it is ours and runs; say whether there was one."""
    pid = alive(pid_file)
    if pid is not None:
        _end_group(pid, patience=patience)
    pid_file.unlink(missing_ok=True)
    return pid is not None


def which(tool: str) -> Path | None:
    """Where `tool` lies on PATH, or None."""
    found = shutil.which(tool)
    return Path(found) if found else None


def end_children() -> None:
    """End every program that `run` still waits for: called once, when we are interrupted."""
    with _lock:
        groups = list(_running)
    for group in groups:
        _end_group(group)


def _start(
    words: list[str], *, cwd: Path | None, env: Mapping[str, str] | None, stdin: int | None
) -> "subprocess.Popen[bytes]":
    try:
        child = subprocess.Popen(
            words,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=stdin if stdin is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )
    except FileNotFoundError as missing:
        raise MachineError(
            f"`{words[0]}` is not installed", next="`make up` installs what is needed"
        ) from missing
    with _lock:
        _running.add(child.pid)
    return child


def _born(pid: int) -> str:
    """When a process started, as text that is equal only for the same process; '' if it is gone.

    Linux: field 22 of /proc/PID/stat (clock ticks since boot), after the name in brackets.
    Elsewhere (macOS): what ps says.
    """
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        fields = stat.read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    if Path("/proc/self").exists():
        return ""
    said = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout.strip().replace(" ", "_")


def _end_group(pid: int, *, patience: float = 5) -> None:
    try:
        os.killpg(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if not _born(pid):
            return
        time.sleep(0.05)
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


class _Sink:
    """Copies a program's output to the log as it comes, with secrets masked."""

    def __init__(self, log: Path | None, secrets: Sequence[str]) -> None:
        self._secrets = [secret for secret in secrets if secret]
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        if log:
            log.parent.mkdir(parents=True, exist_ok=True)
            self._file = log.open("ab")

    def mask(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def drain(self, stream: IO[bytes] | None, into: list[bytes]) -> None:
        if stream is None:
            return
        with stream:
            for line in stream:
                into.append(line)
                with self._lock:
                    if self._file and not self._file.closed:
                        self._file.write(self.mask(line.decode(errors="replace")).encode())
                        self._file.flush()

    def close(self) -> None:
        with self._lock:
            if self._file:
                self._file.close()
