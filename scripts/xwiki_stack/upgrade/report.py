"""A plan as text for a terminal and as JSON for programs."""

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from xwiki_stack import repo
from xwiki_stack.review import report
from xwiki_stack.steps import clock
from xwiki_stack.upgrade import Downtime, Plan, Written
from xwiki_stack.upgrade.conditions import Condition

NOTHING = "nothing to do: that is the version of {env} already"

MARGIN = 26
"""Columns before what is said of a condition."""


def text(plan: Plan) -> str:
    """For a terminal: the conditions, the pause, the way back, then every change."""
    if not plan.moves:
        return NOTHING.format(env=plan.wish.env)
    lines = [f"{' and '.join(move.words for move in plan.moves)} in {plan.environment.name}"]
    lines += ["", "before it"]
    for condition in plan.conditions:
        lines += _wrapped(f"  {_word(condition):<11}{condition.name:<13}", condition.words)
        if condition.blocks and condition.next:
            lines += _wrapped(" " * MARGIN, f"next: {condition.next}")
    bounded = all(item.start for item in plan.downtime)
    most = f"{clock(plan.seconds)} at most, one after the other" if bounded else "without a bound"
    lines += ["", f"downtime: {most}"]
    for item in plan.downtime:
        lines += _wrapped(f"  {item.workload}: ", _pause(item))
    lines += ["", "the way back"]
    for sentence in plan.back:
        lines += _wrapped("  ", sentence)
    lines += ["", "what changes", ""]
    if plan.review:
        lines += [f"  {line}".rstrip() for line in report.text(plan.review).splitlines()]
    return "\n".join(lines)


def document(plan: Plan, written: Written | None = None) -> dict[str, Any]:
    """For programs; the form stands in report.schema.json."""
    return {
        "environment": plan.environment.name,
        "moves": [
            {"program": move.program, "from": move.old, "to": move.new, "digest": move.image.digest}
            for move in plan.moves
        ],
        "ready": not plan.blocked,
        "conditions": [
            {
                "name": condition.name,
                "required": condition.required,
                "met": condition.met,
                "words": condition.words,
                "next": "" if condition.met else condition.next,
            }
            for condition in plan.conditions
        ],
        "downtime": {
            "atMostSeconds": plan.seconds,
            "workloads": [
                {
                    "workload": item.workload,
                    "stopSeconds": item.stop,
                    "startSeconds": item.start,
                    "triedSeconds": item.tried,
                    "fact": _pause(item),
                }
                for item in plan.downtime
            ],
        },
        "back": list(plan.back),
        "written": _commit(written) if written else None,
        "review": report.document(plan.review) if plan.review else None,
    }


def json_text(plan: Plan, written: Written | None = None) -> str:
    """`document` as text."""
    return json.dumps(document(plan, written), indent=2, default=str)


def _commit(written: Written) -> dict[str, Any]:
    return {
        "paths": [repo.relative(path) for path in written.paths],
        "branch": written.branch,
        "title": written.title,
        "body": written.body,
    }


def _word(condition: Condition) -> str:
    if condition.met:
        return "holds"
    return "NO" if condition.required else "not asked"


def _pause(item: Downtime) -> str:
    start = f"{clock(item.start)} to start" if item.start else "a start that no probe bounds"
    words = f"at most {clock(item.stop)} to stop and {start}, by its probes"
    return (
        f"{words}; its start took {clock(item.tried)} in the {item.drill}" if item.tried else words
    )


def _wrapped(beginning: str, words: str) -> Iterator[str]:
    yield from textwrap.wrap(
        words,
        report.WIDTH,
        initial_indent=beginning,
        subsequent_indent=" " * min(len(beginning), MARGIN),
        break_long_words=False,
        break_on_hyphens=False,
    )
