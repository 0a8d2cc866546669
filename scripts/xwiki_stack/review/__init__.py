"""What a commit would do to the objects of every environment, in words for people.

`sources` brings two trees and renders them, `changes` compares the objects field by field,
`access` and `immutable` know what is allowed, `verdicts` says what each change means for who runs
them, `report` writes it down.
"""

from dataclasses import dataclass

from xwiki_stack.review import changes, sources, verdicts
from xwiki_stack.review.changes import Comparison
from xwiki_stack.review.sources import End
from xwiki_stack.review.verdicts import Verdict


@dataclass(frozen=True)
class Section:
    """What differs, in one environment or in several alike, and what it means."""

    names: tuple[str, ...]
    comparison: Comparison
    verdicts: tuple[Verdict, ...]

    @property
    def humans(self) -> list[Verdict]:
        """The verdicts that need a human."""
        return [verdict for verdict in self.verdicts if verdict.finding.weight.human]


@dataclass(frozen=True)
class Review:
    """Two ends, and a section for each environment that differs from the others' sections.

    `same` names the environments where nothing differs.
    """

    start: End
    end: End
    sections: tuple[Section, ...]
    same: tuple[str, ...]

    @property
    def humans(self) -> int:
        """How many verdicts need a human; alike ones of several environments count once."""
        return sum(len(section.humans) for section in self.sections)


def review(start: str = "", end: str = "", env: str = "") -> Review:
    """Compare two trees of this repository, see `sources.trees` for what '' means.

    env: this environment alone, without the files for Flux. Raises IntentError for what Git or
    Helm refuses, UndecidedError for an environment without values at either end.
    """
    sections: list[Section] = []
    same: list[str] = []
    with sources.trees(start, end) as (old, new):
        for name in sources.environments((old, new), env):
            namespace = (new if new.values(name).is_file() else old).namespace(name)
            found = changes.compare(name, namespace, old.objects(name), new.objects(name))
            _add(found, sections, same)
        if not env:
            _add(changes.compare(sources.FLUX, "", old.files(), new.files()), sections, same)
        return Review(old.end, new.end, tuple(sections), tuple(same))


def review_of(start: End, end: End, found: Comparison) -> Review:
    """The review of one comparison, whose objects somebody else has rendered."""
    sections: list[Section] = []
    same: list[str] = []
    _add(found, sections, same)
    return Review(start, end, tuple(sections), tuple(same))


def _add(found: Comparison, sections: list[Section], same: list[str]) -> None:
    """Put a comparison among the sections: with one that says the same, if there is one."""
    if not found.shown:
        if found.old or found.new:
            same.append(found.name)
        return
    said = tuple(verdicts.judge(found))
    for number, section in enumerate(sections):
        if _signature(section.comparison) == _signature(found) and _said(section.verdicts) == _said(
            said
        ):
            names = (*section.names, found.name)
            sections[number] = Section(names, section.comparison, section.verdicts)
            return
    sections.append(Section((found.name,), found, said))


def _signature(comparison: Comparison) -> list[tuple[object, ...]]:
    """What tells the differences of two environments apart: whole objects only by their names."""
    return [(item.identity, item.fate, repr(item.changes)) for item in comparison.shown]


def _said(found: tuple[Verdict, ...]) -> list[str]:
    """The verdicts as text, a namespace in a hint left out of account."""
    return [f"{verdict.rule} {verdict.subject} {verdict.finding.text}" for verdict in found]
