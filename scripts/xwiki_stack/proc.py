"""The only module that starts programs.

Children get their own process group, so that Ctrl-C reaches them through us, in order: a build is
ended, its temporary folder is dropped, nothing half-made stays. `end_children` ends them all and
whoever waits in `pause`; until `resume`, nothing new starts. Daemons are spawned detached and
remembered by pid *and* start time, so that a recycled pid is never mistaken for ours.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from xwiki_stack.errors import MachineError

Argv = Sequence[str | Path]

PROCESSES = Path("/proc")
"""Where Linux shows its processes; elsewhere (macOS) `ps` is asked."""

HANDED = "{handed}"
"""In an argument: the file whose content is given as `handed`. It lies on no disk."""

_running: set[int] = set()
_lock = threading.Lock()
_ending = threading.Event()


class Interrupted(KeyboardInterrupt):
    """The work under way is being ended: by a signal, or because a step beside it failed.

    Like KeyboardInterrupt it passes every `except Exception`; nobody but `cli` may keep it.
    """


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
    handed: str = "",
) -> Result:
    """Run a program to its end.

    env: added to our own environment. log: both outputs are appended there as they come.
    timeout: seconds, then the whole process group is ended. secrets: masked in log and errors.
    handed: content of the file that HANDED stands for in an argument.
    Raises MachineError when the program is missing or runs over its time, CommandFailed when it
    fails and `check` is set.
    """
    words = [str(word) for word in argv]
    data = stdin.encode() if isinstance(stdin, str) else stdin
    sink = _Sink(log, secrets)
    out: list[bytes] = []
    err: list[bytes] = []
    try:
        with (
            _handing(words, handed) as (argv_now, passed),
            _child(
                argv_now,
                cwd=cwd,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL if data is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=passed,
            ) as child,
        ):
            readers = [
                threading.Thread(target=sink.drain, args=(child.stdout, out), daemon=True),
                threading.Thread(target=sink.drain, args=(child.stderr, err), daemon=True),
            ]
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
        raise MachineError(
            f"`{Path(words[0]).name} {' '.join(words[1:3])}` did not end within {timeout:.0f} s",
            next=f"read {log}" if log else "",
        ) from late
    finally:
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
    with (
        (log or Path(os.devnull)).open("ab") as sink,
        _child(left, stdout=subprocess.PIPE, stderr=sink) as producer,
        _child(right, stdin=producer.stdout, stdout=sink, stderr=sink) as consumer,
    ):
        if producer.stdout is not None:
            producer.stdout.close()  # so that the producer sees the consumer's death
        if consumer.wait() != 0:
            _end([producer.pid])
        producer.wait()
    # A producer ended by its consumer's death is not the culprit.
    for words, child in ((right, consumer), (left, producer)):
        if child.returncode != 0:
            raise CommandFailed(words, child.returncode, "", log)


class Flow:
    """A program that runs beside us while its bytes flow through us, one way.

    `end` waits for it and raises CommandFailed with what it complained of, so that nobody takes
    the end of its bytes for its success.
    """

    def __init__(
        self, argv: Sequence[str], child: "subprocess.Popen[bytes]", secrets: Sequence[str]
    ) -> None:
        self._argv, self._child, self._sink = tuple(argv), child, _Sink(None, secrets)
        self._complaints: list[bytes] = []
        self._reader = threading.Thread(
            target=self._sink.drain, args=(child.stderr, self._complaints), daemon=True
        )
        self._reader.start()

    @property
    def pid(self) -> int:
        """Of the program, which leads a process group of its own."""
        return self._child.pid

    def read(self, size: int) -> bytes:
        """The next `size` bytes of its output; fewer only at its end, and b"" after it.

        Programs write pieces of 4 KiB; to hand on each by itself costs more than what is in it.
        """
        pipe, pieces, left = self._child.stdout, list[bytes](), size
        while pipe and left and (piece := os.read(pipe.fileno(), left)):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def write(self, data: bytes) -> None:
        """Give it bytes. Raises CommandFailed when it has ended."""
        try:
            if self._child.stdin:
                self._child.stdin.write(data)
        except BrokenPipeError:
            self.end()
            raise CommandFailed(self._argv, 0, "it ended before it had read all") from None

    def end(self, *, timeout: float | None = None) -> None:
        """Close its input and wait for it. Raises CommandFailed unless it ended with 0."""
        if self._child.stdin:
            with contextlib.suppress(BrokenPipeError):
                self._child.stdin.close()
        code = self._child.wait(timeout=timeout)
        self._reader.join(timeout=5)
        if code != 0:
            if _ending.is_set():
                raise Interrupted
            said = b"".join(self._complaints).decode(errors="replace")
            words = [self._sink.mask(word) for word in self._argv]
            raise CommandFailed(words, code, self._sink.mask(said))


@contextlib.contextmanager
def flow(
    argv: Argv, *, into: bool = False, handed: str = "", secrets: Sequence[str] = ()
) -> Iterator[Flow]:
    """Run a program whose output we read, or (`into`) whose input we write; ended with the block.

    handed: content of the file that HANDED stands for in an argument. secrets: masked in errors.
    """
    words = [str(word) for word in argv]
    pipes = {
        "stdin": subprocess.PIPE if into else subprocess.DEVNULL,
        "stdout": subprocess.DEVNULL if into else subprocess.PIPE,
    }
    with (
        _handing(words, handed) as (argv_now, passed),
        _child(argv_now, stderr=subprocess.PIPE, pass_fds=passed, **pipes) as child,
    ):
        try:
            yield Flow(words, child, secrets)
        finally:
            for pipe in (child.stdin, child.stdout):
                if pipe:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()


@contextlib.contextmanager
def _handing(words: list[str], content: str) -> Iterator[tuple[list[str], tuple[int, ...]]]:
    """The words with HANDED replaced by a pipe's name, and the descriptors that a child needs."""
    if not content:
        yield words, ()
        return
    read, write = os.pipe()
    try:
        with os.fdopen(write, "wb") as sink:
            sink.write(content.encode())  # far below a pipe's 64 KiB
        yield [word.replace(HANDED, f"/dev/fd/{read}") for word in words], (read,)
    finally:
        os.close(read)


def attached(argv: Argv, *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> int:
    """Run a program on our own terminal, its output untouched; give its exit code.

    It stays in our process group: Ctrl-C reaches it, and it may clean up in its own time; then
    the interrupt goes on, so that nothing is started after it. A signal to us alone is handed on.
    """
    # What a script starts in the background ignores Ctrl-C, and so does all that it starts.
    deaf = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    interrupt: KeyboardInterrupt | None = None
    options = {"env": {**os.environ, **(env or {})}, "cwd": cwd}
    with _start([str(word) for word in argv], **options) as child:
        while child.returncode is None:
            try:
                child.wait()
            except Interrupted as signalled:  # to us alone, not by the terminal to both
                child.send_signal(signal.SIGTERM if deaf else signal.SIGINT)
                interrupt = signalled
            except KeyboardInterrupt as typed:
                interrupt = typed
    if interrupt:
        raise interrupt
    return child.returncode


def become(argv: Argv) -> NoReturn:
    """Replace this process by a program, which keeps our terminal, environment and exit code."""
    words = [str(word) for word in argv]
    try:
        os.execv(words[0], words)  # noqa: S606 - no shell is wanted
    except OSError as error:
        raise _not_started(words[0], error) from error


def spawn(argv: Argv, *, log: Path, pid_file: Path, env: Mapping[str, str] | None = None) -> int:
    """Start a daemon that outlives us; its output goes to `log`, its identity to `pid_file`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    pid_file.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        child = _start(
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
        number, born = pid_file.read_text().split()
        pid = int(number)
    except (OSError, ValueError):
        return None
    return pid if _born(pid) == born else None


def end(pid_file: Path, *, patience: float = 20) -> bool:
    """End the daemon in `pid_file` if it is ours and runs; say whether there was one."""
    pid = alive(pid_file)
    if pid is not None:
        _end([pid], patience=patience)
    pid_file.unlink(missing_ok=True)
    return pid is not None


def which(tool: str) -> Path | None:
    """Where `tool` lies on PATH, or None."""
    found = shutil.which(tool)
    return Path(found) if found else None


def pause(seconds: float) -> None:
    """Sleep, unless the work under way is being ended: then raise Interrupted at once.

    Every loop that waits for something sleeps here and never in `time.sleep`: the loop may run in
    a worker thread, which Ctrl-C or the failure of another step could not end otherwise.
    """
    if _ending.wait(seconds):
        raise Interrupted


def end_children() -> None:
    """End every program that `run` and `pipe` wait for, and every `pause`.

    Until `resume`, programs are refused and pauses raise Interrupted, so that a worker's next
    attempt ends it.
    """
    _ending.set()
    with _lock:
        groups = list(_running)
    _end(groups)


def resume() -> None:
    """Let programs start again: for whoever called `end_children`, once all workers are gone."""
    _ending.clear()


def _start(words: list[str], **options: Any) -> "subprocess.Popen[bytes]":
    if _ending.is_set():
        raise Interrupted
    try:
        return subprocess.Popen(words, **options)
    except OSError as error:
        raise _not_started(words[0], error) from error


def _not_started(program: str, error: OSError) -> MachineError:
    if isinstance(error, FileNotFoundError) and error.filename in (program, None):
        return MachineError(
            f"`{program}` is not installed", next="`make up` installs what is needed"
        )
    return MachineError(f"`{program}` cannot be started: {error}")


@contextlib.contextmanager
def _child(words: list[str], **options: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """A program in its own process group that never outlives the block.

    Ended by `end_children`, it raises Interrupted: its exit code would tell of us, not of it.
    """
    with _lock:
        # Under the lock, so that `end_children` sees it or it never starts.
        child = _start(words, process_group=0, **options)
        _running.add(child.pid)
    try:
        yield child
    except BaseException:
        _end([child.pid])
        raise
    finally:
        child.wait()
        with _lock:
            _running.discard(child.pid)
    if _ending.is_set():
        raise Interrupted


def _born(pid: int) -> str:
    """When a process started, as text that is equal only for the same process; '' if it is gone.

    Linux: field 22 of its stat (clock ticks since boot). Elsewhere: what ps says.
    """
    if PROCESSES.is_dir():
        fields = _stat(PROCESSES / str(pid))
        return "" if fields[0] == "Z" else fields[19]
    return _ps("-o", "lstart=", "-p", str(pid)).strip().replace(" ", "_")


def _stat(folder: Path) -> list[str]:
    """Linux: a process's stat, fields 3 (state) to 22 (start) and on; a zombie's where it is gone.

    Processes die between any two looks at them. The name before, in brackets, may hold anything.
    """
    fields: list[str] = []
    with contextlib.suppress(OSError):
        fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
    return fields if len(fields) > 19 else ["Z", *["0"] * 19]


def _group_lives(group: int) -> bool:
    """Whether any process of a group runs: its leader may be gone, and a zombie does not count.

    Unless it has threads: only its first one has ended then, and the others hold its sockets yet.
    """
    if PROCESSES.is_dir():
        every = (_stat(folder) for folder in PROCESSES.glob("[1-9]*"))
        return any(
            fields[2] == str(group) and (fields[0] != "Z" or int(fields[17]) > 1)
            for fields in every
        )
    lines = (line.split() for line in _ps("-A", "-o", "pgid=,stat=").splitlines())
    return any(words[0] == str(group) and words[1][0] != "Z" for words in lines)


def _ps(*words: str) -> str:
    asked = subprocess.run(["ps", *words], capture_output=True, text=True, check=False)  # noqa: S607
    return asked.stdout


def _end(groups: Iterable[int], *, patience: float = 5) -> None:
    """End process groups together: asked to, and killed when that takes too long.

    Another interrupt while we wait only takes the patience away.
    """
    alive = [group for group in groups if _signal(group, signal.SIGTERM)]
    deadline = time.monotonic() + patience
    try:
        while (alive := [group for group in alive if _group_lives(group)]) and (
            time.monotonic() < deadline
        ):
            time.sleep(0.05)
    finally:
        for group in alive:
            _signal(group, signal.SIGKILL)


def _signal(group: int, number: int) -> bool:
    """Send a signal to a group; say whether it was there and ours to end (sudo's is not)."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


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
