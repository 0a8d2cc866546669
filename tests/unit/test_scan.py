"""What the scanners may find is named with a reason, and documents say what a run said."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from xwiki_stack import proc, repo, scan
from xwiki_stack.errors import IntentError, MachineError, StackError
from xwiki_stack.render import Manifest
from xwiki_stack.scan import checkov, findings, objects, results, trivy
from xwiki_stack.scan.findings import Exempt, Finding, Scan
from xwiki_stack.scan.results import Peer, Results

FOUND = Finding("checkov", "CKV_1", "prod", "Pod/a", "something")
BAD = Finding("kube-score", "pod-x", "prod", "Pod/b", "b: something else")
SAID = Scan({"checkov": 3, "kube-score": 4}, [FOUND, BAD])
NONE: dict[str, dict[str, Exempt]] = {"checkov": {}, "kube-score": {}}
BOTH = {
    "checkov": {"CKV_1": Exempt("a reason of words", ("Pod/a", "Pod/a*"))},
    "kube-score": {"pod-x": Exempt("another reason of words", ("*",))},
}

GIVEN = {"only": ["*"], "why": "a reason of words"}

RESULTS = Results(
    commit="abc",
    date="2026-01-02",
    versions={"checkov": "3.0", "kube-score": "1.0"},
    objects={"prod-decided": 7, "staging": 5},
    passed={"checkov": 3, "kube-score": 4},
    failed={"checkov": 0, "kube-score": 2},
    excepted={"checkov": {"CKV_1": 9}, "kube-score": {}},
    bare={"checkov": 8, "kube-score": 3},
    peers=[Peer("other", "chart-1.0", 20, 63, 8)],
)


def test_what_nobody_excepted_is_told_with_its_object() -> None:
    assert findings.judge(SAID, BOTH) == []
    assert findings.judge(SAID, NONE) == [
        "prod: Pod/a: checkov CKV_1: something",
        "prod: Pod/b: kube-score pod-x: b: something else",
    ]


def test_an_exception_is_of_the_objects_that_it_names() -> None:
    elsewhere = {**BOTH, "checkov": {"CKV_1": Exempt("a reason of words", ("Pod/b", "Job/*"))}}
    assert findings.judge(SAID, elsewhere) == [
        "prod: Pod/a: checkov CKV_1: something",
        "ci/scanners.yaml: checkov.CKV_1 finds nothing at Pod/b; take it out",
        "ci/scanners.yaml: checkov.CKV_1 finds nothing at Job/*; take it out",
    ]


def test_what_trivy_says_of_a_file_is_told_with_the_place_of_its_exceptions() -> None:
    said = Scan({"Trivy": 1}, [Finding("Trivy", "KSV-1", "", "objects/a.yaml", "bad")])
    exempt = Exempt("a reason of words", ("images/*",))
    assert findings.judge(said, {"Trivy": {"KSV-1": exempt}}) == [
        "objects/a.yaml: Trivy KSV-1: bad",
        ".trivyignore.yaml: Trivy.KSV-1 finds nothing at images/*; take it out",
    ]


def test_an_exception_that_nobody_needs_is_refused() -> None:
    idle = {"CKV_9": Exempt("a reason of words", ("*",))}
    assert findings.judge(SAID, {**BOTH, "checkov": {**BOTH["checkov"], **idle}}) == [
        "ci/scanners.yaml: checkov.CKV_9 finds nothing at *; take it out"
    ]


def test_a_scanner_that_looked_at_nothing_has_not_said_that_all_is_well() -> None:
    silent = Scan({"checkov": 0, "kube-score": 4}, [])
    assert findings.judge(silent, NONE) == ["checkov looked at nothing"]


def test_the_exceptions_are_few_and_each_has_its_reason() -> None:
    found = findings.config()
    assert len(found["checkov"]) <= findings.MOST_SKIPPED == 5
    assert all(exempt.only for exceptions in found.values() for exempt in exceptions.values())


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"checkov": {}}, "names other scanners"),
        ([], "names other scanners"),
        ({**NONE, "Trivy": {}}, "names other scanners"),
        ({**NONE, "checkov": {"CKV_1": "a reason of words"}}, "checkov.CKV_1: is no exception"),
        ({**NONE, "checkov": {"CKV_1": {"why": "a reason of words"}}}, "is no exception"),
        ({**NONE, "kube-score": {"x": {"only": ["*"], "why": "not now"}}}, "x: does not say why"),
        ({**NONE, "kube-score": {"x": {**GIVEN, "only": []}}}, "kube-score.x: is of no object"),
        ({**NONE, "checkov": dict.fromkeys("abcdef", GIVEN)}, "has 6 exceptions"),
    ],
    ids=str,
)
def test_a_list_that_does_not_say_why_is_refused(tmp_path: Path, document: Any, words: str) -> None:
    path = tmp_path / "scanners.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(IntentError, match=words):
        findings.config(path)


def test_objects_have_the_namespace_that_helm_would_give_them() -> None:
    own = {"kind": "Pod", "metadata": {"name": "a"}}
    named = {"kind": "Pod", "metadata": {"name": "b", "namespace": "kept"}}
    assert [item["metadata"]["namespace"] for item in objects.namespaced([own, named], "n")] == [
        "n",
        "kept",
    ]
    assert "namespace" not in own["metadata"]


@pytest.mark.parametrize("scanner", results.COMPARED)
@pytest.mark.parametrize("out", ["", "Traceback: it broke", '{"failed": '])
def test_a_scanner_that_breaks_is_no_scanner_that_is_content(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scanner: str, out: str
) -> None:
    monkeypatch.setattr(proc, "run", lambda *_, **__: proc.Result((), 1, out, "it broke"))
    with pytest.raises(StackError, match=f"{scanner} gave no JSON"):
        scan.SCANNERS[scanner]({"prod": tmp_path / "prod.yaml"})


def test_what_checkov_cannot_read_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = '{"summary": {"passed": 1, "parsing_errors": 1}, "results": {"failed_checks": []}}'
    monkeypatch.setattr(proc, "run", lambda *_, **__: proc.Result((), 0, said, ""))
    with pytest.raises(StackError, match="prod: checkov could not read"):
        checkov.ask({"prod": tmp_path / "prod.yaml"})


@pytest.mark.parametrize(
    ("resource", "item"),
    [
        ("Deployment.wiki.xwiki-stack-xwiki", "Deployment/xwiki-stack-xwiki"),
        ("Pod.wiki.a.app.kubernetes.io/name-b", "Pod/a"),
    ],
)
def test_an_object_is_named_as_we_name_it(resource: str, item: str) -> None:
    assert checkov._kind_and_name(resource) == item


def test_checkov_is_pinned_with_every_package_by_hash() -> None:
    lines = checkov.LOCK.read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith((" ", "#"))]
    assert len(pins) > 50
    assert not [line for line in pins if not line.endswith("\\")]
    assert not [line for line in lines if "://" in line or line.startswith("-")]
    assert (repo.ROOT / "requirements" / "checkov.in").read_text() == (
        f"checkov=={checkov.version()}\n"
    )


# A machine without Trivy


@pytest.fixture
def without_trivy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said where the other scanners are there and content; nothing of ours is written."""
    monkeypatch.setenv(repo.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(results, "RESULTS", tmp_path / "scanners.json")
    monkeypatch.setattr(trivy, "program", lambda: None)
    monkeypatch.setattr(scan, "install", lambda *_: None)
    monkeypatch.setattr(scan, "environments", dict)
    monkeypatch.setattr(scan, "run", lambda _objects, names: Scan(dict.fromkeys(names, 1), []))
    monkeypatch.setattr(scan, "exceptions", lambda: {name: {} for name in scan.SCANNERS})
    return []


def test_without_trivy_that_much_is_said_to_be_unproven(without_trivy: list[str]) -> None:
    assert scan.scan(write=False, emit=without_trivy.append) == []
    assert without_trivy[-1] == "Trivy: unproven: hosted CI scans"
    assert scan.images(emit=without_trivy.append) == []
    assert without_trivy[-1] == "Trivy: unproven: hosted CI scans"


def test_results_are_never_written_without_trivy(without_trivy: list[str]) -> None:
    with pytest.raises(MachineError, match="there is no Trivy here"):
        scan.scan(write=True, emit=without_trivy.append)
    assert not results.RESULTS.exists()


# What is written


def test_every_figure_of_a_run_stands_in_a_table() -> None:
    marks = "<!-- figures: scanners -->\n<!-- end of figures -->\n"
    text = results.page(marks + marks.replace("scanners", "peers"), RESULTS, BOTH)
    assert "Commit abc, 2026-01-02. Objects: prod-decided 7, staging 5.\n" in text
    assert "| checkov | 3.0 | 3 | **0** | 9 findings of 1 checks |\n" in text
    assert "| kube-score | 1.0 | 4 | **2** | 0 findings of 0 checks |\n" in text
    assert "| checkov `CKV_1` | 9 | `Pod/a`, `Pod/a*` | a reason of words |\n" in text
    assert "| other (chart-1.0) | 20 | 63 | 8 |\n" in text
    assert "| **xwiki-stack** (prod-decided), nothing excepted | 7 | 8 | 3 |\n" in text
    assert "| **xwiki-stack** (prod-decided), as accepted | 7 | 0 | 2 |\n" in text


def test_results_are_counted_with_and_without_exceptions() -> None:
    said = Scan(SAID.passed, [*SAID.findings, replace(BAD, environment="prod-decided")])
    found: dict[str, list[Manifest]] = {"prod": [{}], "prod-decided": [{}, {}]}
    made = results.outcome(found, said, {**BOTH, "kube-score": {}}, {"checkov": "3.0"}, [])
    assert made.versions == {"checkov": "3.0"}
    assert made.objects == {"prod": 1, "prod-decided": 2}
    assert made.failed == {"checkov": 0, "kube-score": 2}
    assert made.excepted == {"checkov": {"CKV_1": 1}, "kube-score": {}}
    assert made.bare == {"checkov": 0, "kube-score": 1}
    assert made.passed == said.passed


def test_a_render_that_does_not_say_whose_it_is_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntentError, match="does not say which chart it is"):
        scan.compare(tmp_path / "other.yaml")
    with pytest.raises(IntentError, match="holds no render of a chart"):
        scan.comparison(tmp_path)


def test_results_of_another_version_are_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path / "scanners.json")
    assert results.earlier() is None
    results.RESULTS.write_text('{"commit": "abc"}')
    assert results.earlier() is None
    results.RESULTS.write_text(json.dumps(asdict(RESULTS)))
    assert results.earlier() == RESULTS


def test_the_page_is_what_the_results_say() -> None:
    written = results.earlier()
    assert written, "`xwiki-stack scan` writes them"
    text, exceptions = results.PAGE.read_text(), scan.exceptions()
    assert results.page(text, written, exceptions) == text
    for scanner, checks in exceptions.items():
        assert set(written.excepted[scanner]) == set(checks)
    assert written.versions == scan.versions()
    assert written.failed == dict.fromkeys(scan.SCANNERS, 0)
    assert len(written.peers) >= 3
