"""What must hold before a version moves: the hour, the way back, the rehearsal.

Each looks at what exists: the intent, the committed values of staging, and the signed records in
the bucket. Nothing is asked of a cluster.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from xwiki_stack import generate, intent
from xwiki_stack.backup import config, evidence, manifest
from xwiki_stack.backup.manifest import Found, Listing, Site
from xwiki_stack.backup.store import Store
from xwiki_stack.errors import IntentError
from xwiki_stack.review.verdicts import Image
from xwiki_stack.steps import clock
from xwiki_stack.upgrade.versions import Move, images_of, line_of, release_of

FRESH_HOURS = 1
"""Age of the set that counts as the way back (design decision 16)."""

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")

MAKE_A_SET = (
    "make one (CronJob site, or `xwiki-stack backup run`) and open it: "
    "`xwiki-stack backup verify --opened`"
)


@dataclass(frozen=True)
class Condition:
    """One condition: whether it is asked here, whether it holds, what was seen, what to do."""

    name: str
    required: bool
    met: bool
    words: str
    next: str = ""

    @property
    def blocks(self) -> bool:
        """Whether nothing may be written because of it."""
        return self.required and not self.met


@dataclass(frozen=True)
class Bucket:
    """Sets and signed records of an environment, and the store's own time."""

    sets: Listing[Site]
    records: Sequence[evidence.Record]
    now: datetime

    @property
    def opened(self) -> Found[Site] | None:
        """The newest set that is proven opened, and by no record damaged."""
        for found in reversed(self.sets.sets):
            said = {
                kind: evidence.latest(self.records, kind, found.manifest.id, found.sha256)
                for kind in (evidence.INTACT, evidence.OPENED)
            }
            if said[evidence.OPENED] and all(record.held for record in said.values() if record):
                return found
        return None

    @property
    def drills(self) -> list[evidence.Record]:
        """Drills of whole sites, oldest first."""
        return [
            record
            for record in self.records
            if (record.kind, record.sets) == (evidence.DRILL, manifest.SITE)
        ]


def bucket(path: Path, environments: Sequence[str]) -> Bucket:
    """What the store of a configuration of backups holds.

    environments: whose it may be. Raises IntentError for another one's, StoreError for a silent
    store.
    """
    known = config.load(path)
    if known.environment not in environments:
        raise IntentError(
            f"is of {known.environment}, not of {' or '.join(environments)}",
            where=f"{path}: environment",
            next="name the configuration of that one",
        )
    store, trusted = Store(known).hasty(), known.need_trusted()
    sets = manifest.listing(store, trusted, known.environment, Site)
    return Bucket(sets, evidence.read(store, trusted), store.now())


def alone(moves: Sequence[Move]) -> Condition:
    """One program at a time: two migrations at once have no way back to between them."""
    words = " and ".join(move.words for move in moves)
    if len(moves) == 1:
        return Condition("one program", True, True, words)
    return Condition("one program", True, False, words, "move one, see it run, then the other")


def window(said: str, at: datetime, seconds: int, *, required: bool) -> Condition:
    """That the maintenance window is open, and long enough yet.

    said: the intent's maintenanceWindow. at: now, UTC. seconds: how long it may take.
    """
    name = "window"
    if intent.is_undecided(said):
        text = "no maintenance window is decided"
        return Condition(name, required, False, text, "write maintenanceWindow in the intent")
    opens, closes = opening(said, at)
    if not opens <= at:
        text = f"{said} UTC is closed, opens {opens:%a %Y-%m-%d %H:%M}"
        return Condition(name, required, False, text, "come back then")
    left = int((closes - at).total_seconds())
    text = f"{said} UTC is open, {clock(left)} left; the restarts may take {clock(seconds)}"
    if left < seconds:
        return Condition(name, required, False, text, "begin earlier, or decide a longer window")
    return Condition(name, required, True, text)


def opening(said: str, at: datetime) -> tuple[datetime, datetime]:
    """Beginning and end of the window that is open at a moment, else of the next one.

    One that ends before it begins ends on the next day.
    """
    day, hours = said.split()
    begin, end = (datetime.strptime(word, "%H:%M") for word in hours.split("-"))
    length = timedelta(seconds=(end - begin).seconds)
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    opens = midnight - timedelta(days=(at.weekday() - DAYS.index(day)) % 7)
    opens += timedelta(hours=begin.hour, minutes=begin.minute)
    if opens + length <= at:
        opens += timedelta(days=7)
    return opens, opens + length


def way_back(held: Bucket, running: str, hours: int, *, required: bool) -> Condition:
    """That there is a set to come back to: opened, young, and made by the server that runs.

    running: MySQL's release of today.
    """
    name = "set"
    found = held.opened
    if found is None:
        text = f"none of {len(held.sets.sets)} sets is proven opened"
        return Condition(name, required, False, text, MAKE_A_SET)
    made = found.manifest
    age = held.now - made.time
    text = f"newest opened set {made.id}, {clock(age.total_seconds())} old, by MySQL {made.server}"
    if line_of(made.server) != line_of(running):
        text += f": it does not go into MySQL {running}, which is what runs"
        return Condition(name, required, False, text, MAKE_A_SET)
    if age > timedelta(hours=hours):
        text += f": more than {hours} h, and what was written since would be lost"
        return Condition(name, required, False, text, MAKE_A_SET)
    return Condition(name, required, True, text)


def rehearsal(
    images: dict[str, Image],
    move: Move,
    staging: Sequence[str],
    drills: Iterable[evidence.Record],
) -> Condition:
    """That staging runs the very image, and that a drill with these versions held.

    images: what would run here. staging: the environments of that purpose.
    """
    name = "staging"
    there = [env for env in staging if _runs(env, move)]
    if not there:
        seen = ", ".join(f"{env} has {_seen(env, move.key)}" for env in staging)
        text = f"no staging has {move.program} {_shown(move.image)}: {seen or 'there is none'}"
        first = f"`xwiki-stack upgrade --env {staging[0]} --{move.key} ...`, " if staging else ""
        return Condition(name, True, False, text, f"{first}let it run, and drill there")
    pinned = all(_committed(env)[move.key].digest for env in there)
    text = f"{', '.join(there)} has {move.program} {_shown(move.image)}"
    text += "" if pinned and move.image.digest else " (by its tag, no digest says so)"
    wanted = {key: release_of(image) for key, image in images.items()}
    last = drill_of(drills, wanted)
    versions = f"XWiki {wanted['xwiki']} and MySQL {wanted['mysql']}"
    if last is None:
        text += f"; no drill has tried {versions}"
        return Condition(name, True, False, text, "run CronJob drill there, see it held")
    if not last.held:
        text += f"; the last drill with {versions} failed: {last.words}"
        return Condition(name, True, False, text, "put it right there, drill again")
    text += f"; a drill with {versions} held at {last.at}, on set {last.set}"
    return Condition(name, True, True, text)


def drill_of(drills: Iterable[evidence.Record], wanted: dict[str, str]) -> evidence.Record | None:
    """The newest drill that ran just these releases; its record tells them."""
    fitting = [record for record in drills if record.facts.get("versions") == wanted]
    return max(fitting, key=lambda record: record.at, default=None)


def _runs(env: str, move: Move) -> bool:
    """Whether an environment's committed values name the image; by digest where both have one."""
    image = _committed(env).get(move.key)
    if image is None or (image.repository, image.tag) != (move.image.repository, move.image.tag):
        return False
    return not (image.digest and move.image.digest) or image.digest == move.image.digest


def _committed(env: str) -> dict[str, Image]:
    path = generate.path_of(env)
    values: Any = yaml.safe_load(path.read_text()) if path.is_file() else None
    return images_of(values, str(path)) if isinstance(values, dict) else {}


def _seen(env: str, key: str) -> str:
    image = _committed(env).get(key)
    return _shown(image) if image else "no committed values"


def _shown(image: Image) -> str:
    return f"{image.tag}@{image.digest[:19]}" if image.digest else image.tag
