"""An upgrade of XWiki or MySQL: what it changes, when it may happen, and the way back.

`versions` knows which ways the data can go, `conditions` looks whether it may go now, `writing`
puts it into the intent, `report` tells it. Nothing is pushed and no cluster is touched: what comes
of it is a commit for a person to read.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import yaml

from xwiki_stack import generate, intent, render, repo
from xwiki_stack.backup import evidence
from xwiki_stack.errors import DriftError, IntentError, RefusedError, StackError, UndecidedError
from xwiki_stack.intent import Environment
from xwiki_stack.review import Review, changes, review, review_of, sources, verdicts
from xwiki_stack.review.sources import End
from xwiki_stack.review.verdicts import Image, Weight
from xwiki_stack.steps import clock
from xwiki_stack.upgrade import conditions, versions, writing
from xwiki_stack.upgrade.conditions import FRESH_HOURS, Bucket, Condition
from xwiki_stack.upgrade.versions import PROGRAMS, Move
from xwiki_stack.upgrade.writing import Written

__all__ = ["Downtime", "Plan", "Wish", "Written", "plan", "write"]


@dataclass(frozen=True)
class Wish:
    """What somebody wants to move, and where its backups are described.

    key, version: of one program, as the intent has them; or ref: a commit that moves it already.
    digest: pins the image that comes, '' to find it out. config, rehearsals: configurations of
    `xwiki-stack backup` for the environment and for staging. hours: age of a set that counts.
    """

    env: str
    key: str = ""
    version: str = ""
    ref: str = ""
    digest: str = ""
    config: Path | None = None
    rehearsals: Path | None = None
    hours: int = FRESH_HOURS


@dataclass(frozen=True)
class Downtime:
    """One workload's pause: seconds to stop and to start at most, by its probes (0: unbounded).

    tried: seconds its start took in a drill with the new versions, 0 where none tells.
    """

    workload: str
    stop: int
    start: int
    tried: int = 0
    drill: str = ""


@dataclass(frozen=True)
class Plan:
    """An upgrade as it would be now. `moves` is empty where there is nothing to do."""

    wish: Wish
    environment: Environment
    moves: tuple[Move, ...]
    review: Review | None = None
    downtime: tuple[Downtime, ...] = ()
    conditions: tuple[Condition, ...] = ()
    back: tuple[str, ...] = ()

    @property
    def blocked(self) -> list[Condition]:
        """The conditions that are asked and do not hold."""
        return [condition for condition in self.conditions if condition.blocks]

    @property
    def seconds(self) -> int:
        """All pauses one after the other, at most."""
        return sum(item.stop + item.start for item in self.downtime)


def plan(wish: Wish, at: datetime | None = None) -> Plan:
    """Look at everything that an upgrade touches and needs; nothing is written.

    at: now, else this machine's clock (UTC). Raises IntentError for a version that no intent may
    name, UndecidedError for an environment that has no values, DriftError where its values are not
    what its intent gives, RefusedError for a way back or past an LTS line.
    """
    environment = intent.load_environment(wish.env)
    at = at or datetime.now(UTC)
    ends = _by_commit(wish) if wish.ref else _by_intent(wish, environment)
    moves = tuple(versions.moves(ends.old, ends.new))
    for move in moves:
        versions.refuse(move, wish.env)
    if not moves:
        return Plan(wish, environment, ())
    staging = _staging(environment)
    held = _bucket(wish.config, [wish.env])
    rehearsed = _bucket(wish.rehearsals, staging) if staging else None
    drills = [
        record for item in (held, rehearsed) if isinstance(item, Bucket) for record in item.drills
    ]
    found = ends.review()
    pauses = tuple(_downtime(found, ends.new, drills))
    made = Plan(wish, environment, moves, found, pauses)
    asked = (*_hour(made, at), *_way_back(made, ends, held), *_tried(made, ends, drills))
    return replace(made, conditions=asked, back=tuple(_back(made, held)))


def write(made: Plan, reason: str = "") -> Written:
    """Put a plan into the intent and generate what follows from it; say what to commit.

    reason: why it is written although a condition does not hold; it goes into the intent. Raises
    RefusedError without one, IntentError for a plan of a commit, and what `generate` and the
    registry raise; then nothing was written.
    """
    if made.wish.ref:
        raise IntentError(
            f"{made.wish.ref} is written already", next="leave --write out; merge it when all holds"
        )
    names = ", ".join(condition.name for condition in made.blocked)
    if names and not reason:
        raise RefusedError(
            f"does not hold: {names}; nothing was written",
            where=made.wish.env,
            next='meet it, or say why not: --force "REASON"',
        )
    return writing.write(made.environment, made.moves[0], reason if names else "", names)


@dataclass(frozen=True)
class _Ends:
    """The images of today and those that would be, by program, and the way to compare the rest."""

    old: dict[str, Image]
    new: dict[str, Image]
    review: Callable[[], Review]


def _by_commit(wish: Wish) -> _Ends:
    """What a commit brings, against where it left main."""
    start, end = sources.ends("", wish.ref)
    found = []
    with sources.trees(start.commit, end.commit) as trees:
        sources.environments(trees, wish.env)
        for tree in trees:
            if not tree.values(wish.env).is_file():
                raise UndecidedError(
                    f"{wish.env} has no committed values in {tree.end.words}",
                    next=f"`xwiki-stack review --to {wish.ref}` shows what comes and goes",
                )
            values = yaml.safe_load(tree.values(wish.env).read_text())
            found.append(versions.images_of(values, tree.end.words))
    return _Ends(found[0], found[1], lambda: review(start.commit, end.commit, wish.env))


def _by_intent(wish: Wish, environment: Environment) -> _Ends:
    """What another word in the intent brings, against the values as they are."""
    where, values = repo.relative(environment.path), generate.path_of(wish.env)
    version = _line(wish.version) if wish.key == "mysql" else wish.version
    asked = {"mysql": environment.mysql, "xwiki": environment.xwiki, wish.key: version}
    intent.refuse_versions(asked["mysql"], asked["xwiki"], where)
    if generate.drift([wish.env]):
        raise DriftError(
            f"the values of {wish.env} are not what its intent gives, so nothing can be compared",
            next="`make generate`, and bring that commit out first",
        )
    digests = dict(environment.digests)
    if version != getattr(environment, wish.key):
        digests.pop(wish.key, None)
        if digest := wish.digest or _rehearsed_digest(environment, wish.key, version):
            digests[wish.key] = digest
    wanted = replace(environment, xwiki=asked["xwiki"], mysql=asked["mysql"], digests=digests)
    before = yaml.safe_load(values.read_text())
    after = yaml.safe_load(generate.text_of(wanted, intent.load_cluster(environment.cluster)))
    ends = (
        End("", f"{repo.relative(values)} as it is"),
        End("", f"the same with {PROGRAMS[wish.key]} {version}"),
    )

    def compare() -> Review:
        space = environment.namespace
        old, new = (
            render.helm_template(values=[side], namespace=space) for side in (before, after)
        )
        return review_of(*ends, changes.compare(wish.env, space, old, new))

    return _Ends(versions.images_of(before, where), versions.images_of(after, where), compare)


def _line(version: str) -> str:
    """The LTS line that a word means: itself, or the tag that it stands for."""
    return next((line for line, tag in intent.MYSQL_LINES.items() if tag == version), version)


def _staging(environment: Environment) -> list[str]:
    """The environments in which an upgrade of this one is tried; none but for production."""
    if environment.purpose != "prod":
        return []
    names = intent.environments()
    return [name for name in names if intent.load_environment(name).purpose == "staging"]


def _rehearsed_digest(environment: Environment, key: str, version: str) -> str:
    """The digest under which staging runs a version: the very image that was tried."""
    for name in _staging(environment):
        other = intent.load_environment(name)
        if getattr(other, key) == version and key in other.digests:
            return other.digests[key]
    return ""


def _bucket(path: Path | None, environments: Sequence[str]) -> Bucket | StackError | None:
    """What a store holds, or why it does not say so; nothing where nobody named one."""
    if path is None:
        return None
    try:
        return conditions.bucket(path, environments)
    except IntentError:
        raise
    except StackError as silent:
        return silent


def _downtime(
    found: Review, images: dict[str, Image], drills: Sequence[evidence.Record]
) -> Iterator[Downtime]:
    wanted = {key: versions.release_of(image) for key, image in images.items()}
    last = conditions.drill_of((record for record in drills if record.held), wanted)
    for section in found.sections:
        for verdict in section.verdicts:
            if (verdict.rule, verdict.finding.weight) != ("restart", Weight.OUTAGE):
                continue
            workload = next(
                item
                for item in section.comparison.new
                if (item["kind"], item["metadata"]["name"])
                == (verdict.subject.kind, verdict.subject.name)
            )
            component = workload["metadata"]["labels"].get("app.kubernetes.io/component")
            # A drill's database begins empty: its start tells nothing of one in place.
            tried = last.facts.get("steps", {}).get("start", 0) if last else 0
            words = f"drill of set {last.set}" if last and tried and component == "xwiki" else ""
            stop, start = verdicts.bounds(workload)
            yield Downtime(str(verdict.subject), stop, start, tried if words else 0, words)


def _hour(made: Plan, at: datetime) -> Iterator[Condition]:
    yield conditions.alone(made.moves)
    said, required = made.environment.maintenance_window, made.environment.purpose != "local"
    yield conditions.window(said, at, made.seconds, required=required)


def _way_back(made: Plan, ends: _Ends, held: Bucket | StackError | None) -> Iterator[Condition]:
    required = made.environment.purpose == "prod"
    if isinstance(held, Bucket):
        running = versions.release_of(ends.old["mysql"])
        yield conditions.way_back(held, running, made.wish.hours, required=required)
    elif held:
        yield Condition("set", required, False, held.what, held.next)
    else:
        text = "nobody said where its sets lie"
        yield Condition("set", required, False, text, "--config FILE, docs/reference/backups.md")


def _tried(made: Plan, ends: _Ends, drills: Sequence[evidence.Record]) -> Iterator[Condition]:
    if made.environment.purpose == "prod":
        staging = _staging(made.environment)
        yield from (conditions.rehearsal(ends.new, move, staging, drills) for move in made.moves)


def _back(made: Plan, held: Bucket | StackError | None) -> Iterator[str]:
    """The way back, in sentences."""
    for move in made.moves:
        if move.key == "xwiki":
            yield (
                f"XWiki {move.new} migrates the schema at its first start; "
                f"{move.old} does not know what came of it"
            )
        elif versions.line_of(move.old) == versions.line_of(move.new):
            yield "MySQL may go back within a line, says its manual; nothing here proves it"
        else:
            yield (
                f"MySQL {move.new} changes the data directory at its first start; "
                f"{move.old} does not start on it again"
            )
    found = held.opened if isinstance(held, Bucket) else None
    which = f"set {found.manifest.id}" if found else "a set from before (none is known yet)"
    old = " and ".join(f"{move.program} {move.old}" for move in made.moves)
    yield (
        f"so revert, and restore {which} into empty volumes under {old}, "
        "docs/runbooks/restore-site.md; what was written since is lost"
    )
    drills = held.drills if isinstance(held, Bucket) else []
    last = next((item for item in reversed(drills) if "rto_seconds" in item.facts), None)
    if last:
        yield f"a restore took {clock(last.facts['rto_seconds'])} in the drill of {last.at}"
    elif promised := made.environment.backups.get("rto"):
        yield f"a restore may take {promised}, as the intent promises; no drill here tells more"
