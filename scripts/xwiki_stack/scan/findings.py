"""What scanners find, what they may find, and what is wrong with that.

Exceptions are laid over what was found: one that finds nothing any more is refused as well, since
an exception that nobody needs hides the next mistake.
"""

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from xwiki_stack import repo
from xwiki_stack.errors import IntentError

PLACES = {
    "checkov": "ci/scanners.yaml",
    "kube-score": "ci/scanners.yaml",
    "Trivy": ".trivyignore.yaml",
}
"""The file of each scanner's exceptions; Trivy reads its own as well, over images."""

CONFIG = repo.ROOT / PLACES["checkov"]

MOST_SKIPPED = 5
"""Checks of checkov that may find something."""


@dataclass(frozen=True)
class Finding:
    """What a check complains of: of which scanner, in which environment, at which object.

    Trivy judges files, not objects: environment is '', item is the file's name.
    """

    scanner: str
    check: str
    environment: str
    item: str
    words: str


@dataclass(frozen=True)
class Exempt:
    """A check that may find something. only: at which objects, `Kind/name` or a file, with `*`."""

    why: str
    only: tuple[str, ...]

    def covers(self, finding: Finding) -> bool:
        """Whether the finding is at one of the objects."""
        return any(fnmatch.fnmatchcase(finding.item, pattern) for pattern in self.only)


Exceptions = Mapping[str, Mapping[str, Exempt]]
"""Scanner to check to exception."""


@dataclass(frozen=True)
class Scan:
    """What scanners said. passed: how many times a check had nothing to say, by scanner."""

    passed: dict[str, int]
    findings: list[Finding]

    def of(self, scanner: str) -> list[Finding]:
        """The findings of one scanner."""
        return [item for item in self.findings if item.scanner == scanner]


def config(path: Path = CONFIG) -> Exceptions:
    """The exceptions of ci/scanners.yaml, by scanner and check. Raises IntentError."""
    where = repo.relative(path)
    named = {scanner for scanner, place in PLACES.items() if place == PLACES["checkov"]}
    document = yaml.safe_load(path.read_text())
    if not isinstance(document, dict) or set(document) != named:
        raise IntentError("names other scanners", where=where, allowed=", ".join(sorted(named)))
    found: dict[str, dict[str, Exempt]] = {}
    for scanner, exceptions in document.items():
        found[scanner] = {}
        for check, said in exceptions.items():
            place = f"{where}: {scanner}.{check}"
            if not isinstance(said, dict) or set(said) != {"only", "why"}:
                raise IntentError("is no exception", where=place, allowed="only, why")
            if len(str(said["why"]).split()) < 4:
                raise IntentError("does not say why", where=place)
            if not said["only"]:
                raise IntentError("is of no object", where=place, allowed='"*", Kind/name, with *')
            found[scanner][check] = Exempt(said["why"], tuple(said["only"]))
    if len(found["checkov"]) > MOST_SKIPPED:
        raise IntentError(
            f"has {len(found['checkov'])} exceptions",
            where=f"{where}: checkov",
            allowed=f"at most {MOST_SKIPPED}",
            next="mend what the check complains of",
        )
    return found


def judge(said: Scan, exceptions: Exceptions) -> list[str]:
    """What is wrong with what they said: findings without an exception, and the other way round."""
    problems = [
        ": ".join(
            filter(None, (item.environment, item.item, f"{item.scanner} {item.check}", item.words))
        )
        for item in uncovered(said, exceptions)
    ]
    for scanner, passed in said.passed.items():
        for check, exempt in sorted(exceptions[scanner].items()):
            found = {item.item for item in said.of(scanner) if item.check == check}
            problems += [
                f"{PLACES[scanner]}: {scanner}.{check} finds nothing at {pattern}; take it out"
                for pattern in exempt.only
                if not fnmatch.filter(found, pattern)
            ]
        if not passed:
            problems.append(f"{scanner} looked at nothing")
    return problems


def uncovered(said: Scan, exceptions: Exceptions) -> list[Finding]:
    """The findings that no exception covers."""
    return [
        item
        for item in said.findings
        if not (exempt := exceptions[item.scanner].get(item.check)) or not exempt.covers(item)
    ]
