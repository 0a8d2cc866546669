"""Another environment's wiki made fit for this one: it sends no mail and answers to this host.

Changes rows of the database after it was loaded and before XWiki starts, so that no minute exists
in which staging writes to production's readers. Tables and columns are those of XWiki's mapping
(xwiki.hbm.xml): an object is a row of `xwikiobjects`, its properties are rows of `xwikistrings` and
`xwikilargestrings`, those of XWiki.XWikiPreferences columns of `xwikipreferences` too. Where mail
goes is read from Mail.SendMailConfigClass first (DefaultMailSenderConfiguration); its `properties`
beat its `host`. Text of pages is content, not configuration, and stays as it is.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from xwiki_stack.backup import mysql
from xwiki_stack.errors import IncompleteError

Emit = Callable[[str], None]

MAIL_OFF = "mail-off.invalid"
"""A mail server that cannot be: RFC 2606 keeps `.invalid` from ever being a name."""

MAIL, SERVER, PREFERENCES = (
    "Mail.SendMailConfigClass", "XWiki.XWikiServerClass", "XWiki.XWikiPreferences"
)  # fmt: skip

SILENCED = {
    MAIL: {"host": MAIL_OFF, "username": "", "password": "", "properties": ""},
    # Read by releases before 11.8; a wiki that was upgraded still has them.
    PREFERENCES: {
        "smtp_server": MAIL_OFF,
        "smtp_server_username": "",
        "smtp_server_password": "",
        "javamail_extra_props": "",
    },
}
"""Class and property to the value that sends nothing."""

TABLES = {"xwikistrings": "XWS", "xwikilargestrings": "XWL"}
"""Tables of properties with text, and what their columns begin with."""

COLUMNS = "xwikipreferences"
"""Table whose columns are properties, XWP_SMTP_SERVER for `smtp_server`."""


@dataclass(frozen=True)
class Change:
    """A value to be changed: where it is as SQL has it and as a person does, old and new text.

    secret: neither is told.
    """

    column: str
    condition: str
    place: str
    before: str
    after: str
    secret: bool

    @property
    def statement(self) -> str:
        """The UPDATE."""
        table = self.column.rpartition(".")[0]
        new = f"CONVERT(0x{self.after.encode().hex()} USING utf8mb4)" if self.after else "''"
        return f"UPDATE {table} SET {self.column} = {new} WHERE {self.condition};"

    @property
    def words(self) -> str:
        """One line for the operator."""
        if self.secret or not self.after:
            return f"{self.place}: emptied"
        if len(self.before) > 100 or "\n" in self.before:
            return f"{self.place}: the host, in a text of {len(self.before)} characters"
        return f"{self.place}: {self.before!r} is now {self.after!r}"


class Hosts:
    """Moves texts from hosts of elsewhere to ours: `a.wiki.example.org` with what is before it."""

    def __init__(self, host: str, foreign: Sequence[str]) -> None:
        self._host = host
        # Ours first: it may end with one of theirs, and is to stay as it is.
        names = [host, *sorted(foreign, key=len, reverse=True)]
        self._pattern = re.compile(
            rf"(?<![A-Za-z0-9@-])({'|'.join(map(re.escape, names))})(?![A-Za-z0-9-]|\.[A-Za-z0-9])",
            re.IGNORECASE,
        )

    def moved(self, text: str) -> str:
        """The text with our host in the place of theirs; mail addresses stay."""
        return self._pattern.sub(self._host, text)


def rewrite(
    server: mysql.Server, schemas: Sequence[str], host: str, foreign: Sequence[str], emit: Emit
) -> int:
    """Change what must not be as it was elsewhere; give the number of values changed.

    Raises IncompleteError when something is still as it was.
    """
    hosts, count = Hosts(host, foreign), 0
    for schema in schemas:
        changes = list(_changes(server, schema, hosts))
        if changes:
            statements = "\n".join(change.statement for change in changes)
            server.ask(f"START TRANSACTION;\n{statements}\nCOMMIT;")
        for change in changes:
            emit(f"rewrite: {change.words}")
        if left := list(_changes(server, schema, hosts)):
            raise IncompleteError(
                f"{left[0].place} could not be changed",
                where=server.where,
                next=f"drop {', '.join(schemas)} and run again; do not start XWiki on it",
            )
        count += len(changes)
    emit(
        f"rewrite: {count} values changed: mail is off, {', '.join(foreign) or 'no host'} -> {host}"
    )
    for schema in schemas:
        for page, name in _servers(server, schema):
            emit(f"rewrite: {schema}: the wiki of {page} answers to {name!r}")
    return count


def _changes(server: mysql.Server, schema: str, hosts: Hosts) -> Iterator[Change]:
    found = {row[0].lower(): row[1] for row in server.ask(
        "SELECT table_name, table_type FROM information_schema.tables"
        f" WHERE table_schema = '{schema}'")}  # fmt: skip
    for table, prefix in TABLES.items():
        if table in found and "xwikiobjects" in found:
            yield from _properties(server, schema, table, prefix, hosts)
    if COLUMNS in found:
        yield from _preferences(server, schema, hosts)


def _properties(
    server: mysql.Server, schema: str, table: str, prefix: str, hosts: Hosts
) -> Iterator[Change]:
    """Of the rows of one table. Values travel as hexadecimal digits, whatever is in them."""
    home, objects = f"`{schema}`.{table}", f"`{schema}`.xwikiobjects"
    rows = server.ask(
        f"SELECT p.{prefix}_ID, HEX(p.{prefix}_NAME), o.XWO_CLASSNAME, HEX(o.XWO_NAME),"
        f" HEX(p.{prefix}_VALUE) FROM {objects} o JOIN {home} p ON p.{prefix}_ID = o.XWO_ID"
        f" WHERE o.XWO_CLASSNAME IN ('{MAIL}', '{SERVER}', '{PREFERENCES}')"
    )
    for number, name_digits, owner, page_digits, digits in rows:
        name, page, before = _text(name_digits), _text(page_digits), _text(digits)
        after = SILENCED.get(owner, {}).get(name)
        silenced = after is not None
        if after is None:
            after = before if owner == SERVER and name != "server" else hosts.moved(before)
        if after != before:
            condition = f"{prefix}_ID = {int(number)} AND {prefix}_NAME = 0x{name_digits}"
            place = f"{schema}: {page}, {owner}.{name}"
            yield Change(f"{home}.{prefix}_VALUE", condition, place, before, after,
                         silenced and name not in ("host", "smtp_server"))  # fmt: skip


def _preferences(server: mysql.Server, schema: str, hosts: Hosts) -> Iterator[Change]:
    """Of the columns of one table."""
    home = f"`{schema}`.{COLUMNS}"
    columns = [row[0].upper() for row in server.ask(
        "SELECT column_name FROM information_schema.columns"
        f" WHERE table_schema = '{schema}' AND table_name = '{COLUMNS}'"
        " AND column_name LIKE 'XWP%'"
        " AND data_type IN ('varchar', 'text', 'mediumtext', 'longtext')")]  # fmt: skip
    for column in columns:
        name = column.removeprefix("XWP_").lower()
        for number, digits in server.ask(
            f"SELECT XWP_ID, HEX({column}) FROM {home} WHERE {column} <> ''"
        ):
            before = _text(digits)
            after = SILENCED[PREFERENCES].get(name, hosts.moved(before))
            if after != before:
                place = f"{schema}: {PREFERENCES}.{name}"
                yield Change(f"{home}.{column}", f"XWP_ID = {int(number)}", place, before, after,
                             secret=False)  # fmt: skip


def _servers(server: mysql.Server, schema: str) -> list[tuple[str, str]]:
    """Wikis of a farm: page of the descriptor, and the host it answers to."""
    tables = {
        row[0]
        for row in server.ask(
            f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{schema}'"
        )
    }
    if not {"xwikiobjects", "xwikistrings"} <= tables:
        return []
    rows = server.ask(
        f"SELECT HEX(o.XWO_NAME), HEX(p.XWS_VALUE) FROM `{schema}`.xwikiobjects o"
        f" JOIN `{schema}`.xwikistrings p ON p.XWS_ID = o.XWO_ID"
        f" WHERE o.XWO_CLASSNAME = '{SERVER}' AND p.XWS_NAME = 'server' ORDER BY 1"
    )
    return [(_text(page), _text(name)) for page, name in rows]


def _text(digits: str) -> str:
    return "" if digits == "NULL" else bytes.fromhex(digits).decode(errors="replace")
