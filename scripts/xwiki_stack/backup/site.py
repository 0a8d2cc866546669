"""One backup run: look, lock, dump, copy, compare, publish.

The database first, the files after it: XWiki stores a file before it commits the row, so no row of
the dump can lack its file for having been written later. What was deleted or replaced between the
two is found by comparing every row with the copied files. The manifest comes last; whatever fails
before leaves objects that nobody takes for a set, and that prune sweeps later.
"""

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Any

from xwiki_stack import proc
from xwiki_stack.backup import (
    attachments,
    deadline,
    dump,
    evidence,
    files,
    keyring,
    lock,
    manifest,
    mysql,
    stream,
)
from xwiki_stack.backup.config import Config
from xwiki_stack.backup.manifest import Artefact, Found, Site
from xwiki_stack.backup.store import Store, probe
from xwiki_stack.errors import (
    DamagedError,
    IncompleteError,
    IntentError,
    MachineError,
    RefusedError,
    StackError,
    StoreError,
)

Emit = Callable[[str], None]

SKEW = timedelta(minutes=5)
"""A difference of clocks that is reported; signatures of S3 fail from 15 min on."""

LOOPS = 3
"""How often attachments without their file are looked for again."""

LOOP_SECONDS = 2.0

LOCK = "site"

EXTRA_MINUTES = 15
"""A lock outlives the run's own deadline by this, to be taken only from the dead."""


@dataclass(frozen=True)
class Outcome:
    """A set that exists now; bytes sent are less than the set's where packs are shared."""

    found: Found[Site]
    seconds: float
    sent: int


def ready(config: Config, store: Store) -> None:
    """See in a few seconds whether keys, bucket and clock allow for a set. Raises what does not."""
    keyring.recipients(config)
    keyring.writer(config)
    keyring.signing(config)
    quick = store.hasty()
    skew = abs(datetime.now(UTC) - quick.now())
    if skew > SKEW:
        raise StoreError(
            f"this machine's clock is {int(skew.total_seconds() // 60)} min off the store's",
            next="set the clock; signatures of S3 fail from 15 min on",
        )
    probe(store)


def preflight(config: Config, store: Store) -> mysql.Server:
    """See in a few seconds whether a run can succeed; the first thing that cannot is raised."""
    root = config.need_files()
    if not root.is_dir() or not os.access(root, os.R_OK | os.X_OK):
        raise MachineError(
            f"{root} is no folder that can be read",
            where=f"{config.path}: files.root",
            next="mount XWiki's volume there, with the group of its files",
        )
    ready(config, store)
    server = mysql.Server(config)
    facts = server.facts()
    if missing := server.missing_grants():
        raise RefusedError(
            f"the account lacks {', '.join(missing)}",
            where=server.where,
            next="the chart grants them at every start of MySQL: restart it, or grant them",
        )
    database = config.need_database()
    if absent := set(database.schemas) - server.schemas():
        raise IntentError(
            f"there is no schema {', '.join(sorted(absent))}",
            where=f"{config.path}: database.schemas",
            next="name the schemas of the wiki, the main wiki's first",
        )
    client = server.program_version()
    if mysql.line_of(client) != mysql.line_of(facts.version):
        raise MachineError(
            f"mysqldump {client} is of another line than the server, {facts.version}",
            where=server.where,
            next="use the image of the server's line",
        )
    return server


def run(config: Config, emit: Emit) -> Outcome:
    """Make a set. Raises the StackError of what failed; then there is no new set."""
    began = time.monotonic()
    store = Store(config)
    server = preflight(config, store)
    emit("preflight: keys, bucket, clock, database and grants are as needed")
    minutes = config.limits.run_minutes
    with lock.hold(store, LOCK, minutes + EXTRA_MINUTES), deadline.within(minutes) as check:
        moment = store.now()
        work = _Work(config, store, server, emit, check, moment, manifest.new_id(moment))
        try:
            found = work.do()
        except (StackError, proc.Interrupted) as error:
            _tell(work, error, time.monotonic() - began)
            raise
    return Outcome(found, time.monotonic() - began, work.sent)


def _tell(work: "_Work", error: BaseException, seconds: float) -> None:
    """Leave a record of a failed run, for metrics; that it cannot be left is no news."""
    words = str(error) or "interrupted"
    record = evidence.Record(work.id, "", evidence.RUN, False, stamp(work.moment), int(seconds),
                             work.sent, words, work.misses)  # fmt: skip
    try:
        evidence.write(work.store.hasty(), record, keyring.signing(work.config))
    except (StackError, proc.Interrupted):
        work.emit("the record of this failure could not be stored")


@dataclass
class _Work:
    """What one run has in hand."""

    config: Config
    store: Store
    server: mysql.Server
    emit: Emit
    check: Callable[[], None]
    moment: datetime
    id: str
    sent: int = 0
    misses: int = 0

    def do(self) -> Found[Site]:
        """Dump, copy, compare, publish."""
        key = keyring.signing(self.config)
        trusted, environment = self.config.need_trusted(), self.config.environment
        listing = manifest.listing(self.store, trusted, environment, Site)
        for name, broken in listing.unreadable.items():
            self.emit(f"warning: set {name} counts for nothing: {broken}")
        if listing.newest and listing.newest.manifest.time > self.moment:
            raise RefusedError(
                f"the newest set {listing.newest.manifest.id} lies in the future",
                where=self.store.key(""),
                next="find out whose clock was wrong; nothing is chained to it",
            )
        summary, database = self._dump()
        copy = self._copy(listing.newest)
        self._compare(summary.attachments, copy)
        index = sealed(self.config, copy, self.id)
        self.sent += index.stored_bytes
        made = described(
            self.config,
            copy,
            summary,
            id=self.id,
            moment=self.moment,
            server=self.server.facts().version,
            mysqldump=self.server.program_version(),
            database=database,
            index=index,
            before=listing.newest,
            producers={"mysqldump": 0, "files": 0},
        )
        self.check()
        return manifest.publish(self.store, made, key)

    def _dump(self) -> tuple[dump.Summary, Artefact]:
        database = self.config.need_database()
        words = dump.arguments(database, binary_log=self.server.facts().binary_log)
        recipients = keyring.recipients(self.config)
        for attempt in range(1, dump.ATTEMPTS + 1):
            # One name per attempt: a name is never written twice.
            name = f"db{attempt if attempt > 1 else ''}.sql.zst.age"
            key = manifest.key_of(manifest.SITE, self.id, name)
            scanner = dump.Scanner(database.wiki_of)
            began = time.monotonic()
            try:
                tables = self.server.tables()
                produced = dump.produce(self.server, words, scanner, self.check)
                facts = stream.write(self.store, key, produced, recipients)
                dump.expect(scanner.summary, tables)
            except dump.TablesChanged as changed:
                if attempt == dump.ATTEMPTS:
                    raise
                self.emit(f"{changed.what}: dumping again")
                continue
            self.sent += facts.stored_bytes
            self.emit(
                f"database: {size(facts.plain_bytes)} plain, {size(facts.stored_bytes)} stored,"
                f" {len(scanner.summary.tables)} tables,"
                f" {rate(facts.plain_bytes, time.monotonic() - began)}"
            )
            return scanner.summary, Artefact(
                key,
                facts.plain_bytes,
                facts.plain_sha256,
                facts.stored_bytes,
                facts.stored_sha256,
            )
        raise AssertionError("the last attempt returns or raises")

    def _copy(self, previous: Found[Site] | None) -> files.Copy:
        began = time.monotonic()
        index = self._previous_index(previous)
        age = timedelta(0)
        if previous:
            first = datetime.fromisoformat(previous.manifest.generation["began"])
            age = self.moment - first
        generation = files.generation_after(
            previous if index else None,
            stamp(self.moment),
            age / timedelta(days=1),
            self.config.limits,
        )
        shared = index if index and generation.number > 1 else files.Index()
        copy = files.Copy(
            root=self.config.need_files(),
            store=self.store,
            recipients=keyring.recipients(self.config),
            generation=generation,
            limits=self.config.limits,
            previous=shared,
            check=self.check,
        )
        copy.run()
        self.sent += copy.sent
        self.emit(
            f"files: {len(copy.index.entries)} paths, {size(copy.sent)} sent in"
            f" {time.monotonic() - began:.0f} s,"
            f" set {generation.number} of its generation"
            + (f"; changed while read: {len(copy.changed)}" if copy.changed else "")
        )
        return copy

    def _previous_index(self, previous: Found[Site] | None) -> files.Index | None:
        """The last set's index, if it can be read and its packs are all there; else all is new."""
        writer = keyring.writer(self.config)
        if previous is None or writer is None:
            return None
        try:
            index = files.read_index(self.store, previous.manifest.index, [writer])
        except (DamagedError, StoreError) as error:
            self.emit(f"warning: all files are copied anew: {error}")
            return None
        folder = f"packs/{previous.manifest.generation['id']}/"
        there = {item.key: item.size for item in self.store.listed(folder)}
        if any(there.get(pack.key) != pack.bytes for pack in previous.manifest.packs):
            self.emit(
                f"warning: packs of set {previous.manifest.id} are missing: all is copied anew"
            )
            return None
        return index

    def _compare(self, rows: attachments.Attachments, copy: files.Copy) -> None:
        """Every attachment of the dump must be among the copied files; look again a few times."""
        misses = rows.misses(copy.sizes(), copy.link_text)
        for _ in range(LOOPS):
            if not misses:
                break
            self.emit(f"attachments: {len(misses)} without their file, looking again")
            proc.pause(LOOP_SECONDS)
            self.check()
            before = copy.sent
            copy.again(folder for miss in misses for folder in miss.folders)
            self.sent += copy.sent - before
            misses = rows.misses(copy.sizes(), copy.link_text)
        self.misses = len(misses)
        if misses:
            few = " | ".join(miss.words for miss in misses[:5])
            raise IncompleteError(
                f"{len(misses)} of {len(rows.rows)} attachments have no file: {few}",
                where=str(copy.root),
                next="run again: what was deleted meanwhile is gone then; else restore or"
                " delete these attachments in the wiki",
            )
        self.emit(f"attachments: all {len(rows.rows)} rows of the dump have their file")


def described(
    config: Config,
    copy: files.Copy,
    summary: dump.Summary,
    *,
    id: str,  # noqa: A002
    moment: datetime,
    server: str,
    mysqldump: str,
    database: Artefact,
    index: Artefact,
    before: Found[Site] | None,
    producers: dict[str, int],
    misses: int = 0,
) -> Site:
    """The manifest of what was dumped and copied. server, mysqldump: versions, "9.7.1"."""
    entries = copy.index.entries.values()
    return Site(
        id=id,
        environment=config.environment,
        snapshot=stamp(moment),
        tool=version("xwiki-stack"),
        server=server,
        mysqldump=mysqldump,
        position=asdict(summary.position),
        schemas=summary.schemas,
        tables=summary.tables,
        database=database,
        index=index,
        packs=copy.packs,
        generation=asdict(copy.generation),
        files={
            "count": sum(entry.kind == files.FILE for entry in entries),
            "bytes": sum(entry.size for entry in entries),
            "changed": len(copy.changed),
            "vanished": len(copy.vanished),
            "special": copy.special,
        },
        attachments={
            "rows": len(summary.attachments.rows),
            "bytes": summary.attachments.bytes,
            "elsewhere": summary.attachments.elsewhere,
            "misses": misses,
        },
        producers=producers,
        recipients=keyring.fingerprints(config),
        previous={"id": before.manifest.id, "sha256": before.sha256} if before else None,
    )


def sealed(config: Config, copy: files.Copy, id: str) -> Artefact:  # noqa: A002
    """Store the index of a copy, sealed to who opens sets and to the writer of the next one."""
    writer = keyring.writer(config)
    extra = [writer.to_public()] if writer else []
    return copy.finish([*keyring.recipients(config), *extra], id)


def stamp(moment: datetime) -> str:
    """A moment as documents write it: 2026-11-26T05:30:00Z."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def size(count: int) -> str:
    """Bytes as a person reads them: 812 B, 4.2 MiB."""
    number, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if number < 1024:
            break
        number, unit = number / 1024, larger
    return f"{count} B" if unit == "B" else f"{number:.1f} {unit}"


def rate(count: int, seconds: float) -> str:
    """Bytes per second as a person reads them."""
    return f"{size(int(count / max(seconds, 0.001)))}/s"


def detail(found: Found[Site]) -> list[tuple[str, Any]]:
    """What `show` tells of a set: label and value."""
    made = found.manifest
    shared = sum(pack.bytes for pack in made.packs)
    rows, misses = sum(made.tables.values()), made.attachments["misses"]
    return [
        ("set", made.id),
        ("environment", made.environment),
        ("snapshot", made.snapshot),
        ("made by", "import" if "import" in made.producers else "run"),
        ("MySQL", f"{made.server}, dumped by {made.mysqldump}"),
        ("database", f"{len(made.tables)} tables, {rows} rows, {size(made.database.plain_bytes)}"),
        ("position", made.position["gtid"] or made.position["file"] or "no binary log"),
        ("files", f"{made.files['count']} files, {size(made.files['bytes'])}"),
        ("packs", f"{len(made.packs)}, {size(shared)}, generation {made.generation['id'][:8]}"
                  f" set {made.generation['number']}"),
        ("attachments", f"{made.attachments['rows']} rows, {size(made.attachments['bytes'])}"
                        + (f", {misses} WITHOUT THEIR FILE" if misses else "")),
        ("previous", made.previous["id"] if made.previous else "none"),
        ("recipients", ", ".join(made.recipients)),
        ("tool", made.tool),
    ]  # fmt: skip
