"""A review as text for a terminal, as Markdown for a pull request, as JSON for programs."""

import difflib
import json
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from xwiki_stack.review import Review, Section
from xwiki_stack.review.changes import (
    ABSENT,
    Change,
    Comparison,
    Difference,
    Fate,
    Identity,
    masked,
)
from xwiki_stack.review.verdicts import Finding, Verdict

WIDTH = 100
"""Columns of the text."""

MOST_CAUSES = 5
"""Fields that are named as the cause of one verdict; the changes below name all."""

ROOM = 50_000
"""Characters for the fields in Markdown: a comment on GitHub takes 65536 in all."""

SIGNS = {Fate.ADDED: "+", Fate.REMOVED: "-", Fate.REPLACED: "±", Fate.CHANGED: "~"}

CHECKSUMS = "only the checksums of what it reads, see above or below"

NOTHING = "nothing that is rendered differs"


def text(review: Review) -> str:
    """For a terminal: the verdicts, then every change."""
    lines = [f"from  {review.start.words}", f"to    {review.end.words}"]
    for section in review.sections:
        lines += ["", f"{_title(section)}: {counts(section.comparison)}"]
        for head, some in _halves(section):
            lines += ["", f"  {head}"]
            for subjects, finding in some:
                lines += _verdict_lines(subjects, finding)
        lines += ["", "  changes"]
        for item in section.comparison.shown:
            lines.append(f"    {SIGNS[item.fate]} {_object(item)}")
            if item.fate is Fate.CHANGED and not item.changes:
                lines.append(f"        {CHECKSUMS}")
            for change in item.changes:
                lines += [f"        {line}" for line in field_lines(change)]
        lines += [f"  left out: {_folded(section.comparison)}"] if section.comparison.folded else []
    lines += _endings(review)
    return "\n".join(lines)


def markdown(review: Review) -> str:
    """For a pull request: a summary, a table of verdicts, the fields folded away."""
    need = f"**{review.humans} need a human.** " if review.humans else ""
    lines = ["## What this changes", ""]
    lines += [f"{need}From {_code(review.start.words)} to {_code(review.end.words)}.", ""]
    if review.sections:
        lines += ["| where | objects | needs a human |", "| --- | --- | --- |"]
        for section in review.sections:
            weights = Counter(verdict.finding.weight.value for verdict in section.humans)
            need = ", ".join(f"{number} {word}" for word, number in weights.items())
            lines.append(
                f"| {_names(section)} | {counts(section.comparison)} | "
                f"{f'**yes**: {need}' if need else 'no'} |"
            )
        lines.append("")
    room = ROOM
    for section in review.sections:
        lines += [f"### {_names(section)}", ""]
        grouped = [pair for _head, some in _halves(section) for pair in some]
        if grouped:
            lines += ["| | object | what it means |", "| --- | --- | --- |"]
            lines += [_row(subjects, finding) for subjects, finding in grouped]
            lines.append("")
        details = _details(section.comparison)
        if len(details) > room:
            details = details[:room].rsplit("\n", 1)[0]
            details += "\n... cut; `xwiki-stack review` shows all of it"
        room -= len(details)
        fence = "~" * 8
        summary = f"{counts(section.comparison)}, field by field"
        lines += [f"<details><summary>{summary}</summary>", "", f"{fence}diff", details, fence]
        lines += ["", "</details>", ""]
        if section.comparison.folded:
            lines += [f"Left out: {_folded(section.comparison)}.", ""]
    return "\n".join([*lines, *(f"{line}" for line in _endings(review) if line)])


def document(review: Review) -> dict[str, Any]:
    """For programs; the form stands in report.schema.json."""
    return {
        "from": {"commit": review.start.commit, "words": review.start.words},
        "to": {"commit": review.end.commit, "words": review.end.words},
        "needsHuman": review.humans,
        "same": list(review.same),
        "sections": [
            {
                "names": list(section.names),
                "namespace": section.comparison.namespace,
                "objects": [_entry(item) for item in section.comparison.shown],
                "verdicts": [_verdict_entry(verdict) for verdict in section.verdicts],
                "leftOut": section.comparison.folded,
            }
            for section in review.sections
        ],
    }


def json_text(review: Review) -> str:
    """`document` as text."""
    return json.dumps(document(review), indent=2, default=str)


def counts(comparison: Comparison) -> str:
    """How many objects came, went, differ."""
    found = Counter(item.fate for item in comparison.shown)
    words = [f"{found[fate]} {fate.value}" for fate in SIGNS if found[fate]]
    return ", ".join(words) or "no objects"


def field_lines(change: Change) -> Iterator[str]:
    """One field as lines of a diff, the path first."""
    old, new = change.old, change.new
    if all(side is ABSENT or isinstance(side, str) for side in (old, new)) and any(
        isinstance(side, str) and "\n" in side for side in (old, new)
    ):
        yield change.path
        old, new = ("" if side is ABSENT else side for side in (old, new))
        diff = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=1)
        yield from (f"  {line}" for line in diff if not line.startswith(("---", "+++")))
        return
    sides = [("-", old), ("+", new)]
    if all(not isinstance(side, dict | list) for _sign, side in sides):
        before, after = (_scalar(side) for _sign, side in sides)
        line = f"{change.path}: {before} -> {after}"
        if len(line) <= WIDTH - 8 and "\n" not in line:
            yield line
            return
    yield change.path
    for sign, side in sides:
        if side is not ABSENT:
            yield from (f"{sign} {line}" for line in _yaml(side))


def _halves(section: Section) -> Iterator[tuple[str, list[tuple[list[Identity], Finding]]]]:
    """The verdicts that need a human and the others, each with its heading."""
    humans = _grouped(section.humans)
    others = _grouped([item for item in section.verdicts if not item.finding.weight.human])
    if humans:
        yield f"needs a human ({len(section.humans)})", humans
    if others:
        yield "good to know", others


def _grouped(verdicts: Sequence[Verdict]) -> list[tuple[list[Identity], Finding]]:
    """Verdicts that say the same of several objects, once."""
    found: dict[tuple[object, ...], tuple[list[Identity], Finding]] = {}
    for verdict in verdicts:
        finding = verdict.finding
        key = (finding.weight, finding.text, finding.next)
        subjects, first = found.setdefault(key, ([], finding))
        subjects.append(verdict.subject)
        causes = tuple(dict.fromkeys([*first.causes, *finding.causes]))
        found[key] = (subjects, Finding(first.weight, first.text, causes, first.next))
    return list(found.values())


def _verdict_lines(subjects: list[Identity], finding: Finding) -> Iterator[str]:
    head = f"    {finding.weight.value:<9}"
    margin = " " * len(head)
    parts = [(head, _together(subjects)), (margin, finding.text)]
    if finding.causes:
        parts.append((margin, f"cause: {_causes(finding.causes)}"))
    if finding.next:
        parts.append((margin, f"next: {finding.next}"))
    for beginning, part in parts:
        yield from textwrap.wrap(
            part,
            WIDTH,
            initial_indent=beginning,
            subsequent_indent=f"{margin}  ",
            break_long_words=False,
            break_on_hyphens=False,
        )


def _row(subjects: list[Identity], finding: Finding) -> str:
    weight = finding.weight.value
    parts = [finding.text]
    if finding.causes:
        parts.append(f"cause: {_causes(finding.causes, code=True)}")
    if finding.next:
        parts.append(f"**next:** {finding.next}")
    cells = [
        f"**{weight}**" if finding.weight.human else weight,
        "<br>".join(f"{subject.kind} `{_name(subject)}`" for subject in subjects),
        "<br>".join(parts),
    ]
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _details(comparison: Comparison) -> str:
    """Every object and field as a diff that GitHub colours."""
    lines: list[str] = []
    for item in comparison.shown:
        lines.append(f"@@ {_object(item)} @@")
        if item.fate in (Fate.ADDED, Fate.REMOVED):
            sign = SIGNS[item.fate]
            whole = masked(item.new or item.old or {})
            lines += [f"{sign} {line}" for line in _yaml(whole)]
        if item.fate is Fate.CHANGED and not item.changes:
            lines.append(CHECKSUMS)
        for change in item.changes:
            if _short(change):
                before, after = _scalar(change.old), _scalar(change.new)
                lines += [f"- {change.path}: {before}", f"+ {change.path}: {after}"]
            else:
                # Signs must stand in the first column to be coloured.
                lines += [line.removeprefix("  ") for line in field_lines(change)]
    return "\n".join(lines)


def _short(change: Change) -> bool:
    sides = (change.old, change.new)
    return not any(isinstance(side, dict | list) or "\n" in str(side) for side in sides)


def _entry(item: Difference) -> dict[str, Any]:
    return {
        "change": item.fate.value,
        "kind": item.identity.kind,
        "group": item.identity.group,
        "name": item.identity.name,
        "namespace": item.identity.namespace,
        "fields": [
            {
                "path": change.path,
                **({} if change.old is ABSENT else {"old": change.old}),
                **({} if change.new is ABSENT else {"new": change.new}),
            }
            for change in item.changes
        ],
    }


def _verdict_entry(verdict: Verdict) -> dict[str, Any]:
    finding = verdict.finding
    return {
        "rule": verdict.rule,
        "weight": finding.weight.value,
        "human": finding.weight.human,
        "kind": verdict.subject.kind,
        "name": verdict.subject.name,
        "text": finding.text,
        "causes": list(finding.causes),
        "next": finding.next,
    }


def _endings(review: Review) -> list[str]:
    lines: list[str] = []
    if review.same:
        lines += ["", f"{', '.join(review.same)}: {NOTHING}"]
    elif not review.sections:
        lines += ["", NOTHING]
    return lines


def _title(section: Section) -> str:
    namespace = section.comparison.namespace
    alone = len(section.names) == 1 and namespace
    return _names(section) + (f" (namespace {namespace})" if alone else "")


def _names(section: Section) -> str:
    return ", ".join(section.names)


def _object(item: Difference) -> str:
    was = ""
    if item.fate is Fate.REPLACED and item.old:
        was = f", instead of {item.old['metadata']['name']}"
    return f"{item.identity}{was}"


def _together(subjects: list[Identity]) -> str:
    """Several objects in few words: `CronJob a, b`."""
    kinds: dict[str, list[str]] = {}
    for subject in subjects:
        kinds.setdefault(subject.kind, []).append(_name(subject))
    return ", ".join(f"{kind} {', '.join(names)}" for kind, names in kinds.items())


def _name(subject: Identity) -> str:
    return f"{subject.namespace}/{subject.name}" if subject.namespace else subject.name


def _causes(causes: Sequence[str], *, code: bool = False) -> str:
    words = [f"`{cause}`" if code else cause for cause in causes[:MOST_CAUSES]]
    more = len(causes) - len(words)
    return ", ".join(words) + (f" and {more} more" if more > 0 else "")


def _folded(comparison: Comparison) -> str:
    words = [
        f"{number} {word}{'' if number == 1 else 's'}" for word, number in comparison.folded.items()
    ]
    return ", ".join(words)


def _code(words: str) -> str:
    """A commit in Markdown: its hash as code, its title as it is."""
    head, _, rest = words.partition(" ")
    known = len(head) >= 7 and all(letter in "0123456789abcdef" for letter in head)
    return f"`{head}` {rest}".strip() if known else words


def _scalar(value: Any) -> str:
    return "(nothing)" if value is ABSENT else json.dumps(value, ensure_ascii=False, default=str)


class _Dumper(yaml.SafeDumper):
    """YAML with texts of many lines as people write them."""


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def _yaml(value: Any) -> list[str]:
    said = yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=10_000, allow_unicode=True)
    return [line for line in said.splitlines() if line != "..."]
