"""Trivy: what we deploy passes, what must not pass does not, and exceptions end."""

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from xwiki_stack import cli, cluster, scan
from xwiki_stack.errors import IntentError, MachineError

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
    """Trivy, where this machine has one."""
    found = cluster.scanner()
    if found is None:
        pytest.skip("UNPROVEN: there is no Trivy for this machine")
    assert found.is_file(), "run `make check` once: it makes Trivy"
    return found


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """All that we deploy, as files in a folder."""
    folder = tmp_path_factory.mktemp("scan")
    return folder, scan.lay_out(folder)


def test_what_we_deploy_passes_and_all_of_it_was_looked_at(
    program: Path, ours: tuple[Path, list[str]]
) -> None:
    folder, given = ours
    report = scan.scan(program, folder)
    assert report.findings == ()
    assert len(given) >= 5
    assert set(given) <= set(report.targets)
    assert any(name.startswith("flux/") for name in report.targets)


def test_a_privileged_pod_and_a_dockerfile_of_root_are_found(program: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(BAD_POD)
    (tmp_path / "Dockerfile").write_text("FROM docker.io/library/debian:13\n")
    found = scan.scan(program, tmp_path).findings
    assert any(line.startswith("bad.yaml: KSV-0017 HIGH: ") for line in found), found
    assert any(line.startswith("Dockerfile: DS-0002 HIGH: ") for line in found), found


def test_a_finding_is_one_line_that_says_what_to_do(
    program: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finding = scan.Report(("a.yaml",), ("a.yaml: KSV-0017 HIGH: privileged",))
    monkeypatch.setattr(scan, "config", lambda: finding)
    assert cli.main(["scan"]) == 2
    said = capsys.readouterr()
    assert "a.yaml: KSV-0017 HIGH: privileged" in said.out
    assert "accept each for a time in .trivyignore.yaml" in said.err


def test_without_the_exceptions_there_are_findings_and_each_has_its_own(
    program: Path,
    ours: tuple[Path, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An exception that nothing needs any more hides what comes next."""
    document: dict[str, Any] = yaml.safe_load(scan.EXCEPTIONS.read_text())
    empty = tmp_path / "none.yaml"
    empty.write_text("{}\n")
    monkeypatch.setattr(scan, "EXCEPTIONS", empty)
    report = scan.scan(program, ours[0])
    needed = {line.split(": ")[1].split()[0] for line in report.findings}
    assert needed == {entry["id"] for entry in document["misconfigurations"]}


def test_a_file_that_trivy_passes_over_is_an_error(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lay_out(folder: Path) -> list[str]:
        (folder / "objects").mkdir()
        (folder / "objects" / "staging.yaml").write_text("what: is this\n")
        return ["objects/staging.yaml"]

    monkeypatch.setattr(scan, "lay_out", lay_out)
    with pytest.raises(MachineError, match=r"did not look at objects/staging\.yaml"):
        scan.config()


def test_a_machine_without_trivy_says_that_nothing_is_proven(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cluster, "scanner", lambda: None)
    assert cli.main(["scan"]) == 0
    assert capsys.readouterr().out.startswith("unproven: there is no Trivy for this machine")


def test_every_exception_says_why_and_until_when_and_none_is_over() -> None:
    document = yaml.safe_load(scan.EXCEPTIONS.read_text())
    assert sum(len(document.get(kind) or []) for kind in scan.KINDS) >= 1
    assert scan.mistakes(document, datetime.datetime.now(datetime.UTC).date()) == []


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
@pytest.mark.parametrize("kind", scan.KINDS)
def test_an_exception_that_says_too_little_or_is_over_is_refused(
    kind: str, change: dict[str, object], said: str
) -> None:
    assert scan.mistakes({kind: [ENTRY]}, TODAY) == []
    (line,) = scan.mistakes({kind: [ENTRY, {**ENTRY, **change}]}, TODAY)
    assert line.startswith(f"{kind}[1] (KSV-0001): ")
    assert said in line


def test_a_list_that_trivy_does_not_read_is_refused() -> None:
    assert scan.mistakes({"misconfiguration": [ENTRY]}, TODAY) == [
        "misconfiguration: Trivy knows no such list"
    ]


def test_an_exception_that_is_over_stops_the_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "old.yaml"
    old.write_text(
        "vulnerabilities:\n  - id: CVE-1\n    statement: x\n    expired_at: 2020-01-01\n"
    )
    monkeypatch.setattr(scan, "EXCEPTIONS", old)
    for look in (scan.config, scan.images):
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
    monkeypatch.setattr(cluster, "scanner", lambda: program)
    report = scan.images()
    assert report is not None
    asked = (tmp_path / "asked").read_text().split()
    assert asked == sorted(set(scan.references())) == list(report.targets)
    assert {name.rpartition(":")[0] for name in asked} >= {
        "docker.io/library/mysql",
        "docker.io/library/xwiki",
    }
    assert report.findings == tuple(f"{image}: CVE-1 HIGH: p 1 -> 2" for image in asked)
