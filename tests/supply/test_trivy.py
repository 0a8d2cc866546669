"""Trivy: what we deploy passes, what must not pass does not, and exceptions end."""

import datetime
import json
from pathlib import Path

import pytest
import yaml

from xwiki_stack import cli, scan
from xwiki_stack.errors import IntentError, MachineError
from xwiki_stack.scan import findings, objects, trivy
from xwiki_stack.scan.findings import Exempt, Scan

TODAY = datetime.date(2026, 12, 1)

BAD_POD = """
apiVersion: v1
kind: Pod
metadata:
  name: bad
  namespace: x
spec:
  containers:
    - name: app
      image: docker.io/library/debian:13
      securityContext:
        privileged: true
"""

ENTRY = {"id": "KSV-0001", "statement": "because", "expired_at": datetime.date(2027, 1, 1)}


@pytest.fixture(scope="module")
def program() -> Path:
    """Trivy, where this machine may have one."""
    scan.install(lambda _text: None, ("tool-helm", "tool-trivy"))
    found = trivy.program()
    if found is None:
        pytest.skip("UNPROVEN: there is no Trivy for this machine; hosted CI has one (scan.yaml)")
    return found


@pytest.fixture(scope="module")
def said(program: Path) -> Scan:
    """What Trivy says of all that we deploy, nothing excepted."""
    return scan.run(objects.environments(), [trivy.NAME])


def test_what_we_deploy_passes_but_for_what_is_accepted(said: Scan) -> None:
    assert findings.judge(said, scan.exceptions()) == []
    assert said.passed[trivy.NAME] > 500


def test_each_exception_is_needed(said: Scan) -> None:
    """What Trivy finds without any, it finds at the places of exceptions; and the other way."""
    assert {item.check for item in said.findings} == set(trivy.exceptions())
    idle = Exempt("a reason of words", ("objects/*.yaml",))
    (line,) = findings.judge(said, {trivy.NAME: {**trivy.exceptions(), "KSV-9": idle}})
    assert line == ".trivyignore.yaml: Trivy.KSV-9 finds nothing at objects/*.yaml; take it out"


def test_the_tree_of_flux_and_every_dockerfile_are_looked_at(program: Path, tmp_path: Path) -> None:
    (tmp_path / "prod.yaml").write_text(BAD_POD)
    folder = tmp_path / "work"
    folder.mkdir()
    given = trivy.lay_out(folder, {"prod": tmp_path / "prod.yaml"})
    looked = trivy.scan(folder)
    assert set(given) <= set(looked.targets)
    assert {name.partition("/")[0] for name in looked.targets} == {"objects", "flux", "images"}
    assert len(trivy.dockerfiles()) >= 2


def test_a_privileged_pod_and_a_dockerfile_of_root_are_found(program: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(BAD_POD)
    (tmp_path / "Dockerfile").write_text("FROM docker.io/library/debian:13\n")
    found = [(item.item, item.check) for item in trivy.scan(tmp_path).findings]
    assert ("bad.yaml", "KSV-0017") in found
    assert ("Dockerfile", "DS-0002") in found


def test_a_finding_is_one_line_and_the_end_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "objects/a.yaml: Trivy KSV-0017: privileged"
    monkeypatch.setattr(scan, "scan", lambda **_: [line])
    assert cli.main(["scan", "--check"]) == 2
    said = capsys.readouterr()
    assert said.out == f"{line}\n"
    assert "1 finding(s) that block" in said.err
    assert "accept each with its reason: ci/scanners.yaml, .trivyignore.yaml" in said.err


def test_a_file_that_trivy_passes_over_is_an_error(program: Path, tmp_path: Path) -> None:
    (tmp_path / "staging.yaml").write_text("what: is this\n")
    with pytest.raises(MachineError, match=r"did not look at objects/staging\.yaml"):
        trivy.ask({"staging": tmp_path / "staging.yaml"})


def test_every_exception_says_why_and_until_when_and_none_is_over() -> None:
    document = yaml.safe_load(trivy.EXCEPTIONS.read_text())
    assert sum(len(document.get(kind) or []) for kind in trivy.KINDS) >= 1
    assert trivy.mistakes(document, datetime.datetime.now(datetime.UTC).date()) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"expired_at": None}, "no expired_at says until when"),
        ({"expired_at": "soon"}, "no expired_at says until when"),
        ({"expired_at": TODAY}, "over since 2026-12-01"),
        ({"expired_at": datetime.date(2026, 11, 30)}, "over since 2026-11-30"),
        ({"statement": None}, "no statement says why"),
        ({"statement": "  "}, "no statement says why"),
    ],
)
@pytest.mark.parametrize("kind", trivy.KINDS)
def test_an_exception_that_says_too_little_or_is_over_is_refused(
    kind: str, change: dict[str, object], said: str
) -> None:
    assert trivy.mistakes({kind: [ENTRY]}, TODAY) == []
    (line,) = trivy.mistakes({kind: [ENTRY, {**ENTRY, **change}]}, TODAY)
    assert line.startswith(f"{kind}[1] (KSV-0001): ")
    assert said in line


def test_a_list_that_trivy_does_not_read_is_refused() -> None:
    assert trivy.mistakes({"misconfiguration": [ENTRY]}, TODAY) == [
        "misconfiguration: Trivy knows no such list"
    ]


def test_an_exception_that_is_over_stops_the_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "old.yaml"
    old.write_text(
        "vulnerabilities:\n  - id: CVE-1\n    statement: x\n    expired_at: 2020-01-01\n"
    )
    monkeypatch.setattr(trivy, "EXCEPTIONS", old)
    for look in (scan.exceptions, lambda: list(trivy.images([]))):
        with pytest.raises(IntentError, match=r"vulnerabilities\[0\] \(CVE-1\): over since"):
            look()


VULNERABLE = {
    "Target": "t",
    "Vulnerabilities": [
        {
            "VulnerabilityID": "CVE-1",
            "Severity": "HIGH",
            "PkgName": "p",
            "InstalledVersion": "1",
            "FixedVersion": "2",
        }
    ],
}
"""A result of `trivy image`, in the form of its documentation."""


def test_the_image_of_every_container_is_scanned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a stand-in for Trivy: the real one needs a registry and the known vulnerabilities."""
    program = tmp_path / "trivy"
    (tmp_path / "answer").write_text(json.dumps({"Results": [VULNERABLE]}))
    program.write_text(
        '#!/bin/sh\ncd "$(dirname "$0")"\nfor image do :; done\necho "$image" >>asked\ncat answer\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr(trivy, "program", lambda: program)
    said: list[str] = []
    wrong = scan.images(said.append)
    asked = (tmp_path / "asked").read_text().split()
    assert asked == sorted(set(asked)) == trivy.references()
    assert {name.rpartition(":")[0] for name in asked} >= {
        "docker.io/library/mysql",
        "docker.io/library/xwiki",
    }
    assert wrong == [f"{image}: CVE-1 HIGH: p 1 -> 2" for image in asked]
    assert said == [f"Trivy: {len(asked)} images, {len(asked)} failed"]
