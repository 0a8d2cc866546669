"""What there is and how well: the texts of `list`, `show` and `status`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from xwiki_stack.backup import drill, evidence, manifest
from xwiki_stack.backup.config import Config
from xwiki_stack.backup.manifest import Found, Listing, Site
from xwiki_stack.backup.site import detail, size
from xwiki_stack.backup.store import Store
from xwiki_stack.steps import clock


@dataclass(frozen=True)
class Report:
    """A state as text; `problems` are what is wrong, each with what to do."""

    text: str
    problems: tuple[str, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def listed(config: Config) -> str:
    """All sets, newest first: moment, size, what was proven."""
    store, trusted = Store(config), config.need_trusted()
    sets = manifest.listing(store, trusted, config.environment, Site)
    records = evidence.read(store, trusted)
    if not sets.sets and not sets.unreadable:
        return f"no set in {store.key(manifest.folder_of(manifest.SITE))}"
    rows = [("SET", "SNAPSHOT", "SIZE", "FILES", "INTACT", "OPENED")]
    for item in reversed(sets.sets):
        made = item.manifest
        rows.append((made.id, made.snapshot, size(made.bytes), str(made.files["count"]),
                     _word(records, evidence.INTACT, item),
                     _word(records, evidence.OPENED, item)))  # fmt: skip
    lines = [_columns(rows)]
    lines += [f"{name}  counts for nothing: {error}" for name, error in sets.unreadable.items()]
    return "\n".join(lines)


def shown(config: Config, name: str) -> str:
    """One set in detail."""
    store, trusted = Store(config), config.need_trusted()
    sets = manifest.listing(store, trusted, config.environment, Site)
    found = sets.find(name) if name != "newest" else sets.newest or sets.find("")
    records = evidence.read(store, trusted)
    rows = [*detail(found), ("intact", _word(records, evidence.INTACT, found)),
            ("opened", _word(records, evidence.OPENED, found))]  # fmt: skip
    return _columns([(f"{label}:", str(value)) for label, value in rows])


def status(config: Config) -> Report:
    """Newest set, its age against the promise, newest proofs, what is wrong and what to do."""
    store, trusted = Store(config), config.need_trusted()
    sets = manifest.listing(store, trusted, config.environment, Site)
    return judge(config, sets, evidence.read(store, trusted), store.now())


def judge(
    config: Config, sets: Listing[Site], records: Sequence[evidence.Record], now: datetime
) -> Report:
    """The status of what was found."""
    problems = [f"{name}: {error}" for name, error in sets.unreadable.items()]
    lines = []
    if newest := sets.newest:
        made = newest.manifest
        age, promised = now - made.time, timedelta(hours=config.rpo_hours)
        lines.append(("newest set", f"{made.id}, {_age(age)} old (promised: at most"
                                    f" {config.rpo_hours} h), {size(made.bytes)}"))  # fmt: skip
        if age > promised:
            problems.append(
                f"the newest set is {_age(age)} old, {config.rpo_hours} h are promised;"
                " next: `xwiki-stack backup run`, and see why the schedule did not"
            )
        if age < -timedelta(minutes=10):
            problems.append("the newest set lies in the future; next: look after the clocks")
    else:
        lines.append(("newest set", "none"))
        problems.append("there is no set; next: `xwiki-stack backup run`")
    lines.append(("sets", f"{len(sets.sets)}"))
    for kind in (evidence.INTACT, evidence.OPENED):
        last = next((item for item in reversed(sets.sets) if _held(records, kind, item)), None)
        words = f"{last.manifest.id}, {_age(now - last.manifest.time)} old" if last else "none"
        lines.append((f"newest {kind}", words))
        if sets.sets and not last:
            way = " --opened, where a key is" if kind == evidence.OPENED else ""
            problems.append(f"no set is proven {kind}; next: `xwiki-stack backup verify{way}`")
    for item in sets.sets:
        for kind in (evidence.INTACT, evidence.OPENED):
            record = evidence.latest(records, kind, item.manifest.id, item.sha256)
            if record and not record.held:
                problems.append(f"set {item.manifest.id} is not {kind}: {record.words}")
    drilled, complaints = _drilled(config, records, now)
    lines.append(("last drill", drilled))
    problems += complaints
    failed = [record for record in records if record.kind == evidence.RUN]
    if failed and (not sets.newest or failed[-1].set > sets.newest.manifest.id):
        problems.append(f"the last run failed at {failed[-1].at}: {failed[-1].words}")
    text = _columns([(f"{label}:", words) for label, words in lines])
    if problems:
        text += "\n" + "\n".join(f"problem: {words}" for words in problems)
    else:
        text += "\nall good"
    return Report(text, tuple(problems))


def _drilled(
    config: Config, records: Sequence[evidence.Record], now: datetime
) -> tuple[str, list[str]]:
    """The last drill in words, and what is wrong with it or with there being none."""
    wanted = config.drill
    last = next((item for item in reversed(records) if item.kind == evidence.DRILL), None)
    again = "run CronJob drill in staging: `kubectl create job --from=cronjob/...-drill now`"
    if last is None:
        return "none", ["no restore was ever tried; next: " + again] if wanted else []
    age = now - datetime.fromisoformat(last.at)
    words, problems = f"{last.set}, {_age(age)} ago", []
    rto, objective = last.facts.get("rto_seconds"), last.facts.get("objective_seconds")
    if wanted:
        objective = 3600 * wanted.rto_hours
        if age > timedelta(days=wanted.max_age_days):
            problems.append(
                f"the last drill is {_age(age)} old, {wanted.max_age_days} d are promised;"
                f" next: see why the schedule ran none, then {again}"
            )
    if rto and objective:
        words += f", back in {clock(rto)} (promised: at most {clock(objective)})"
    if not last.held:
        words += ", NO"
        problems.append(
            f"the last drill failed: {last.words}; next: read its log, put it right, {again}"
        )
    elif rto and objective and rto > drill.SLOW * objective:
        problems.append(
            f"the last drill was slow: {clock(rto)} of {clock(objective)} that are promised;"
            " next: see `steps` of its record: a faster disk, store or network, or another promise"
        )
    return words, problems


def _held(records: Sequence[evidence.Record], kind: str, item: Found[Site]) -> bool:
    record = evidence.latest(records, kind, item.manifest.id, item.sha256)
    return bool(record and record.held)


def _word(records: Sequence[evidence.Record], kind: str, item: Found[Site]) -> str:
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
