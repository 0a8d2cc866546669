"""Verbs of the command, all added in one way: a summary, and more of it in `--help`."""

import argparse
from collections.abc import Callable
from typing import Any

Verb = Callable[[argparse.Namespace], object]
"""What a verb runs; what it gives is the exit code, nothing is 0."""

Add = Callable[..., argparse.ArgumentParser]


def adder(verbs: Any, between: str = "\n") -> Add:
    """Gives what adds a verb (name, run, summary, more) to subparsers, and gives its parser.

    between: what stands between summary and more, whose lines stay as they are.
    """

    def add(name: str, run: Verb, summary: str, more: str = "") -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = verbs.add_parser(
            name,
            help=summary,
            description=f"{summary}.{between}{more}".strip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(verb=run)
        return added

    return add
