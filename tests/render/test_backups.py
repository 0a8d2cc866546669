"""What charts/backups renders: CronJobs and an exporter, each with what its verb needs and no
more."""

import dataclasses
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import environments
from tests.render import schemas
from xwiki_stack import generate, intent, policy, render, sizing, up
from xwiki_stack.backup import cli, config, rewrite
from xwiki_stack.errors import IntentError
from xwiki_stack.intent import Cluster, Environment
from xwiki_stack.render import Manifest

ROLES = ("site", "xar", "verify", "prune", "restore", "restore-xar", "canary")
"""Without the drills, which tests/render/test_drill.py looks at."""

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


@pytest.mark.fault(18)
def test_each_verb_is_a_cronjob_that_never_overlaps_and_always_ends() -> None:
    found = [item for item in backups() if item["kind"] == "CronJob"]
    start = f"{render.RELEASE}-backups-"
    assert {item["metadata"]["name"].removeprefix(start) for item in found} == set(ROLES)
    for item in found:
        spec = item["spec"]
        assert spec["concurrencyPolicy"] == "Forbid"
        assert spec["successfulJobsHistoryLimit"] >= 1 <= spec["failedJobsHistoryLimit"]
        assert spec["timeZone"] == "Etc/UTC"
        job = spec["jobTemplate"]["spec"]
        # A whole run that failed is not tried again at once: its reason is to be read.
        assert job["backoffLimit"] == 0
        limits = schemas.defaults("backups")["limits"]
        minutes = limits[
            "restoreMinutes" if "restore" in item["metadata"]["name"] else "runMinutes"
        ]
        assert job["activeDeadlineSeconds"] == 60 * (minutes + 15)


@pytest.mark.fault(16)
def test_a_start_that_a_reboot_missed_is_made_up_for_once() -> None:
    """By the CronJob controller, which starts one Job for all the starts that were missed."""
    spec = cronjob("site")["spec"]
    assert spec["startingDeadlineSeconds"] == 3600
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["jobTemplate"]["spec"]["template"]["spec"]["restartPolicy"] == "Never"


@pytest.mark.parametrize("role", ROLES)
def test_the_command_is_one_that_the_engine_has(role: str) -> None:
    import argparse

    parser = argparse.ArgumentParser()
    cli.add(parser)
    said = parser.parse_args(container(role)["args"])
    verbs = {"site": "run", "xar": "run", "restore-xar": "restore"}
    assert said.backup_verb == verbs.get(role, role)
    if role == "prune":
        assert said.apply
    # What is about one kind says which; what is about both says nothing.
    kinds = {"site": "site", "xar": "xar", "restore-xar": "xar"}
    assert vars(said).get("kind") == kinds.get(role)


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
        "site": False, "xar": False, "verify": False, "prune": False, "restore": True,
        "restore-xar": True, "canary": False,
    }  # fmt: skip


def test_each_verb_has_an_identity_of_its_own_and_no_key_too_many() -> None:
    home, database, web = (f"/run/secrets/{name}" for name in ("backups", "database", "web"))
    name, store = f"{render.RELEASE}-backups", {"access-key", "secret-key"}
    assert mounted("site") == {
        home: (f"{name}-writer", {*store, "signing-key", "index-identity"}),
        database: (f"{render.RELEASE}-mysql", {"backup-password"}),
    }
    superadmin = (f"{render.RELEASE}-xwiki", {"superadmin-password"})
    assert mounted("xar") == {
        home: (f"{name}-writer", {*store, "signing-key"}),
        database: (f"{render.RELEASE}-mysql", {"backup-password"}),
        web: superadmin,
    }
    assert mounted("restore-xar") == {
        home: (f"{name}-recovery", {*store, "identity"}),
        web: superadmin,
    }
    assert mounted("verify") == {home: (f"{name}-verifier", {*store, "signing-key"})}
    assert mounted("prune") == {home: (f"{name}-prune", {*store, "signing-key"})}
    assert mounted("restore") == {
        home: (f"{name}-recovery", {*store, "identity"}),
        database: (f"{render.RELEASE}-mysql", {"xwiki-password"}),
    }
    # It writes into the wiki and knows nothing of the store.
    assert mounted("canary") == {
        "/run/secrets/web": (f"{render.RELEASE}-xwiki", {"superadmin-password"})
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
@pytest.mark.parametrize("role", ["site", "xar", "restore", "restore-xar"])
def test_the_engine_reads_its_configuration(environment: str, role: str, tmp_path: Path) -> None:
    """By the engine's own schema, with files that a container of that role has."""
    file = "restore.yaml" if role.startswith("restore") else "backup.yaml"
    objects = environments.objects(environment)
    data = environments.only(objects, "ConfigMap", "-backups")["data"]
    path = tmp_path / file
    path.write_text(data[file])
    said = config.load(path)
    assert said.environment == {"prod-decided": "prod"}.get(environment, environment)
    assert said.purpose == {"prod-decided": "prod", "everything": "local"}[environment]
    assert bool(said.store.kms_key) is (environment == "everything")
    assert said.need_database().schemas
    named = [said.store.access_key_file, said.store.secret_key_file, *said.keys.identity_files]
    named += [said.keys.signing_key_file] if said.keys.signing_key_file else []
    if role != "restore-xar":
        named.append(said.need_database().password_file)
    if role == "site" and said.keys.index_identity_file:
        named.append(said.keys.index_identity_file)
    if role in ("xar", "restore-xar"):
        named.append(said.need_web().password_file)
    spec = policy.pod_of(environments.only(objects, "CronJob", f"-backups-{role}"))["spec"]
    volumes = {v["name"]: v.get("secret", {}).get("items", []) for v in spec["volumes"]}
    there = {
        Path(mount["mountPath"]) / item["path"]
        for mount in spec["containers"][0]["volumeMounts"]
        for item in volumes[mount["name"]]
    }
    assert set(named) <= there
    mounts = {mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
    assert (str(said.need_files()) in mounts) == (role in ("site", "restore"))


def test_the_wiki_is_asked_at_its_own_service(tmp_path: Path) -> None:
    """In the umbrella, by the objects of the wiki itself."""
    objects = environments.objects("prod-decided")
    path = tmp_path / "backup.yaml"
    path.write_text(environments.only(objects, "ConfigMap", "-backups")["data"]["backup.yaml"])
    service = environments.only(objects, "Service", "-xwiki")
    (port,) = service["spec"]["ports"]
    asked = config.load(path).need_web()
    assert asked.url == f"http://{service['metadata']['name']}:{port['port']}"
    assert asked.user == "superadmin"
    elsewhere = {"web": {"url": "https://wiki.example.org/xwiki/", "user": "exporter"}}
    path.write_text(environments.only(backups(elsewhere), "ConfigMap")["data"]["restore.yaml"])
    asked = config.load(path).need_web()
    assert (asked.url, asked.user) == ("https://wiki.example.org/xwiki", "exporter")


@pytest.mark.parametrize("part", ["limits", "retention", "xarRetention"])
def test_defaults_are_the_engines_own(part: str, tmp_path: Path) -> None:
    path = tmp_path / "backup.yaml"
    path.write_text(environments.only(backups(), "ConfigMap")["data"]["backup.yaml"])
    said, bare = config.load(path), tmp_path / "bare.yaml"
    document = yaml.safe_load(path.read_text())
    del document[part]
    bare.write_text(yaml.safe_dump(document))
    name = {"xarRetention": "xar_retention"}.get(part, part)
    assert getattr(config.load(bare), name) == getattr(said, name)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"drill": {"canarySince": "26.11.2026"}}, "canarySince"),
        ({"drill": {"volume": {"size": "70"}}}, "size"),
        ({"drill": {"mysql": {"image": {"tag": "latest"}}}}, "tag"),
        ({"drill": {"maxAgeDays": -1}}, "maxAgeDays"),
        ({"web": {"url": "xwiki:8080"}}, "url"),
        ({"typo": 1}, "typo"),
        ({"keys": {"recipients": ["AGE-SECRET-KEY-1ABC"]}}, "recipients"),
        ({"keys": {"trusted": ["short"]}}, "trusted"),
        ({"store": {"endpoint": "s3.example.org"}}, "endpoint"),
        ({"store": {"prefix": "/wiki/"}}, "prefix"),
        ({"store": {"accessKey": "x"}}, "accessKey"),
        ({"store": {"kmsKey": "x", "encryption": "AES256"}}, "encryption"),
        ({"store": {"caBundle": "ca.crt"}}, "caBundle"),
        ({"schedules": {"site": "@daily"}}, "site"),
        ({"limits": {"generationSets": 8}}, "generationSets"),
        ({"retention": {"last": 0}}, "last"),
        ({"database": {"user": "root"}}, "user"),
        ({"web": {"url": "wiki.example.org"}}, "url"),
        ({"web": {"password": "x"}}, "password"),
        ({"schedules": {"xar": "hourly"}}, "xar"),
        ({"xarRetention": {"opened": 0}}, "opened"),
        ({"purpose": "test"}, "purpose"),
        ({"host": "https://wiki.example.org"}, "host"),
        ({"foreignHosts": ["a b"]}, "foreignHosts"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_value_that_cannot_be_meant_is_refused_by_name(values: dict[str, Any], word: str) -> None:
    with pytest.raises(IntentError, match=word):
        backups(values)


# The exporter

WATCHED: dict[str, Any] = {
    "metrics": {"enabled": True, "serviceMonitor": {"enabled": True}, "rules": {"enabled": True}}
}
MONITORING = {"ServiceMonitor", "PrometheusRule"}


def test_nothing_watches_unless_asked_for() -> None:
    kinds = {item["kind"] for item in backups()}
    assert not kinds & {"Deployment", "Service", *MONITORING}
    assert {item["kind"] for item in backups(WATCHED)} - kinds == {
        "Deployment", "Service", *MONITORING,
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["serviceMonitor", "rules"])
def test_what_needs_an_operator_is_asked_for_by_itself(kind: str) -> None:
    alone = {item["kind"] for item in backups({"metrics": {"enabled": True}})}
    assert not alone & MONITORING
    both = {
        item["kind"] for item in backups({"metrics": {"enabled": True, kind: {"enabled": True}}})
    }
    assert both - alone == {"serviceMonitor": {"ServiceMonitor"}, "rules": {"PrometheusRule"}}[kind]
    without = {item["kind"] for item in backups({"metrics": {kind: {"enabled": True}}})}
    assert not without & MONITORING, "nobody would answer it"


def test_the_exporter_reads_by_an_identity_of_its_own_and_holds_no_key() -> None:
    item = environments.only(backups(WATCHED), "Deployment")
    spec = policy.pod_of(item)["spec"]
    (keys,) = [v["secret"] for v in spec["volumes"] if "secret" in v]
    assert keys["secretName"] == f"{render.RELEASE}-backups-exporter"
    assert {entry["key"] for entry in keys["items"]} == {"access-key", "secret-key"}
    assert not [v for v in spec["volumes"] if "persistentVolumeClaim" in v]
    assert spec["securityContext"] == pod("site")["securityContext"]
    assert "affinity" not in spec, "it needs no volume, so any node will do"


def test_the_exporters_command_and_configuration_are_the_engines(tmp_path: Path) -> None:
    import argparse

    objects = backups(WATCHED, {"metrics": {"every": 77}})
    (made,) = policy.pod_of(environments.only(objects, "Deployment"))["spec"]["containers"]
    parser = argparse.ArgumentParser()
    cli.add(parser)
    said = parser.parse_args(made["args"])
    assert (said.backup_verb, said.every, said.listen) == ("exporter", 77, ":9105")
    assert made["ports"] == [{"name": "metrics", "containerPort": 9105}]
    path = tmp_path / "exporter.yaml"
    path.write_text(environments.only(objects, "ConfigMap")["data"]["exporter.yaml"])
    known = config.load(path)
    assert known.need_trusted() == tuple(LEAST["keys"]["trusted"])
    assert known.keys.recipients == ()
    assert (known.keys.signing_key_file, known.keys.index_identity_file) == (None, None)
    assert (known.database, known.files) == (None, None)


def test_the_monitor_finds_the_service_and_the_service_the_exporter_alone() -> None:
    objects = backups(WATCHED)
    monitor = environments.only(objects, "ServiceMonitor")["spec"]
    service = environments.only(objects, "Service")
    wanted = monitor["selector"]["matchLabels"]
    assert wanted.items() <= service["metadata"]["labels"].items()
    (end,) = monitor["endpoints"]
    assert end["port"] in {port["name"] for port in service["spec"]["ports"]}
    chosen = [
        item["kind"]
        for item in objects
        if policy.pod_of(item)
        and service["spec"]["selector"].items() <= policy.pod_of(item)["metadata"]["labels"].items()
    ]
    assert chosen == ["Deployment"]


# Derived from the intent


def fires(schedule: str) -> list[int]:
    """Minutes of the day at which a schedule of fixed hours fires."""
    minutes, hours = schedule.split()[:2]
    every = range(24) if hours == "*" else map(int, hours.split(","))
    return sorted(60 * hour + minute for hour in every for minute in map(int, minutes.split(",")))


def times_before(moment: int, times: list[int]) -> list[int]:
    """Those of a day that lie before one of them, on the day before as well."""
    return [time for day in (-1440, 0) for time in (day + each for each in times) if time < moment]


@pytest.mark.parametrize("rpo", [*range(1, 26), 36, 48, 100])
def test_one_failed_run_breaks_no_promise(rpo: int) -> None:
    found = sizing.schedules(rpo)
    times = fires(found.site)
    gaps = {(b - a) % 1440 or 1440 for a, b in zip(times, [*times[1:], times[0]], strict=True)}
    (gap,) = gaps
    assert 2 * gap <= 60 * rpo
    assert found.minutes < gap
    assert len(fires(found.verify)) == len(times)
    assert not set(fires(found.verify)) & set(times)
    # Prune acts while the newest set is proven: after a proof, before the next set lies there.
    (pruning,) = fires(found.prune)
    assert max(times_before(pruning, times), default=0) < max(
        times_before(pruning, fires(found.verify)), default=0
    ), (times, found.verify, found.prune)
    (export,) = fires(found.xar)
    others = [*times, *fires(found.verify), *fires(found.prune)]
    assert min(abs(export - other) for other in others) >= min(gap // 8, 60)
    # The canary is fresh when a set begins.
    assert [(site - canary) % 1440 for site, canary in
            zip(times, fires(found.canary), strict=True)] == [10] * len(times)  # fmt: skip
    for schedule in (found.site, found.xar, found.verify, found.prune, found.canary):
        assert backups({"schedules": {"site": schedule}})


@pytest.mark.parametrize("rpo", [1, 2, 3, 5, 8, 12, 24, 26, 48, 100])
def test_a_warning_comes_before_the_promise_is_broken_and_after_what_is_allowed(rpo: int) -> None:
    found, times = sizing.alerts(rpo), fires(sizing.schedules(rpo).site)
    apart = 1440 // len(times)
    assert apart + sizing.schedules(rpo).minutes == found.stale_minutes < 60 * rpo
    proof = min((v - times[0]) % 1440 for v in fires(sizing.schedules(rpo).verify))
    assert found.unproven_minutes > proof + apart
    assert backups({"metrics": {"rules": {"staleMinutes": found.stale_minutes}}})


@pytest.mark.parametrize(
    ("rto", "drills", "days", "minutes"),
    [(2, "monthly", 35, 60), (8, "quarterly", 96, 240), (0, "monthly", 0, 60), (2, "", 0, 60),
     (2, "undecided", 0, 60)],
)  # fmt: skip
def test_drills_are_missed_only_where_they_are_promised(
    rto: int, drills: str, days: int, minutes: int
) -> None:
    found = sizing.alerts(24, rto, drills)
    assert (found.drill_days, found.drill_minutes) == (days, minutes)


@pytest.mark.parametrize(("rpo", "days"), [(1, 6), (2, 6), (12, 6), (24, 8), (26, 8), (50, 11)])
def test_prune_is_missed_once_enough_sets_were_there_and_four_days_to_open_them(
    rpo: int, days: int
) -> None:
    found = sizing.alerts(rpo).prune_days
    assert int(found.value) == days
    a_day = len(fires(sizing.schedules(rpo).site))
    assert a_day * (days - sizing.DRILL_GRACE) >= sizing.OPENED_KEPT
    environment, cluster = environments.decided_prod()
    own = dataclasses.replace(environment, backups={**environment.backups, "rpo": f"{rpo}h"})
    text = generate.text_of(own, cluster)
    assert yaml.safe_load(text)["backups"]["metrics"]["rules"]["pruneDays"] == days
    assert f"# {found.reason}.\n" in text


@pytest.mark.parametrize("tried", [True, False])
def test_drills_of_exports_are_missed_where_they_are_tried(tried: bool) -> None:
    watched = {"enabled": True, "rules": {"enabled": True, "drillDays": 35}}
    made = backups({"drill": {"xar": {"enabled": tried}}, "metrics": watched})
    found = environments.only(made, "PrometheusRule")["spec"]["groups"][0]["rules"]
    (rule,) = [rule for rule in found if rule["alert"] == "BackupsDrillStale"]
    assert rule["expr"].count('kind="site"') == (0 if tried else 2)


def test_the_charts_thresholds_are_those_of_its_rpo() -> None:
    rules, found = schemas.defaults("backups")["metrics"]["rules"], sizing.alerts(24)
    assert rules["staleMinutes"] == found.stale_minutes
    assert rules["xarStaleMinutes"] == found.xar_stale_minutes
    assert rules["unprovenMinutes"] == found.unproven_minutes
    assert rules["pruneDays"] == int(found.prune_days.value)
    assert (rules["drillDays"], rules["drillMinutes"]) == (found.drill_days, found.drill_minutes)


def test_an_environment_is_watched_where_its_cluster_has_prometheus() -> None:
    environment, cluster = environments.decided_prod()
    for there in (True, False):
        text = generate.text_of(environment, dataclasses.replace(cluster, metrics=there))
        metrics = yaml.safe_load(text)["backups"]["metrics"]
        assert metrics["enabled"] == there
        assert ("rules" in metrics) == there
    rules = yaml.safe_load(generate.text_of(environment, cluster))["backups"]["metrics"]["rules"]
    assert rules["enabled"]
    assert (rules["staleMinutes"], rules["drillDays"], rules["drillMinutes"]) == (1080, 35, 60)


def test_24_hours_mean_a_set_every_12() -> None:
    found = sizing.schedules(24)
    defaults = schemas.defaults("backups")["schedules"]
    assert found.site == defaults["site"] == "17 1,13 * * *"
    assert found.canary == defaults["canary"]
    assert sizing.DRILLS["monthly"].schedule == defaults["drill"]
    assert "every 12 hours" in found.reason
    assert found.xar == schemas.defaults("backups")["schedules"]["xar"] == "17 4 * * *"


def test_an_intent_with_target_keys_and_promise_has_backups() -> None:
    values: Any = environments.decided()
    assert values["backups"]["enabled"]
    assert values["backups"]["store"]["prefix"] == "prod"
    assert values["backups"]["store"]["encryption"] == "AES256"
    assert values["backups"]["retention"]["daily"] == 30
    text = generate.text_of(*environments.decided_prod())
    assert "An RPO of 24 hours: a set every 12 hours" in text


@pytest.mark.parametrize(("word", "fits"), [("SSE-KMS", True), ("SSE-S3", False)])
def test_the_key_of_the_stores_encryption_reaches_the_engine(
    word: str, fits: bool, tmp_path: Path
) -> None:
    shutil.copytree(environments.DATA / "decided", tmp_path, dirs_exist_ok=True)
    path = tmp_path / "envs" / "prod.yaml"
    path.write_text(path.read_text().replace("SSE-S3", f"{word}\n    kmsKey: arn:key/7"))
    if not fits:
        with pytest.raises(IntentError, match="encryption"):
            intent.load_environment("prod", tmp_path)
        return
    said = generate.text_of(
        intent.load_environment("prod", tmp_path), environments.decided_prod()[1]
    )
    store = yaml.safe_load(said)["backups"]["store"]
    assert (store["encryption"], store["kmsKey"]) == ("aws:kms", "arn:key/7")


def test_a_store_s_own_authority_reaches_every_pod_that_asks_it(tmp_path: Path) -> None:
    pem = "-----BEGIN CERTIFICATE-----\nbm90aGluZw==\n-----END CERTIFICATE-----\n"
    shutil.copytree(environments.DATA / "decided", tmp_path, dirs_exist_ok=True)
    path = tmp_path / "envs" / "prod.yaml"
    indented = pem.replace("\n", "\n      ").strip()
    path.write_text(
        path.read_text().replace("SSE-S3", f"SSE-S3\n    caBundle: |\n      {indented}")
    )
    said = generate.text_of(
        intent.load_environment("prod", tmp_path), environments.decided_prod()[1]
    )
    objects = backups(
        {
            "store": yaml.safe_load(said)["backups"]["store"],
            "drill": {"enabled": True},
            "metrics": {"enabled": True},
        }
    )
    data = environments.only(objects, "ConfigMap", "-backups")["data"]
    assert data["ca.crt"].strip() == pem.strip()
    read = [yaml.safe_load(text) for name, text in data.items() if name.endswith(".yaml")]
    assert len(read) >= 4
    for document in read:
        assert document["store"]["caFile"] == "/etc/xwiki-stack/ca.crt"
    without = environments.only(backups(), "ConfigMap", "-backups")["data"]
    assert "ca.crt" not in without and "caFile" not in str(without)


@pytest.mark.parametrize("environment", ["local", "staging"])
def test_an_intent_without_them_has_none_and_says_so(environment: str) -> None:
    text = generate.path_of(environment).read_text()
    assert not yaml.safe_load(text)["backups"]["enabled"]
    assert "No backups: the intent lacks" in text


@pytest.mark.parametrize("often", ["monthly", "quarterly"])
def test_staging_tries_restores_and_prod_only_expects_it(often: str) -> None:
    prod, cluster = environments.decided_prod()
    prod = replace(prod, backups={**prod.backups, "drills": often})
    staging = replace(prod, name="staging", purpose="staging")
    days = {"monthly": 35, "quarterly": 96}[often]
    drill = yaml.safe_load(generate.text_of(prod, cluster))["backups"]["drill"]
    assert drill == {"enabled": False, "maxAgeDays": days}
    values = yaml.safe_load(generate.text_of(staging, cluster))
    said = values["backups"]["drill"]
    assert (said["enabled"], said["maxAgeDays"]) == (True, days)
    for component in ("mysql", "xwiki"):
        assert said[component] == {key: values[component][key] for key in ("image", "resources")}
    assert said["volume"] == {"size": "70Gi", "storageClass": "longhorn"}
    jobs = [i for i in render.helm_template(values=[values]) if i["kind"] == "CronJob"]
    schedules = {item["metadata"]["name"]: item["spec"]["schedule"] for item in jobs}
    assert schedules[f"{render.RELEASE}-backups-drill"] == sizing.DRILLS[often].schedule
    assert staging.drills == often and not prod.drills


def decided_staging(tmp_path: Path, **changes: Any) -> tuple[Environment, Cluster]:
    """A staging beside the prod that tests decide, in a store of the same address."""
    folder = tmp_path / "values"
    shutil.copytree(environments.DATA / "decided", folder)
    document = yaml.safe_load((folder / "envs" / "prod.yaml").read_text())
    document |= {"purpose": "staging"}
    document["backups"] |= {"drillsOf": "prod", "trusted": [f"{'B' * 42}A="], **changes}
    (folder / "envs" / "staging.yaml").write_text(yaml.safe_dump(document))
    return intent.load_environment("staging", folder), intent.load_cluster("main", folder)


def test_staging_may_try_the_sets_of_prod(tmp_path: Path) -> None:
    staging, cluster = decided_staging(tmp_path)
    values = yaml.safe_load(generate.text_of(staging, cluster))
    drill = values["backups"]["drill"]
    assert drill["source"] == {"environment": "prod", "bucket": "wiki-backups", "prefix": "prod",
                               "trusted": [f"{'A' * 43}="]}  # fmt: skip
    # Nobody tries its own, so nobody misses that.
    assert (drill["enabled"], drill["maxAgeDays"]) == (True, 0)
    assert values["backups"]["metrics"]["rules"]["drillDays"] == 0
    data = environments.only(render.helm_template(values=[values]), "ConfigMap", "-backups")["data"]
    path = tmp_path / "drill.yaml"
    path.write_text(data["drill.yaml"])
    said = config.load(path)
    assert (said.environment, said.need_drill().source) == ("staging", "prod")
    assert said.store.prefix == "prod/"
    assert set(said.keys.trusted) == {f"{'A' * 43}=", f"{'B' * 42}A="}
    # And whoever brings one into staging finds it where the drill does.
    path.write_text(data["restore-from.yaml"])
    brought, own = config.load(path), tmp_path / "restore.yaml"
    own.write_text(data["restore.yaml"])
    assert (brought.environment, brought.purpose) == ("staging", "staging")
    assert (brought.store, brought.keys.trusted) == (said.store, said.keys.trusted)
    assert brought.need_database() == config.load(own).need_database()
    assert config.load(own).store.prefix == "staging/"


def test_sets_of_an_environment_that_has_none_or_lie_elsewhere_are_not_tried(
    tmp_path: Path,
) -> None:
    target = dict(environments.decided_prod()[0].backups["target"])
    elsewhere = {**target, "endpoint": "https://s3.elsewhere.example"}
    with pytest.raises(IntentError, match=r"staging.yaml: backups.drillsOf: .* lie at"):
        generate.text_of(*decided_staging(tmp_path / "a", target=elsewhere))
    with pytest.raises(IntentError, match="no environment 'production'"):
        generate.text_of(*decided_staging(tmp_path / "b", drillsOf="production"))
    staging, cluster = decided_staging(tmp_path / "c")
    prod = tmp_path / "c" / "values" / "envs" / "prod.yaml"
    document = yaml.safe_load(prod.read_text())
    document["backups"]["target"] = "undecided"
    prod.write_text(yaml.safe_dump(document))
    drill = yaml.safe_load(generate.text_of(staging, cluster))["backups"]["drill"]
    assert "source" not in drill and drill["maxAgeDays"] == 35


def test_only_staging_tries_sets(tmp_path: Path) -> None:
    decided_staging(tmp_path)
    prod = tmp_path / "values" / "envs" / "prod.yaml"
    document = yaml.safe_load(prod.read_text())
    document["backups"]["drillsOf"] = "staging"
    prod.write_text(yaml.safe_dump(document))
    with pytest.raises(IntentError, match="only staging tries restores"):
        intent.load_environment("prod", tmp_path / "values")


def test_an_undecided_target_or_rhythm_has_no_drill() -> None:
    prod, cluster = environments.decided_prod()
    staging = replace(prod, name="staging", purpose="staging")
    for changed in (
        replace(staging, open_keys={"backups.target": 2}),
        replace(staging, backups={k: v for k, v in staging.backups.items() if k != "drills"}),
    ):
        values = yaml.safe_load(generate.text_of(changed, cluster))
        assert not changed.drills
        assert "drill" not in values["backups"]
    assert len(sizing._rows(staging, cluster)) == 1 + len(sizing._rows(prod, cluster)) == 3
    row = sizing._rows(staging, cluster)[-1]
    assert (row.who, row.cpu, row.disk >> 30) == ("staging/drill", 0.7, 70)


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


def staging_beside_prod(folder: Path) -> dict[str, Any]:
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
    values = staging_beside_prod(tmp_path)
    prod, _ = environments.decided_prod()
    assert values["backups"]["host"] == "xwiki-staging.example.org"
    assert values["backups"]["foreignHosts"] == [prod.host]
    assert values["xwiki"]["mailHost"] == rewrite.MAIL_OFF
    own = environments.chart("backups", LEAST, values["backups"])
    path = tmp_path / "restore.yaml"
    path.write_text(environments.only(own, "ConfigMap", "-backups")["data"]["restore.yaml"])
    said = config.load(path)
    assert (said.need_host(), said.foreign_hosts) == ("xwiki-staging.example.org", (prod.host,))
    ours: Any = environments.decided()
    assert "mailHost" not in ours["xwiki"]
    assert "foreignHosts" not in ours["backups"]


def test_without_a_host_only_own_sets_come_back(tmp_path: Path) -> None:
    path = tmp_path / "restore.yaml"
    path.write_text(environments.only(backups(), "ConfigMap", "-backups")["data"]["restore.yaml"])
    with pytest.raises(IntentError, match="host: is missing"):
        config.load(path).need_host()
