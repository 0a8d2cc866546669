"""A program's way from one version to another, and whether its data may go it.

MySQL: from an LTS line to the next one; a line is not skipped, and an older one does not start on
the data (MySQL Reference Manual, "Upgrade Paths" and "Downgrade Paths"). XWiki migrates its schema
at the first start and has no way back; N.10 is the LTS of each year, and stopping at each is our
own care, so that no migration runs on data two years older than those it was tried on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from xwiki_stack import intent
from xwiki_stack.errors import IntentError, RefusedError
from xwiki_stack.review.verdicts import Image, image_of

PROGRAMS = {"xwiki": "XWiki", "mysql": "MySQL"}
"""Key of an intent, and of the chart's values, to the program that keeps data."""

XWIKI_LTS = 10
"""Minor release of each major that is XWiki's LTS."""


@dataclass(frozen=True)
class Move:
    """One program's move: its key, both releases (17.10.13), the image that comes."""

    key: str
    old: str
    new: str
    image: Image

    @property
    def program(self) -> str:
        """Its name."""
        return PROGRAMS[self.key]

    @property
    def words(self) -> str:
        """As people say it."""
        return f"{self.program} {self.old} -> {self.new}"


def images_of(values: dict[str, Any], where: str) -> dict[str, Image]:
    """The image of each program that values of the umbrella name. Raises IntentError.

    where: whose values they are.
    """
    found = {}
    for key in PROGRAMS:
        image = intent.at(values, key, "image") or {}
        named = image_of(f"{image.get('repository', '')}:{image.get('tag', '')}")
        if not line_of(named.tag):
            raise IntentError(
                f"no version can be read from tag {named.tag!r}",
                where=f"{where}: {key}.image.tag",
                allowed="a tag that begins with its release, e.g. 17.10.13-mysql-tomcat",
            )
        found[key] = named
    return found


def release_of(image: Image) -> str:
    """The release in a tag: 17.10.13-mysql-tomcat is 17.10.13."""
    return image.tag.partition("-")[0]


def line_of(release: str) -> tuple[int, ...]:
    """The line of a release: 17.10.13 is (17, 10); nothing where it is none."""
    parts = release.partition("-")[0].split(".")
    if len(parts) < 2 or not all(part.isascii() and part.isdigit() for part in parts):
        return ()
    return tuple(int(part) for part in parts[:2])


def moves(old: dict[str, Image], new: dict[str, Image]) -> Iterator[Move]:
    """The programs whose release differs."""
    for key in PROGRAMS:
        before, after = release_of(old[key]), release_of(new[key])
        if before != after:
            yield Move(key, before, after, new[key])


def refuse(move: Move, env: str) -> None:
    """Raise RefusedError for a way that the data cannot go, whoever insists."""
    if _number(move.new) < _number(move.old):
        raise RefusedError(
            f"{move.program} would go back, {move.old} -> {move.new}, and its data does not",
            where=env,
            next=f"restore a set that {move.program} {move.new} made into empty volumes, "
            "docs/runbooks/restore-site.md",
        )
    if skipped := passed_over(move.key, line_of(move.old), line_of(move.new)):
        lines = ", ".join(".".join(map(str, line)) for line in skipped)
        first = ".".join(map(str, skipped[0]))
        example = first if move.key == "mysql" else f"{first}.N"
        raise RefusedError(
            f"{move.words} passes over LTS line {lines}",
            where=env,
            allowed="one LTS line at a time",
            next=f"first `xwiki-stack upgrade --env {env} --{move.key} {example}`, and let it run",
        )


def passed_over(key: str, old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The LTS lines that lie between two lines."""
    lines = [line_of(line) for line in intent.MYSQL_LINES]
    if key == "xwiki":
        lines = [(major, XWIKI_LTS) for major in range(old[0], new[0] + 1)]
    return [line for line in sorted(lines) if old < line < new]


def _number(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split("."))
