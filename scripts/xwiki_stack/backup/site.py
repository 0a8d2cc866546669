"""One backup run: look, lock, dump, copy, compare, publish.

The database first, the files after it: XWiki stores a file before it commits the row, so no row of
the dump can lack its file for having been written later. What was deleted or replaced between the
two is found by comparing every row with the copied files.
"""

import os
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from importlib.metadata import version
from typing import Any

from xwiki_stack import proc
from xwiki_stack.backup import attachments, dump, files, keyring, manifest, mysql, producer, stream
from xwiki_stack.backup.config import Config
from xwiki_stack.backup.manifest import Artefact, Found, Site
from xwiki_stack.backup.producer import Emit, Outcome
from xwiki_stack.backup.store import Store
from xwiki_stack.backup.words import rate, size, stamp
from xwiki_stack.errors import (
    DamagedError,
    IncompleteError,
    IntentError,
    MachineError,
    RefusedError,
    StoreError,
)

LOOPS = 3
"""How often attachments without their file are looked for again."""

LOOP_SECONDS = 2.0


def ready(config: Config, store: Store) -> None:
    """See in a few seconds whether keys, bucket and clock allow for a set. Raises what does not."""
    keyring.writer(config)
    producer.look(config, store)


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


def run(config: Config, emit: Emit) -> Outcome[Site]:
    """Make a set. Raises the StackError of what failed; then there is no new set."""
    store = Store(config)
    server = preflight(config, store)
    emit("preflight: keys, bucket, clock, database and grants are as needed")
    return producer.run(config, store, emit, Site, partial(_Producer, server=server))


@dataclass(kw_only=True)
class _Producer(producer.Producer[Site]):
    """A run of this kind in hand."""

    server: mysql.Server

    def make(self, before: Found[Site] | None) -> Site:
        """Dump, copy, compare."""
        summary, database = self._dump()
        copy = self._copy(before)
        self._compare(summary.attachments, copy)
        index = sealed(self.config, copy, self.id)
        self.sent += index.stored_bytes
        return described(
            self.config,
            copy,
            summary,
            id=self.id,
            moment=self.moment,
            server=self.server.facts().version,
            mysqldump=self.server.program_version(),
            database=database,
            index=index,
            before=before,
            producers={"mysqldump": 0, "files": 0},
        )

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
            self.emit(dumped(facts, scanner.summary, time.monotonic() - began))
            return scanner.summary, Artefact.of(key, facts)
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


def dumped(facts: stream.Facts, summary: dump.Summary, seconds: float) -> str:
    """What an operator is told of a dump that is stored."""
    return (
        f"database: {size(facts.plain_bytes)} plain, {size(facts.stored_bytes)} stored,"
        f" {len(summary.tables)} tables, {rate(facts.plain_bytes, seconds)}"
    )


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
        previous=producer.predecessor(before),
    )


def sealed(config: Config, copy: files.Copy, id: str) -> Artefact:  # noqa: A002
    """Store the index of a copy, sealed to who opens sets and to the writer of the next one."""
    writer = keyring.writer(config)
    extra = [writer.to_public()] if writer else []
    return copy.finish([*keyring.recipients(config), *extra], id)


def detail(made: Site) -> list[tuple[str, Any]]:
    """What `show` tells of a set of this kind alone: label and value."""
    shared = sum(pack.bytes for pack in made.packs)
    rows, misses = sum(made.tables.values()), made.attachments["misses"]
    return [
        ("made by", "import" if "import" in made.producers else "run"),
        ("MySQL", f"{made.server}, dumped by {made.mysqldump}"),
        ("database", f"{len(made.tables)} tables, {rows} rows, {size(made.database.plain_bytes)}"),
        ("position", made.position["gtid"] or made.position["file"] or "no binary log"),
        ("files", f"{made.files['count']} files, {size(made.files['bytes'])}"),
        ("packs", f"{len(made.packs)}, {size(shared)}, generation {made.generation['id'][:8]}"
                  f" set {made.generation['number']}"),
        ("attachments", f"{made.attachments['rows']} rows, {size(made.attachments['bytes'])}"
                        + (f", {misses} WITHOUT THEIR FILE" if misses else "")),
    ]  # fmt: skip
