"""Every value of an upstream release is one that its chart knows; a mistyped one is named."""

import copy
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests import clusters, crds

from xwiki_stack import cli, cluster, generate, gitops, intent, proc, repo, upstream
from xwiki_stack.errors import MachineError

EVERY = [(name, release) for name in clusters.NAMES for release in clusters.values(name)]

VERSIONS = {"cert-manager": "v0.0.0"}
"""Charts that have no version of their own in Git; the released one is pinned."""


def found(release: str) -> tuple[upstream.Pin, upstream.Chart]:
    """The pin of a release and its chart, without asking anybody."""
    pin = upstream.pins()[release]
    chart = upstream.chart(pin, pull=False)
    assert chart, f"no data of {pin.name}"
    return pin, chart


def look(release: str, values: dict[str, Any]) -> upstream.Finding:
    return upstream.look(release, values, *found(release))


def test_all_releases_are_looked_at() -> None:
    assert {release for _name, release in EVERY} == set(gitops.RELEASES) - gitops.VALUELESS
    assert set(upstream.pins()) == set(gitops.RELEASES)


@crds.here
@pytest.mark.parametrize(("name", "release"), EVERY)
def test_every_generated_value_exists_in_its_chart(name: str, release: str) -> None:
    finding = look(release, clusters.values(name)[release])
    assert finding.mistakes == ()
    assert finding.known >= 5
    unknown = [place.partition(".")[0] for place in finding.unproven]
    assert set(unknown) <= {"prometheus-node-exporter", "kube-state-metrics"}


def mistyped(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """The values with one key mistyped, for each key outside of lists: its path, and them."""
    for key, value in values.items():
        changed = {(f"{k}x" if k == key else k): v for k, v in values.items()}
        yield ".".join((*path, key)), changed
        if isinstance(value, dict):
            for place, inner in mistyped(value, (*path, key)):
                yield place, {**values, key: inner}


@crds.here
@pytest.mark.parametrize("release", sorted(set(gitops.RELEASES) - gitops.VALUELESS))
def test_a_mistyped_key_is_named_with_the_nearest(release: str) -> None:
    name = next(name for name, own in EVERY if own == release)
    pin, chart = found(release)
    values = clusters.values(name)[release]
    seen = 0
    right = upstream.look(release, values, pin, chart)
    blind = [*right.free, *(place.partition(":")[0] for place in right.unproven)]
    for place, wrong in mistyped(values):
        parent = place.rpartition(".")[0]
        if any(f"{place}.".startswith(f"{free}.") and place != free for free in blind):
            continue  # any key will do there, and the report says so
        if place in blind[len(right.free) :] or parent.rpartition(".")[2] in upstream.AMOUNTS:
            continue  # not to be looked up here, or Kubernetes' own names
        seen += 1
        said = upstream.look(release, wrong, pin, chart).mistakes
        last = place.rpartition(".")[2]
        named = [words for words in said if words.startswith(f"{place}x: the chart knows no such")]
        assert named, place
        assert repr(last) in named[0] or "did you mean" in named[0] or "known:" in named[0]
    assert seen >= 5


@crds.here
def test_a_map_for_a_word_and_a_word_for_a_map_are_noticed() -> None:
    assert "where the chart has a map" in look("longhorn", {"persistence": "no"}).mistakes[0]
    wrong = look("ingress-nginx", {"controller": {"kind": {"a": 1}}}).mistakes
    assert "a map, where the chart has 'Deployment'" in wrong[0]


@crds.here
def test_a_value_that_the_charts_schema_refuses_is_noticed() -> None:
    values = copy.deepcopy(clusters.values("decided")["cert-manager"])
    values["replicaCount"] = "one"
    assert any("replicaCount" in words for words in look("cert-manager", values).mistakes)


@crds.here
@pytest.mark.parametrize("release", gitops.RELEASES)
def test_the_pinned_version_is_that_of_the_data_or_named(release: str) -> None:
    pin, chart = found(release)
    assert chart.version == VERSIONS.get(pin.name, pin.version)


def test_a_chart_that_is_nowhere_is_unproven_and_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repo, "cache", lambda: tmp_path)
    monkeypatch.setattr(repo, "beside", lambda: tmp_path)
    pin = upstream.pins()["longhorn"]
    assert upstream.chart(pin, pull=False) is None
    said = upstream.text([upstream.look("longhorn", {"a": 1}, pin, None)])
    assert "longhorn 1.12.1, unproven" in said
    assert "every value: the chart is not here" in said


def test_the_cache_goes_before_what_lies_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repo, "cache", lambda: tmp_path)
    folder = tmp_path / "charts" / "loki-18.11.0" / "loki"
    sub = folder / "charts" / "minio"
    sub.mkdir(parents=True)
    about = {
        "name": "loki",
        "version": "18.11.0",
        "dependencies": [{"name": "minio"}, {"name": "x"}],
    }
    (folder / "Chart.yaml").write_text(yaml.safe_dump(about))
    (folder / "values.yaml").write_text("one: 1\nminio: {used: true}\n")
    (sub / "values.yaml").write_text("size: 1Gi\n")
    pin = upstream.pins()["loki"]
    chart = upstream.chart(pin, pull=False)
    assert chart
    assert chart.origin == "the cache (18.11.0)"
    values = {"one": 2, "minio": {"used": False, "size": "2Gi"}, "x": {"y": 1}}
    finding = upstream.look("loki", values, pin, chart)
    assert (finding.known, finding.mistakes) == (
        3,
        ("x: the chart knows no such key (known: minio, one)",),
    )


def test_a_chart_is_pulled_into_the_cache_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def run(argv: list[Any], **_more: object) -> None:
        asked.append([str(word) for word in argv])
        folder = Path(argv[-1]) / "longhorn"
        folder.mkdir()
        (folder / "Chart.yaml").write_text("{name: longhorn, version: 1.12.1}")
        (folder / "values.yaml").write_text("a: 1")
        if len(asked) > 1:
            raise MachineError("`helm pull` did not end within 60 s")

    monkeypatch.setattr(repo, "cache", lambda: tmp_path)
    monkeypatch.setattr(repo, "beside", lambda: tmp_path / "no")
    monkeypatch.setattr(proc, "run", run)
    monkeypatch.setattr(cluster, "tools", lambda: types.SimpleNamespace(helm=Path("helm")))
    monkeypatch.setenv("XWIKI_STACK_BED", "offline")
    pin = upstream.pins()["longhorn"]
    assert upstream.chart(pin) is None
    assert asked == []
    monkeypatch.setenv("XWIKI_STACK_BED", "registry")
    chart = upstream.chart(pin)
    assert chart
    assert chart.values == {"a": 1}
    assert asked[0][1:6] == ["pull", "longhorn", "--repo", pin.url, "--version"]
    assert upstream.chart(pin)
    assert len(asked) == 1
    other = upstream.pins()["loki"]
    assert upstream.chart(other) is None
    assert asked[1][2] == "oci://ghcr.io/grafana-community/helm-charts/loki"
    assert list((tmp_path / "charts").glob("*")) == [tmp_path / "charts" / "longhorn-1.12.1"]


@crds.here
def test_the_verb_ends_with_an_error_where_a_value_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XWIKI_STACK_BED", "offline")
    assert cli.main(["upstream"]) == 0
    assert "main/longhorn: longhorn 1.12.1" in capsys.readouterr().out
    wrong = upstream.Finding("main/x", upstream.pins()["loki"], mistakes=("a.b: unknown",))
    monkeypatch.setattr(upstream, "findings", lambda: [wrong])
    assert cli.main(["upstream"]) == 2
    said = capsys.readouterr()
    assert "WRONG    a.b: unknown" in said.out
    assert "1 value(s) that no chart knows" in said.err


def test_a_worktree_looks_beside_the_checkout_that_it_belongs_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repo, "ROOT", tmp_path / "a" / "main")
    (tmp_path / "a" / "main" / ".git").mkdir(parents=True)
    assert repo.beside() == tmp_path / "a" / "shared"
    tree = tmp_path / "b" / "tree"
    tree.mkdir(parents=True)
    (tree / ".git").write_text(f"gitdir: {tmp_path}/a/main/.git/worktrees/tree\n")
    monkeypatch.setattr(repo, "ROOT", tree)
    assert repo.beside() == tmp_path / "a" / "shared"


def test_facts_of_a_cluster_reach_its_values() -> None:
    longhorn = clusters.values("decided")["longhorn"]
    assert longhorn["defaultBackupStore"]["backupTarget"] == "s3://wiki-volumes@eu-west-1/"
    assert "defaultBackupStore" not in clusters.values("main")["longhorn"]
    three = clusters.values("ovh")
    assert three["longhorn"]["defaultSettings"]["defaultReplicaCount"] == '{"v1":"2"}'
    assert three["ingress-nginx"]["controller"]["replicaCount"] == 2
    prometheus = three["kube-prometheus-stack"]["prometheus"]["prometheusSpec"]
    assert prometheus["resources"]["limits"]["memory"] == "3072Mi"
    for name, provider in (("decided", "ovh"), ("cloudflare", "cloudflare")):
        dns = clusters.values(name)["external-dns"]
        assert dns["provider"]["name"] == provider
        assert dns["domainFilters"] == ["example.org"]
        assert dns["policy"] == "upsert-only"
        assert dns["extraArgs"]["min-ttl"] == "3600s"
    assert "external-dns" not in clusters.values("main")
    assert clusters.values("traefik")["external-dns"]["sources"] == ["gateway-httproute", "service"]


@pytest.mark.parametrize("name", clusters.NAMES)
def test_every_value_has_a_reason_near_it(name: str) -> None:
    """Above each top-level key, or inside its block."""
    seen = 0
    for path, text in clusters.files(name).items():
        if not path.startswith("values/"):
            continue
        lines = text.splitlines()
        assert lines[0].startswith("# Generated from values/clusters/main.yaml")
        seen += 1
        for block in re.split(r"\n(?=(?:#|\w))", "\n".join(lines[2:])):
            reasoned = re.search(r"^ *# .{8}", block, re.M)
            before = text.partition(f"\n{block}")[0].splitlines()
            while re.match(
                r"\w+:| +(enabled|replicas): ", before[-1]
            ):  # short ones share what is said above the first
                before.pop()
            above = before[-1].startswith("#")
            assert reasoned or above or not block.strip(), f"{path}: {block}"
    found = clusters.of(name)[0]
    assert seen == len(gitops.with_values(found)) + bool(gitops.rooms(found))


def test_the_switch_of_the_door_changes_the_values_of_a_wiki() -> None:
    found, (prod, _staging) = clusters.of("traefik")
    xwiki = yaml.safe_load(generate.text_of(prod, found))["xwiki"]
    assert xwiki["ingress"] == {"enabled": False}
    assert xwiki["httpRoute"]["parentRefs"] == [
        {"name": "public", "namespace": "traefik", "sectionName": "https-prod"}
    ]
    assert xwiki["home"] == "https://xwiki.example.org/"
    assert intent.at(xwiki, "httpRoute", "host") == "xwiki.example.org"
