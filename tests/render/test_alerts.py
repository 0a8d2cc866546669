"""Every alert fires when it should and else is quiet, and no part of an expression is idle.

promtool judges the rules as the chart renders them for two environments; the stories stand in
alerts/<AlertName>.yaml. Then each expression is altered, a part at a time: a story must notice.
"""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import environments
from tests.render import schemas
from xwiki_stack import generate, proc, render, repo, steps
from xwiki_stack.backup import metrics
from xwiki_stack.cluster import programs
from xwiki_stack.render import Manifest

STORIES = Path(__file__).parent / "alerts"

ALERTS = sorted(path.stem for path in (repo.ROOT / "charts").glob("*/rules/*.yaml"))

RUNBOOKS = repo.ROOT / "docs" / "runbooks"

PROMISES = {
    "prod": {"rpo": "26h", "rto": "2h", "drills": "monthly"},
    "staging": {"rpo": "50h", "rto": "8h", "drills": "quarterly"},
}
"""Two environments, every threshold another one."""


def promtool(*words: str | Path, folder: Path) -> proc.Result:
    """What promtool says and ends with; built unless it is there."""
    log = steps.Log(repo.logs() / "tool-promtool.log", lambda _text: None)
    programs.install("promtool", log)
    return proc.run([programs.tools().promtool, *words], cwd=folder, check=False, timeout=60)


def rendered(name: str, **promise: str) -> list[Manifest]:
    """The groups of an environment's alerts, from its intent on."""
    environment, cluster = environments.decided_prod()
    backups = {**environment.backups, **promise}
    own = dataclasses.replace(environment, name=name, purpose=name, backups=backups)
    values = yaml.safe_load(generate.text_of(own, cluster))
    objects = render.helm_template(values=[values], namespace=f"open4goods-{name}")
    made = [item["spec"]["groups"] for item in objects if item["kind"] == "PrometheusRule"]
    return [group for groups in made for group in groups]


@pytest.fixture(scope="module")
def groups() -> dict[str, list[Manifest]]:
    """The groups of both environments."""
    return {name: rendered(name, **promise) for name, promise in PROMISES.items()}


def told(folder: Path, story: Path, groups: dict[str, list[Manifest]]) -> proc.Result:
    """What promtool says of a story with these rules."""
    folder.mkdir(exist_ok=True)
    for name, found in groups.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"groups": found}))
    (folder / "story.yaml").write_text(story.read_text())
    return promtool("test", "rules", "story.yaml", folder=folder)


def rules(groups: list[Manifest]) -> list[Manifest]:
    return [rule for group in groups for rule in group["rules"]]


def test_the_rules_are_valid_and_each_file_is_one_alert(
    groups: dict[str, list[Manifest]], tmp_path: Path
) -> None:
    assert len(ALERTS) == 11
    for name, found in groups.items():
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"groups": found}))
        said = promtool("check", "rules", "--lint-fatal", path, folder=tmp_path)
        assert said.code == 0, said.out + said.err
        assert sorted({rule["alert"] for rule in rules(found)}) == ALERTS


@pytest.mark.parametrize("story", sorted(STORIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_story_is_told_as_it_is_written(
    groups: dict[str, list[Manifest]], tmp_path: Path, story: Path
) -> None:
    said = told(tmp_path / "as-it-is", story, groups)
    assert said.code == 0, said.out + said.err


def test_every_alert_has_stories_of_both_kinds() -> None:
    """Some moment at which it fires, some at which it is quiet, of this environment and another."""
    for alert in ALERTS:
        document = yaml.safe_load((STORIES / f"{alert}.yaml").read_text())
        looks = [look for test in document["tests"] for look in test["promql_expr_test"]]
        assert {bool(look["exp_samples"]) for look in looks} == {True, False}, alert
        assert {alert in look["expr"] for look in looks} == {True}, alert
        series = str([test["input_series"] for test in document["tests"]])
        assert re.search('(environment|namespace)="[a-z0-9-]*staging"', series), alert


FLIPPED = {">": "<", "<": ">", "==": "!=", ">=": "<"}


def mutants(rule: Manifest) -> Iterator[tuple[str, Manifest]]:
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
    for found in re.finditer(r'(?:environment|kind|namespace|proof)="[a-z0-9-]+",?', text):
        start, end = found.span()
        yield with_text(f"{found[0]} at {start} left out", text[:start] + text[end:])
    for found in re.finditer(r"\n\s+(or|and)\n", text):
        yield with_text(f"only before {found[1]}", _closed(text[: found.start()]))
        yield with_text(f"only after {found[1]}", _closed(text[found.end() :]))
    if "for" in rule:
        yield "at once", {**rule, "for": "0m"}
        yield "a day later", {**rule, "for": "1d"}


def _closed(text: str) -> str:
    """Half of an expression with as many parentheses at its ends as it lacks."""
    lacking = text.count("(") - text.count(")")
    return text + ")" * lacking if lacking >= 0 else "(" * -lacking + text


@pytest.mark.parametrize("alert", ALERTS)
def test_an_expression_that_is_altered_fails_a_story(
    groups: dict[str, list[Manifest]], tmp_path: Path, alert: str
) -> None:
    own = [rule for rule in rules(groups["prod"]) if rule["alert"] == alert]
    story = STORIES / f"{alert}.yaml"
    whole = told(tmp_path / "whole", story, {"prod": [{"name": "g", "rules": own}]})
    assert whole.code == 0, "what fails anyway notices nothing"
    seen, alive = 0, []
    for place, rule in enumerate(own):
        for what, mutant in mutants(rule):
            changed = [{"name": "g", "rules": [*own[:place], mutant, *own[place + 1 :]]}]
            said = told(tmp_path / "altered", story, {"prod": changed})
            seen += 1
            if said.code == 0:
                alive.append(f"{rule['labels']['severity']}: {what}")
            elif "FAILED" not in said.out + said.err or "parse error" in said.out + said.err:
                alive.append(f"{rule['labels']['severity']}: {what} was no rule: {said.err}")
    assert seen >= 3
    assert alive == [], f"{len(alive)} of {seen}"


# Words


def test_an_alert_says_what_it_is_and_where_to_read_on(groups: dict[str, list[Manifest]]) -> None:
    for rule in rules(groups["prod"]):
        words = rule["annotations"]
        assert set(words) == {"summary", "description", "runbook_url"}
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert words["runbook_url"] == f"docs/runbooks/{rule['alert']}.md"
        assert len(words["summary"]) < 140
        assert "\n" not in words["summary"] + words["description"]
        for text in words.values():
            # A label that no series of the expression has would be an empty word.
            for label in re.findall(r"\$labels\.(\w+)", text):
                groupings = re.findall(r"\bby \(([^)]*)\)", rule["expr"])
                assert all(label in grouping for grouping in groupings), (rule["alert"], label)
                assert groupings or label in {"environment", "namespace"}


def test_every_metric_that_an_alert_asks_for_is_one_that_the_exporter_has(
    groups: dict[str, list[Manifest]],
) -> None:
    asked = set(re.findall(r"xwiki_stack_backup_\w+", str(groups["prod"])))
    asked |= set(
        re.findall(r"xwiki_stack_backup_\w+", str([p.read_text() for p in STORIES.iterdir()]))
    )
    assert len(asked) > 10
    assert {name.removeprefix(metrics.PREFIX) for name in asked} <= set(metrics.GAUGES)


def test_every_alert_has_a_runbook_and_every_such_runbook_an_alert() -> None:
    pages = {
        path.stem for path in RUNBOOKS.glob("*.md") if re.match(r"[A-Z][a-z]+[A-Z]", path.stem)
    }
    assert pages == set(ALERTS)
    for alert in ALERTS:
        text = (RUNBOOKS / f"{alert}.md").read_text()
        assert text.startswith(f"# {alert}\n")
        assert re.findall(r"^## (.*)$", text, re.M) == ["Meaning", "See", "Do"]
        assert "kubectl" in text or "xwiki-stack backup" in text


def test_drills_are_not_missed_where_nobody_asked_for_them() -> None:
    found = rules(rendered("prod", drills="undecided"))
    assert {rule["alert"] for rule in found} == {a for a in ALERTS if "Drill" not in a}


def test_labels_let_the_operator_choose_them() -> None:
    chosen: dict[str, Any] = {
        "backups": schemas.everything("backups")["metrics"]["rules"]["labels"],
        "netpol": schemas.everything("netpol")["probe"]["rules"]["labels"],
    }
    for chart, labels in chosen.items():
        made = environments.only(environments.objects("everything"), "PrometheusRule", chart)
        assert labels.items() <= made["metadata"]["labels"].items()
