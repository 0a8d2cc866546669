"""What every run has in common, whatever it makes: look, lock, make, publish, or tell why not.

The manifest comes last; whatever fails before leaves objects that nobody takes for a set, and that
prune sweeps later. Each kind of set has a lock of its own, so that neither waits for the other.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic

from xwiki_stack import proc
from xwiki_stack.backup import deadline, evidence, keyring, lock, manifest
from xwiki_stack.backup.config import Config
from xwiki_stack.backup.manifest import Found, M
from xwiki_stack.backup.progress import Progress
from xwiki_stack.backup.store import Store, probe
from xwiki_stack.backup.words import stamp
from xwiki_stack.errors import RefusedError, StackError

Emit = Callable[[str], None]

EXTRA_MINUTES = 15
"""A lock outlives the run's own deadline by this, to be taken only from the dead."""


@dataclass(frozen=True)
class Outcome(Generic[M]):
    """A set that exists now; bytes sent are less than the set's where packs are shared."""

    found: Found[M]
    seconds: float
    sent: int


@dataclass(kw_only=True)
class Producer(Generic[M]):
    """What one run has in hand. `misses`: what it found lacking, for the record of its failure."""

    config: Config
    store: Store
    emit: Emit
    check: Callable[[], None]
    moment: datetime
    id: str
    sent: int = 0
    misses: int = 0

    def make(self, before: Found[M] | None) -> M:
        """Everything of a set but its manifest, which is given. before: the newest set there is."""
        raise NotImplementedError


def look(config: Config, store: Store) -> None:
    """See in a few seconds whether keys, clock and bucket are as any run needs them."""
    keyring.recipients(config)
    keyring.signing(config)
    store.hasty().agreed_now()
    probe(store)


def run(
    config: Config, store: Store, emit: Emit, shape: type[M], begin: Callable[..., Producer[M]]
) -> Outcome[M]:
    """Make a set under its kind's lock. Raises the StackError of what failed; then there is none.

    begin: makes the producer of this kind from the fields of Producer.
    """
    began, minutes = time.monotonic(), config.limits.run_minutes
    with (
        lock.hold(store, shape.KIND, minutes + EXTRA_MINUTES),
        deadline.within(minutes) as check,
        store.told(Progress("sent", emit).add),
    ):
        moment = store.now()
        work = begin(config=config, store=store, emit=emit, check=check, moment=moment,
                     id=manifest.new_id(moment))  # fmt: skip
        try:
            key = keyring.signing(config)
            made = work.make(_newest(work, shape))
            check()
            found = manifest.publish(store, made, key)
        except (StackError, proc.Interrupted) as error:
            _tell(work, shape, error, time.monotonic() - began)
            raise
    return Outcome(found, time.monotonic() - began, work.sent)


def _newest(work: Producer[M], shape: type[M]) -> Found[M] | None:
    listing = manifest.listing(
        work.store, work.config.need_trusted(), work.config.environment, shape
    )
    for name, broken in listing.unreadable.items():
        work.emit(f"warning: set {name} counts for nothing: {broken}")
    if listing.newest and listing.newest.manifest.time > work.moment:
        raise RefusedError(
            f"the newest set {listing.newest.manifest.id} lies in the future",
            where=work.store.key(""),
            next="find out whose clock was wrong; nothing is chained to it",
        )
    return listing.newest


def _tell(work: Producer[M], shape: type[M], error: BaseException, seconds: float) -> None:
    """Leave a record of a failed run, for metrics; that it cannot be left is no news."""
    record = evidence.Record(
        set=work.id,
        manifest="",
        kind=evidence.RUN,
        held=False,
        at=stamp(work.moment),
        seconds=int(seconds),
        bytes=work.sent,
        words=str(error) or "interrupted",
        misses=work.misses,
        sets=shape.KIND,
    )
    try:
        evidence.write(work.store.hasty(), record, keyring.signing(work.config))
    except (StackError, proc.Interrupted):
        work.emit("the record of this failure could not be stored")


def predecessor(before: Found[M] | None) -> dict[str, str] | None:
    """What a manifest states of the set before it."""
    return {"id": before.manifest.id, "sha256": before.sha256} if before else None
