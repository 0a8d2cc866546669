"""promtool, which judges alerts by stories, and expressions that are altered a part at a time."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from xwiki_stack import proc, repo, steps
from xwiki_stack.cluster import programs
from xwiki_stack.render import Manifest

FLIPPED = {">": "<", "<": ">", "==": "!=", ">=": "<"}


def promtool(*words: str | Path, folder: Path) -> proc.Result:
    """What promtool says and ends with; built unless it is there."""
    log = steps.Log(repo.logs() / "tool-promtool.log", lambda _text: None)
    programs.install("promtool", log)
    return proc.run([programs.tools().promtool, *words], cwd=folder, check=False, timeout=60)


def told(
    folder: Path, story: Path, groups: dict[str, list[Manifest]], tests: Sequence[str] = ()
) -> proc.Result:
    """What promtool says of a story with these groups of rules, by the file that it names.

    tests: of the story, by name, each alone until one fails; all at once where none is named.
    """
    folder.mkdir(exist_ok=True)
    for name, found in groups.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"groups": found}))
    (folder / "story.yaml").write_text(story.read_text())
    # Go's regular expressions know a backslash before punctuation alone.
    one = [["--run", "^" + re.sub(r"([^\w\s])", r"\\\1", name) + "$"] for name in tests]
    for only in one or [[]]:
        said = promtool("test", "rules", *only, "story.yaml", folder=folder)
        if said.code != 0:
            break
    return said


def looks(story: Path) -> list[dict[str, Any]]:
    """The moments at which a story asks for alerts."""
    tests = yaml.safe_load(story.read_text())["tests"]
    return [look for test in tests for look in test["promql_expr_test"]]


def refuse_idle_parts(
    folder: Path, story: Path, file: str, own: list[Manifest], matchers: str
) -> None:
    """Assert that a story, which is true of its rules, notices every part of them that is altered.

    file: that the story names; matchers: a regular expression for the labels that are left out.
    """

    tests = [test["name"] for test in yaml.safe_load(story.read_text())["tests"]]
    assert len(set(tests)) == len(tests)

    def told_with(rules: list[Manifest]) -> proc.Result:
        return told(folder, story, {file: [{"name": "g", "rules": rules}]}, tests)

    assert told_with(own).code == 0, "what fails anyway notices nothing"
    seen, alive = 0, []
    for place, rule in enumerate(own):
        for what, mutant in _mutants(rule, matchers):
            said = told_with([*own[:place], mutant, *own[place + 1 :]])
            seen += 1
            if said.code == 0:
                alive.append(f"{rule['labels']['severity']}: {what}")
            elif "FAILED" not in said.out + said.err or "parse error" in said.out + said.err:
                alive.append(f"{rule['labels']['severity']}: {what} was no rule: {said.err}")
    assert seen >= 3
    assert alive == [], f"{len(alive)} of {seen}"


def _mutants(rule: Manifest, matchers: str) -> Iterator[tuple[str, Manifest]]:
    """The rule with one part altered: what was done, and the rule."""
    text = rule["expr"]

    def with_text(what: str, changed: str) -> tuple[str, Manifest]:
        return what, {**rule, "expr": changed}

    yield with_text("never", "vector(0) > 1")
    for found in re.finditer(r"(?<![=!<>])(>=|==|>|<)(?!=)(?= )", text):
        start, end = found.span()
        flipped = FLIPPED[found[1]]
        yield with_text(f"{found[1]} at {start} flipped", text[:start] + flipped + text[end:])
    for found in re.finditer(r"(?<=[<>] )[0-9.]+", text):
        start, end = found.span()
        for factor in (0.5, 2) if float(found[0]) else ():
            number = f"{float(found[0]) * factor:g}"
            yield with_text(f"{found[0]} is {number}", text[:start] + number + text[end:])
    for found in re.finditer(matchers, text):
        start, end = found.span()
        yield with_text(f"{found[0]} at {start} left out", text[:start] + text[end:])
    for found in re.finditer(r"\n\s+(or|and)\s", text):
        yield with_text(f"only before {found[1]}", _closed(text[: found.start()]))
        yield with_text(f"only after {found[1]}", _closed(text[found.end() :]))
    if "for" in rule:
        yield "at once", {**rule, "for": "0m"}
        yield "a day later", {**rule, "for": "1d"}


def _closed(text: str) -> str:
    """Half of an expression with as many parentheses at its ends as it lacks."""
    lacking = text.count("(") - text.count(")")
    return text + ")" * lacking if lacking >= 0 else "(" * -lacking + text
