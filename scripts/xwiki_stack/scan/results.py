"""Results of a run as a file, and the tables of docs/security.md that are made of it."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from xwiki_stack import figures, repo
from xwiki_stack.scan.findings import Exceptions, Scan, uncovered
from xwiki_stack.scan.objects import PRODUCTION, Objects

RESULTS = repo.ROOT / "docs" / "results" / "scanners.json"
PAGE = repo.ROOT / "docs" / "security.md"

COMPARED = ("checkov", "kube-score")
"""The scanners that are run over charts of others as well."""


@dataclass(frozen=True)
class Peer:
    """Another project's chart as its defaults render, under the scanners of COMPARED."""

    name: str
    chart: str
    objects: int
    failed: int
    critical: int


@dataclass(frozen=True)
class Results:
    """One run: of which commit, on which day (UTC), over how many objects, with which outcome.

    passed, failed: by scanner, after the exceptions. excepted: how many findings each exception
    covers, by scanner and check. bare: findings by scanner of COMPARED in PRODUCTION,
    nothing excepted.
    """

    commit: str
    date: str
    versions: dict[str, str]
    objects: dict[str, int]
    passed: dict[str, int]
    failed: dict[str, int]
    excepted: dict[str, dict[str, int]]
    bare: dict[str, int]
    peers: list[Peer] = field(default_factory=list)


def outcome(
    objects: Objects,
    said: Scan,
    exceptions: Exceptions,
    versions: Mapping[str, str],
    peers: Sequence[Peer],
) -> Results:
    """The results of a run of now. versions: those of the scanners that said something."""
    bad = Counter(item.scanner for item in uncovered(said, exceptions))
    excepted = {
        scanner: {
            check: sum(item.check == check and exempt.covers(item) for item in said.of(scanner))
            for check, exempt in sorted(exceptions[scanner].items())
        }
        for scanner in said.passed
    }
    return Results(
        commit=figures.commit(RESULTS, PAGE),
        date=datetime.now(UTC).date().isoformat(),
        versions=dict(versions),
        objects={name: len(found) for name, found in objects.items()},
        passed=said.passed,
        failed={scanner: bad[scanner] for scanner in said.passed},
        excepted=excepted,
        bare={
            scanner: sum(item.environment == PRODUCTION for item in said.of(scanner))
            for scanner in COMPARED
        },
        peers=list(peers),
    )


def earlier() -> Results | None:
    """The results that are written down, if there are any, and as this version writes them."""
    document: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if set(document) != {item.name for item in fields(Results)}:
        return None
    return Results(**{**document, "peers": [Peer(**item) for item in document["peers"]]})


def page(text: str, results: Results, exceptions: Exceptions) -> str:
    """docs/security.md with the tables of these results between their marks."""
    scanned = figures.embedded(text, "scanners", list(_table(results, exceptions)))
    return figures.embedded(scanned, "peers", list(_comparison(results)))


def _table(results: Results, exceptions: Exceptions) -> Iterator[str]:
    objects = ", ".join(f"{name} {count}" for name, count in results.objects.items())
    yield f"Commit {results.commit}, {results.date}. Objects: {objects}."
    yield ""
    yield "| scanner | version | passed | failed | excepted |"
    yield "| --- | --- | --- | --- | --- |"
    for scanner, version in results.versions.items():
        count = len(results.excepted[scanner])
        hidden = sum(results.excepted[scanner].values())
        yield (
            f"| {scanner} | {version} | {results.passed[scanner]} | **{results.failed[scanner]}** |"
            f" {hidden} findings of {count} checks |"
        )
    yield ""
    yield "| excepted | findings | at | why |"
    yield "| --- | --- | --- | --- |"
    for scanner, checks in results.excepted.items():
        for check, count in checks.items():
            exempt = exceptions[scanner][check]
            places = ", ".join(f"`{pattern}`" for pattern in exempt.only)
            yield f"| {scanner} `{check}` | {count} | {places} | {exempt.why} |"


def _comparison(results: Results) -> Iterator[str]:
    yield "| chart | objects | checkov failed | kube-score critical |"
    yield "| --- | --- | --- | --- |"
    for peer in results.peers:
        cells = [f"{peer.name} ({peer.chart})", peer.objects, peer.failed, peer.critical]
        yield "| " + " | ".join(map(str, cells)) + " |"
    ours = results.objects.get(PRODUCTION, 0)
    for words, found in (("nothing excepted", results.bare), ("as accepted", results.failed)):
        counts = [found[scanner] for scanner in COMPARED]
        cells = [f"**xwiki-stack** ({PRODUCTION}), {words}", ours, *counts]
        yield "| " + " | ".join(map(str, cells)) + " |"
