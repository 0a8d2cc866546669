"""An upgrade put into an intent: the line that changes, its digest, what follows from both."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

from xwiki_stack import generate, images, repo
from xwiki_stack.cluster import registry
from xwiki_stack.errors import IntentError, StackError
from xwiki_stack.intent import Environment
from xwiki_stack.upgrade.versions import Move, line_of

FORCED = "# Forced "
"""Begins the comment above a version that was written although a condition did not hold."""

LONGEST = 100
"""Characters of a reason: it stands on one line of the intent."""


@dataclass(frozen=True)
class Written:
    """What was written, and the commit to make of it."""

    paths: tuple[Path, ...]
    branch: str
    title: str
    body: str


def write(environment: Environment, move: Move, reason: str, unmet: str) -> Written:
    """Write a move into the intent and generate; on any error both are as they were.

    reason, unmet: why all the same, and the conditions that did not hold; '' where all did.
    """
    path, where = environment.path, repo.relative(environment.path)
    before = path.read_text(encoding="utf-8")
    value = ".".join(map(str, line_of(move.new))) if move.key == "mysql" else move.new
    after = with_version(before, move.key, value, where, _note(reason, unmet, where))
    if digest := _digest(environment, move):
        after = images.with_digest(after, move.key, digest, where)
    path.write_text(after, encoding="utf-8")
    try:
        outcome = generate.generate([environment.name])
    except (StackError, OSError):
        path.write_text(before, encoding="utf-8")
        raise
    forced = f"\n\nWritten although this did not hold: {unmet}.\nReason: {reason}" if reason else ""
    return Written(
        (path, *outcome.written),
        f"upgrade-{environment.name}-{move.key}-{move.new}",
        f"feat(intent): {environment.name} moves to {move.program} {move.new}",
        f"{move.words}. The way back is a restore, not a revert.{forced}",
    )


def with_version(text: str, key: str, value: str, where: str, note: str = "") -> str:
    """An intent's text with the version of one program set, all else as it was, comments too.

    note: a comment for the line above it, in place of one that an earlier upgrade left. Raises
    IntentError where the file is written in a form that this cannot keep.
    """
    lines = text.splitlines()
    own = re.compile(rf"({key}:\s*)(\"[^\"]*\"|'[^']*'|[^\s#]+)(.*)$")
    place = next((n for n, line in enumerate(lines) if own.match(line)), None)
    wanted = {**yaml.safe_load(text), key: value}
    if place is not None:
        quoted = f'"{value}"' if value.count(".") < 2 else value  # 9.7 alone would be a number
        lines[place] = own.sub(rf"\g<1>{quoted}\g<3>", lines[place])
        lines[place:place] = [note] if note else []
        if place and lines[place - 1].startswith(FORCED):
            del lines[place - 1]
    written = "\n".join(lines) + "\n"
    if place is None or yaml.safe_load(written) != wanted:
        raise IntentError(
            "its form cannot be kept while writing a version",
            where=f"{where}: {key}",
            allowed=f"`{key}: VERSION` on a line of its own",
            next=f"write {value} there yourself",
        )
    return written


def _note(reason: str, unmet: str, where: str) -> str:
    if not reason:
        return ""
    words = " ".join(reason.split())
    if len(words) > LONGEST:
        raise IntentError(
            f"the reason has {len(words)} characters",
            where=where,
            allowed=f"{LONGEST}, it stands on one line",
            next="say the rest in the commit",
        )
    return f"{FORCED}{datetime.now(UTC):%Y-%m-%d} without {unmet}: {words}"


def _digest(environment: Environment, move: Move) -> str:
    """What pins the new image: as the plan knows it, else as its registry says where one is due."""
    if move.image.digest or move.key not in environment.digests:
        return move.image.digest
    return registry.digest_of(move.image.repository, move.image.tag)


def commands(written: Written) -> Sequence[str]:
    """What to type next, line by line."""
    paths = " ".join(repo.relative(path) for path in written.paths)
    return (
        f"git switch --create {written.branch}",
        f"git add {paths}",
        f"git commit --file=- <<'END'\n{written.title}\n\n{written.body}\nEND",
    )
