"""The alerts of the platform fire when they should and else are quiet; promtool judges.

The stories stand in platform/. Each part of an expression is altered: a story must notice.
"""

import re
from pathlib import Path

import pytest
import yaml

from tests import clusters
from tests.render.promql import looks, refuse_idle_parts, told
from xwiki_stack import gitops, repo
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


def stories() -> list[Path]:
    found = sorted(STORIES.glob("*.yaml"))
    assert len(found) >= 7
    return found


@pytest.mark.parametrize("story", stories(), ids=lambda path: path.stem)
def test_the_story_is_told_as_it_is_written(tmp_path: Path, story: Path) -> None:
    rules = rules_of(story)
    assert rules
    said = told(tmp_path / "as-it-is", story, {"rules": [{"name": "g", "rules": rules}]})
    assert said.code == 0, said.out + said.err


@pytest.mark.parametrize("story", stories(), ids=lambda path: path.stem)
def test_an_expression_that_is_altered_fails_its_story(tmp_path: Path, story: Path) -> None:
    refuse_idle_parts(tmp_path / "altered", story, "rules", rules_of(story), r'\w+=~?"[^"]+"')


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
        assert {bool(look["exp_samples"]) for look in looks(path)} == {True, False}, path.stem
    pages = {
        path.stem for path in RUNBOOKS.glob("*.md") if re.match(r"[A-Z][a-z]+[A-Z]", path.stem)
    }
    # Those of backups are held by test_alerts.
    assert {page for page in pages if not page.startswith(("Backups", "Netpol"))} == alerts
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
