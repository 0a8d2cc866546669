"""Hosted workflows: every rule over each of them, and over what it must refuse."""

import re
from pathlib import Path

import pytest
import yaml

from tests.supply import workflows
from xwiki_stack import cli, cluster, proc, repo, steps
from xwiki_stack.cluster import pins

COUNTEREXAMPLES = Path(__file__).parent / "counterexamples"

FILES = sorted(workflows.FOLDER.glob("*"))


@pytest.mark.parametrize("rule", workflows.RULES)
def test_every_workflow_obeys(rule: str) -> None:
    assert len(FILES) >= 3
    check = workflows.RULES[rule]
    for path in FILES:
        assert list(check(path.read_text())), f"{rule} saw nothing in {path.name}"
        assert workflows.violations(path.read_text(), check) == [], path.name


@pytest.mark.parametrize("rule", workflows.RULES)
def test_every_counterexample_is_refused_and_by_its_rule_alone(rule: str) -> None:
    examples = (COUNTEREXAMPLES / f"{rule}.yaml").read_text().split("\n---\n")
    assert examples
    for text in examples:
        refused = [
            name for name, check in workflows.RULES.items() if workflows.violations(text, check)
        ]
        assert refused == [rule], text


def test_every_rule_has_counterexamples_and_says_what_it_wants() -> None:
    assert {path.stem for path in COUNTEREXAMPLES.glob("*.yaml")} == set(workflows.RULES)
    assert [name for name, rule in workflows.RULES.items() if not rule.__doc__] == []


def test_actionlint_refuses_what_it_is_there_for(tmp_path: Path) -> None:
    """`make check` runs it over the workflows; here it is seen to find something."""
    text = (workflows.FOLDER / "ci.yaml").read_text()
    fine, broken = tmp_path / "fine.yaml", tmp_path / "broken.yaml"
    fine.write_text(text)
    broken.write_text(
        text.replace("run: make check", "run: echo ${{ github.event.pull_request.title }}")
    )
    program = cluster.tools().actionlint
    assert program.is_file(), "run `make check` once: it makes actionlint"
    assert proc.run([program, fine]).code == 0
    refused = proc.run([program, broken], check=False)
    assert (refused.code, "potentially untrusted" in refused.out) == (1, True)


def test_what_workflows_call_is_there() -> None:
    """Verbs of our command, targets of make: a renamed one is noticed here, not on a tag."""
    called = set()
    targets = set(re.findall(r"^([a-z]+):", (repo.ROOT / "Makefile").read_text(), re.M))
    for path in FILES:
        text = path.read_text()
        assert set(re.findall(r"\bmake ([a-z]+)$", text, re.M)) <= targets
        called |= set(re.findall(r"bin/xwiki-stack ([a-z]+)(?: (--\w+))?", text))
    assert len(called) >= 3
    for verb, option in called:
        words = [verb, *([option] if option else [])]
        assert cli._parser().parse_args(words)


def test_the_folder_of_the_tools_is_all_that_a_path_takes_in(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Progress goes elsewhere: workflows write what `xwiki-stack tools` prints into their PATH."""
    monkeypatch.setattr(
        cluster, "tool_steps", lambda: [steps.Step("any", "Any tool", lambda _log: "made")]
    )
    assert cli.main(["tools"]) == 0
    said = capsys.readouterr()
    assert said.out == f"{cluster.tools().folder}\n"
    assert "Any tool" in said.err


def test_hosted_ci_scans_with_the_trivy_of_make_check() -> None:
    (job,) = yaml.safe_load((workflows.FOLDER / "scan.yaml").read_text())["jobs"].values()
    (version,) = [
        step["with"]["version"] for step in job["steps"] if "setup-trivy" in step.get("uses", "")
    ]
    assert version == f"v{pins.scanner().version}"
