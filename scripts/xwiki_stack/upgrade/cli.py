"""`xwiki-stack upgrade`: parses and prints for this package, as `cli` does for all others."""

import argparse
import os
import re
from pathlib import Path

from xwiki_stack import upgrade
from xwiki_stack.backup import config
from xwiki_stack.errors import AttentionError, IntentError
from xwiki_stack.upgrade import report, writing
from xwiki_stack.upgrade.conditions import FRESH_HOURS

SUMMARY = "Move XWiki or MySQL to another version, with the way back known first"

MORE = """Shows first: what must hold,
the pause, the way back, every change. With --write the version goes into the intent, values are
generated, and the commit to make is printed; nothing is pushed and no cluster is touched.

  xwiki-stack upgrade --env staging --xwiki 18.4.5      what it would be
  xwiki-stack upgrade --env prod --mysql 9.7 --write    into the intent, if all holds
  xwiki-stack upgrade --env prod --to-ref origin/bump   before a bump that exists is merged

Production wants its maintenance window open, a set of its own that is opened and young, and
staging on the same image with a drill that held. Staging wants its window.

Exit codes: 20 something does not hold, 6 so with --write; 6 also for a way back or past an LTS
line, which nobody can force. docs/reference/upgrade.md explains each."""


def add(command: argparse.ArgumentParser) -> None:
    """Give a parser the arguments of an upgrade."""
    command.add_argument("--env", required=True, help="environment: a file of values/envs/")
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--xwiki", type=_release, metavar="VERSION", help="XWiki's release, e.g. 18.4.5"
    )
    what.add_argument("--mysql", metavar="LINE", help="MySQL's LTS line, e.g. 9.7")
    what.add_argument(
        "--to-ref", dest="ref", metavar="REF", help="a commit, branch or tag that moves one already"
    )
    command.add_argument(
        "--digest",
        type=_digest,
        help="pins the new image (default: staging's pin, else --write asks the registry)",
    )
    command.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=_config(),
        help=f"of its backups (default: {config.DEFAULT} if it is there, or {config.VARIABLE})",
    )
    command.add_argument(
        "--staging-config",
        type=Path,
        metavar="FILE",
        help="of staging's backups, where its drills are recorded; without it only those count "
        "that are recorded beside the sets of --config",
    )
    command.add_argument(
        "--hours",
        type=_hours,
        default=FRESH_HOURS,
        help=f"age at most of the set that is the way back (default: {FRESH_HOURS})",
    )
    command.add_argument("--write", action="store_true", help="write the intent and its values")
    command.add_argument(
        "--force", metavar="REASON", help="with --write: although something does not hold"
    )
    command.add_argument("--format", choices=("text", "json"), default="text", help="default: text")


def run(arguments: argparse.Namespace) -> None:
    """Show an upgrade, and write it if that is asked."""
    if arguments.force is not None and not (arguments.write and arguments.force.strip()):
        raise IntentError(
            "--force says why it is written all the same",
            allowed='--write --force "REASON"',
            next="add what is missing",
        )
    plan = upgrade.plan(_wish(arguments))
    writes = arguments.write and plan.moves
    written = upgrade.write(plan, arguments.force or "") if writes else None
    if arguments.format == "json":
        print(report.json_text(plan, written))
    else:
        print(report.text(plan))
        if written:
            print("\n".join(["", "written; now:", "", *writing.commands(written)]))
    if plan.blocked and not written:
        names = ", ".join(condition.name for condition in plan.blocked)
        raise AttentionError(
            f"does not hold: {names}", where=plan.wish.env, next="do what stands beside it above"
        )


def _wish(arguments: argparse.Namespace) -> upgrade.Wish:
    key = next((key for key in ("xwiki", "mysql") if getattr(arguments, key)), "")
    return upgrade.Wish(
        env=arguments.env,
        key=key,
        version=getattr(arguments, key) if key else "",
        ref=arguments.ref or "",
        digest=arguments.digest or "",
        config=arguments.config,
        rehearsals=arguments.staging_config,
        hours=arguments.hours,
    )


def _config() -> Path | None:
    if named := os.environ.get(config.VARIABLE):
        return Path(named)
    return config.DEFAULT if config.DEFAULT.is_file() else None


def _release(text: str) -> str:
    if not re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", text):
        raise argparse.ArgumentTypeError("a release of XWiki is three numbers, e.g. 18.4.5")
    return text


def _digest(text: str) -> str:
    if not re.fullmatch(r"sha256:[0-9a-f]{64}", text):
        raise argparse.ArgumentTypeError("a digest is sha256: and 64 hexadecimal digits")
    return text


def _hours(text: str) -> int:
    hours = int(text) if text.isascii() and text.isdigit() else 0
    if hours < 1:
        raise argparse.ArgumentTypeError("hours are a whole number from 1")
    return hours
