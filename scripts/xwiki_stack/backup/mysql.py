"""MySQL's own client programs: how they are called, and what a server is asked.

The password travels in an option file that lies nowhere: a pipe that the client reads as a file.
"""

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from xwiki_stack import proc
from xwiki_stack.backup import attachments
from xwiki_stack.backup.attachments import Attachments
from xwiki_stack.backup.config import Config, Database, secret
from xwiki_stack.errors import IntentError, MachineError

QUESTION_SECONDS = 20.0

GLOBAL = ("PROCESS", "RELOAD", "REPLICATION CLIENT", "SHOW_ROUTINE")
"""What a dump needs on *.*: tablespaces and positions, one consistent moment, routines."""

PER_SCHEMA = ("SELECT", "SHOW VIEW", "TRIGGER", "EVENT", "LOCK TABLES")

ALWAYS_SAID = ("Warning: ", "when trying to dump masking policies")
"""In what mysqldump 9.7 says of every dump, whether it goes well or not: no cause of anything."""

SILENT = "it said nothing of why"
"""Of a program that failed, as mysqldump does when the server ends its session."""

_GRANT = re.compile(r"GRANT (.+?) ON (?:`?((?:[^`]|``)+?)`?)\.(\S+) TO ")


@dataclass(frozen=True)
class Facts:
    """Of a server: its version ("9.7.1"), whether it writes a binary log."""

    version: str
    binary_log: bool


class Server:
    """A MySQL server, reached through its client programs with one account."""

    def __init__(self, config: Config) -> None:
        self._database: Database = config.need_database()
        self._password = secret(self._database.password_file, config, "database.passwordFile")

    @property
    def where(self) -> str:
        """The server as an operator knows it."""
        return f"{self._database.user}@{self._database.host}:{self._database.port}"

    def ask(
        self, statement: str, *, schema: str = "", seconds: float | None = QUESTION_SECONDS
    ) -> list[list[str]]:
        """The rows of a query, as text. Raises MachineError in one line.

        seconds: how long it may take; None for what reads whole tables.
        """
        argv = [*self._argv("mysql"), "--batch", "--skip-column-names", "--connect-timeout=8"]
        try:
            said = proc.run(
                [*argv, *([schema] if schema else [])],
                stdin=statement,
                handed=self._options(),
                secrets=[self._password],
                timeout=seconds,
            )
        except proc.CommandFailed as failed:
            raise self.failure(failed) from failed
        return [line.split("\t") for line in said.out.splitlines()]

    def dumping(self, words: Sequence[str]) -> AbstractContextManager[proc.Flow]:
        """mysqldump at work, its output to be read."""
        argv = [*self._argv("mysqldump"), *words]
        return proc.flow(argv, handed=self._options(), secrets=[self._password])

    def loading(self) -> AbstractContextManager[proc.Flow]:
        """mysql at work, to be written statements; it stops at the first that fails."""
        argv = [*self._argv("mysql"), "--binary-mode", "--max-allowed-packet=1G"]
        return proc.flow(argv, into=True, handed=self._options(), secrets=[self._password])

    def facts(self) -> Facts:
        """What the server is."""
        ((version, binary_log),) = self.ask("SELECT VERSION(), @@log_bin")
        return Facts(re.sub(r"[^0-9.].*", "", version), binary_log == "1")

    def program_version(self) -> str:
        """The version of mysqldump, e.g. "9.7.1"."""
        said = proc.run([self._program("mysqldump"), "--version"], timeout=QUESTION_SECONDS).out
        found = re.search(r"(\d+\.\d+\.\d+)", said.split("Distrib")[-1].split("Ver")[-1])
        if "MariaDB" in said or not found:
            raise MachineError(
                f"this mysqldump cannot save MySQL: {' '.join(said.split())}",
                next="use the client of the server's own line",
            )
        return found[1]

    def schemas(self) -> set[str]:
        """Names of the configured schemas that exist."""
        return {row[0] for row in self.ask(
            "SELECT schema_name FROM information_schema.schemata WHERE schema_name IN "
            f"({self._listed()})")}  # fmt: skip

    def tables(self) -> set[str]:
        """`schema.table` of every base table of the wiki's schemas."""
        rows = self.ask(
            "SELECT table_schema, table_name FROM information_schema.tables"
            f" WHERE table_type = 'BASE TABLE' AND table_schema IN ({self._listed()})"
        )
        return {f"{schema}.{table}" for schema, table in rows}

    def everything(self) -> int:
        """How many tables, views and routines the wiki's schemas hold."""
        listed = self._listed()
        rows = self.ask(
            f"SELECT COUNT(*) FROM information_schema.tables WHERE table_schema IN ({listed});"
            f"SELECT COUNT(*) FROM information_schema.routines WHERE routine_schema IN ({listed});"
        )
        return sum(int(row[0]) for row in rows)

    def pages(self, schema: str) -> Counter[str]:
        """References of a wiki's pages, each with how many rows it has: itself, translations."""
        # In hex: the client escapes what is in names, and names have backslashes of their own.
        rows = self.ask("SELECT HEX(XWD_FULLNAME) FROM xwikidoc", schema=schema)
        return Counter(bytes.fromhex(row[0]).decode(errors="replace") for row in rows if row[0])

    def counts(self, tables: Sequence[str]) -> dict[str, int]:
        """Rows of each `schema.table`, counted by the server."""
        found: dict[str, int] = {}
        for start in range(0, len(tables), 50):
            some = tables[start : start + 50]
            lines = [f"SELECT COUNT(*) FROM {quoted(name)};" for name in some]
            argv = [*self._argv("mysql"), "--batch", "--skip-column-names"]
            said = proc.run(argv, stdin="\n".join(lines), handed=self._options(),
                            secrets=[self._password])  # fmt: skip
            found.update(zip(some, map(int, said.out.split()), strict=True))
        return found

    def broken(self, tables: Sequence[str]) -> dict[str, str]:
        """What CHECK TABLE says of each `schema.table` that it does not find whole."""
        found: dict[str, str] = {}
        for start in range(0, len(tables), 50):
            some = ", ".join(quoted(name) for name in tables[start : start + 50])
            for name, _, kind, words in self.ask(f"CHECK TABLE {some}", seconds=None):
                if kind.lower() == "error" or (kind == "status" and words != "OK"):
                    found.setdefault(name, words)
        return found

    def attachments(self) -> Attachments:
        """The attachments that the wikis' tables hold, as a dump of them would tell."""
        found = Attachments()
        for schema in self._database.schemas:
            columns = {row[0].upper() for row in self.ask(
                "SELECT column_name FROM information_schema.columns WHERE table_schema ="
                f" '{schema}' AND table_name = '{attachments.TABLE}'")}  # fmt: skip
            if not columns:
                continue
            place = "XWA_CONTENT_STORE"
            store = place if place in columns else f"'{attachments.ON_DISK}'"
            # In hex: a name may hold what parts columns and lines.
            rows = self.ask(
                f"SELECT XWA_DOC_ID, HEX(CONVERT(XWA_FILENAME USING utf8mb4)), XWA_SIZE, {store},"
                " IFNULL(HEX(CONVERT(XWD_FULLNAME USING utf8mb4)), '') FROM"
                f" {attachments.TABLE} LEFT JOIN {attachments.PAGES} ON XWD_ID = XWA_DOC_ID",
                schema=schema,
                seconds=None,
            )
            wiki = self._database.wiki_of(schema)
            for page, name, size, store, reference in rows:
                found.row(wiki, {"XWA_DOC_ID": page, "XWA_FILENAME": _text(name),
                                 "XWA_SIZE": size, place: store})  # fmt: skip
                found.page(wiki, {"XWD_ID": page, "XWD_FULLNAME": _text(reference)})
        return found

    def missing_grants(
        self, everywhere: Sequence[str] = GLOBAL, per_schema: Sequence[str] = PER_SCHEMA
    ) -> list[str]:
        """What the account lacks, by default to dump the schemas: "RELOAD on *.*", ..."""
        held = [grant for row in self.ask("SHOW GRANTS") for grant in _grants("\t".join(row))]
        missing = []
        for right in everywhere:
            if not any(scope == "*" and _covers(rights, right) for rights, scope in held):
                missing.append(f"{right} on *.*")
        for schema in self._database.schemas:
            missing += [
                f"{right} on {schema}.*"
                for right in per_schema
                if not any(
                    _matches(scope, schema) and _covers(rights, right) for rights, scope in held
                )
            ]
        return missing

    def failure(self, failed: proc.CommandFailed) -> MachineError:
        """What a client program complained of, as one line of ours."""
        said = [line.strip() for line in failed.tail.splitlines() if line.strip()]
        lines = [line for line in said if not any(words in line for words in ALWAYS_SAID)]
        words = lines[-1] if lines else SILENT
        refused = "Access denied" in words
        return MachineError(
            words,
            where=f"{Path(failed.argv[0]).name} {self.where}",
            next="put the right password into the file of database.passwordFile"
            if refused and "using password" in words
            else "see whether MySQL runs and is reached from here"
            if "connect" in words or "Lost connection" in words
            else "see the log of MySQL: it was restarted, or somebody ended the session"
            if words == SILENT
            else "",
        )

    def _listed(self) -> str:
        return ", ".join(f"'{name}'" for name in self._database.schemas)

    def _program(self, name: str) -> str:
        folder = self._database.programs
        return str(Path(folder) / name) if folder else name

    def _argv(self, name: str) -> list[str]:
        return [
            self._program(name),
            f"--defaults-file={proc.HANDED}",
            "--default-character-set=utf8mb4",
        ]

    def _options(self) -> str:
        if "\n" in self._password:
            raise IntentError("holds a line break", where=str(self._database.password_file))
        password = self._password.replace("\\", "\\\\").replace('"', '\\"')
        return (
            f"[client]\nhost={self._database.host}\nport={self._database.port}\n"
            f'protocol=tcp\nuser={self._database.user}\npassword="{password}"\n'
        )


def quoted(name: str) -> str:
    """`schema.table` as SQL."""
    schema, table = name.split(".", 1)
    return f"`{schema.replace('`', '``')}`.`{table.replace('`', '``')}`"


def _text(digits: str) -> str:
    """What HEX gave, as text."""
    return bytes.fromhex(digits).decode(errors="replace")


def line_of(version: str) -> tuple[int, int]:
    """The release line of a version: "9.7.1" is (9, 7)."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def _grants(line: str) -> list[tuple[set[str], str]]:
    """(rights, scope) of a line of SHOW GRANTS: scope is `*` or the pattern of a schema."""
    found = _GRANT.match(line)
    if not found or found[3] != "*":
        return []
    rights = {word.strip().upper() for word in found[1].split(",")}
    return [(rights, found[2].replace("``", "`"))]


def _covers(rights: set[str], right: str) -> bool:
    # A global SELECT shows the text of routines too, as it did before SHOW_ROUTINE existed.
    return bool(rights & {right, "ALL PRIVILEGES", "ALL"}) or (
        right == "SHOW_ROUTINE" and "SELECT" in rights
    )


def _matches(scope: str, schema: str) -> bool:
    """Whether a grant's pattern (`%` and `_` are wildcards, `\\_` is none) names a schema."""
    if scope == "*":
        return True
    parts = re.findall(r"\\.|.", scope)
    form = "".join(
        ".*" if part == "%" else "." if part == "_" else re.escape(part[-1]) for part in parts
    )
    return bool(re.fullmatch(form, schema))
