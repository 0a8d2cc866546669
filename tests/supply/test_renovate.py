"""Renovate finds every pin of the checkout, and merges nothing that a person must read."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.supply import pins, renovate
from tests.supply.renovate import Dependency
from xwiki_stack import repo, upstream
from xwiki_stack.cluster import pins as programs

MYSQL = str(yaml.safe_load((repo.ROOT / "charts/mysql/values.yaml").read_text())["image"]["tag"])

UPDATES = ("major", "minor", "patch", "digest", "pin", "pinDigest", "lockFileMaintenance")

DIGESTS = {"docker", "github-tags"}
"""Sources whose versions are pinned by what they mean now."""

AT_LEAST = {
    r"^ci/tools\.yaml$": 20,
    r"^ci/images\.yaml$": 20,
    r"^ci/bed/go/.+/go\.mod$": 300,
    r"^ci/bed/node/": 2,
    r"^ci/renovate/": 1,
    r"^requirements/": 60,
    r"^flux/infra/.+/helmrelease\.yaml$": 4,
    r"^flux/infra/.+/source\.yaml$": 8,
    r"^\.github/workflows/": 12,
    r"Chart\.yaml$": 3,
    r"^charts/.+/values\.yaml$": 3,
    r"^values/envs/": 3,
    r"Dockerfile$": 1,
    r"^images/xwiki-standin/": 4,
    r"^scripts/": 4,
}
"""How many pins a place holds at least: a sweep that sees fewer has gone blind."""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout."""
    return renovate.copy(tmp_path_factory.mktemp("renovate") / "checkout")


@pytest.fixture(scope="module")
def found(checkout: Path) -> list[Dependency]:
    """What Renovate finds in it."""
    return renovate.extract(checkout)


def test_every_pin_is_found(checkout: Path, found: list[Dependency]) -> None:
    swept = pins.of(checkout, renovate.tracked())
    for place, least in AT_LEAST.items():
        assert len([pin for pin in swept if re.search(place, pin.file)]) >= least, place
    assert [str(pin) for pin in pins.missed(swept, found)] == []


def test_the_locks_of_python_name_no_place() -> None:
    """pip-compile writes the index and folders of a machine down where it is not stopped."""
    locks = sorted((repo.ROOT / "requirements").glob("*.txt"))
    assert len(locks) >= 2
    for lock in locks:
        lines = lock.read_text().splitlines()
        assert [line for line in lines if line.startswith("-") or "://" in line] == [], lock.name


def test_no_exception_is_left_over(checkout: Path) -> None:
    assert pins.unused(checkout, renovate.tracked()) == []


def test_a_pin_that_no_manager_covers_is_noticed(tmp_path: Path) -> None:
    """Each in one checkout that Renovate looks at, beside three more that it does know: a digest
    behind its tag, a hook of pre-commit, a subchart of others."""
    folder = renovate.copy(tmp_path / "checkout")
    names = [*renovate.tracked()]

    def edit(name: str, old: str, new: str) -> None:
        text = (folder / name).read_text()
        assert old in text, name
        (folder / name).write_text(text.replace(old, new, 1))

    def add(name: str, text: str) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        names.append(name)

    edit("ci/tools.yaml", "    # renovate: datasource=go depName=sigs.k8s.io/kind\n", "")
    edit(
        "ci/images.yaml",
        "upstream: docker.io/library/busybox:1",
        "original: docker.io/library/busybox:1",
    )
    digest = f"sha256:{'a1' * 32}"
    edit("charts/mysql/values.yaml", f"tag: {MYSQL}", f"tag: {MYSQL}@{digest}")
    edit("flux/infra/longhorn/source.yaml", "namespace: longhorn-system", "namespace: elsewhere")
    edit("flux/infra/loki/source.yaml", "kind: OCIRepository", "kind: Bucket")
    edit("images/backup-tools/Dockerfile", "FROM ${MYSQL}", "# FROM ${MYSQL}\nFROM scratch")
    add("charts/mysql/files/more.yaml", "image: docker.io/library/debian:13.2\n")
    add("ci/more", "curl https://example.org/tool-1.2.3.tar.gz\n")
    add("scripts/xwiki_stack/more.py", 'TOOL = "docker.io/library/debian:13.2.1"\n')
    add(
        ".pre-commit-config.yaml",
        "repos:\n  - repo: https://github.com/pre-commit/pre-commit-hooks\n    rev: v6.0.0\n"
        "    hooks:\n      - id: check-yaml\n",
    )
    edit(
        "Chart.yaml",
        "dependencies:\n",
        "dependencies:\n  - name: redis\n    version: 7.8.9\n    repository: https://example.org\n",
    )
    seen = {
        (pin.file, pin.value)
        for pin in pins.missed(pins.of(folder, names), renovate.extract(folder))
    }
    kind = programs.tools()["kind"].version
    assert {value for file, value in seen if file == "ci/tools.yaml"} == {kind}
    assert {file for file, _value in seen} == {
        "ci/tools.yaml",
        "ci/images.yaml",
        "flux/infra/longhorn/helmrelease.yaml",
        "flux/infra/loki/source.yaml",
        "images/backup-tools/Dockerfile",
        "charts/mysql/files/more.yaml",
        "ci/more",
        "scripts/xwiki_stack/more.py",
    }


def test_every_chart_is_asked_of_its_own_registry(found: list[Dependency]) -> None:
    asked = {
        (dep["depName"], dep.get("currentValue")): dep.get("registryUrls", [])
        for dep in found
        if dep["manager"] == "flux"
    }
    charts = upstream.pins().values()
    assert len(charts) >= 10
    for chart in charts:
        if chart.url.startswith("oci://"):
            assert (chart.url.removeprefix("oci://"), chart.version) in asked
        else:
            assert asked[chart.name, chart.version] == [chart.url]


def test_a_tag_and_its_digest_in_one_field_are_one_pin(
    checkout: Path, found: list[Dependency]
) -> None:
    """As intents and charts write images: both move together."""
    of_mysql = [dep for dep in found if dep["files"] == ["charts/mysql/values.yaml"]]
    assert [dep["currentValue"] for dep in of_mysql] == [MYSQL]
    assert of_mysql[0]["autoReplaceStringTemplate"] == (
        "{{newValue}}{{#if newDigest}}@{{newDigest}}{{/if}}"
    )


def test_the_module_of_every_tool_is_updated_and_not_only_seen(found: list[Dependency]) -> None:
    """Renovate leaves indirect modules alone, but for those that a `tool` line names."""
    looked = 0
    for module in programs.modules().values():
        file = repo.relative(module.source / "go.mod")
        lines = (module.source / "go.mod").read_text()
        updated = [
            dep["depName"]
            for dep in found
            if dep["files"] == [file] and dep.get("enabled") is not False
        ]
        for tool in re.findall(r"^(?:tool\s+|\t)([\w.-]+\.[\w./-]+)$", lines, re.M):
            looked += 1
            assert any(f"{tool}/".startswith(f"{name}/") for name in updated), tool
    assert looked >= 10


def test_renovate_takes_the_configuration(tmp_path: Path) -> None:
    assert renovate.validate(repo.ROOT / "renovate.json5").code == 0
    broken = tmp_path / "renovate.json5"
    text = (repo.ROOT / "renovate.json5").read_text()
    broken.write_text(text.replace("minimumReleaseAge:", "minimalReleaseAge:", 1))
    assert renovate.validate(broken).code != 0


MAY_MERGE = re.compile(
    r"boto3-stubs|github\.com/rhysd/actionlint|mypy|pytest(-xdist)?|ruff|types-.*|yamllint"
)
"""All that merges itself, as a patch (docs/decisions/0026-renovate.md)."""


Answers = list[tuple[dict[str, Any], dict[str, Any]]]


@pytest.fixture(scope="module")
def answers(found: list[Dependency]) -> Answers:
    """Every dependency that is updated at all, each kind of update, and what is to be done."""
    cases = [
        {**dep, "packageFile": dep["files"][0], "updateType": kind}
        for dep in found
        if dep.get("enabled") is not False and dep.get("datasource") not in {None, "kubernetes-api"}
        for kind in UPDATES
    ]
    return list(zip(cases, renovate.decisions(cases), strict=True))


def test_only_patches_of_developers_tools_merge_themselves(answers: Answers) -> None:
    """Asked of Renovate's own rules, for every dependency and every kind of update."""
    merged = {(case["depName"], case["updateType"]) for case, said in answers if said["automerge"]}
    assert len(merged) >= 8, "the question was not understood"
    assert {kind for _name, kind in merged} == {"patch"}
    assert [name for name, _kind in merged if not MAY_MERGE.fullmatch(name)] == []
    stateful = {"docker.io/library/mysql", "docker.io/library/xwiki", "longhorn"}
    read = {
        case["depName"] for case, said in answers if "review-required" in (said["addLabels"] or [])
    }
    assert stateful <= read
    prod = [said for case, said in answers if case["packageFile"] == "values/envs/prod.yaml"]
    assert prod
    assert all(said["dependencyDashboardApproval"] for said in prod)
    lines = {
        case["currentValue"]: said["allowedVersions"]
        for case, said in answers
        if case["depName"] == "docker.io/library/mysql"
        and case["packageFile"] == "scripts/xwiki_stack/intent.py"
    }
    assert len(lines) == 2
    for version, allowed in lines.items():
        line = re.escape(version.rpartition(".")[0])
        assert allowed == rf"/^{line}\.\d+$/"


def test_what_is_disabled_is_known(answers: Answers) -> None:
    """An update that never comes is a decision, not a slip of a pattern."""
    assert {case["depName"] for case, said in answers if said["enabled"] is False} == {
        "registry.example.org/xwiki-stack/backup-tools",
        "registry.k8s.io/coredns/coredns",
        "registry.k8s.io/etcd",
        "registry.k8s.io/pause",
    }


def test_digests_are_pinned_where_renovate_may_write_them(answers: Answers) -> None:
    """Not where an intent holds them, nor in a name that a node image carries."""
    pinned = {
        (case["manager"], case["datasource"], bool(said["pinDigests"]))
        for case, said in answers
        if case["datasource"] in DIGESTS and case["updateType"] == "pinDigest"
    }
    assert pinned == {
        ("dockerfile", "docker", True),
        ("flux", "docker", True),
        ("flux", "github-tags", False),
        ("github-actions", "github-tags", True),
        ("helm-values", "docker", False),
        ("kubernetes", "docker", False),
        ("regex", "docker", False),
    }
