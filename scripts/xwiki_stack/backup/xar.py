"""A run of the second kind: XWiki's own export of every wiki, which survives a change of database.

It streams from XWiki to the store and is looked at on its way (`archive`), since XWiki answers 200
to nearly everything. What the archive cannot know is asked of the database: **every page that was
there before the export and still is after it must be in it**, translations counted. Pages that came
or went meanwhile may or may not be; they fail no run.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from time import monotonic
from typing import Any

from xwiki_stack.backup import files, keyring, manifest, mysql, producer, stream
from xwiki_stack.backup.archive import Archive
from xwiki_stack.backup.config import Config
from xwiki_stack.backup.manifest import Artefact, Export, Found, Xar
from xwiki_stack.backup.producer import Emit, Outcome
from xwiki_stack.backup.store import Absent, Store
from xwiki_stack.backup.web import Web
from xwiki_stack.backup.words import rate, size, stamp
from xwiki_stack.errors import DamagedError, IncompleteError, IntentError, RefusedError


def preflight(config: Config, store: Store) -> tuple[Web, mysql.Server]:
    """See in a few seconds whether a run can succeed; the first thing that cannot is raised."""
    producer.look(config, store)
    database, server = config.need_database(), mysql.Server(config)
    if missing := server.missing_grants((), ("SELECT",)):
        raise RefusedError(
            f"the account lacks {', '.join(missing)}",
            where=server.where,
            next="the chart grants them at every start of MySQL: restart it, or grant them",
        )
    if absent := set(database.schemas) - server.schemas():
        raise IntentError(
            f"there is no schema {', '.join(sorted(absent))}",
            where=f"{config.path}: database.schemas",
            next="name the schemas of the wiki, the main wiki's first",
        )
    web = Web(config)
    web.expect_admin()
    return web, server


def run(config: Config, emit: Emit) -> Outcome[Xar]:
    """Make a set. Raises the StackError of what failed; then there is no new set."""
    store = Store(config)
    web, server = preflight(config, store)
    emit("preflight: keys, bucket, clock, database and the wiki's account are as needed")
    return producer.run(config, store, emit, Xar, partial(_Producer, web=web, server=server))


@dataclass(kw_only=True)
class _Producer(producer.Producer[Xar]):
    """A run of this kind in hand."""

    web: Web
    server: mysql.Server

    def make(self, before: Found[Xar] | None) -> Xar:
        """Export each wiki."""
        database = self.config.need_database()
        wikis = [self._export(database.wiki_of(schema), schema) for schema in database.schemas]
        return Xar(
            id=self.id,
            environment=self.config.environment,
            snapshot=stamp(self.moment),
            tool=version("xwiki-stack"),
            xwiki=self.web.version(),
            wikis=wikis,
            producers={f"export of {export.wiki}": 0 for export in wikis},
            recipients=keyring.fingerprints(self.config),
            previous=producer.predecessor(before),
        )

    def _export(self, wiki: str, schema: str) -> Export:
        main, began = self.config.need_database().main_wiki, monotonic()
        key = manifest.key_of(manifest.XAR, self.id, f"{wiki}.xar.zst.age")
        archive = Archive(f"{self.web.url}: export of wiki {wiki}")
        before = self.server.pages(schema)
        try:
            with self.web.export("" if wiki == main else f"{wiki}:%") as blocks:
                passing = self._checked(archive.passing(blocks))
                facts = stream.write(self.store, key, passing, keyring.recipients(self.config))
        except DamagedError as broken:
            raise IncompleteError(
                broken.what, where=broken.where, next="see the log of XWiki at that time, run again"
            ) from broken
        after = self.server.pages(schema)
        self._compare(archive, before & after)
        self.sent += facts.stored_bytes
        export = Export(
            wiki=wiki,
            archive=Artefact.of(key, facts),
            pages=len(archive.originals),
            entries=len(archive.pages),
            attachments=archive.attachments,
            rows=after.total(),
        )  # fmt: skip
        self.emit(
            f"wiki {wiki}: {export.pages} pages, {export.attachments} attachments,"
            f" {size(facts.plain_bytes)}, {rate(facts.plain_bytes, monotonic() - began)};"
            f" all {(before & after).total()} rows that the database had throughout are in it"
        )
        return export

    def _checked(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        for block in blocks:
            self.check()
            yield block

    def _compare(self, archive: Archive, throughout: Counter[str]) -> None:
        there = Counter(page.reference for page in archive.pages)
        lacking = throughout - there
        self.misses = lacking.total()
        if lacking:
            raise IncompleteError(
                f"lacks {self.misses} of {throughout.total()} pages and translations that the"
                f" database had before and after: {', '.join(sorted(lacking)[:5])}",
                where=archive.where,
                next="see the log of XWiki at that time, run again",
            )


def opened(store: Store, made: Xar, identities: Sequence[Any]) -> int:
    """Prove that every archive of a set opens and is whole; give the plain bytes read.

    Raises DamagedError.
    """
    for export in made.wikis:
        open_archive(store, export, identities)
    return sum(export.archive.plain_bytes for export in made.wikis)


def open_archive(store: Store, export: Export, identities: Sequence[Any]) -> Archive:
    """All of a stored archive, opened and looked at. Raises DamagedError."""
    found = Archive(store.key(export.archive.key))
    with stored(store, export, identities) as blocks:
        found.read(blocks)
    counts = (len(found.originals), len(found.pages), found.attachments)
    if counts != (export.pages, export.entries, export.attachments):
        raise DamagedError("does not hold the pages that the manifest states", where=found.where)
    return found


@contextlib.contextmanager
def stored(store: Store, export: Export, identities: Sequence[Any]) -> Iterator[Iterator[bytes]]:
    """The bytes of a stored archive. Raises DamagedError, at the end of them at the latest."""
    where = store.key(export.archive.key)

    def taken() -> Iterator[bytes]:
        try:
            yield from blocks
        except Absent as error:
            raise DamagedError("is missing", where=where) from error
        if not blocks.facts or not files.matches(blocks.facts, export.archive):
            raise DamagedError("is not the archive that the manifest names", where=where)

    with stream.pulled(store, export.archive.key, identities) as blocks:
        yield taken()


def detail(made: Xar) -> list[tuple[str, Any]]:
    """What `show` tells of a set of this kind alone."""
    return [
        ("XWiki", made.xwiki),
        *(
            (
                f"wiki {export.wiki}",
                f"{export.pages} pages, {export.entries - export.pages} translations,"
                f" {export.attachments} attachments, {size(export.archive.plain_bytes)}",
            )
            for export in made.wikis
        ),
    ]
