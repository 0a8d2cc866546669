"""Every alert fires when it should and else is quiet, and no part of an expression is idle.

promtool judges the rules as the chart renders them for two environments; the stories stand in
alerts/<AlertName>.yaml. Then each expression is altered, a part at a time: a story must notice.
"""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import environments
from tests.render import schemas
from tests.render.promql import looks, promtool, refuse_idle_parts, told
from xwiki_stack import generate, render, repo
from xwiki_stack.backup import metrics
from xwiki_stack.render import Manifest

STORIES = Path(__file__).parent / "alerts"

ALERTS = sorted(path.stem for path in (repo.ROOT / "charts").glob("*/rules/*.yaml"))

MATCHERS = r'(?:environment|kind|proof|namespace|owner_name)=~?"[^"]+",?'
"""The labels of an expression that a story must notice."""

RUNBOOKS = repo.ROOT / "docs" / "runbooks"

PROMISES = {
    "prod": {"rpo": "26h", "rto": "2h", "drills": "monthly"},
    "staging": {"rpo": "50h", "rto": "8h", "drills": "quarterly"},
}
"""Two environments, every threshold another one."""


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


def rules(groups: list[Manifest]) -> list[Manifest]:
    return [rule for group in groups for rule in group["rules"]]


def test_the_rules_are_valid_and_each_file_is_one_alert(
    groups: dict[str, list[Manifest]], tmp_path: Path
) -> None:
    assert len(ALERTS) == 12
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
        found = looks(STORIES / f"{alert}.yaml")
        assert {bool(look["exp_samples"]) for look in found} == {True, False}, alert
        assert {alert in look["expr"] for look in found} == {True}, alert
        series = str([test["input_series"] for test in document["tests"]])
        assert re.search('(environment|namespace)="[a-z0-9-]*staging"', series), alert


@pytest.mark.parametrize("alert", ALERTS)
def test_an_expression_that_is_altered_fails_a_story(
    groups: dict[str, list[Manifest]], tmp_path: Path, alert: str
) -> None:
    own = [rule for rule in rules(groups["prod"]) if rule["alert"] == alert]
    story = STORIES / f"{alert}.yaml"
    refuse_idle_parts(tmp_path / "altered", story, "prod", own, MATCHERS)


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
    # Pages of the platform's alerts are held by test_platform_alerts.
    pages = [*RUNBOOKS.glob("Backups*.md"), *RUNBOOKS.glob("Netpol*.md")]
    assert {path.stem for path in pages} == set(ALERTS)
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
