"""chartpress packages what Git holds: the real version, and nothing else of it is rewritten."""

import re
import sys
from pathlib import Path

import pytest
import yaml

from tests.supply import renovate
from xwiki_stack import proc, repo

VERSION = str(yaml.safe_load((repo.ROOT / "Chart.yaml").read_text())["version"])


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the checkout with one commit."""
    folder = renovate.copy(tmp_path / "checkout")
    commit = ["-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "--quiet"]
    for words in (["init", "--quiet"], ["add", "--all"], [*commit, "--message=all"]):
        proc.run(["git", *words], cwd=folder)
    return folder


def changed(folder: Path, *words: str) -> list[str]:
    """The lines that chartpress changes, as Git shows them."""
    program = Path(sys.executable).parent / "chartpress"
    proc.run([program, *words], cwd=folder)
    said = proc.run(["git", "diff", "--unified=0"], cwd=folder).out.splitlines()
    proc.run(["git", "checkout", "--quiet", "."], cwd=folder)
    return [line for line in said if line[0] in "+-" and not line.startswith(("+++", "---"))]


def test_git_holds_what_chartpress_would_write(checkout: Path) -> None:
    assert changed(checkout, "--reset") == []
    assert changed(checkout, "--tag", VERSION, "--skip-build") == []


def test_another_tag_sets_the_version_and_nothing_else(checkout: Path) -> None:
    """The workflow refuses such a tag: the subcharts and the lock say the version as well."""
    assert changed(checkout, "--tag", "99.9.9", "--skip-build") == [
        f"-version: {VERSION}",
        "+version: 99.9.9",
    ]


def test_a_list_that_chartpress_would_indent_otherwise_is_noticed(checkout: Path) -> None:
    chart = checkout / "Chart.yaml"
    chart.write_text(re.sub(r"^  (?=[ -])", "", chart.read_text(), flags=re.M))
    proc.run(["git", "add", "--all"], cwd=checkout)
    assert changed(checkout, "--tag", "99.9.9", "--skip-build")[2:] != []


def test_the_release_workflow_asks_for_the_version_of_the_chart() -> None:
    text = (repo.ROOT / ".github" / "workflows" / "release.yaml").read_text()
    document = yaml.safe_load(text)
    steps = {step.get("name"): step for step in document["jobs"]["chart"]["steps"]}
    script = steps["The tag is the version of the chart"]["run"]
    for tag, code in ((f"v{VERSION}", 0), (VERSION, 1), ("v99.9.9", 1)):
        said = proc.run(
            ["bash", "-e", "-c", script], cwd=repo.ROOT, env={"GITHUB_REF_NAME": tag}, check=False
        )
        assert said.code == code, tag


def test_the_release_workflow_puts_the_registry_of_the_owner_in(checkout: Path) -> None:
    text = (checkout / "chartpress.yaml").read_text()
    assert text.count("oci: registry.example.org/xwiki-stack/charts") == 1
    document = yaml.safe_load((repo.ROOT / ".github" / "workflows" / "release.yaml").read_text())
    steps = {step.get("name"): step for step in document["jobs"]["chart"]["steps"]}
    (edit,) = [line for line in steps["Package and publish"]["run"].splitlines() if "sed" in line]
    proc.run(["bash", "-e", "-c", edit], cwd=checkout, env={"CHARTS": "ghcr.io/owner/charts"})
    (chart,) = yaml.safe_load((checkout / "chartpress.yaml").read_text())["charts"]
    assert chart["repo"] == {"oci": "ghcr.io/owner/charts"}
