"""Generated values: fresh, the same every time, explained, and never smaller than before."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from xwiki_stack import cli, generate, intent
from xwiki_stack.errors import RefusedError, UndecidedError


def test_the_committed_files_are_what_the_intent_gives() -> None:
    assert generate.drift() == []
    assert {path.parent.name for path in generate.GENERATED.glob("*/xwiki-stack.yaml")} == {
        "local",
        "staging",
    }


def test_drift_is_shown_as_a_diff_and_ends_with_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "GENERATED", tmp_path)
    generate.generate(["local"])
    path = generate.path_of("local")
    path.write_text(path.read_text().replace("heap: 1792m", "heap: 99m"))
    assert cli.main(["generate", "--env", "local", "--check"]) == 7
    out = capsys.readouterr()
    assert "-    heap: 99m" in out.out
    assert "+    heap: 1792m" in out.out
    assert "make generate" in out.err
    assert [item.path for item in generate.generate(["local"])] == [path]
    assert generate.generate(["local"]) == []


@pytest.mark.parametrize("name", ["local", "staging", "prod"])
def test_the_same_intent_gives_the_same_bytes(name: str) -> None:
    environment = intent.load_environment(name)
    assert generate.text_of(environment) == generate.text_of(environment)


DERIVED = ["heap", "innodbBufferPoolSize", "maxConnections", "claimTemplateSize", "storageClass"]


@pytest.mark.parametrize("name", ["local", "staging", "prod"])
@pytest.mark.parametrize("key", DERIVED)
def test_a_derived_number_has_its_reason_above_it(name: str, key: str) -> None:
    text = generate.text_of(intent.load_environment(name))
    found = re.findall(rf"^( *#[^\n]+)\n +{key}: ", text, re.M)
    assert found, f"{key} has no reason"
    assert all(len(reason.strip("# ")) > 10 for reason in found)


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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "GENERATED", tmp_path)
    assert cli.main(["generate", "--env", "prod", "--preview"]) == 0
    assert "storageClass: " in capsys.readouterr().out
    assert list(tmp_path.rglob("*")) == []


def resized(mysql: str = "50Gi", xwiki: str = "20Gi", env: str = "local") -> intent.Environment:
    environment = intent.load_environment(env)
    return dataclasses.replace(environment, mysql_storage=mysql, xwiki_storage=xwiki)


def test_a_volume_never_shrinks() -> None:
    for smaller in (resized(mysql="49Gi"), resized(xwiki="19Gi")):
        with pytest.raises(RefusedError, match="volumes do not shrink"):
            generate._refuse_resize(smaller, generate.path_of("local"))


def test_a_volume_grows_only_where_it_can() -> None:
    with pytest.raises(RefusedError, match="cannot grow"):
        generate._refuse_resize(resized(xwiki="30Gi"), generate.path_of("local"))
    generate._refuse_resize(resized(xwiki="30Gi", env="staging"), generate.path_of("staging"))


def test_a_decided_prod_is_published_over_tls() -> None:
    environment = dataclasses.replace(
        intent.load_environment("prod"), host="wiki.example.org", mysql="8.4", undecided=()
    )
    values = yaml.safe_load(generate.text_of(environment))
    assert values["xwiki"]["home"] == "https://wiki.example.org/"
    assert values["xwiki"]["ingress"]["host"] == "wiki.example.org"
    annotations = values["xwiki"]["ingress"]["annotations"]
    assert annotations["cert-manager.io/cluster-issuer"] == "letsencrypt-prod"
    assert values["mysql"]["image"]["tag"].startswith("8.4.")
    assert values["mysql"]["persistence"]["storageClass"] == "longhorn-db"


def test_a_pinned_image_carries_version_and_digest_in_one_field() -> None:
    digest = "sha256:" + "a" * 64
    environment = dataclasses.replace(intent.load_environment("local"), digests={"xwiki": digest})
    values = yaml.safe_load(generate.text_of(environment))
    assert values["xwiki"]["image"]["tag"] == f"17.10.13-mysql-tomcat@{digest}"


def test_more_nodes_switch_anti_affinity_on(monkeypatch: pytest.MonkeyPatch) -> None:
    one = intent.load_cluster("local")
    assert yaml.safe_load(generate.text_of(resized()))["xwiki"]["affinity"] == {}
    monkeypatch.setattr(intent, "load_cluster", lambda *_args: dataclasses.replace(one, nodes=3))
    affinity = yaml.safe_load(generate.text_of(resized()))["mysql"]["affinity"]
    assert "podAntiAffinity" in affinity
