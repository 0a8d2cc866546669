"""What a run of pytest wrote down of its tests, for results that are published by runs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from xwiki_stack import repo


@dataclass(frozen=True)
class Case:
    """One test as it ended. told: what it recorded of itself, by name (`record_property`)."""

    test: str
    passed: bool
    told: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def report(name: str) -> tuple[Path, list[str]]:
    """A file for a run's report, which is not there yet, and pytest's words to write it."""
    path = repo.logs() / f"{name}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    # This family of reports has room for properties of a test.
    return path, [f"--junitxml={path}", "--override-ini=junit_family=xunit1"]


def cases(path: Path) -> Iterator[Case]:
    """The tests of a report, in order; one that was skipped has proven nothing."""
    for item in ElementTree.parse(path).iter("testcase"):  # noqa: S314 - pytest's own
        told: dict[str, tuple[str, ...]] = {}
        for prop in item.iter("property"):
            name = prop.get("name", "")
            told[name] = (*told.get(name, ()), prop.get("value", ""))
        name = item.get("name", "").partition("[")[0]
        yield Case(
            test=f"{item.get('classname', '').replace('.', '/')}.py::{name}",
            passed=not any(item.find(end) is not None for end in ("failure", "error", "skipped")),
            told=told,
        )
