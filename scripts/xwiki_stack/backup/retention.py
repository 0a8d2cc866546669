"""What may go: the riskiest code of all, so it decides first, in one pure function, and acts after.

It never acts while the newest set is not proven intact or fewer sets than promised are proven to
open; it keeps those whatever their age; it takes few sets at a time; it believes the store's clock
and the signed manifests, nothing else. A pack goes when no listed manifest names it. Each kind of
set is judged by its own sets, proofs and rules: what is wrong with one keeps nothing of the other.
"""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from xwiki_stack.backup import deadline, evidence, keyring, lock, manifest
from xwiki_stack.backup.config import Config, Retention
from xwiki_stack.backup.manifest import Found, Listing, Manifest, Site, Xar
from xwiki_stack.backup.store import Store
from xwiki_stack.backup.words import size, stamp
from xwiki_stack.errors import RefusedError

Emit = Callable[[str], None]

SHARE = 0.2
"""Of all sets, at most this part goes in one run; at least one may."""

ORPHAN_AGE = timedelta(hours=48)
"""Objects without a manifest are left alone so long: their run may still be at work."""

TOLERANCE = timedelta(minutes=10)
"""A set may lie this far ahead of the store's clock."""

MINUTES = 60

FOLDERS = {
    manifest.SITE: (manifest.folder_of(manifest.SITE), "packs/"),
    manifest.XAR: (manifest.folder_of(manifest.XAR),),
}
"""Where the objects of each kind lie, its sets first."""


@dataclass(frozen=True)
class Plan:
    """What stays, by id with all reasons, and what goes, oldest first. `held_back`: by the cap."""

    keep: dict[str, tuple[str, ...]]
    drop: tuple[str, ...]
    held_back: int


@dataclass(frozen=True)
class Outcome:
    """Of one run: the plan, objects without a set, multipart uploads, bytes; whether it acted."""

    plan: Plan
    orphans: tuple[str, ...]
    uploads: int
    bytes: int
    applied: bool


def plan(
    sets: Sequence[Found[Manifest]],
    records: Iterable[evidence.Record],
    now: datetime,
    rules: Retention,
) -> Plan:
    """Decide. sets: all, oldest first. Raises RefusedError where nothing may be decided."""
    if not sets:
        return Plan({}, (), 0)
    newest = sets[-1]
    if newest.manifest.time > now + TOLERANCE:
        raise RefusedError(
            f"set {newest.manifest.id} lies in the future of the store's clock",
            next="find out whose clock was wrong; nothing is pruned until then",
        )
    known = list(records)
    proof = evidence.latest(known, evidence.INTACT, newest.manifest.id, newest.sha256)
    if not (proof and proof.held):
        raise RefusedError(
            f"the newest set {newest.manifest.id} is not proven intact",
            next="`xwiki-stack backup verify`, and look after what it says",
        )
    opened = [item for item in sets if evidence.holds(known, evidence.OPENED, item)]
    if len(opened) < rules.opened:
        raise RefusedError(
            f"{len(opened)} sets are proven to open, {rules.opened} must be before one may go",
            next="`xwiki-stack backup verify --opened --all` where a key is",
        )
    reasons: dict[str, list[str]] = {}

    def keep(items: Iterable[Found[Manifest]], reason: str) -> None:
        for item in items:
            reasons.setdefault(item.manifest.id, []).append(reason)

    keep(sets[-rules.last :], "last")
    keep(opened[-rules.opened :], "opened")
    keep(_last_drilled(sets, known), "drilled")
    keep(_newest_of(sets, "%Y-%m-%d", rules.daily), "daily")
    keep(_newest_of(sets, "%G-W%V", rules.weekly), "weekly")
    keep(_newest_of(sets, "%Y-%m", rules.monthly), "monthly")
    surplus = [item.manifest.id for item in sets if item.manifest.id not in reasons]
    cap = max(1, math.floor(len(sets) * SHARE))
    kept = {name: tuple(why) for name, why in reasons.items()}
    return Plan(kept, tuple(surplus[:cap]), len(surplus[cap:]))


def prune(config: Config, emit: Emit, *, apply: bool, shape: type[Manifest] = Site) -> Outcome:
    """Decide on a kind, say so, act if `apply`. Raises RefusedError, BusyError, StoreError."""
    store = Store(config)
    if not apply:
        return _prune(config, store, emit, shape, apply=False)
    # A lock of its own: a run adds only what is too young to be swept, so it need not wait.
    with lock.hold(store, "prune", MINUTES), deadline.within(MINUTES):
        return _prune(config, store, emit, shape, apply=True)


def _prune(
    config: Config, store: Store, emit: Emit, shape: type[Manifest], *, apply: bool
) -> Outcome:
    began = time.monotonic()
    # By a clock that is wrong, what a run writes right now would be old enough to be swept.
    now = store.agreed_now()
    # Before anything goes: a key that does not fit must not end a run that has acted.
    signing = keyring.signing(config) if apply and config.keys.signing_key_file else None
    listing = _listing(config, store, shape)
    rules = config.xar_retention if shape is Xar else config.retention
    decided = plan(listing.sets, evidence.read(store, config.need_trusted()), now, rules)
    for name in sorted(decided.keep):
        emit(f"keep  {name}  {', '.join(decided.keep[name])}")
    for name in decided.drop:
        emit(f"{'drop ' if apply else 'would drop '} {name}")
    if decided.held_back:
        emit(f"{decided.held_back} more go in later runs: at most {SHARE:.0%} at a time")
    gone = 0
    if apply:
        gone = _drop(store, shape.KIND, decided.drop)
        # Anew: a run may have published meanwhile, and what it names stays.
        listing = _listing(config, store, shape)
    left = Listing([item for item in listing.sets if item.manifest.id not in decided.drop])
    folders = FOLDERS[shape.KIND]
    orphans, swept = _orphans(store, folders, left, decided.drop, now)
    uploads = [(name, upload) for name, upload, begun in store.uploads()
               if now - begun > ORPHAN_AGE and name.startswith(folders)]  # fmt: skip
    if apply:
        store.delete(orphans)
        for name, upload in uploads:
            store.abort(name, upload)
    emit(
        f"{len(orphans)} objects that no set names ({size(swept)}), {len(uploads)} uploads without"
        f" end: {'removed' if apply else 'would go'}"
    )
    outcome = Outcome(decided, tuple(orphans), len(uploads), gone + swept, apply)
    if signing and left.newest:
        record = _record(outcome, left.newest, stamp(now), time.monotonic() - began)
        evidence.write(store, record, signing)
    elif apply:
        why = (
            "there is no set" if config.keys.signing_key_file else "keys.signingKeyFile is missing"
        )
        emit(f"no record of this run is left, so metrics do not know of it: {why}")
    return outcome


def _record(outcome: Outcome, newest: Found[Manifest], at: str, seconds: float) -> evidence.Record:
    """What prune says of itself, beside the newest set: that one stays the longest."""
    facts = {
        "dropped": len(outcome.plan.drop),
        "kept": len(outcome.plan.keep) + outcome.plan.held_back,
        "orphans": len(outcome.orphans),
        "bytes": outcome.bytes,
    }
    return evidence.Record(newest.manifest.id, newest.sha256, evidence.PRUNE, True, at,
                           int(seconds), outcome.bytes, "pruned", sets=newest.manifest.kind,
                           facts=facts)  # fmt: skip


def _listing(config: Config, store: Store, shape: type[Manifest]) -> Listing[Manifest]:
    """All sets of a kind. One that cannot be read names packs nobody knows, so nothing may go."""
    listing = manifest.listing(store, config.need_trusted(), config.environment, shape)
    for name, error in listing.unreadable.items():
        raise RefusedError(
            f"the manifest of {name} cannot be trusted: {error.what}",
            where=error.where,
            next="find out who changed it; nothing is pruned while it lies there",
        )
    return listing


def _drop(store: Store, kind: str, names: Sequence[str]) -> int:
    """Remove sets, manifests first: from then on they do not exist. Gives bytes."""
    store.delete([manifest.key_of(kind, name) for name in names])
    gone, keys = 0, []
    for name in names:
        for folder in (f"{manifest.folder_of(kind)}{name}/", f"{evidence.FOLDER}{name}/"):
            for item in store.listed(folder):
                # How a drill ended counts for longer than the set that it tried; they are few.
                if item.key.startswith(f"{evidence.FOLDER}{name}/{evidence.DRILL}-"):
                    continue
                keys.append(item.key)
                gone += item.size
    store.delete(keys)
    return gone


def _orphans(
    store: Store,
    folders: Sequence[str],
    listing: Listing[Manifest],
    dropped: Sequence[str],
    now: datetime,
) -> tuple[list[str], int]:
    """Objects that no listed manifest names and that are old enough; and their bytes."""
    named = {item.key for found in listing.sets for item in found.manifest.objects}
    kept = (found.manifest for found in listing.sets)
    named |= {manifest.key_of(made.kind, made.id) for made in kept}
    home = folders[0]
    keys, total = [], 0
    for folder in folders:
        for item in store.listed(folder):
            parts = item.key.removeprefix(home).split("/")
            is_manifest = folder == home and parts[1:] == [manifest.NAME]
            # A manifest is a set, never an orphan: only the plan takes one.
            spared = is_manifest and parts[0] not in dropped
            if item.key not in named and not spared and now - item.modified > ORPHAN_AGE:
                keys.append(item.key)
                total += item.size
    return keys, total


def _last_drilled(
    sets: Sequence[Found[Manifest]], records: Sequence[evidence.Record]
) -> list[Found[Manifest]]:
    """The set of the last drill that held: status names it, so it can still be looked at."""
    there = {item.manifest.id: item for item in sets}
    held = [
        there[record.set]
        for record in records
        if record.kind == evidence.DRILL and record.held and record.set in there
    ]
    return held[-1:]


def _newest_of(sets: Sequence[Found[Manifest]], period: str, count: int) -> list[Found[Manifest]]:
    """The newest set of each of the last `count` periods that have one."""
    newest = {item.manifest.time.strftime(period): item for item in sets}
    return [newest[key] for key in sorted(newest)[len(newest) - min(count, len(newest)) :]]
