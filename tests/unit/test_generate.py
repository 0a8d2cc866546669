"""Generated values: fresh, the same every time, explained, and never smaller than before."""

import dataclasses
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from tests.environments import decided_prod

from xwiki_stack import cli, generate, intent, proc, repo, upstream
from xwiki_stack.errors import IntentError, RefusedError, UndecidedError
from xwiki_stack.intent import Cluster, Environment


def text(name: str) -> str:
    return of(intent.load_environment(name))


def of(environment: Environment) -> str:
    """The values of an environment on its own cluster."""
    return generate.text_of(environment, intent.load_cluster(environment.cluster))


def values_of(environment: Environment) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(of(environment))
    return found


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where generated files go instead of the checkout."""
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    monkeypatch.setattr(generate, "GENERATED", tmp_path / "values" / "generated")
    monkeypatch.setattr(generate, "REFERENCE", tmp_path / "intent.md")
    monkeypatch.setattr(generate, "NETWORK", tmp_path / "network.md")
    return tmp_path / "values" / "generated"


def test_the_committed_files_are_what_the_intent_gives() -> None:
    assert generate.drift() == []
    assert {path.parent.name for path in generate.GENERATED.glob("*/xwiki-stack.yaml")} == {
        "local",
        "staging",
    }


def test_drift_is_shown_as_a_diff_and_ends_with_its_exit_code(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate.generate(["local"])
    path = generate.path_of("local")
    path.write_text(path.read_text().replace("heap: 1792m", "heap: 99m"))
    assert cli.main(["generate", "--env", "local", "--check"]) == 7
    out = capsys.readouterr()
    assert "-    heap: 99m" in out.out
    assert "+    heap: 1792m" in out.out
    assert "make generate" in out.err
    assert generate.generate(["local"]).written == [path]
    assert generate.generate(["local"]).written == []


@pytest.mark.parametrize("name", ["local", "staging", "prod"])
def test_the_same_intent_gives_the_same_bytes(name: str) -> None:
    assert text(name) == text(name)


@pytest.mark.parametrize("seed", ["0", "1", "4711"])
def test_another_process_gives_the_same_bytes(tmp_path: Path, seed: str) -> None:
    code = (
        "from xwiki_stack import generate\n"
        "for item in generate.preview():\n"
        "    print(item.text)\n"
        "print(generate.reference())\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": seed, "LC_ALL": "C"}
    said = proc.run([sys.executable, "-c", code], env=environment, cwd=tmp_path).out
    texts = [text(name) for name in intent.environments()]
    assert len(texts) >= 3
    assert said == "".join(f"{text}\n" for text in [*texts, generate.reference()])


DERIVED = [
    "heap",
    "maxGCPauseMillis",
    "metaspace",
    "codeCache",
    "innodbBufferPoolSize",
    "maxConnections",
    "resources",
    "size",
    "claimTemplateSize",
    "storageClass",
    "ingress",
    "home",
    "flavor",
    "affinity",
    "secretRevision",
    "tag",
]


def unexplained(text: str, key: str) -> list[str]:
    """Lines of a key without a comment in the line above."""
    lines = text.splitlines()
    places = [at for at, line in enumerate(lines) if re.match(rf" +{key}:", line)]
    assert places, f"{key} does not occur"
    reasons = [lines[at - 1].strip() for at in places]
    return [
        lines[at]
        for at, reason in zip(places, reasons, strict=True)
        if not (reason.startswith("#") and len(reason) > 12)
    ]


@pytest.mark.parametrize("name", ["local", "staging"])
@pytest.mark.parametrize("key", DERIVED)
def test_a_derived_value_has_its_reason_above_it(name: str, key: str) -> None:
    assert unexplained(text(name), key) == []


def test_a_host_has_its_reason_above_it() -> None:
    prod, cluster = decided_prod()
    for host, origin in (("", "Derived from the cluster's domain"), ("w.eu", "As the intent says")):
        own = dataclasses.replace(prod, host=host or prod.host)
        said = generate.text_of(own, cluster)
        assert unexplained(said, "host") == []
        assert f"    # {origin}.\n    host: " in said


def test_a_reason_that_is_missing_is_found() -> None:
    said = text("local")
    reason = next(line for line in said.splitlines() if "LibreOffice 384" in line)
    assert unexplained(said.replace(f"{reason}\n", ""), "heap") == ["    heap: 1792m"]


def misfits(values: dict[str, Any]) -> list[str]:
    """What the umbrella's and the subcharts' own schemas say against values, without Helm."""
    said = []
    for name in ("", "xwiki", "mysql", "backups", "netpol"):
        chart = repo.ROOT / "charts" / name if name else repo.ROOT
        schema = json.loads((chart / "values.schema.json").read_text())
        defaults = yaml.safe_load((chart / "values.yaml").read_text()) or {}
        given = upstream.merged(defaults, values[name] if name else values)
        said += [f"{name}: {error.message}" for error in Draft7Validator(schema).iter_errors(given)]
    return said


@pytest.mark.parametrize("name", ["local", "staging", "decided"])
def test_generated_values_fit_the_charts_schemas(name: str) -> None:
    values = yaml.safe_load(generate.text_of(*decided_prod()) if name == "decided" else text(name))
    assert misfits(values) == []
    values["mysql"]["config"]["innodbBufferPool"] = "1G"
    assert len(misfits(values)) == 1


@pytest.mark.parametrize(
    ("endpoint", "port"), [("https://s3.example.org", 443), ("https://s3.example.org:9000", 9000)]
)
def test_policies_let_backups_out_to_the_store_of_the_intent(endpoint: str, port: int) -> None:
    environment, cluster = decided_prod()

    def flows(**target: Any) -> Any:
        said = {**environment.backups["target"], "endpoint": endpoint, **target}
        other = dataclasses.replace(environment, backups={**environment.backups, "target": said})
        return yaml.safe_load(generate.text_of(other, cluster))["netpol"]

    assert flows()["enabled"]
    assert flows()["s3"] == {"port": port, "cidrs": []}
    assert flows(cidrs=["192.0.2.0/28"])["s3"]["cidrs"] == ["192.0.2.0/28"]
    with pytest.raises(IntentError, match="has no port from 0 to 65535"):
        flows(endpoint="https://s3.example.org:99999")


def test_policies_let_the_wiki_out_to_what_the_intent_names_and_nowhere_else() -> None:
    environment, cluster = decided_prod()

    def flows(**changed: Any) -> Any:
        other = dataclasses.replace(environment, **changed)
        return yaml.safe_load(generate.text_of(other, cluster))["netpol"]

    def named(switches: dict[str, bool]) -> set[str]:
        return {name for name, on in switches.items() if on}

    always = {"backups", "metrics", "probe", "nginx"}
    assert named(flows()["switches"]) == {*always, "extensions"}
    assert named(flows(flavor="none")["switches"]) == always
    server = {"port": 636, "cidrs": ["10.1.2.0/24"]}
    said = flows(flavor="none", outside={"ldap": server, "smtp": {"port": 25}})
    assert named(said["switches"]) == {*always, "ldap", "smtp"}
    assert said["ldap"] == server
    assert said["smtp"] == {"port": 25, "cidrs": []}
    assert "oidc" not in said


def test_the_reference_is_made_of_every_key() -> None:
    page = generate.reference()
    for place in ("nodes.disk", "backups.target.keyOwner", "resources.mysql.limits.memory"):
        assert f"`{place}`" in page
    assert all(line.count(" | ") == 2 for line in page.splitlines() if line.startswith("| `"))


def test_values_that_no_decided_intent_gives_are_drift_and_are_removed(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["generate"]) == 0
    top = generate.ROOT
    kept = {path: path.read_bytes() for path in top.rglob("*") if path.is_file()}
    assert len(kept) > 10
    others = [
        elsewhere / "README.md",
        elsewhere / "gone" / "notes.txt",
        top / "flux" / "infra" / "by-hand.yaml",
    ]
    for name in ("prod", "gone"):  # undecided, and without an intent
        generate.path_of(name).parent.mkdir()
        generate.path_of(name).write_text("xwiki: {}\n")
    for other in others:
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_text("not ours\n")
    found = [line for line in generate.drift() if line.startswith("---")]
    assert len(found) == 2
    assert "gone" in found[0]
    assert "prod" in found[1]
    assert cli.main(["generate", "--check"]) == 7

    assert generate.generate(["local"]).removed == []  # one environment says nothing of others
    capsys.readouterr()
    assert cli.main(["generate"]) == 0  # what --check advised
    said = capsys.readouterr().out
    assert [line.partition(" (")[0] for line in said.splitlines() if line[:7] == "removed"] == [
        f"removed: {generate.path_of(name)}" for name in ("gone", "prod")
    ]
    assert cli.main(["generate", "--check"]) == 0
    left = {path: path.read_bytes() for path in top.rglob("*") if path.is_file()}
    assert left == {**kept, **dict.fromkeys(others, b"not ours\n")}


def test_a_file_by_hand_among_generated_ones_is_drift_and_is_left_alone(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["generate"]) == 0
    prod = generate.ROOT / "flux" / "apps" / "xwiki-stack" / "prod"
    prod.mkdir()
    (prod / "wiki.sops.yaml").write_text("kind: Secret\n")
    assert generate.drift() == []
    (prod / "helmrelease.yaml").write_text("kind: HelmRelease\n")
    capsys.readouterr()
    assert cli.main(["generate", "--check"]) == 7
    assert "beside *.sops.yaml all here is generated" in capsys.readouterr().out
    assert cli.main(["generate"]) == 0
    assert (prod / "helmrelease.yaml").is_file()


def test_what_is_skipped_as_undecided_is_said(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _again in range(2):
        assert cli.main(["generate"]) == 0
        said = capsys.readouterr().out.splitlines()
        assert [line for line in said if "prod" in line] == [
            "skipped: prod is undecided; `xwiki-stack decisions --env prod` says why"
        ]


def test_prod_is_refused_with_all_its_open_decisions_and_an_exit_code_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(UndecidedError) as caught:
        generate.generate(["prod"])
    for number in (1, 2, 3, 4):
        assert f"decision {number}" in str(caught.value)
    assert cli.main(["generate", "--env", "prod"]) == 4
    assert "decisions --env prod" in capsys.readouterr().err


def test_a_preview_of_prod_is_printed_and_never_written(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["generate", "--env", "prod", "--preview"]) == 0
    assert "storageClass: " in capsys.readouterr().out
    assert not elsewhere.exists()


def test_a_preview_of_all_is_a_document_for_each_environment(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["generate", "--preview"]) == 0
    said = capsys.readouterr().out
    assert [item.keys() for item in yaml.safe_load_all(said)] == [
        {"xwiki", "mysql", "backups", "netpol"}
    ] * 3
    headers = [part.splitlines()[0] for part in said.split("---\n")]
    assert len(headers) == 3
    for header, name in zip(headers, intent.environments(), strict=True):
        assert header.startswith(f"# Generated from values/envs/{name}.yaml")
    assert not elsewhere.exists()


def test_a_preview_checks_nothing() -> None:
    parse = cli._parser().parse_args
    assert parse(["generate", "--preview"]).preview
    assert parse(["generate", "--check"]).check
    with pytest.raises((SystemExit, IntentError)):
        parse(["generate", "--preview", "--check"])


def test_a_host_of_two_environments_is_given_to_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    load = intent.load_environment

    def published(name: str, values: Path = intent.VALUES) -> Environment:
        return dataclasses.replace(load(name, values), host="wiki.example.org")

    monkeypatch.setattr(intent, "load_environment", published)
    with pytest.raises(IntentError, match="is also the host of prod"):
        generate.drift(["staging"])


def resized(env: str = "local", **storage: str) -> Environment:
    return dataclasses.replace(intent.load_environment(env), storage=storage)


def refuse(environment: Environment, path: Path | None = None, **facts: Any) -> None:
    """Compare an environment, on its cluster with other facts, with what is committed."""
    cluster = dataclasses.replace(intent.load_cluster(environment.cluster), **facts)
    generate._refuse_other_volumes(environment, cluster, path or generate.path_of(environment.name))


def test_a_volume_never_shrinks(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"storage.xwiki: 19Gi is less than the 20Gi"):
        refuse(resized(xwiki="19Gi"))
    committed = tmp_path / "xwiki-stack.yaml"
    committed.write_text("mysql: {persistence: {size: 70Gi}}")
    with pytest.raises(RefusedError, match=r"storage.mysql: 60Gi .* volumes do not shrink"):
        refuse(resized(mysql="60Gi"), committed)


def test_a_smaller_size_does_not_shrink_what_a_larger_one_had(tmp_path: Path) -> None:
    committed = tmp_path / "xwiki-stack.yaml"
    large = dataclasses.replace(intent.load_environment("staging"), size="large")
    committed.write_text(of(large))
    refuse(large, committed)
    with pytest.raises(RefusedError, match=r"storage.mysql: 50Gi is less than the 200Gi"):
        refuse(dataclasses.replace(large, size="small"), committed)


def test_what_a_volume_is_born_with_never_shrinks() -> None:
    with pytest.raises(
        RefusedError, match=r"storage.mysqlClaimTemplate: 40Gi is less than the 50Gi"
    ):
        refuse(resized(mysqlClaimTemplate="40Gi"))


def test_an_installed_volume_keeps_its_class(tmp_path: Path) -> None:
    refuse(resized("staging"))
    with pytest.raises(RefusedError, match="a claim keeps the class it was born with") as caught:
        refuse(resized("staging"), driver="local-path")
    assert "values/clusters/main.yaml: storage.driver: the class of mysql" in str(caught.value)
    assert "delete values/generated/staging/xwiki-stack.yaml" in str(caught.value)
    refuse(resized("staging"), tmp_path / "none-yet.yaml", driver="local-path")
    committed = tmp_path / "xwiki-stack.yaml"
    committed.write_text("xwiki: {persistence: {storageClass: fast}}")
    with pytest.raises(RefusedError, match=r"xwiki's volume would change from 'fast' to ''"):
        refuse(resized(), committed)


@pytest.mark.parametrize(
    "nonsense", ["", "[]", "xwiki: 1", "xwiki: {persistence: {size: lots, storageClass: 1}}", "{"]
)
def test_a_committed_file_that_is_nonsense_stands_in_no_way(tmp_path: Path, nonsense: str) -> None:
    path = tmp_path / "xwiki-stack.yaml"
    path.write_text(nonsense)
    refuse(resized(), path)


def test_heap_and_pool_follow_limits_that_are_spelled_out() -> None:
    requests = {"cpu": "1", "memory": "2Gi"}
    given = {
        "xwiki": {"requests": requests, "limits": {"cpu": "2", "memory": "4Gi"}},
        "mysql": {"requests": requests, "limits": {"cpu": "2", "memory": "8Gi"}},
    }
    values = values_of(dataclasses.replace(resized(), resources=given))
    assert values["xwiki"]["java"]["heap"] == "2816m"
    assert values["mysql"]["config"] == {"innodbBufferPoolSize": "4864M", "maxConnections": 160}
    given["xwiki"]["limits"]["memory"] = "2Gi"
    with pytest.raises(IntentError, match=r"local.yaml: resources.xwiki.limits.memory"):
        of(dataclasses.replace(resized(), resources=given))


def test_a_bumped_secret_restarts_what_reads_it() -> None:
    for bumped in ({"xwiki": "2"}, {"mysql": "2"}, {"xwiki": "2", "mysql": "3"}):
        values = values_of(dataclasses.replace(resized(), secret_revision=bumped))
        for component in ("xwiki", "mysql"):
            assert values[component]["secretRevision"] == bumped.get(component, "")


def test_words_of_people_stay_words() -> None:
    """A class named `yes` or a claim named 1 would be something else without quotes."""
    revision = {"xwiki": "2026"}
    environment = dataclasses.replace(
        resized(), flavor="xip", xip={"claim": "1", "path": "/xip/a: b"}, secret_revision=revision
    )
    values = values_of(environment)["xwiki"]
    assert values["xip"] == {"claim": "1", "path": "/xip/a: b"}
    assert values["secretRevision"] == "2026"


def test_a_volume_grows_only_where_it_can() -> None:
    with pytest.raises(RefusedError, match="cannot grow"):
        refuse(resized(xwiki="30Gi"))
    refuse(resized("staging", xwiki="30Gi"))


def test_a_decided_prod_is_published_over_tls() -> None:
    prod, cluster = decided_prod()
    values = yaml.safe_load(generate.text_of(dataclasses.replace(prod, mysql="8.4"), cluster))
    assert values["xwiki"]["home"] == "https://xwiki.example.org/"
    assert values["xwiki"]["ingress"]["host"] == "xwiki.example.org"
    annotations = values["xwiki"]["ingress"]["annotations"]
    assert annotations["cert-manager.io/cluster-issuer"] == "letsencrypt-prod"
    assert values["mysql"]["image"]["tag"].startswith("8.4.")
    assert values["mysql"]["persistence"]["storageClass"] == "longhorn-db"


def test_a_pinned_image_carries_version_and_digest_in_one_field() -> None:
    digest = "sha256:" + "a" * 64
    environment = dataclasses.replace(intent.load_environment("local"), digests={"xwiki": digest})
    values = values_of(environment)
    assert values["xwiki"]["image"]["tag"] == f"17.10.13-mysql-tomcat@{digest}"


def test_more_nodes_switch_anti_affinity_on_and_count_the_copies() -> None:
    prod, one = decided_prod()
    three = dataclasses.replace(one, nodes=3)
    assert yaml.safe_load(generate.text_of(prod, one))["xwiki"]["affinity"] == {}
    assert "one node: one copy, no fault tolerance" in generate.text_of(prod, one)
    said = generate.text_of(prod, three)
    assert "podAntiAffinity" in yaml.safe_load(said)["mysql"]["affinity"]
    assert "3 copies, each on a node of its own" in said


def test_values_are_those_of_the_cluster_that_is_given() -> None:
    prod, decided = decided_prod()
    assert intent.load_cluster(prod.cluster).domain != decided.domain
    other: Cluster = dataclasses.replace(decided, ingress="none")
    assert "https://xwiki.example.org/" in generate.text_of(prod, decided)
    assert "the cluster has no ingress controller" in generate.text_of(prod, other)
