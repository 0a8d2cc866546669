"""Runbooks as programs: their `sh` blocks, run in order as they stand on the page.

A page in docs/runbooks has its variables in the first block, where the environment wins. Every
other block is a program of its own that knows those variables, so that a person may run any of
them. A block whose fence says `not executed here` needs what no test bed has.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from xwiki_stack import proc, repo
from xwiki_stack.errors import IntentError, StackError

FOLDER = repo.ROOT / "docs" / "runbooks"

NOT_HERE = "not executed here"

SECONDS = 1800.0
"""A block may wait for an image, a database's first start, a restore."""

_FENCE = re.compile(r"^```(\w*) ?(.*)$")
_HEADING = re.compile(r"^#+ (.+)$")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the heading above it.

    line: of its first line on the page. executed: whether a test can run it.
    """

    language: str
    text: str
    heading: str
    line: int
    executed: bool


def blocks(page: Path) -> Iterator[Block]:
    """All fenced blocks of a page, in order."""
    heading, language, mark, begun = "", "", "", 0
    lines: list[str] = []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fence = _FENCE.match(line)
        if fence and begun:
            yield Block(language, "\n".join(lines) + "\n", heading, begun, mark != NOT_HERE)
            begun = 0
        elif fence:
            language, mark, begun, lines = fence[1], fence[2], number + 1, []
        elif begun:
            lines.append(line)
        elif found := _HEADING.match(line):
            heading = found[1]


@dataclass(frozen=True)
class Runbook:
    """A page that can be run. env: added to our own, for each block."""

    page: Path
    env: Mapping[str, str]

    @property
    def variables(self) -> str:
        """The first block, which every other one is preceded by."""
        return next(block.text for block in self._shell())

    @property
    def steps(self) -> list[Block]:
        """The blocks that are run."""
        return [block for block in self._shell()[1:] if block.executed]

    def of(self, heading: str) -> list[Block]:
        """The blocks below a heading that begins so. Raises IntentError where there is none."""
        found = [block for block in self.steps if block.heading.startswith(heading)]
        if not found:
            raise IntentError(f"has no block below {heading!r}", where=repo.relative(self.page))
        return found

    def run(self, block: Block) -> str:
        """Run one block with bash, which ends at its first failure; give both outputs as they came.

        Raises StackError with the page's line and all that was said.
        """
        script = f"exec 2>&1\n{self.variables}\n{block.text}"
        argv = ["bash", "-euo", "pipefail", "-c", script]
        said = proc.run(argv, env=self.env, cwd=repo.ROOT, check=False, timeout=SECONDS)
        if said.code != 0:
            raise StackError(
                f"{block.heading!r} ended with exit code {said.code}:\n{said.out.strip()}",
                where=f"{repo.relative(self.page)}:{block.line}",
            )
        return said.out

    def run_all(self, say: Callable[[str], None]) -> str:
        """Run every block that can be; give all that was said. say: told each heading."""
        said = []
        for block in self.steps:
            say(block.heading)
            said.append(self.run(block))
        return "".join(said)

    def _shell(self) -> list[Block]:
        return [block for block in blocks(self.page) if block.language == "sh"]
