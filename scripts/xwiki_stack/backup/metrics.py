"""What Prometheus is told: read from the bucket now and then, answered from memory at any time.

The bucket is believed, not the jobs: signed manifests and records, what the store lists, its clock.
A reading that fails or hangs leaves the last one standing, whose age tells, and `up` at 0. Times
are seconds since 1970 by the store's clock.
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import NoReturn
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from xwiki_stack import proc
from xwiki_stack.backup import deadline, evidence, lock, manifest
from xwiki_stack.backup.config import Config
from xwiki_stack.backup.manifest import Found, Listing, Manifest
from xwiki_stack.backup.store import HASTY, MIB, Store, Stored
from xwiki_stack.errors import DamagedError, MachineError, StackError

Emit = Callable[[str], None]

PREFIX = "xwiki_stack_backup_"

PROOFS = (evidence.INTACT, evidence.OPENED)

USUAL = 7
"""The newest set's sizes are compared with the median of so many before it; fewer are no rule."""

STALE_READINGS = 3
"""`up` is 0 once the last reading is older than so many intervals: one may be slow."""

READING_MINUTES = 10
"""A reading that takes longer is given up, so that the next one finds a new connection."""

GAUGES = {
    "up": "Whether the last reading of the bucket ended well and is fresh.",
    "last_read_timestamp_seconds": "When the bucket was last read to the end, by this clock.",
    "clock_skew_seconds": "How far this machine's clock is ahead of the store's.",
    "sets": "Sets whose manifest a trusted key signed.",
    "unreadable_manifests": "Manifests that are not signed by a trusted key, or are none.",
    "newest_snapshot_timestamp_seconds": "The moment whose data the newest set is.",
    "oldest_snapshot_timestamp_seconds": "The moment whose data the oldest set is.",
    "stored_bytes": "Stored bytes of the newest set, shared ones too.",
    "missing_objects": "Objects of the newest set that the store does not list in their size.",
    "part_bytes": "Plain bytes of a part of the newest set.",
    "part_usual_bytes": f"Median of the part's plain bytes in the {USUAL} sets before the newest.",
    "proven_snapshot_timestamp_seconds": "The moment of the newest set for which a proof holds.",
    "proven_timestamp_seconds": "When the proof of that set was made.",
    "unproven_since_timestamp_seconds": "The moment of the oldest set since then; absent: none.",
    "failed_proofs": "Sets whose newest proof of this kind did not hold.",
    "run_failed": "Whether the last run failed, after the newest set.",
    "run_misses": "Attachments without their file in the last run.",
    "drill_timestamp_seconds": "When a set was last brought back for a try.",
    "drill_held": "Whether the last drill held.",
    "drill_rto_seconds": "How long the last drill took until the wiki answered.",
    "prune_timestamp_seconds": "When prune last ran.",
    "prune_dropped_sets": "Sets that the last prune let go.",
    "prune_kept_sets": "Sets that the last prune left.",
    "prune_freed_bytes": "Stored bytes that the last prune let go.",
    "lock_held_since_timestamp_seconds": "Since when a lock is held; absent: it is free.",
    "lock_limit_seconds": "After how long that lock counts as left behind.",
}
"""Every metric, without the prefix, and what it says. docs/reference/backups.md shows it."""


@dataclass(frozen=True)
class Sample:
    """A number of a gauge, and the labels beside `environment`."""

    gauge: str
    value: float
    labels: dict[str, str] = field(default_factory=dict)


class _Remembering(Store):
    """A store that asks once for what has not changed: manifests and records never do."""

    def __init__(self, config: Config) -> None:
        # Not as patient as a run: the next reading is the next try.
        super().__init__(config, replace(HASTY, attempts=2))
        self._etags: dict[str, str] = {}
        self._known: dict[str, tuple[str, bytes]] = {}

    def again(self) -> None:
        """Forget what the last reading did not see any more."""
        self._known = {name: it for name, it in self._known.items() if name in self._etags}
        self._etags = {}

    def listed(self, folder: str) -> Iterator[Stored]:
        for item in super().listed(folder):
            self._etags[item.key] = item.etag
            yield item

    def get(self, name: str, *, limit: int = 64 * MIB) -> bytes:
        known = self._known.get(name)
        if known is None or known[0] != self._etags.get(name):
            content, etag = self.get_with_etag(name, limit=limit)
            known = self._known[name] = (etag, content)
        return known[1]


@dataclass(frozen=True)
class _State:
    """What scrapes are answered from: samples of the last reading that ended, when it did (by the
    monotonic clock, and by the wall's), whether one failed since."""

    samples: tuple[Sample, ...] = ()
    moment: float = -math.inf
    read_at: float = 0.0
    failed: bool = False


class Exporter(Collector):
    """Reads the bucket every so many seconds; `collect` answers from the last reading."""

    def __init__(self, config: Config, every: float, emit: Emit) -> None:
        self._config, self._every, self._emit = config, every, emit
        self._trusted = config.need_trusted()
        self._store: _Remembering | None = None
        self._state = _State()

    def read(self) -> None:
        """Read the bucket once. Raises StackError; then the last reading stands."""
        try:
            with deadline.within(READING_MINUTES):
                # Made here: a Secret that is mounted late, or renewed, is read at the next try.
                self._store = self._store or _Remembering(self._config)
                samples = tuple(_samples(self._store, self._trusted, self._config.environment))
        except (StackError, ValueError, TypeError) as error:
            self._store, self._state = None, replace(self._state, failed=True)
            if isinstance(error, StackError):
                raise
            raise DamagedError(f"a signed record has a shape of its own: {error}") from error
        self._state = _State(samples, time.monotonic(), time.time())

    def work(self) -> NoReturn:
        """Read for ever; whatever fails is said once and tried again."""
        said = ""
        while True:
            try:
                self.read()
                words = ""
            except StackError as error:
                words = str(error)
            if words != said:
                self._emit(words or "the bucket is read again")
                said = words
            proc.pause(self._every)

    def serve(self, address: str, port: int) -> WSGIServer:
        """Answer scrapes in threads of their own, from memory. Raises MachineError."""
        try:
            server, _ = start_http_server(port, address, self._registry())
        except OSError as error:
            raise MachineError(
                f"{address}:{port} cannot be listened on: {error.strerror}",
                next="name another address with --listen",
            ) from error
        return server

    def text(self) -> str:
        """What a scrape gets."""
        return generate_latest(self._registry()).decode()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Every gauge that has a value now."""
        state = self._state
        fresh = time.monotonic() - state.moment <= STALE_READINGS * self._every
        samples = [Sample("up", float(fresh and not state.failed)), *state.samples]
        if state.read_at:
            samples.append(Sample("last_read_timestamp_seconds", state.read_at))
        families: dict[str, GaugeMetricFamily] = {}
        for sample in samples:
            family = families.setdefault(
                sample.gauge,
                GaugeMetricFamily(
                    PREFIX + sample.gauge,
                    GAUGES[sample.gauge],
                    labels=["environment", *sample.labels],
                ),
            )
            family.add_metric([self._config.environment, *sample.labels.values()], sample.value)
        yield from families.values()

    def _registry(self) -> CollectorRegistry:
        registry = CollectorRegistry()
        registry.register(self)
        return registry


def _samples(store: _Remembering, trusted: Sequence[str], environment: str) -> Iterator[Sample]:
    """All that one reading of the bucket tells."""
    store.again()
    yield Sample("clock_skew_seconds", (datetime.now(UTC) - store.now()).total_seconds())
    records = evidence.read(store, trusted)
    for shape in manifest.KINDS.values():
        listing = manifest.listing(store, trusted, environment, shape)
        own = [record for record in records if record.sets == shape.KIND]
        found = [
            *_sets(store, listing),
            *_proofs(listing.sets, own),
            *_runs(listing.newest, own),
            *_drills(own),
            *_prunes(own),
        ]
        for sample in found:
            yield replace(sample, labels={"kind": shape.KIND, **sample.labels})
    for claim in lock.claims(store):
        held = {"lock": claim.name}
        yield Sample("lock_held_since_timestamp_seconds", claim.since.timestamp(), held)
        yield Sample("lock_limit_seconds", claim.minutes * 60, held)


def _sets(store: Store, listing: Listing[Manifest]) -> Iterator[Sample]:
    yield Sample("sets", len(listing.sets))
    yield Sample("unreadable_manifests", len(listing.unreadable))
    if not listing.sets:
        return
    made = listing.sets[-1].manifest
    yield Sample("newest_snapshot_timestamp_seconds", made.time.timestamp())
    yield Sample("oldest_snapshot_timestamp_seconds", listing.sets[0].manifest.time.timestamp())
    yield Sample("stored_bytes", made.bytes)
    yield Sample("missing_objects", _missing(store, made))
    before = [item.manifest.parts for item in listing.sets[:-1]][-USUAL:]
    for part, size in made.parts.items():
        yield Sample("part_bytes", size, {"part": part})
        sizes = [parts[part] for parts in before if part in parts]
        if len(sizes) == USUAL:
            yield Sample("part_usual_bytes", statistics.median(sizes), {"part": part})


def _missing(store: Store, made: Manifest) -> int:
    """How many objects of a set are not there in the size that its manifest states."""
    folders = {f"{item.key.rpartition('/')[0]}/" for item in made.objects}
    there = {item.key: item.size for folder in folders for item in store.listed(folder)}
    return sum(there.get(item.key) != item.bytes for item in made.objects)


def _proofs(
    sets: Sequence[Found[Manifest]], records: Sequence[evidence.Record]
) -> Iterator[Sample]:
    for kind in PROOFS:
        said = {"proof": kind}
        words = [
            (item.manifest.time.timestamp(), evidence.latest(
                records, kind, item.manifest.id, item.sha256))
            for item in sets
        ]  # fmt: skip
        held = [(moment, record) for moment, record in words if record and record.held]
        if held:
            yield Sample("proven_snapshot_timestamp_seconds", held[-1][0], said)
            yield Sample("proven_timestamp_seconds", _seconds(held[-1][1].at), said)
        waiting = [moment for moment, _ in words if not held or moment > held[-1][0]]
        if waiting:
            yield Sample("unproven_since_timestamp_seconds", waiting[0], said)
        failed = sum(1 for _, record in words if record and not record.held)
        yield Sample("failed_proofs", failed, said)


def _runs(newest: Found[Manifest] | None, records: Sequence[evidence.Record]) -> Iterator[Sample]:
    """A run leaves a record only when it fails; one that does not leaves a set."""
    failed = _last(records, evidence.RUN)
    if failed and newest and failed.set < newest.manifest.id:
        failed = None
    yield Sample("run_failed", float(failed is not None))
    yield Sample("run_misses", failed.misses if failed else 0)


def _drills(records: Sequence[evidence.Record]) -> Iterator[Sample]:
    if last := _last(records, evidence.DRILL):
        yield Sample("drill_timestamp_seconds", _seconds(last.at))
        yield Sample("drill_held", float(last.held))
        yield from _facts(last, {"rto_seconds": "drill_rto_seconds"})


def _prunes(records: Sequence[evidence.Record]) -> Iterator[Sample]:
    if last := _last(records, evidence.PRUNE):
        yield Sample("prune_timestamp_seconds", _seconds(last.at))
        gauges = {"dropped": "prune_dropped_sets", "kept": "prune_kept_sets",
                  "bytes": "prune_freed_bytes"}  # fmt: skip
        yield from _facts(last, gauges)


def _facts(record: evidence.Record, gauges: Mapping[str, str]) -> Iterator[Sample]:
    """What a record adds, as gauges; a fact that it lacks has none."""
    for fact, gauge in gauges.items():
        if fact in record.facts:
            yield Sample(gauge, float(record.facts[fact]))


def _last(records: Sequence[evidence.Record], kind: str) -> evidence.Record | None:
    """The newest record of a kind; they come oldest first."""
    return next((record for record in reversed(records) if record.kind == kind), None)


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()
