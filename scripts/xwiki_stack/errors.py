"""Every error a user can cause or meet, as one line and one exit code.

The exit codes are documented in docs/reference/exit-codes.md, which a test compares with this file.
"""


class StackError(Exception):
    """Base of all errors that are shown to the user as one line, never as a traceback.

    The line says what is wrong, where (file and the path in it), what is allowed and what to do
    next; a part that does not apply is left empty.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", allowed: str = "", next: str = "") -> None:  # noqa: A002
        self.what, self.where, self.allowed, self.next = what, where, allowed, next
        head = f"{where}: {what}" if where else what
        parts = [head.rstrip(".")]
        if allowed:
            parts.append(f"allowed: {allowed.rstrip('.')}")
        if next:
            parts.append(f"next: {next.rstrip('.')}")
        super().__init__("; ".join(parts))


class IntentError(StackError):
    """Bad input: an intent file, a value or an argument."""

    exit_code = 2


class MachineError(StackError):
    """The machine lacks something: a tool, disk space, rights on the engine, a free port."""

    exit_code = 3


class UndecidedError(StackError):
    """Production has blocking decisions that its owner has not taken yet."""

    exit_code = 4


class UnhealthyError(StackError):
    """The cluster did not reach the wanted state in time."""

    exit_code = 5


class RefusedError(StackError):
    """The command would destroy something, or touch something that is not ours."""

    exit_code = 6


class DriftError(StackError):
    """Generated files differ from what the intent says."""

    exit_code = 7


class IncompleteError(StackError):
    """A backup set did not come to its end, so there is none: no manifest was written."""

    exit_code = 8


class DamagedError(StackError):
    """A backup set or a sealed Secret does not prove what it must: bytes, signature, content."""

    exit_code = 9


class StoreError(StackError):
    """The object store cannot be reached, or refuses."""

    exit_code = 10


class AttentionError(StackError):
    """No mistake was found, but somebody has to say yes, choose a time or do something."""

    exit_code = 20


class BusyError(StackError):
    """Another run holds the lock of backups; nothing is wrong (EX_TEMPFAIL of sysexits)."""

    exit_code = 75
