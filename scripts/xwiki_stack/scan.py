"""Trivy over what we deploy: objects and Dockerfiles without a network, images where one answers.

What is HIGH or CRITICAL blocks. What is accepted for a time stands in .trivyignore.yaml with its
reason and its last day.
"""

import datetime
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from xwiki_stack import cluster, generate, policy, proc, render, repo
from xwiki_stack.errors import IntentError, MachineError

EXCEPTIONS = repo.ROOT / ".trivyignore.yaml"

KINDS = ("vulnerabilities", "misconfigurations", "secrets", "licenses")
"""The lists that Trivy reads of such a file."""

BLOCKING = ("--severity", "HIGH,CRITICAL", "--format", "json", "--quiet", "--disable-telemetry")

EMBEDDED = ("--skip-check-update", "--skip-version-check")
"""The checks inside the program are used, and nobody is asked for newer ones."""

PATIENCE = 1800.0
"""Seconds for one image: the wiki's is 1 GB, and the first brings the known vulnerabilities too."""


@dataclass(frozen=True)
class Report:
    """What a scan came to: what was looked at, and each finding in one line."""

    targets: tuple[str, ...]
    findings: tuple[str, ...]


def config() -> Report | None:
    """Scan every environment's objects, the tree of Flux and the Dockerfiles; None: no Trivy here.

    Raises IntentError for an exception that says too little or is over, MachineError when Trivy
    did not look at what it was given.
    """
    _require_exceptions()
    program = cluster.scanner()
    if program is None:
        return None
    with tempfile.TemporaryDirectory(prefix="xwiki-stack-scan-") as work:
        folder = Path(work)
        given = lay_out(folder)
        report = scan(program, folder)
    if missed := sorted(set(given) - set(report.targets)):
        raise MachineError(f"Trivy did not look at {', '.join(missed)}", where=str(program))
    return report


def images() -> Report | None:
    """Scan every image that an environment runs, for what can be fixed; None: no Trivy here.

    Raises as `config`, and CommandFailed where an image or the database cannot be had.
    """
    _require_exceptions()
    program = cluster.scanner()
    if program is None:
        return None
    found = sorted(set(references()))
    findings: list[str] = []
    for image in found:
        document = _trivy(program, "image", "--ignore-unfixed", image)
        findings += _findings(document, image)
    return Report(tuple(found), tuple(findings))


def lay_out(folder: Path) -> list[str]:
    """Write what is to be judged into a folder; the names of what Trivy must not miss."""
    (folder / "objects").mkdir()
    given = []
    for values in sorted(generate.GENERATED.glob("*/xwiki-stack.yaml")):
        name = f"objects/{values.parent.name}.yaml"
        (folder / name).write_text(render.helm_template_text(values=[values]))
        given.append(name)
    shutil.copytree(repo.ROOT / "flux", folder / "flux")
    for dockerfile in sorted((repo.ROOT / "images").glob("*/Dockerfile*")):
        name = repo.relative(dockerfile)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(dockerfile, folder / name)
        given.append(name)
    return given


def scan(program: Path, folder: Path) -> Report:
    """Judge the files of a folder by Trivy's embedded checks, offline."""
    document = _trivy(program, "config", *EMBEDDED, str(folder))
    targets = tuple(str(item["Target"]) for item in document.get("Results") or [])
    return Report(targets, tuple(_findings(document)))


def references() -> Iterator[str]:
    """The image of every container of every environment."""
    for values in sorted(generate.GENERATED.glob("*/xwiki-stack.yaml")):
        for item in render.helm_template(values=[values]):
            yield from (container["image"] for container in policy.containers_of(item))


def mistakes(document: Mapping[str, Any], today: datetime.date) -> list[str]:
    """What is wrong with exceptions: one without its id, reason or last day, or that is over."""
    found = [f"{key}: Trivy knows no such list" for key in document if key not in KINDS]
    for kind in KINDS:
        for number, entry in enumerate(document.get(kind) or []):
            where = f"{kind}[{number}] ({entry.get('id', 'no id')})"
            last = entry.get("expired_at")
            if "id" not in entry:
                found.append(f"{where}: no id")
            if not str(entry.get("statement") or "").strip():
                found.append(f"{where}: no statement says why it is accepted")
            if not isinstance(last, datetime.date):
                found.append(f"{where}: no expired_at says until when, as a day (2027-05-31)")
            elif last <= today:
                found.append(f"{where}: over since {last}")
    return found


def text(report: Report | None) -> str:
    """A report for people."""
    if report is None:
        return "unproven: there is no Trivy for this machine; hosted CI scans"
    lines = [f"{len(report.targets)} looked at, {len(report.findings)} HIGH or CRITICAL"]
    return "\n".join([*lines, *(f"  {line}" for line in report.findings)])


def _require_exceptions() -> None:
    today = datetime.datetime.now(datetime.UTC).date()
    if found := mistakes(yaml.safe_load(EXCEPTIONS.read_text()) or {}, today):
        raise IntentError(
            "; ".join(found),
            where=repo.relative(EXCEPTIONS),
            next="repair what is found, or say anew why it is accepted and until when",
        )


def _trivy(program: Path, what: str, *words: str) -> dict[str, Any]:
    """What Trivy says as JSON."""
    kept = ["--ignorefile", str(EXCEPTIONS), "--cache-dir", str(repo.cache() / "trivy")]
    said = proc.run([program, what, *BLOCKING, *kept, *words], timeout=PATIENCE)
    document: dict[str, Any] = json.loads(said.out)
    return document


def _findings(document: Mapping[str, Any], image: str = "") -> Iterator[str]:
    for item in document.get("Results") or []:
        where = image or item["Target"]
        for one in item.get("Misconfigurations") or []:
            yield f"{where}: {one['ID']} {one['Severity']}: {' '.join(one['Message'].split())}"
        for one in item.get("Vulnerabilities") or []:
            pair = f"{one['PkgName']} {one['InstalledVersion']} -> {one['FixedVersion']}"
            yield f"{where}: {one['VulnerabilityID']} {one['Severity']}: {pair}"
        for one in item.get("Secrets") or []:
            yield f"{where}: {one['RuleID']} {one['Severity']}: {one['Title']}"
