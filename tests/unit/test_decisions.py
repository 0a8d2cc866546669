"""The mission's fifteen decisions, five of them blocking, as an environment has taken them."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import yaml
from tests.environments import DATA, decided_prod

from xwiki_stack import cli, decisions, intent


def test_prod_has_five_blocking_decisions_open() -> None:
    rows = decisions.table("prod")
    assert [row.number for row in rows] == list(range(1, 16))
    assert [row.number for row in rows if row.weight == "blocking"] == [1, 2, 3, 4, 10]
    assert [row.number for row in rows if row.blocks] == [1, 2, 3, 4, 10]


def test_staging_has_decided_what_it_tries_out() -> None:
    said = {row.number: (row.state, row.value) for row in decisions.table("staging")}
    assert said[1] == ("decided", "9.7")
    assert said[4] == ("decided", "RPO 24h, RTO 2h, drills monthly")
    assert said[3] == ("open", "write host in the intent, or domain in values/clusters/main.yaml")


def test_an_unpinned_image_is_an_open_decision() -> None:
    (pinning,) = [row for row in decisions.table("prod") if row.number == 10]
    assert pinning.state == "open"
    assert (
        "write images.mysql, images.xwiki in the intent; `xwiki-stack images pin" in pinning.value
    )
    assert pinning.blocks


def test_every_decision_names_owner_state_and_what_it_changes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = decisions.table("prod")
    assert all(row.owner and row.changes for row in rows)
    assert all(row.value and row.state in decisions.STATES for row in rows)
    assert cli.main(["decisions"]) == 0
    said = capsys.readouterr().out
    assert all(row.what in said and row.owner in said for row in rows)
    assert "5 blocking and open: 1, 2, 3, 4, 10" in said


def test_a_decided_prod_waits_for_nothing_that_blocks() -> None:
    environment, cluster = decided_prod()
    rows = decisions.table_of(environment, cluster)
    assert not any(row.blocks for row in rows)
    assert environment.undecided == ()
    said = {row.number: row.value for row in rows}
    keys = len(environment.backups["recipients"])
    assert said[2] == f"{environment.backups['target']['bucket']}, 30 days, {keys} keys open"


TARGET = "backups.target"

OPENED = {
    "mysql": 1,
    TARGET: 2,
    f"{TARGET}.endpoint": 2,
    f"{TARGET}.bucket": 2,
    f"{TARGET}.region": 2,
    f"{TARGET}.encryption": 2,
    f"{TARGET}.retentionDays": 2,
    f"{TARGET}.payer": 2,
    f"{TARGET}.keyOwner": 2,
    "host": 3,
    "backups.rpo": 4,
    "backups.rto": 4,
    "backups.drills": 4,
}
"""Every key that can hold a blocking decision open, and the decision."""


def opened(values: Path, key: str, word: str = "undecided") -> intent.Environment:
    """The decided prod with one key that says it is undecided."""
    shutil.copytree(DATA / "decided", values, dirs_exist_ok=True)
    path = values / "envs" / "prod.yaml"
    document = yaml.safe_load(path.read_text())
    *folders, last = key.split(".")
    intent.at(document, *folders)[last] = word
    path.write_text(yaml.safe_dump(document))
    return intent.load_environment("prod", values)


@pytest.mark.parametrize("key", OPENED)
def test_table_and_gate_agree_on_what_blocks(key: str, tmp_path: Path) -> None:
    """The catalogue lists what `intent` refuses prod for, one decision at a time."""
    environment, number = opened(tmp_path, key), OPENED[key]
    assert environment.undecided == (f"{key} (decision {number})",)
    rows = decisions.table_of(environment, intent.load_cluster("main", tmp_path))
    (blocking,) = [row for row in rows if row.blocks]
    assert blocking.number == number
    assert f"write {key} in the intent" in blocking.value


def test_no_key_of_a_target_is_forgotten() -> None:
    schema = json.loads((intent.VALUES / "schemas" / "environment.schema.json").read_text())
    target = schema["properties"]["backups"]["properties"]["target"]["oneOf"][1]
    keys = {f"{TARGET}.{key}" for key in target["required"]}
    assert keys == {key for key in OPENED if key.startswith(f"{TARGET}.")}
    # What needs no decision has a default.
    free = [key for key in target["properties"] if key not in target["required"]]
    assert free == ["prefix", "pathStyle", "checksums", "kmsKey", "caBundle", "cidrs"]


@pytest.mark.parametrize("key", ["recipients", "trusted"])
def test_prod_waits_for_the_keys_of_its_backups(key: str, tmp_path: Path) -> None:
    shutil.copytree(DATA / "decided", tmp_path, dirs_exist_ok=True)
    path = tmp_path / "envs" / "prod.yaml"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith(f"  {key}:")))
    environment = intent.load_environment("prod", tmp_path)
    assert environment.undecided == (f"backups.{key} (decision 2)",)


@pytest.mark.parametrize(
    ("key", "word"),
    [("payer", "Undecided"), ("keyOwner", "undecided yet"), ("endpoint", "https://undecided")],
)
def test_an_open_decision_is_seen_in_other_words(key: str, word: str, tmp_path: Path) -> None:
    environment = opened(tmp_path, f"{TARGET}.{key}", word)
    assert environment.undecided == (f"{TARGET}.{key} (decision 2)",)


def test_an_open_domain_leaves_the_host_open(tmp_path: Path) -> None:
    shutil.copytree(DATA / "decided", tmp_path, dirs_exist_ok=True)
    path = tmp_path / "clusters" / "main.yaml"
    path.write_text(path.read_text().replace("domain: example.org", "domain: undecided"))
    assert intent.load_environment("prod", tmp_path).undecided == ("host (decision 3)",)


def test_what_the_cluster_settles_follows_its_file() -> None:
    prod, main = decided_prod()
    vault = {"backend": "vault", "server": "https://v.example.org"}
    later = dataclasses.replace(main, dns="cloudflare", logs="loki", nodes=2, secrets=vault)
    for number in (9, 11, 12):
        assert decisions.table_of(prod, main)[number - 1].state == "deferred"
        assert decisions.table_of(prod, later)[number - 1].state == "decided"
    assert "inactive" in decisions.table_of(prod, main)[13].value
    assert decisions.table_of(prod, later)[13].value.startswith("active")


@pytest.mark.parametrize("key", ["xwiki", "mysql"])
def test_prod_waits_for_the_digest_of_each_image(key: str, tmp_path: Path) -> None:
    shutil.copytree(DATA / "decided", tmp_path, dirs_exist_ok=True)
    path = tmp_path / "envs" / "prod.yaml"
    document = yaml.safe_load(path.read_text())
    del document["images"][key]
    path.write_text(yaml.safe_dump(document))
    environment = intent.load_environment("prod", tmp_path)
    assert environment.undecided == (f"images.{key} (decision 10)",)
