"""The database: one mysqldump over all schemas, and what the stream itself says of its content.

Counts come from the bytes that are stored, not from a question asked beside them: the server may
have moved on. A statement of mysqldump is one line (line breaks inside values are escaped), so rows
are counted without parsing values: escapes are dropped, the rest is cut at quotes, and what lies
outside of them is searched for `),(`.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from xwiki_stack import proc
from xwiki_stack.backup import attachments, mysql
from xwiki_stack.backup.attachments import Attachments
from xwiki_stack.backup.config import Database
from xwiki_stack.errors import IncompleteError

MIB = 2**20

CHUNK = 256 * 1024
"""Bytes that are read from mysqldump at a time."""

ATTEMPTS = 3
"""How often a dump is begun when tables change under it."""

TABLES_CHANGED = ("Error 1412", "(1412)", "Error in field count", "(1146)")
"""What mysqldump says of tables that change under it.

ER_TABLE_DEF_CHANGED: a consistent snapshot cannot show a table that was altered. A count of columns
that differs: MySQL 9.7 shows the columns as of the snapshot, the table as it is. ER_NO_SUCH_TABLE:
dropped or renamed meanwhile."""

SMALLEST = 500
"""Bytes: the comments and settings around an empty schema already are more."""

LINE_KEPT = 64 * 1024
"""Bytes of a line that are looked at; only headers and names are wanted from lines."""

VALUE_KEPT = 1024
"""Bytes of a value that are kept: longer ones are contents, and names are shorter."""


@dataclass(frozen=True)
class Position:
    """Where the binary log stood at the snapshot; empty where the server writes none."""

    file: str = ""
    offset: int = 0
    gtid: str = ""


@dataclass
class Summary:
    """What a dump holds. `tables`: rows by `schema.table`."""

    tables: dict[str, int] = field(default_factory=dict)
    schemas: list[str] = field(default_factory=list)
    position: Position = field(default_factory=Position)
    server: str = ""
    complete: bool = False
    attachments: Attachments = field(default_factory=Attachments)


def arguments(database: Database, *, binary_log: bool) -> list[str]:
    """mysqldump's words for one consistent moment of all schemas, with the position it has."""
    return [
        "--single-transaction",
        *(["--source-data=2"] if binary_log else []),
        "--set-gtid-purged=COMMENTED",
        "--routines",
        "--triggers",
        "--events",
        "--hex-blob",
        "--no-tablespaces",
        "--max-allowed-packet=1G",
        "--databases",
        *database.schemas,
    ]


_ADMINISTRATIVE = re.compile(
    rb"\nSET @@(?:SESSION\.SQL_LOG_BIN *= *[^;\n]{0,40}|GLOBAL\.GTID_PURGED *=[^;]*);(?=\n)"
)
_OVER_LINES = b"\nSET @@GLOBAL.GTID_PURGED"
_LONGEST_LINE = 100
_LONGEST_SET = MIB
"""Bytes of a set of transactions: one of thousands of servers is shorter."""


class Unswitched:
    """Hands a dump on without the statements about the binary log that only an administrator may
    run: those that switch it for the session and, in dumps of others, the one that declares
    transactions as done.

    Nothing is won by them: what is restored may well be logged. They begin on lines of their own;
    a statement with data is one line, so none of it is touched.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._held = b""

    def feed(self, data: bytes) -> None:
        """Take bytes, in pieces of any size; what may begin such a statement is held back."""
        text = _ADMINISTRATIVE.sub(b"", self._held + data)
        cut = text.rfind(_OVER_LINES)
        if cut < 0 or b";" in text[cut:-1] or len(text) - cut > _LONGEST_SET:
            cut = text.rfind(b"\n")
            if cut < 0 or len(text) - cut > _LONGEST_LINE:
                cut = len(text)
        self._write(text[:cut])
        self._held = text[cut:]

    def end(self) -> None:
        """Hand on what is held back."""
        self._write(self._held)
        self._held = b""


def produce(
    server: mysql.Server, words: list[str], scanner: "Scanner", check: Callable[[], None]
) -> Iterator[bytes]:
    """The bytes of a dump, scanned as they pass. Raises before its end where it is not whole.

    check: called for each chunk, to raise at the end of the run's time.
    Raises TablesChanged, CommandFailed by way of MachineError, IncompleteError.
    """
    size = 0
    with server.dumping(words) as dumping:
        while chunk := dumping.read(CHUNK):
            check()
            size += len(chunk)
            scanner.feed(chunk)
            yield chunk
        try:
            dumping.end()
        except proc.CommandFailed as failed:
            if any(words in failed.tail for words in TABLES_CHANGED):
                raise TablesChanged("tables changed during the dump") from failed
            told = server.failure(failed)
            raise IncompleteError(
                f"mysqldump ended with exit code {failed.code}: {told.what}",
                where=server.where,
                next=told.next or "look after that and run again",
            ) from failed
    scanner.end()
    if not scanner.summary.complete or size < SMALLEST:
        raise IncompleteError(
            f"mysqldump ended with 0, but its {size} bytes have no end (`-- Dump completed`)",
            where=server.where,
            next="run again; if it stays so, look at the disk and memory of where this runs",
        )


class TablesChanged(IncompleteError):  # noqa: N818 - it reads as what happened
    """A table was altered while it was dumped: another dump may be whole."""


def expect(summary: Summary, tables: set[str]) -> None:
    """Compare a dump with the tables the server had. Raises TablesChanged, IncompleteError."""
    missing = sorted(tables - set(summary.tables))
    if missing:
        raise TablesChanged(
            f"the dump lacks {len(missing)} tables that the server had: {', '.join(missing[:3])}",
            next="run again when no upgrade is under way",
        )


_HEADER = re.compile(
    rb"INSERT INTO `((?:[^`]|``)+)` (?:\(((?:`(?:[^`]|``)+`(?:, )?)+)\) )?VALUES\s*\("
)
_CREATE = re.compile(rb"CREATE TABLE `((?:[^`]|``)+)` \(")
_COLUMN = re.compile(rb" +`((?:[^`]|``)+)` ")
_USE = re.compile(rb"USE `((?:[^`]|``)+)`;")
_SERVER = re.compile(rb"-- Server version\s+([0-9.]+)")
_POSITION = re.compile(rb"-- CHANGE \w+(?: \w+)? TO \w+_LOG_FILE='([^']+)', \w+_LOG_POS=(\d+)")
_NAME = re.compile(rb"`((?:[^`]|``)+)`")
_TRAILER = b"-- Dump completed"


class Scanner:
    """Reads a dump as it passes, in chunks cut anywhere."""

    def __init__(self, wiki_of: Callable[[str], str]) -> None:
        self.summary = Summary()
        self._wiki_of = wiki_of
        self._schema = ""
        self._line = b""
        self._skipping = False
        self._code = False
        self._table = ""
        self._columns: dict[str, list[str]] = {}
        self._creating: list[str] | None = None
        self._gtid: list[bytes] | None = None
        self._rows: _Rows | None = None
        self._reader: _Reader | None = None

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""
        position = 0
        while position < len(chunk):
            read = self._values if self._rows else self._words
            position = read(chunk, position)

    def end(self) -> None:
        """There are no more bytes."""
        if self._line:
            self._whole(self._line)

    def _values(self, chunk: bytes, position: int) -> int:
        """Rows of an INSERT, up to the end of its line or of the chunk."""
        end = chunk.find(b"\n", position)
        piece = chunk[position:] if end < 0 else chunk[position:end]
        rows, reader = self._rows, self._reader
        if rows:
            rows.feed(piece)
        if reader:
            reader.feed(piece)
        if end < 0:
            return len(chunk)
        if rows:
            self.summary.tables[self._table] += rows.count
        self._rows = self._reader = None
        return end + 1

    def _words(self, chunk: bytes, position: int) -> int:
        """A line that is no INSERT, or the head of one that is."""
        end = chunk.find(b"\n", position)
        if self._skipping:
            self._skipping = end < 0
            return len(chunk) if end < 0 else end + 1
        stop = len(chunk) if end < 0 else end
        before = len(self._line)
        self._line += chunk[position : min(stop, position + LINE_KEPT)]
        if not self._code and (head := _HEADER.match(self._line)):
            self._begin_rows(head)
            self._line = b""
            return position + head.end() - before
        if end < 0 and len(self._line) < LINE_KEPT:
            return len(chunk)
        line, self._line = self._line, b""
        self._whole(line)
        self._skipping = end < 0
        return len(chunk) if end < 0 else end + 1

    def _begin_rows(self, head: "re.Match[bytes]") -> None:
        self._table = f"{self._schema}.{_plain(head[1])}"
        self.summary.tables.setdefault(self._table, 0)
        self._rows = _Rows()
        table = _plain(head[1]).lower()
        if wanted := attachments.COLUMNS.get(table):
            named = [_plain(name).upper() for name in _NAME.findall(head[2] or b"")]
            columns = named or self._columns.get(self._table, [])
            places = {columns.index(name): name for name in wanted if name in columns}
            wiki, found = self._wiki_of(self._schema), self.summary.attachments
            take = found.row if table == attachments.TABLE else found.page
            self._reader = _Reader(places, lambda values: take(wiki, values))

    def _whole(self, line: bytes) -> None:
        if line.strip():
            # Only as the last line is it the end.
            self.summary.complete = line.startswith(_TRAILER)
        if line.startswith(b"DELIMITER "):
            # Bodies of routines and triggers: any text may stand there.
            self._code = line.rstrip() != b"DELIMITER ;"
        elif self._code:
            return
        elif self._gtid is not None:
            self._read_gtid(line)
        elif self._creating is not None:
            if column := _COLUMN.match(line):
                self._creating.append(_plain(column[1]).upper())
            elif line.startswith(b")"):
                self._creating = None
        elif found := _CREATE.match(line):
            name = f"{self._schema}.{_plain(found[1])}"
            self.summary.tables.setdefault(name, 0)
            self._creating = self._columns[name] = []
        elif found := _USE.match(line):
            self._schema = _plain(found[1])
            if self._schema not in self.summary.schemas:
                self.summary.schemas.append(self._schema)
        elif line.startswith(b"--"):
            self._comment(line)
        elif b"GTID_PURGED=" in line:
            self._gtid = []
            self._read_gtid(line.split(b"GTID_PURGED=", 1)[1])

    def _comment(self, line: bytes) -> None:
        if found := _SERVER.match(line):
            self.summary.server = found[1].decode()
        elif found := _POSITION.match(line):
            gtid = self.summary.position.gtid
            self.summary.position = Position(found[1].decode(), int(found[2]), gtid)

    def _read_gtid(self, line: bytes) -> None:
        # Sets of many servers go over several lines, up to a semicolon.
        if self._gtid is None:
            return
        self._gtid.append(line)
        if b";" in line:
            text = re.sub(rb"/\*.*?\*/", b"", b"".join(self._gtid)).split(b";")[0]
            old = self.summary.position
            gtid = re.sub(rb"[\s'+]", b"", text).decode(errors="replace")
            self.summary.position = Position(old.file, old.offset, gtid)
            self._gtid = None


class _Rows:
    """Counts the rows of one INSERT, after its first bracket."""

    def __init__(self) -> None:
        self.count = 1
        self._inside = False
        self._held = b""
        self._tail = b""

    def feed(self, piece: bytes) -> None:
        data = self._held + piece
        slashes = len(data) - len(data.rstrip(b"\\"))
        self._held = b"\\" if slashes % 2 else b""
        if slashes % 2:
            data = data[:-1]
        if b"\\" in data:
            data = data.replace(b"\\\\", b"").replace(b"\\'", b"")
        parts = data.split(b"'")
        # A quote stands for each string, so that what was around it does not touch.
        if self._inside:
            text = self._tail + b"'" + b"'".join(parts[1::2])
        else:
            text = self._tail + b"'".join(parts[0::2])
        self._inside ^= len(parts) % 2 == 0
        self.count += text.count(b"),(")
        self._tail = b"'" if self._inside else text[-2:]


_TOKEN = re.compile(rb"('[^'\\]*(?:\\.[^'\\]*)*')|([(),])|([^'(),]+)", re.DOTALL)
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_ESCAPES = {b"0": b"\0", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"Z": b"\x1a"}


class _Reader:
    """Reads some columns of each row of one INSERT, after its first bracket."""

    def __init__(
        self, places: dict[int, str], take: Callable[[dict[str, str | None]], None]
    ) -> None:
        self._places, self._take = places, take
        self._held = b""
        self._inside_row = True
        self._place = 0
        self._value = b""
        self._values: dict[str, str | None] = {}

    def feed(self, piece: bytes) -> None:
        data = self._held + piece
        reached = 0
        for token in _TOKEN.finditer(data):
            if token.start() != reached:
                break
            if token[3] and token.end() == len(data):
                break  # a number may go on in the next chunk
            reached = token.end()
            self._token(token)
        held = data[reached:]
        if len(held) > 64 * VALUE_KEPT:
            # The beginning of a value that is too long to be wanted: its end is all that counts.
            slashes = len(held) - len(held.rstrip(b"\\"))
            held = held[:VALUE_KEPT].rstrip(b"\\") + (b"\\" if slashes % 2 else b"")
        self._held = held

    def _token(self, token: "re.Match[bytes]") -> None:
        mark = token[2]
        if not mark:
            if self._place in self._places:
                self._value += token[0][:VALUE_KEPT] if token[3] else token[0]
        elif mark == b"(":
            self._inside_row, self._place, self._value, self._values = True, 0, b"", {}
        elif self._inside_row:
            if name := self._places.get(self._place):
                self._values[name] = _value(self._value)
            self._place, self._value = self._place + 1, b""
            if mark == b")":
                self._inside_row = False
                self._take(self._values)


def _value(text: bytes) -> str | None:
    """A value of SQL as text: 'it\\'s' is it's, NULL is None, 12 is 12."""
    if not text.startswith(b"'"):
        return None if text == b"NULL" else text.decode()
    plain = _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], found[1]), text[1:-1])
    return plain.decode(errors="replace")


def _plain(name: bytes) -> str:
    return name.replace(b"``", b"`").decode(errors="replace")
