"""The alerts of the platform fire when they should and else are quiet; promtool judges.

The stories stand in platform/. Each part of an expression is altered: a story must notice.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import clusters
from xwiki_stack import gitops, proc, repo, steps
from xwiki_stack.cluster import pins, programs
from xwiki_stack.render import Manifest

STORIES = Path(__file__).parent / "platform"
RULES = repo.ROOT / "flux" / "infra" / "kube-prometheus-stack-config"
RUNBOOKS = repo.ROOT / "docs" / "runbooks"


def groups() -> dict[str, list[Manifest]]:
    """The rules of each file by its name."""
    found = {path.stem: yaml.safe_load(path.read_text()) for path in RULES.glob("*.yaml")}
    return {
        name: [rule for group in item["spec"]["groups"] for rule in group["rules"]]
        for name, item in found.items()
    }


def rules_of(story: Path) -> list[Manifest]:
    """The rules that a story is about: those of its alert, and of its controller if it says one."""
    alert, _, controller = story.stem.partition("-")
    return [
        rule
        for name, rules in groups().items()
        if name.endswith(controller)
        for rule in rules
        if rule["alert"] == alert
    ]


def promtool() -> Path:
    """Where promtool is, if this checkout pins it."""
    if "promtool" not in pins.tools():
        pytest.skip("UNPROVEN: promtool is not pinned in ci/tools.yaml")
    programs.install("promtool", steps.Log(repo.logs() / "tool-promtool.log", lambda _text: None))
    tools: Any = programs.tools()
    found: Path = tools.promtool
    return found


def told(folder: Path, story: Path, rules: list[Manifest]) -> proc.Result:
    """What promtool says of a story with these rules."""
    folder.mkdir(exist_ok=True)
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": rules}]}))
    (folder / "story.yaml").write_text(story.read_text())
    words = ["test", "rules", "story.yaml"]
    return proc.run([promtool(), *words], cwd=folder, check=False, timeout=60)


def stories() -> list[Path]:
    found = sorted(STORIES.glob("*.yaml"))
    assert len(found) >= 7
    return found


@pytest.mark.parametrize("story", stories(), ids=lambda path: path.stem)
def test_the_story_is_told_as_it_is_written(tmp_path: Path, story: Path) -> None:
    rules = rules_of(story)
    assert rules
    said = told(tmp_path / "as-it-is", story, rules)
    assert said.code == 0, said.out + said.err


def mutants(rule: Manifest) -> Iterator[tuple[str, Manifest]]:
    """The rule with one part altered: what was done, and the rule."""
    text = rule["expr"]
    yield "never", {**rule, "expr": "vector(0) > 1"}
    flipped = {">": "<", "<": ">", "==": "!=", ">=": "<"}
    for found in re.finditer(r"(?<![=!<>])(>=|==|>|<)(?!=)(?= )", text):
        changed = text[: found.start()] + flipped[found[1]] + text[found.end() :]
        yield f"{found[1]} flipped", {**rule, "expr": changed}
    for found in re.finditer(r"(?<=[<>] )[0-9.]+", text):
        for factor in (0.5, 2):
            number = f"{float(found[0]) * factor:g}"
            changed = text[: found.start()] + number + text[found.end() :]
            yield f"{found[0]} is {number}", {**rule, "expr": changed}
    for found in re.finditer(r'\w+=~?"[^"]+"', text):
        changed = text[: found.start()] + text[found.end() :]
        yield f"{found[0]} left out", {**rule, "expr": changed}
    if " and " in text:
        yield "any error at all", {**rule, "expr": text.partition(" and ")[0]}
    yield "at once", {**rule, "for": "0m"}
    yield "hours later", {**rule, "for": "9h"}


@pytest.mark.parametrize("story", stories(), ids=lambda path: path.stem)
def test_an_expression_that_is_altered_fails_its_story(tmp_path: Path, story: Path) -> None:
    own = rules_of(story)
    seen, alive = 0, []
    for place, rule in enumerate(own):
        for what, mutant in mutants(rule):
            said = told(tmp_path / "altered", story, [*own[:place], mutant, *own[place + 1 :]])
            seen += 1
            if said.code == 0:
                alive.append(f"{rule['labels']['severity']}: {what}")
    assert seen >= 3
    assert alive == []


def test_every_alert_has_a_story_of_both_kinds_and_a_runbook() -> None:
    alerts = {rule["alert"] for rules in groups().values() for rule in rules}
    assert alerts == {
        "VolumeClaimBroken",
        "PodCrashLooping",
        "LonghornVolumeDegraded",
        "LonghornMetricsAbsent",
        "CertificateExpiring",
        "IngressErrors",
    }
    assert {path.stem.partition("-")[0] for path in stories()} == alerts
    for path in stories():
        looks = [
            look
            for test in yaml.safe_load(path.read_text())["tests"]
            for look in test["promql_expr_test"]
        ]
        assert {bool(look["exp_samples"]) for look in looks} == {True, False}, path.stem
    pages = {
        path.stem for path in RUNBOOKS.glob("*.md") if re.match(r"[A-Z][a-z]+[A-Z]", path.stem)
    }
    # Those of backups are held by test_alerts.
    assert {page for page in pages if not page.startswith("Backups")} == alerts
    for alert in alerts:
        text = (RUNBOOKS / f"{alert}.md").read_text()
        assert text.startswith(f"# {alert}\n")
        assert re.findall(r"^## (.*)$", text, re.M) == ["Meaning", "See", "Do"]


def test_an_alert_says_what_to_do_and_where_to_read_on() -> None:
    for rule in [rule for rules in groups().values() for rule in rules]:
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{rule['alert']}.md"
        assert rule["labels"]["severity"] in {"warning", "critical"}


@pytest.mark.parametrize("name", ["decided", "traefik"])
def test_a_cluster_gets_the_alerts_of_what_it_has(name: str) -> None:
    found, _carried = clusters.of(name)
    made = {
        item["metadata"]["name"]
        for part, item in clusters.objects(name)
        if part == "kube-prometheus-stack-config"
    }
    assert made == set(gitops.alerts(found))
    assert f"ingress-errors-{found.ingress}" in made
    assert len(made) == 5
    off = clusters.values(name)["kube-prometheus-stack"]["defaultRules"]["disabled"]
    assert off == {"KubePodCrashLooping": True, "KubePersistentVolumeErrors": True}
