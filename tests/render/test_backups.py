"""What charts/backups renders: four CronJobs, each with what its verb needs and no more."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import environments
from tests.render import schemas
from xwiki_stack import generate, intent, policy, render, sizing, up
from xwiki_stack.backup import cli, config, rewrite
from xwiki_stack.errors import IntentError
from xwiki_stack.render import Manifest

ROLES = ("site", "verify", "prune", "restore")

LEAST: dict[str, Any] = {
    "environment": "staging",
    "store": {"bucket": "wiki-backups"},
    "keys": {"recipients": ["age1example"], "trusted": [f"{'A' * 43}="]},
}


def backups(*values: dict[str, Any]) -> list[Manifest]:
    return environments.chart("backups", LEAST, *values)


def cronjob(role: str, *values: dict[str, Any]) -> Manifest:
    return environments.only(backups(*values), "CronJob", f"-backups-{role}")


def pod(role: str, *values: dict[str, Any]) -> Manifest:
    spec: Manifest = policy.pod_of(cronjob(role, *values))["spec"]
    return spec


def container(role: str, *values: dict[str, Any]) -> Manifest:
    (found,) = pod(role, *values)["containers"]
    return dict(found)


def mounted(role: str) -> dict[str, tuple[str, set[str]]]:
    """Where Secrets are mounted: name and keys."""
    spec = pod(role)
    secret = {v["name"]: v["secret"] for v in spec["volumes"] if "secret" in v}
    return {
        mount["mountPath"]: (
            secret[mount["name"]]["secretName"],
            {item["key"] for item in secret[mount["name"]]["items"]},
        )
        for mount in container(role)["volumeMounts"]
        if mount["name"] in secret
    }


def test_each_verb_is_a_cronjob_that_never_overlaps_and_always_ends() -> None:
    found = [item for item in backups() if item["kind"] == "CronJob"]
    assert {item["metadata"]["name"].rpartition("-")[2] for item in found} == set(ROLES)
    for item in found:
        spec = item["spec"]
        assert spec["concurrencyPolicy"] == "Forbid"
        assert spec["successfulJobsHistoryLimit"] >= 1 <= spec["failedJobsHistoryLimit"]
        assert spec["timeZone"] == "Etc/UTC"
        job = spec["jobTemplate"]["spec"]
        # A whole run that failed is not tried again at once: its reason is to be read.
        assert job["backoffLimit"] == 0
        minutes = schemas.defaults("backups")["limits"]["runMinutes"]
        assert job["activeDeadlineSeconds"] > 60 * minutes


@pytest.mark.parametrize("role", ROLES)
def test_the_command_is_one_that_the_engine_has(role: str) -> None:
    import argparse

    parser = argparse.ArgumentParser()
    cli.add(parser)
    said = parser.parse_args(container(role)["args"])
    assert said.backup_verb == {"site": "run"}.get(role, role)
    if role == "prune":
        assert said.apply


def test_a_failed_run_is_not_taken_for_a_broken_release() -> None:
    """`up` and `status` look at every Job of the release, and would have it made anew."""
    key, value = up.OURS.split("=")
    for role in ROLES:
        item = cronjob(role)
        assert item["metadata"]["labels"][key] == value
        assert key not in item["spec"]["jobTemplate"]["metadata"]["labels"]
        assert policy.pod_of(item)["metadata"]["labels"][key] == value


def test_only_the_restore_waits_for_a_person() -> None:
    assert {role: cronjob(role)["spec"]["suspend"] for role in ROLES} == {
        "site": False, "verify": False, "prune": False, "restore": True,
    }  # fmt: skip


def test_each_verb_has_an_identity_of_its_own_and_no_key_too_many() -> None:
    home, database = "/run/secrets/backups", "/run/secrets/database"
    name, store = f"{render.RELEASE}-backups", {"access-key", "secret-key"}
    assert mounted("site") == {
        home: (f"{name}-writer", {*store, "signing-key", "index-identity"}),
        database: (f"{render.RELEASE}-mysql", {"backup-password"}),
    }
    assert mounted("verify") == {home: (f"{name}-verifier", {*store, "signing-key"})}
    assert mounted("prune") == {home: (f"{name}-prune", store)}
    assert mounted("restore") == {
        home: (f"{name}-recovery", {*store, "identity"}),
        database: (f"{render.RELEASE}-mysql", {"xwiki-password"}),
    }


def test_the_wikis_volume_is_written_by_the_restore_alone() -> None:
    found = {
        role: mount["readOnly"]
        for role in ROLES
        for mount in container(role)["volumeMounts"]
        if mount["name"] == "files"
    }
    assert found == {"site": True, "restore": False}
    (wiki,) = [i for i in environments.chart("xwiki") if i["kind"] == "Deployment"]
    theirs = wiki["spec"]["template"]["spec"]["securityContext"]
    for role in ROLES:
        assert pod(role)["securityContext"] == theirs


def test_pods_prefer_the_node_of_the_wiki_unless_told_otherwise() -> None:
    (term,) = pod("site")["affinity"]["podAffinity"][
        "preferredDuringSchedulingIgnoredDuringExecution"
    ]
    (wiki,) = [i for i in environments.chart("xwiki") if i["kind"] == "Deployment"]
    labels = wiki["spec"]["template"]["metadata"]["labels"]
    assert term["podAffinityTerm"]["labelSelector"]["matchLabels"].items() <= labels.items()
    own: dict[str, Any] = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    assert pod("site", {"affinity": own})["affinity"] == own


@pytest.mark.parametrize("environment", ["prod-decided", "everything"])
@pytest.mark.parametrize("file", ["backup.yaml", "restore.yaml"])
def test_the_engine_reads_its_configuration(environment: str, file: str, tmp_path: Path) -> None:
    """By the engine's own schema, with files that a container of that role has."""
    objects = environments.objects(environment)
    data = environments.only(objects, "ConfigMap", "-backups")["data"]
    path = tmp_path / file
    path.write_text(data[file])
    said = config.load(path)
    assert said.environment == {"prod-decided": "prod"}.get(environment, environment)
    assert said.purpose == "prod"
    assert said.need_database().schemas
    role = {"backup.yaml": "site", "restore.yaml": "restore"}[file]
    named = [said.store.access_key_file, said.store.secret_key_file, *said.keys.identity_files]
    named += [said.need_database().password_file]
    named += [f for f in (said.keys.signing_key_file, said.keys.index_identity_file) if f]
    spec = policy.pod_of(environments.only(objects, "CronJob", f"-{role}"))["spec"]
    volumes = {v["name"]: v.get("secret", {}).get("items", []) for v in spec["volumes"]}
    there = {
        Path(mount["mountPath"]) / item["path"]
        for mount in spec["containers"][0]["volumeMounts"]
        for item in volumes[mount["name"]]
    }
    assert set(named) <= there
    assert str(said.need_files()) in {
        mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]
    }


@pytest.mark.parametrize("part", ["limits", "retention"])
def test_defaults_are_the_engines_own(part: str, tmp_path: Path) -> None:
    path = tmp_path / "backup.yaml"
    path.write_text(environments.only(backups(), "ConfigMap")["data"]["backup.yaml"])
    said, bare = config.load(path), tmp_path / "bare.yaml"
    document = yaml.safe_load(path.read_text())
    del document[part]
    bare.write_text(yaml.safe_dump(document))
    assert getattr(config.load(bare), part) == getattr(said, part)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"typo": 1}, "typo"),
        ({"keys": {"recipients": ["AGE-SECRET-KEY-1ABC"]}}, "recipients"),
        ({"keys": {"trusted": ["short"]}}, "trusted"),
        ({"store": {"endpoint": "s3.example.org"}}, "endpoint"),
        ({"store": {"prefix": "/wiki/"}}, "prefix"),
        ({"store": {"accessKey": "x"}}, "accessKey"),
        ({"schedules": {"site": "@daily"}}, "site"),
        ({"limits": {"generationSets": 8}}, "generationSets"),
        ({"retention": {"last": 0}}, "last"),
        ({"database": {"user": "root"}}, "user"),
        ({"purpose": "test"}, "purpose"),
        ({"host": "https://wiki.example.org"}, "host"),
        ({"foreignHosts": ["a b"]}, "foreignHosts"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_value_that_cannot_be_meant_is_refused_by_name(values: dict[str, Any], word: str) -> None:
    with pytest.raises(IntentError, match=word):
        backups(values)


# Derived from the intent


def fires(schedule: str) -> list[int]:
    """Minutes of the day at which a schedule of fixed hours fires."""
    minutes, hours = schedule.split()[:2]
    every = range(24) if hours == "*" else map(int, hours.split(","))
    return sorted(60 * hour + minute for hour in every for minute in map(int, minutes.split(",")))


@pytest.mark.parametrize("rpo", [1, 2, 3, 4, 5, 6, 8, 12, 23, 24, 36, 48, 100])
def test_one_failed_run_breaks_no_promise(rpo: int) -> None:
    found = sizing.schedules(rpo)
    times = fires(found.site)
    gaps = {(b - a) % 1440 or 1440 for a, b in zip(times, [*times[1:], times[0]], strict=True)}
    (gap,) = gaps
    assert 2 * gap <= 60 * rpo
    assert found.minutes < gap
    assert len(fires(found.verify)) == len(times)
    assert not set(fires(found.verify)) & set(times)
    assert len(fires(found.prune)) == 1
    for schedule in (found.site, found.verify, found.prune):
        assert backups({"schedules": {"site": schedule}})


def test_24_hours_mean_a_set_every_12() -> None:
    found = sizing.schedules(24)
    assert found.site == schemas.defaults("backups")["schedules"]["site"] == "17 1,13 * * *"
    assert "every 12 hours" in found.reason


def test_an_intent_with_target_keys_and_promise_has_backups() -> None:
    values: Any = environments.decided()
    assert values["backups"]["enabled"]
    assert values["backups"]["store"]["prefix"] == "prod"
    assert values["backups"]["store"]["encryption"] == "AES256"
    assert values["backups"]["retention"]["daily"] == 30
    text = generate.text_of(*environments.decided_prod())
    assert "An RPO of 24 hours: a set every 12 hours" in text


@pytest.mark.parametrize("environment", ["local", "staging"])
def test_an_intent_without_them_has_none_and_says_so(environment: str) -> None:
    text = generate.path_of(environment).read_text()
    assert not yaml.safe_load(text)["backups"]["enabled"]
    assert "No backups: the intent lacks" in text


@pytest.mark.parametrize(
    ("days", "rpo", "last", "weekly", "monthly"),
    [
        (30, 24, 4, 8, 6),
        (7, 24, 4, 8, 6),
        (90, 24, 4, 13, 6),
        (400, 6, 16, 58, 14),
        (30, 1, 96, 8, 6),
    ],
)
def test_keep_rules_follow_from_the_promised_days(
    days: int, rpo: int, last: int, weekly: int, monthly: int
) -> None:
    found = sizing.retention(days, rpo)
    assert {rule: int(kept.value) for rule, kept in found.items()} == {
        "opened": 7, "last": last, "daily": days, "weekly": weekly, "monthly": monthly,
    }  # fmt: skip
    assert all(kept.reason for kept in found.values())
    assert last >= 2 * len(fires(sizing.schedules(rpo).site))
    assert backups({"retention": {rule: int(kept.value) for rule, kept in found.items()}})


def test_the_reason_stands_beside_each_keep_rule() -> None:
    text = generate.text_of(*environments.decided_prod())
    values: Any = environments.decided()
    for rule, kept in sizing.retention(30, 24).items():
        assert f"    # {kept.reason}.\n    {rule}: {kept.value}\n" in text
        assert values["backups"]["retention"][rule] == int(kept.value)


def decided_staging(folder: Path) -> dict[str, Any]:
    """A staging beside the decided prod, with a target of its own."""
    shutil.copytree(environments.DATA / "decided", folder, dirs_exist_ok=True)
    document = yaml.safe_load((folder / "envs" / "prod.yaml").read_text())
    document["purpose"] = "staging"
    document.pop("host", None)
    (folder / "envs" / "staging.yaml").write_text(yaml.safe_dump(document))
    found = intent.load_environment("staging", folder)
    text = generate.text_of(found, intent.load_cluster(found.cluster, folder))
    values: dict[str, Any] = yaml.safe_load(text)
    return values


def test_staging_knows_its_host_and_production_s_and_sends_no_mail(tmp_path: Path) -> None:
    values = decided_staging(tmp_path)
    prod, _ = environments.decided_prod()
    assert values["backups"]["host"] == "xwiki-staging.example.org"
    assert values["backups"]["foreignHosts"] == [prod.host]
    assert values["xwiki"]["mailHost"] == rewrite.MAIL_OFF
    own = environments.chart("backups", LEAST, values["backups"])
    path = tmp_path / "restore.yaml"
    path.write_text(environments.only(own, "ConfigMap")["data"]["restore.yaml"])
    said = config.load(path)
    assert (said.need_host(), said.foreign_hosts) == ("xwiki-staging.example.org", (prod.host,))
    ours: Any = environments.decided()
    assert "mailHost" not in ours["xwiki"]
    assert "foreignHosts" not in ours["backups"]


def test_without_a_host_only_own_sets_come_back(tmp_path: Path) -> None:
    path = tmp_path / "restore.yaml"
    path.write_text(environments.only(backups(), "ConfigMap")["data"]["restore.yaml"])
    with pytest.raises(IntentError, match="host: is missing"):
        config.load(path).need_host()
