"""checkov and kube-score, the scanners of other people, over every object of every environment.

Both are run on what Helm renders, with nothing left out; ci/scanners.yaml then says which checks
may find something, each with its reason. One that finds nothing any more is refused as well: an
exception that nobody needs hides the next mistake. Neither scanner reaches any network.
"""

import fnmatch
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from xwiki_stack import cluster, figures, generate, intent, proc, render, repo, steps
from xwiki_stack.cluster import artefacts, golang, machine, pins, programs
from xwiki_stack.errors import IntentError, StackError
from xwiki_stack.render import Manifest
from xwiki_stack.steps import Log, Step

CONFIG = repo.ROOT / "ci" / "scanners.yaml"
LOCK = repo.ROOT / "requirements" / "checkov.txt"
RESULTS = repo.ROOT / "docs" / "results" / "scanners.json"
PAGE = repo.ROOT / "docs" / "security.md"

DATA = repo.ROOT / "tests" / "data"
"""A decided prod and every option: what no environment of ours is yet, and tests are made of."""

PRODUCTION = "prod-decided"
"""The environment that is compared with charts of others."""

MOST_SKIPPED = 5
"""Checks of checkov that may find something."""

KUBERNETES = "v1.36"
CRITICAL = 1
"""kube-score's grade; 5 is a warning, 7 and 10 are well."""

OFFLINE = {
    "CKV_SKIP_PACKAGE_UPDATE_CHECK": "true",
    "LOG_LEVEL": "ERROR",
    "BC_API_KEY": "",
    # Whatever it may ask in spite of its flags is asked here, where nobody listens.
    **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9"),
}
"""What keeps checkov at home."""

Emit = Callable[[str], None]
Objects = Mapping[str, Sequence[Manifest]]


@dataclass(frozen=True)
class Finding:
    """What a check complains of: of which scanner, in which environment, at which object."""

    scanner: str
    check: str
    environment: str
    item: str
    words: str


@dataclass(frozen=True)
class Exempt:
    """A check that may find something. only: at which objects, `Kind/name` with `*`."""

    why: str
    only: tuple[str, ...]

    def covers(self, finding: Finding) -> bool:
        """Whether the finding is at one of the objects."""
        return any(fnmatch.fnmatchcase(finding.item, pattern) for pattern in self.only)


Exceptions = Mapping[str, Mapping[str, Exempt]]
"""Scanner to check to exception."""


@dataclass(frozen=True)
class Scan:
    """What both scanners said. passed: how many times a check had nothing to say, by scanner."""

    passed: dict[str, int]
    findings: list[Finding]

    def of(self, scanner: str) -> list[Finding]:
        """The findings of one scanner."""
        return [item for item in self.findings if item.scanner == scanner]


@dataclass(frozen=True)
class Peer:
    """Another project's chart as its defaults render, under the same scanners."""

    name: str
    chart: str
    objects: int
    failed: int
    critical: int


@dataclass(frozen=True)
class Results:
    """One run: of which commit, on which day (UTC), over how many objects, with which outcome.

    passed, failed: by scanner, after the exceptions. excepted: how many findings each exception
    covers, by scanner and check. bare: findings by scanner in PRODUCTION, nothing excepted.
    """

    commit: str
    date: str
    versions: dict[str, str]
    objects: dict[str, int]
    passed: dict[str, int]
    failed: dict[str, int]
    excepted: dict[str, dict[str, int]]
    bare: dict[str, int]
    peers: list[Peer] = field(default_factory=list)


# What is asked


def scan(*, write: bool, peers: Path | None = None, emit: Emit) -> list[str]:
    """Run both over every environment; give what is wrong, a line each.

    write: also write the results and the tables of docs/security.md. peers: a folder of renders
    of other charts, `<name>@<chart and version>.yaml`, that are scanned for comparison.
    """
    install(emit)
    exceptions = config()
    found = environments()
    said = cached(found)
    problems = judge(said, exceptions)
    failed = Counter(item.scanner for item in uncovered(said, exceptions))
    for scanner in SCANNERS:
        emit(
            f"{scanner}: {said.passed[scanner]} passed, {failed[scanner]} failed, "
            f"{len(exceptions[scanner])} checks excepted"
        )
    if write:
        before = earlier()
        compared = comparison(peers) if peers else (before.peers if before else [])
        results = outcome(found, said, exceptions, compared)
        RESULTS.write_text(json.dumps(asdict(results), indent=2) + "\n")
        PAGE.write_text(page(PAGE.read_text(), results, exceptions))
        emit(f"written: {repo.relative(RESULTS)}, {repo.relative(PAGE)}")
    return problems


def config(path: Path = CONFIG) -> Exceptions:
    """The exceptions of each scanner by their check. Raises IntentError."""
    where = repo.relative(path)
    document = yaml.safe_load(path.read_text())
    if not isinstance(document, dict) or set(document) != set(SCANNERS):
        raise IntentError("names other scanners", where=where, allowed=", ".join(SCANNERS))
    found: dict[str, dict[str, Exempt]] = {}
    for scanner, exceptions in document.items():
        found[scanner] = {}
        for check, said in exceptions.items():
            place = f"{where}: {scanner}.{check}"
            if not isinstance(said, dict) or set(said) != {"only", "why"}:
                raise IntentError("is no exception", where=place, allowed="only, why")
            if len(str(said["why"]).split()) < 4:
                raise IntentError("does not say why", where=place)
            if not said["only"]:
                raise IntentError("is of no object", where=place, allowed='"*", Kind/name, with *')
            found[scanner][check] = Exempt(said["why"], tuple(said["only"]))
    if len(found["checkov"]) > MOST_SKIPPED:
        raise IntentError(
            f"has {len(found['checkov'])} exceptions",
            where=f"{where}: checkov",
            allowed=f"at most {MOST_SKIPPED}",
            next="mend what the check complains of",
        )
    return found


def environments() -> dict[str, list[Manifest]]:
    """The objects of every environment that is generated, of a decided prod, and of every option.

    Each in its own namespace, which Helm would say at the installation.
    """
    values: dict[str, render.Values] = {
        path.parent.name: path for path in generate.GENERATED.glob("*/xwiki-stack.yaml")
    }
    prod = intent.load_environment("prod", DATA / "decided")
    main = intent.load_cluster("main", DATA / "decided")
    values[PRODUCTION] = yaml.safe_load(generate.text_of(prod, main))
    values["everything"] = DATA / "everything.yaml"
    return {
        name: namespaced(render.helm_template(values=[own]), f"wiki-{name}")
        for name, own in sorted(values.items())
    }


def namespaced(objects: Sequence[Manifest], namespace: str) -> list[Manifest]:
    """The objects as they are once they are applied to a namespace."""
    return [{**item, "metadata": {"namespace": namespace, **item["metadata"]}} for item in objects]


def judge(said: Scan, exceptions: Exceptions) -> list[str]:
    """What is wrong with what they said: findings without an exception, and the other way round."""
    problems = [
        f"{item.environment}: {item.item}: {item.scanner} {item.check}: {item.words}"
        for item in uncovered(said, exceptions)
    ]
    where = repo.relative(CONFIG)
    for scanner in SCANNERS:
        for check, exempt in sorted(exceptions[scanner].items()):
            found = {item.item for item in said.of(scanner) if item.check == check}
            problems += [
                f"{where}: {scanner}.{check} finds nothing at {pattern}; take it out"
                for pattern in exempt.only
                if not fnmatch.filter(found, pattern)
            ]
        if not said.passed[scanner]:
            problems.append(f"{scanner} looked at nothing")
    return problems


def uncovered(said: Scan, exceptions: Exceptions) -> list[Finding]:
    """The findings that no exception covers."""
    return [
        item
        for item in said.findings
        if not (exempt := exceptions[item.scanner].get(item.check)) or not exempt.covers(item)
    ]


def cached(objects: Objects) -> Scan:
    """What both say of the objects; asked once for the same objects and scanners."""
    texts = {name: yaml.safe_dump_all(found) for name, found in objects.items()}
    own = repo.ROOT / "scripts" / "xwiki_stack" / "scanners.py"
    key = repo.digest(json.dumps(texts), LOCK, programs.key(pins.tools()["kube-score"]), own)

    def fill(folder: Path) -> None:
        (folder / "scan.json").write_text(json.dumps(asdict(run(objects))))

    log = Log(repo.logs() / "scan.log", lambda _text: None)
    artefacts.make("scan", key, fill, log)
    document = json.loads((artefacts.place("scan", key) / "scan.json").read_text())
    return Scan(document["passed"], [Finding(**item) for item in document["findings"]])


def run(objects: Objects) -> Scan:
    """What both say of the objects of each environment."""
    with tempfile.TemporaryDirectory(prefix="xwiki-stack-scan-") as name:
        files = {}
        for environment, found in objects.items():
            files[environment] = Path(name) / f"{environment}.yaml"
            files[environment].write_text(yaml.safe_dump_all(found))
        passed, findings = {}, []
        for scanner, ask in SCANNERS.items():
            count, said = ask(files)
            passed[scanner] = count
            findings += said
    return Scan(passed, sorted(findings, key=lambda item: tuple(asdict(item).values())))


# The scanners


def checkov(files: Mapping[str, Path]) -> tuple[int, list[Finding]]:
    """How many checks passed, and what the others say. Raises StackError if it read too little."""
    passed, findings = 0, []
    for environment, path in files.items():
        said = proc.run(
            checkov_command(path),
            env=OFFLINE,
            cwd=path.parent,
            check=False,
            timeout=300,
        )
        try:
            document = json.loads(said.out)
        except ValueError as error:
            raise StackError(
                f"checkov gave no JSON but {(said.err or said.out)[-200:]!r}"
            ) from error
        if "summary" not in document:  # {"passed": 0, ...}: it saw nothing that it knows
            continue
        if document["summary"]["parsing_errors"]:
            raise StackError("checkov could not read the objects", where=environment)
        passed += document["summary"]["passed"]
        findings += [
            Finding(
                "checkov", item["check_id"], environment, _kind_and_name(item["resource"]),
                item["check_name"],
            )
            for item in document["results"]["failed_checks"]
        ]  # fmt: skip
    return passed, findings


def checkov_command(path: Path) -> list[str | Path]:
    """How checkov is asked about a file of objects."""
    words = ["--framework", "kubernetes", "--output", "json", "--compact", "--quiet"]
    return [_python(), "-m", "checkov.main", "--file", path, "--skip-download", *words]


def kube_score(files: Mapping[str, Path]) -> tuple[int, list[Finding]]:
    """How many checks are not critical, and what the others say."""
    passed, findings = 0, []
    for environment, path in files.items():
        words = ["--output-format", "json", "--kubernetes-version", KUBERNETES]
        said = proc.run(
            [programs.tools().kube_score, "score", *words, path], check=False, timeout=60
        )
        try:
            document = json.loads(said.out) or []
        except ValueError as error:
            raise StackError(f"kube-score gave no JSON but {said.err[-200:]!r}") from error
        for item in document:
            for result in item["checks"]:
                if result["skipped"]:
                    continue
                if result["grade"] != CRITICAL:
                    passed += 1
                    continue
                name = f"{item['type_meta']['kind']}/{item['object_meta']['name']}"
                remarks = result["comments"] or []
                words_of = sorted({f"{x['path']}: {x['summary']}".strip(": ") for x in remarks})
                findings.append(
                    Finding(
                        "kube-score", result["check"]["id"], environment, name, "; ".join(words_of)
                    )
                )
    return passed, findings


SCANNERS: dict[str, Callable[[Mapping[str, Path]], tuple[int, list[Finding]]]] = {
    "checkov": checkov,
    "kube-score": kube_score,
}
"""Each by the name of its project."""


def _kind_and_name(resource: str) -> str:
    """checkov's `Deployment.namespace.name` as ours; it adds all labels to the name of a pod."""
    kind, _namespace, name = resource.split(".")[:3]
    return f"{kind}/{name}"


# checkov itself


def tool_steps() -> list[Step]:
    """The step that puts checkov in its place; kube-score is one of ci/tools.yaml."""
    return [Step("tool-checkov", f"checkov {checkov_version()}", install_checkov)]


def install(emit: Emit) -> None:
    """Put both scanners and Helm in their places unless they are there."""
    tools = programs.tools()
    if all(path.exists() for path in (tools.helm, tools.kube_score, _python())):
        return
    wanted = {"tool-helm", "tool-kube-score"}
    found = [step for step in cluster.tool_steps(extras=True) if step.name in wanted]
    steps.execute([*found, *tool_steps()], emit)
    golang.drop_caches()


def install_checkov(log: Log) -> str:
    """Make checkov's own Python environment unless it is there: it pins what others need newer."""

    def fill(folder: Path) -> None:
        log.say("downloading packages")
        log.run([sys.executable, "-m", "venv", folder])
        # By the interpreter: scripts of an environment name the folder that it was made in.
        python = folder / "bin" / "python"
        words = ["install", "--quiet", "--require-hashes", "--no-deps", "--no-cache-dir"]
        log.run([python, "-m", "pip", "--disable-pip-version-check", *words, "-r", LOCK])

    return artefacts.make("checkov", _checkov_key(), fill, log)


def checkov_version() -> str:
    """The version that the lock pins."""
    found = re.search(r"^checkov==(\S+)", LOCK.read_text(), re.M)
    if not found:
        raise IntentError("pins no checkov", where=repo.relative(LOCK))
    return found[1]


def _checkov_key() -> str:
    return repo.digest(LOCK, sys.version.split()[0], json.dumps(machine.go_platform()))


def _python() -> Path:
    return artefacts.place("checkov", _checkov_key()) / "bin" / "python"


# What is written


def outcome(
    objects: Objects,
    said: Scan,
    exceptions: Exceptions,
    peers: Sequence[Peer],
) -> Results:
    """The results of a run of now."""
    bad = Counter(item.scanner for item in uncovered(said, exceptions))
    excepted = {
        scanner: {
            check: sum(item.check == check and exempt.covers(item) for item in said.of(scanner))
            for check, exempt in sorted(exceptions[scanner].items())
        }
        for scanner in SCANNERS
    }
    return Results(
        commit=figures.commit(RESULTS, PAGE),
        date=datetime.now(UTC).date().isoformat(),
        versions=versions(),
        objects={name: len(found) for name, found in objects.items()},
        passed=said.passed,
        failed={scanner: bad[scanner] for scanner in SCANNERS},
        excepted=excepted,
        bare={
            scanner: sum(item.environment == PRODUCTION for item in said.of(scanner))
            for scanner in SCANNERS
        },
        peers=list(peers),
    )


def versions() -> dict[str, str]:
    """The version of each scanner, as it is pinned."""
    return {"checkov": checkov_version(), "kube-score": pins.tools()["kube-score"].version}


def comparison(folder: Path) -> list[Peer]:
    """Every render of a folder under both scanners. Raises IntentError where there is none."""
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        raise IntentError(
            "holds no render of a chart", where=str(folder), allowed="<name>@<chart-version>.yaml"
        )
    return [compare(path) for path in paths]


def compare(path: Path) -> Peer:
    """Another chart's render under both scanners, nothing excepted.

    path: `<name>@<chart and version>.yaml`. Raises IntentError for another name.
    """
    name, at, chart = path.stem.partition("@")
    if not at:
        raise IntentError(
            "does not say which chart it is", where=str(path), allowed="<name>@<chart-version>.yaml"
        )
    objects = [item for item in yaml.safe_load_all(path.read_text()) if item]
    said = run({name: namespaced(objects, name)})
    return Peer(name, chart, len(objects), len(said.of("checkov")), len(said.of("kube-score")))


def earlier() -> Results | None:
    """The results that are written down, if there are any, and as this version writes them."""
    document: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if set(document) != {item.name for item in fields(Results)}:
        return None
    return Results(**{**document, "peers": [Peer(**item) for item in document["peers"]]})


def page(text: str, results: Results, exceptions: Exceptions) -> str:
    """docs/security.md with the tables of these results between their marks."""
    scanned = figures.embedded(text, "scanners", list(_table(results, exceptions)))
    return figures.embedded(scanned, "peers", list(_comparison(results)))


def _table(results: Results, exceptions: Exceptions) -> Iterator[str]:
    objects = ", ".join(f"{name} {count}" for name, count in results.objects.items())
    yield f"Commit {results.commit}, {results.date}. Objects: {objects}."
    yield ""
    yield "| scanner | version | passed | failed | excepted |"
    yield "| --- | --- | --- | --- | --- |"
    for scanner, version in results.versions.items():
        count = len(results.excepted[scanner])
        hidden = sum(results.excepted[scanner].values())
        yield (
            f"| {scanner} | {version} | {results.passed[scanner]} | **{results.failed[scanner]}** |"
            f" {hidden} findings of {count} checks |"
        )
    yield ""
    yield "| excepted | findings | at | why |"
    yield "| --- | --- | --- | --- |"
    for scanner, checks in results.excepted.items():
        for check, count in checks.items():
            exempt = exceptions[scanner][check]
            places = ", ".join(f"`{pattern}`" for pattern in exempt.only)
            yield f"| {scanner} `{check}` | {count} | {places} | {exempt.why} |"


def _comparison(results: Results) -> Iterator[str]:
    yield "| chart | objects | checkov failed | kube-score critical |"
    yield "| --- | --- | --- | --- |"
    for peer in results.peers:
        cells = [f"{peer.name} ({peer.chart})", peer.objects, peer.failed, peer.critical]
        yield "| " + " | ".join(map(str, cells)) + " |"
    ours = results.objects.get(PRODUCTION, 0)
    for words, found in (("nothing excepted", results.bare), ("as accepted", results.failed)):
        cells = [f"**xwiki-stack** ({PRODUCTION}), {words}", ours, *found.values()]
        yield "| " + " | ".join(map(str, cells)) + " |"
