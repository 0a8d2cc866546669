"""What there is and how well: the texts of `list`, `show` and `status`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from xwiki_stack.backup import drill, evidence, manifest, site, xar
from xwiki_stack.backup.config import Config
from xwiki_stack.backup.manifest import Found, Listing, Manifest, Site, Xar
from xwiki_stack.backup.store import Store
from xwiki_stack.backup.words import size
from xwiki_stack.steps import clock

XAR_DAYS = 2
"""An export a day, and one that failed: an older one is news once a run's time is over as well.
The alert BackupsStale warns at the same age."""


@dataclass(frozen=True)
class Report:
    """A state as text; `problems` are what is wrong, each with what to do."""

    text: str
    problems: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def listed(config: Config, kinds: Sequence[str] = tuple(manifest.KINDS)) -> str:
    """All sets of these kinds, newest first: moment, size, what was proven."""
    store, trusted = Store(config).hasty(), config.need_trusted()
    sets = manifest.merged(manifest.listings(store, trusted, config.environment, kinds).values())
    records = evidence.read(store, trusted)
    if not sets.sets and not sets.unreadable:
        places = [store.key(manifest.folder_of(kind)) for kind in kinds]
        return f"no set in {' or '.join(places)}"
    rows = [("SET", "KIND", "SNAPSHOT", "SIZE", "HOLDS", "INTACT", "OPENED")]
    for item in reversed(sets.sets):
        made = item.manifest
        rows.append((made.id, made.kind, made.snapshot, size(made.bytes), _holds(made),
                     _word(records, evidence.INTACT, item),
                     _word(records, evidence.OPENED, item)))  # fmt: skip
    lines = [_columns(rows)]
    lines += [f"{name}  counts for nothing: {error}" for name, error in sets.unreadable.items()]
    return "\n".join(lines)


def shown(config: Config, name: str, kind: str = manifest.SITE) -> str:
    """One set in detail. kind: of the newest one, where no other is named."""
    store, trusted = Store(config).hasty(), config.need_trusted()
    sets = manifest.listings(store, trusted, config.environment)
    if name == "newest":
        found = sets[kind].newest or sets[kind].find("")
    else:
        found = manifest.merged(sets.values()).find(name)
    made, records = found.manifest, evidence.read(store, trusted)
    rows = [
        ("set", made.id),
        ("kind", made.kind),
        ("environment", made.environment),
        ("snapshot", made.snapshot),
        *_detail(made),
        ("previous", made.previous["id"] if made.previous else "none"),
        ("recipients", ", ".join(made.recipients)),
        ("tool", made.tool),
        ("intact", _word(records, evidence.INTACT, found)),
        ("opened", _word(records, evidence.OPENED, found)),
    ]
    return _columns([(f"{label}:", str(value)) for label, value in rows])


def status(config: Config) -> Report:
    """Of each kind: newest set, its age against the promise, newest proofs; what is wrong."""
    store, trusted = Store(config).hasty(), config.need_trusted()
    sets = manifest.listings(store, trusted, config.environment)
    return judge(config, sets, evidence.read(store, trusted), store.now())


def judge(
    config: Config,
    sets: dict[str, Listing[Manifest]],
    records: Sequence[evidence.Record],
    now: datetime,
) -> Report:
    """The status of what was found. Exports are missed where the wiki's address is configured."""
    lines, problems = _judged(sets[manifest.SITE], records, now, manifest.SITE, config.rpo_hours)
    exports = sets[manifest.XAR]
    if config.web or exports.sets or exports.unreadable:
        hours = 24 * XAR_DAYS + config.limits.run_minutes / 60
        more, wrong = _judged(exports, records, now, manifest.XAR, hours)
        lines += more
        problems += wrong
    for kind, each in sets.items():
        rules = config.xar_retention if kind == manifest.XAR else config.retention
        if each.sets:
            opened, complaints = _opened(each, records, kind, rules.opened)
            lines.append((f"{kind} sets proven to open", opened))
            problems += complaints
        # Nobody tries what there is none of; that there is none is told above.
        if kind == manifest.SITE or each.sets:
            drilled, complaints = _drilled(config, records, now, kind)
            lines.append((f"last {kind} drill", drilled))
            problems += complaints
    text = _columns([(f"{label}:", words) for label, words in lines])
    if problems:
        text += "\n" + "\n".join(f"problem: {words}" for words in problems)
    else:
        text += "\nall good"
    return Report(text, tuple(problems))


def _judged(
    sets: Listing[Manifest],
    records: Sequence[evidence.Record],
    now: datetime,
    kind: str,
    promised: float,
) -> tuple[list[tuple[str, str]], list[str]]:
    """Lines and problems of one kind. promised: age of its newest set in hours."""
    problems = [f"{name}: {error}" for name, error in sets.unreadable.items()]
    lines = []
    run = f"`xwiki-stack backup run {kind}`"
    if newest := sets.newest:
        made = newest.manifest
        age = now - made.time
        lines.append((f"newest {kind} set", f"{made.id}, {_age(age)} old (promised: at most"
                                            f" {promised:.4g} h), {size(made.bytes)}"))  # fmt: skip
        if age > timedelta(hours=promised):
            problems.append(
                f"the newest {kind} set is {_age(age)} old, {promised:.4g} h are promised;"
                f" next: {run}, and see why the schedule did not"
            )
        if age < -timedelta(minutes=10):
            problems.append(
                f"the newest {kind} set lies in the future; next: look after the clocks"
            )
    else:
        lines.append((f"newest {kind} set", "none"))
        problems.append(f"there is no {kind} set; next: {run}")
    lines.append((f"{kind} sets", f"{len(sets.sets)}"))
    for proof in (evidence.INTACT, evidence.OPENED):
        last = next(
            (item for item in reversed(sets.sets) if evidence.holds(records, proof, item)), None
        )
        words = f"{last.manifest.id}, {_age(now - last.manifest.time)} old" if last else "none"
        lines.append((f"newest {kind} {proof}", words))
        if sets.sets and not last:
            way = " --opened` where a key is" if proof == evidence.OPENED else "`"
            problems.append(
                f"no {kind} set is proven {proof}; next: `xwiki-stack backup verify{way}"
            )
    for item in sets.sets:
        for proof in (evidence.INTACT, evidence.OPENED):
            record = evidence.latest(records, proof, item.manifest.id, item.sha256)
            if record and not record.held:
                problems.append(f"set {item.manifest.id} is not {proof}: {record.words}")
    failed = [item for item in records if (item.kind, item.sets) == (evidence.RUN, kind)]
    if failed and (not sets.newest or failed[-1].set > sets.newest.manifest.id):
        problems.append(f"the last {kind} run failed at {failed[-1].at}: {failed[-1].words}")
    return lines, problems


def _opened(
    sets: Listing[Manifest], records: Sequence[evidence.Record], kind: str, needed: int
) -> tuple[str, list[str]]:
    """How many sets are proven to open, of those that prune waits for; what is wrong with that.

    A young wiki has too few for anything to go; it is told, and nothing is wrong yet.
    """
    count = sum(evidence.holds(records, evidence.OPENED, item) for item in sets.sets)
    if count >= needed:
        return f"{count} (prune needs {needed})", []
    words = f"{count} of {needed} that prune needs"
    way = "`xwiki-stack backup verify --opened --all` where a key is"
    if len(sets.sets) <= needed:
        return f"{words}; next: {way}", []
    told = (
        f"prune lets no {kind} set go: {count} of {needed} are proven to open,"
        f" there are {len(sets.sets)}; next: {way}"
    )
    return words, [told]


def _drilled(
    config: Config, records: Sequence[evidence.Record], now: datetime, kind: str
) -> tuple[str, list[str]]:
    """The last drill of a kind in words; what is wrong with it or with there being none."""
    wanted = config.drill
    drills = [item for item in records if (item.kind, item.sets) == (evidence.DRILL, kind)]
    role = "drill" if kind == manifest.SITE else f"drill-{kind}"
    again = f"run CronJob {role} in staging: `kubectl create job --from=cronjob/...-{role} now`"
    if not drills:
        told = f"no restore of a {kind} set was ever tried; next: {again}"
        return "none", [told] if wanted else []
    last = drills[-1]
    age = now - datetime.fromisoformat(last.at)
    words, problems = f"{last.set}, {_age(age)} ago", []
    rto, objective = last.facts.get("rto_seconds"), last.facts.get("objective_seconds")
    if wanted:
        objective = 3600 * wanted.rto_hours
        if age > timedelta(days=wanted.max_age_days):
            problems.append(
                f"the last {kind} drill is {_age(age)} old, {wanted.max_age_days} d are promised;"
                f" next: see why the schedule ran none, then {again}"
            )
    if rto and objective:
        words += f", back in {clock(rto)} (promised: at most {clock(objective)})"
    if not last.held:
        words += ", NO"
        problems.append(
            f"the last {kind} drill failed: {last.words}; next: read its log, put it right, {again}"
        )
    elif rto and objective and rto > drill.SLOW * objective:
        problems.append(
            f"the last {kind} drill was slow: {clock(rto)} of {clock(objective)} that are promised;"
            " next: see `steps` of its record: a faster disk, store or network, or another promise"
        )
    return words, problems


def _holds(made: Manifest) -> str:
    if isinstance(made, Xar):
        return f"{sum(export.pages for export in made.wikis)} pages"
    return f"{made.files['count']} files" if isinstance(made, Site) else "?"


def _detail(made: Manifest) -> list[tuple[str, Any]]:
    if isinstance(made, Xar):
        return xar.detail(made)
    return site.detail(made) if isinstance(made, Site) else []


def _word(records: Sequence[evidence.Record], kind: str, item: Found[Manifest]) -> str:
    record = evidence.latest(records, kind, item.manifest.id, item.sha256)
    if record is None:
        return "-"
    return record.at if record.held else "NO"


def _age(age: timedelta) -> str:
    hours = age.total_seconds() / 3600
    if abs(hours) < 1:
        return f"{round(hours * 60)} min"
    return f"{hours:.1f} h" if abs(hours) < 48 else f"{hours / 24:.1f} d"


def _columns(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
