"""A restore for a try: a set is brought back beside the living wiki, started and looked at.

One process does it, in a pod that has a MySQL and an XWiki of its own: it takes a proven set, waits
for the database, restores by the very code that would restore in earnest, lets XWiki start by a
file, and asks the wiki for what must be there. An export comes into a wiki that runs, so there the
start comes first. What came of it is signed and lies beside the set.
"""

import math
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from xwiki_stack import proc
from xwiki_stack.backup import (
    evidence,
    keyring,
    manifest,
    mysql,
    probes,
    restore,
    xar_restore,
)
from xwiki_stack.backup.canary import Canary
from xwiki_stack.backup.config import Config
from xwiki_stack.backup.manifest import Found, Manifest, Site, Xar
from xwiki_stack.backup.stopwatch import Stopwatch
from xwiki_stack.backup.store import Store
from xwiki_stack.backup.web import Web
from xwiki_stack.backup.words import rate, size, stamp
from xwiki_stack.errors import (
    DamagedError,
    IntentError,
    MachineError,
    RefusedError,
    StackError,
    UnhealthyError,
)
from xwiki_stack.steps import clock

Emit = Callable[[str], None]

LOCAL = ("127.0.0.1", "::1", "localhost")

PAUSE_SECONDS = 1.0

SLOW = 0.5
"""Share of the objective above which a drill counts as slow: wikis grow, promises do not."""


@dataclass(frozen=True)
class Wish:
    """Which set is tried: an id or its beginning, "newest", or "" for the one that is due.

    older: a random one of the older sets. kind: of which kind of sets.
    """

    set: str = ""
    older: bool = False
    kind: str = manifest.SITE


@dataclass
class Outcome:
    """What a drill came to. `failed`: step or probe to what was wrong; `green`: probes that held.

    rto, objective: seconds; `rto` is 0 unless every probe is green.
    """

    found: Found[Any]
    rto: int = 0
    objective: int = 0
    green: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def held(self) -> bool:
        """Every probe is green, in the time that is promised."""
        return not self.failed and self.rto <= self.objective

    @property
    def words(self) -> str:
        """One line: what was wrong, or what was seen."""
        if self.failed:
            return " | ".join(f"{name}: {words}" for name, words in self.failed.items())
        late = "too late: " if self.rto > self.objective else ""
        took = f"back in {clock(self.rto)}, {clock(self.objective)} are promised"
        return f"{late}{took}, {len(self.green)} probes green"


def drill(config: Config, wish: Wish, emit: Emit) -> Outcome:
    """Try a set, leave a signed record. Raises StackError where it did not hold, or for Interrupted
    what it is; a record of that is left as well, once it is known of which set."""
    wanted = config.need_drill()
    _refuse(config)
    store, key, watch = Store(config), keyring.signing(config), Stopwatch()
    found = choose(config, store, wish)
    emit(f"drill on set {found.manifest.id}: {size(found.manifest.bytes)}")
    trial = TRIALS[wish.kind](config, store, found, emit, watch)
    error: BaseException | None = None
    try:
        trial.do()
    except (StackError, proc.Interrupted) as raised:
        error = raised
        trial.outcome.failed = trial.outcome.failed or {"drill": str(raised) or "interrupted"}
    outcome = trial.outcome
    # Who is being ended has seconds left, not minutes.
    evidence.write(
        store.hasty() if error else store, _record(outcome, stamp(store.now()), watch), key
    )
    if error:
        raise error
    if outcome.failed:
        raise DamagedError(
            f"the drill failed: {outcome.words}",
            where=f"set {found.manifest.id}",
            next="see what the set lacks, and try another one by its id",
        )
    if not outcome.held:
        raise UnhealthyError(
            f"the wiki was back after {clock(outcome.rto)}, {wanted.rto_hours} h are promised",
            where=f"set {found.manifest.id}",
            next="see `steps` of the record: a faster disk, store or network, or another promise",
        )
    return outcome


def choose(config: Config, store: Store, wish: Wish) -> Found[Manifest]:
    """The set to try. Raises IntentError where none is proven, or none is called so."""
    trusted, source = config.need_trusted(), config.need_drill().source or config.environment
    listing = manifest.listing(store, trusted, source, manifest.KINDS[wish.kind])
    if wish.set and wish.set != "newest":
        return listing.find(wish.set)
    older = wish.older or (not wish.set and older_is_due(store.now()))
    return pick(listing.sets, evidence.read(store, trusted), older=older)


def older_is_due(now: datetime) -> bool:
    """Every other month the newest set is not the one that is tried."""
    return now.month % 2 == 0


def pick(
    sets: Sequence[Found[Manifest]], records: Sequence[evidence.Record], *, older: bool
) -> Found[Manifest]:
    """The newest proven set, or a random one before it where there is any.

    Proven intact will do, since the restore opens all of it before it writes: the newest set that
    is proven opened would, where nobody else opens sets, for ever be that of the last drill.
    """
    proven = [item for item in sets if _is_proven(records, item)]
    if not proven:
        raise IntentError(
            "no set is proven intact or opened",
            next="`xwiki-stack backup verify`, or name the set to be tried",
        )
    return secrets.choice(proven[:-1]) if older and proven[1:] else proven[-1]


def _is_proven(records: Sequence[evidence.Record], item: Found[Manifest]) -> bool:
    said = [
        record.held
        for kind in (evidence.INTACT, evidence.OPENED)
        if (record := evidence.latest(records, kind, item.manifest.id, item.sha256))
    ]
    return bool(said) and all(said)


def _refuse(config: Config) -> None:
    """A drill writes into a database and believes a wiki: both must be its own."""
    if config.purpose == "prod":
        raise RefusedError(
            "a drill never runs in production",
            where=f"{config.path}: purpose",
            next="run it in staging; drill.source says whose sets are tried",
        )
    for key, host in (
        ("database.host", config.need_database().host),
        ("web.url", urlsplit(config.need_web().url).hostname or ""),
    ):
        if host not in LOCAL:
            raise RefusedError(
                f"{host} is not beside this process: it may be somebody's wiki",
                where=f"{config.path}: {key}",
                allowed=", ".join(LOCAL),
                next="run the drill in its own pod, CronJob drill of charts/backups",
            )
    if (marker := config.need_drill().marker).exists():
        raise RefusedError(
            f"{marker} is there already: XWiki was let start, and may write",
            where=f"{config.path}: drill.marker",
            next="start with a new pod",
        )


class _Trial:
    """One drill under way. A kind of sets says in `bring` how one comes back and is started."""

    def __init__(
        self, config: Config, store: Store, found: Found[Any], emit: Emit, watch: Stopwatch
    ) -> None:
        self.config, self._store, self.found = config, store, found
        self.emit, self.watch = emit, watch
        self.drill = config.need_drill()
        self.wish = restore.Wish(found.manifest.id, source=self.drill.source)
        self.server, self.web = mysql.Server(config), Web(config)
        self.outcome = Outcome(found, objective=3600 * self.drill.rto_hours)

    def do(self) -> None:
        """Restore, start, look. Raises what ends it; that stands in the outcome, too."""
        with self.step("database"):
            server = _until(self.drill.database_minutes, self.server.facts)
        self.outcome.facts["versions"] = {"mysql": server.version}
        self.bring()
        with self.watch.step("probes"):
            self.look()
        if not self.outcome.failed:
            self.outcome.rto = math.ceil(self.watch.seconds)

    def bring(self) -> None:
        """Restore the set, with `start` before or after it."""
        raise NotImplementedError

    def start(self) -> None:
        """Let XWiki start, and wait for it."""
        with self.step("start"):
            self.drill.marker.write_text(f"{self.found.manifest.id}\n")
            version = _until(self.drill.wiki_minutes, lambda: probes.version(self.web))
        self.outcome.facts["versions"]["xwiki"] = version

    def look(self) -> None:
        """All that is asked of the running wiki, whatever of it fails."""
        web, page = self.web, list[Canary | None]()
        rpo = timedelta(hours=self.config.rpo_hours)

        def canary() -> str:
            page.append(probes.canary_page(web, self.found.manifest, rpo, self.drill.canary_since))
            return f"from {page[0].at}" if page[0] else "none: the set is from before canaries"

        self.probe("rest", lambda: f"XWiki {probes.version(web)}")
        self.probe("home", lambda: probes.first_page(web))
        self.probe("login", lambda: probes.login(web))
        self.probe("canary-page", canary)
        if not page:
            self.outcome.failed["canary-attachment"] = "no page names one"
        elif found := page[0]:
            self.probe("canary-attachment", lambda: probes.canary_attachment(web, found))

    def probe(self, name: str, look: Callable[[], str]) -> None:
        """Ask one thing, and go on whatever is wrong with it."""
        try:
            words = look()
        except StackError as error:
            self.outcome.failed[name] = str(error)
            self.emit(f"{name}: NO: {error}")
        else:
            self.outcome.green.append(name)
            self.emit(f"{name}: {words}")

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A step without which there is nothing left to look at."""
        try:
            with self.watch.step(name):
                yield
        except (StackError, proc.Interrupted) as error:
            self.outcome.failed[name] = str(error) or "interrupted"
            raise

    @contextmanager
    def opening(self, plain: int) -> Iterator[None]:
        """The block opens all of a set, or cannot: that is a proof as well. plain: bytes of it."""
        try:
            yield
        except DamagedError as damage:
            self._opened(str(damage), 0)
            raise
        self._opened("", plain)

    def _opened(self, error: str, plain: int) -> None:
        record = evidence.Record(
            set=self.found.manifest.id,
            manifest=self.found.sha256,
            kind=evidence.OPENED,
            held=not error,
            at=stamp(self._store.now()),
            seconds=math.ceil(self.watch.seconds),
            bytes=plain,
            words=error or "by a drill",
            sets=self.found.manifest.kind,
        )
        evidence.write(self._store, record, keyring.signing(self.config))


class _SiteTrial(_Trial):
    """Database and files, into an empty server and an empty folder, before XWiki starts."""

    found: Found[Site]

    def bring(self) -> None:
        made, files = self.found.manifest, self.config.need_files()
        plain = made.database.plain_bytes
        with self.step("restore"), self.opening(plain + made.files["bytes"]):
            done = restore.restore(self.config, self.wish, self.emit)
        self.watch.steps |= done.steps
        self.emit(f"load: {rate(plain, done.steps['load'])} of SQL")
        self.outcome.facts |= {
            "load_bytes_per_second": int(plain / max(done.steps["load"], 0.001)),
            "counts": {
                "tables": done.tables,
                "rows": sum(made.tables.values()),
                "files": done.files,
                "file_bytes": made.files["bytes"],
                "attachments": made.attachments["rows"],
            },
        }
        with self.watch.step("tables"):
            self.probe("tables", lambda: probes.tables(self.server, made))
        with self.watch.step("attachments"):
            self.probe("attachments", lambda: probes.attached(self.server, made, files))
        self.start()

    def look(self) -> None:
        super().look()
        database = self.config.need_database()
        self.probe("wikis", lambda: probes.wikis(self.web, database, self.found.manifest))


class _XarTrial(_Trial):
    """An export, into an empty wiki that runs."""

    found: Found[Xar]

    def bring(self) -> None:
        self.start()
        plain = sum(export.archive.plain_bytes for export in self.found.manifest.wikis)
        with self.step("restore"), self.opening(plain):
            done = xar_restore.restore_xar(self.config, self.wish, self.emit)
        self.outcome.facts["counts"] = {"pages": done.pages, "attachments": done.attachments}


TRIALS: dict[str, type[_Trial]] = {manifest.SITE: _SiteTrial, manifest.XAR: _XarTrial}


def _until(minutes: float, look: Callable[[], Any]) -> Any:
    """Look again and again until it succeeds. Raises MachineError with the last obstacle."""
    end = time.monotonic() + 60 * minutes
    while True:
        try:
            return look()
        except StackError as error:
            if time.monotonic() > end:
                raise MachineError(
                    f"{error.what} after {minutes:g} min", where=error.where, next=error.next
                ) from error
        proc.pause(PAUSE_SECONDS)


def _record(outcome: Outcome, at: str, watch: Stopwatch) -> evidence.Record:
    facts = {
        "steps": {name: math.ceil(seconds) for name, seconds in watch.steps.items()},
        "counts": {},
        "objective_seconds": outcome.objective,
        "green": outcome.green,
        "failed": outcome.failed,
        **outcome.facts,
    }
    if outcome.rto:
        facts["rto_seconds"] = outcome.rto
    return evidence.Record(
        set=outcome.found.manifest.id,
        manifest=outcome.found.sha256,
        kind=evidence.DRILL,
        held=outcome.held,
        at=at,
        seconds=math.ceil(watch.seconds),
        bytes=outcome.found.manifest.bytes,
        words=outcome.words,
        sets=outcome.found.manifest.kind,
        facts=facts,
    )
