"""Every rule says what it should of a change, and nothing of one that looks like it."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from xwiki_stack.policy import Manifest
from xwiki_stack.review import changes, verdicts
from xwiki_stack.review.verdicts import Finding, Weight

CASES = Path(__file__).parent / "cases"


@dataclass(frozen=True)
class Case:
    """A change and what a rule says of it: weight and beginning of the words, cause, next."""

    rule: str
    name: str
    old: list[Manifest]
    new: list[Manifest]
    says: list[str]


def patched(item: Manifest, patch: dict[str, Any]) -> Manifest:
    """The object after a JSON merge patch (RFC 7396)."""
    done = copy.deepcopy(item)
    for key, value in patch.items():
        if value is None:
            done.pop(key, None)
        elif isinstance(value, dict):
            done[key] = patched(done.get(key) or {}, value)
        else:
            done[key] = value
    return done


def cases() -> list[Case]:
    found = []
    for path in sorted(CASES.glob("*.yaml")):
        for entry in yaml.safe_load(path.read_text()):
            fate, beside = entry.get("fate"), entry.get("beside", [])
            later = [
                patched(item, entry.get("beside-patch", {}).get(item["metadata"]["name"], {}))
                for item in beside
            ]
            old = [] if fate == "added" else [entry["object"]]
            new = [] if fate == "removed" else [patched(entry["object"], entry.get("patch", {}))]
            assert old != new, f"{path.name}: {entry['name']} changes nothing"
            says = entry["says"]
            found.append(Case(path.stem, entry["name"], [*old, *beside], [*new, *later], says))
    return found


def findings(case: Case) -> list[Finding]:
    compared = changes.compare("env", "wiki", case.old, case.new)
    return [item.finding for item in verdicts.judge(compared) if item.rule == case.rule]


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.rule}/{case.name}")
def test_a_rule_says_what_it_should(case: Case) -> None:
    found = findings(case)
    wanted = [line for line in case.says if not line.startswith(("cause: ", "next: "))]
    said = [f"{item.weight.value}: {item.text}" for item in found]
    assert len(said) == len(wanted), said
    for line, text in zip(wanted, said, strict=True):
        assert text.startswith(line)
    for line in case.says:
        kind, _, words = line.partition(": ")
        if kind == "cause":
            assert any(words in item.causes for item in found), [item.causes for item in found]
        if kind == "next":
            assert any(item.next.startswith(words) for item in found), [i.next for i in found]


def test_every_rule_has_a_case_and_a_counterexample() -> None:
    speaking = {case.rule for case in cases() if case.says}
    silent = {case.rule for case in cases() if not case.says}
    assert speaking == silent == set(verdicts.RULES)


def test_every_weight_is_given_by_some_case() -> None:
    words = {line.partition(": ")[0] for case in cases() for line in case.says}
    assert words - {"cause", "next"} == {weight.value for weight in Weight}


def test_only_restarts_and_notes_need_no_human() -> None:
    assert {weight for weight in Weight if not weight.human} == {Weight.RESTART, Weight.NOTE}


def test_the_heaviest_comes_first() -> None:
    every = [case for case in cases() if case.name == "another-host"]
    compared = changes.compare("env", "wiki", every[0].old, every[0].new)
    order = [list(Weight).index(item.finding.weight) for item in verdicts.judge(compared)]
    assert len(set(order)) >= 2
    assert order == sorted(order)
