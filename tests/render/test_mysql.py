"""What charts/mysql renders, property by property."""

from typing import Any

import pytest

from tests import environments
from tests.render import schemas
from xwiki_stack import credentials, render, repo, sizing
from xwiki_stack.errors import IntentError
from xwiki_stack.render import Manifest
from xwiki_stack.status import SIZE_ANNOTATION

CHART = repo.ROOT / "charts" / "mysql"


def mysql(*values: dict[str, Any]) -> list[Manifest]:
    return environments.chart("mysql", *values)


def statefulset(*values: dict[str, Any]) -> Manifest:
    return environments.only(mysql(*values), "StatefulSet")


def pod(*values: dict[str, Any]) -> Manifest:
    spec: Manifest = statefulset(*values)["spec"]["template"]["spec"]
    return spec


def server(*values: dict[str, Any]) -> Manifest:
    (found,) = pod(*values)["containers"]
    return dict(found)


def configuration(*values: dict[str, Any]) -> dict[str, str]:
    data: dict[str, str] = environments.only(mysql(*values), "ConfigMap")["data"]
    return data


def test_no_value_makes_the_server_public() -> None:
    services = [item for item in mysql() if item["kind"] == "Service"]
    assert len(services) == 2
    assert {item["spec"]["type"] for item in services} == {"ClusterIP"}
    with pytest.raises(IntentError, match="type"):
        mysql({"service": {"type": "LoadBalancer"}})


def test_the_claim_outlives_its_statefulset_and_its_template_carries_no_version() -> None:
    spec = statefulset()["spec"]
    kept = spec["persistentVolumeClaimRetentionPolicy"]
    assert kept == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    (claim,) = spec["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "50Gi"
    assert set(claim["metadata"]["labels"]) == set(spec["selector"]["matchLabels"])


def test_a_pod_that_never_starts_does_not_hold_up_its_correction() -> None:
    """With the default policy a corrected image tag waits for the wrong one to become ready."""
    assert statefulset()["spec"]["podManagementPolicy"] == "Parallel"


def test_a_raised_size_changes_an_annotation_and_no_immutable_field() -> None:
    before, after = statefulset(), statefulset({"persistence": {"size": "80Gi"}})
    assert after["metadata"]["annotations"][SIZE_ANNOTATION] == "80Gi"
    assert before["metadata"]["annotations"][SIZE_ANNOTATION] == "50Gi"
    assert before["spec"] == after["spec"]


def test_a_raised_claim_template_is_what_new_claims_are_born_with() -> None:
    larger = {"persistence": {"size": "80Gi", "claimTemplateSize": "80Gi"}}
    (claim,) = statefulset(larger)["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "80Gi"


def test_characters_are_those_of_every_script_and_names_are_case_sensitive() -> None:
    text = configuration()["my.cnf"]
    lines = [line.partition("=") for line in text.splitlines() if not line.startswith("#")]
    settings = {key.strip(): value.strip() for key, equals, value in lines if equals}
    assert settings["character-set-server"] == "utf8mb4"
    assert settings["collation-server"] == "utf8mb4_bin"
    assert settings["innodb_file_per_table"] == "ON"
    assert settings["innodb_flush_log_at_trx_commit"] == "1"
    pool = schemas.defaults("mysql")["config"]["innodbBufferPoolSize"]
    assert settings["innodb_buffer_pool_size"] == pool
    assert settings["secure-file-priv"] == "NULL"
    # More instances, as on a node of many cores, are each rounded up: beyond the memory limit.
    assert settings["innodb_buffer_pool_instances"] == "1"


def test_the_default_sizes_are_what_the_default_limit_leaves() -> None:
    values = schemas.defaults("mysql")
    limit = values["resources"]["limits"]["memory"]
    assert values["config"]["innodbBufferPoolSize"] == sizing.buffer_pool(limit).value
    assert str(values["config"]["maxConnections"]) == sizing.max_connections(limit).value


def test_probes_tell_starting_from_broken() -> None:
    container = server()
    startup, liveness = container["startupProbe"], container["livenessProbe"]
    # Half an hour of crash recovery, before anything counts as broken.
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 1800
    assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 120
    assert "mysqladmin" in startup["exec"]["command"]
    # A login, by the password the server was started with: the mounted one may be newer by now.
    login = container["readinessProbe"]["exec"]["command"]
    assert "--defaults-extra-file=/run/xwiki-stack/monitor.cnf" in login
    assert pod()["terminationGracePeriodSeconds"] >= 120


def test_the_secret_is_read_as_files_with_the_keys_that_are_made() -> None:
    (volume,) = [item for item in pod()["volumes"] if "secret" in item]
    keys = {item["key"] for item in volume["secret"]["items"]}
    assert keys == set(credentials.KEYS["mysql"])
    assert volume["secret"]["secretName"] == f"{render.RELEASE}-mysql"
    names = [item["name"].lower() for item in server()["env"]]
    assert not [name for name in names if "password" in name]


def test_the_init_file_lives_in_memory() -> None:
    (mount,) = [m for m in server()["volumeMounts"] if m["mountPath"] == "/run/xwiki-stack"]
    (volume,) = [v for v in pod()["volumes"] if v["name"] == mount["name"]]
    assert volume["emptyDir"]["medium"] == "Memory"


def restart_marks(*values: dict[str, Any]) -> dict[str, str]:
    marks: dict[str, str] = statefulset(*values)["spec"]["template"]["metadata"]["annotations"]
    return marks


@pytest.mark.parametrize(
    "change",
    [{"config": {"maxConnections": 81}}, {"secretRevision": "2"}],
    ids=["configuration", "secret"],
)
def test_a_change_the_server_must_read_restarts_it(change: dict[str, Any]) -> None:
    assert restart_marks(change) != restart_marks()


def test_a_change_beside_the_server_does_not_restart_it() -> None:
    assert restart_marks({"persistence": {"size": "90Gi"}}) == restart_marks()


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"typo": 1}, "typo"),
        ({"config": {"maxConections": 1}}, "maxConections"),
        ({"image": {"tag": "latest"}}, "tag"),
        ({"persistence": {"size": "50"}}, "size"),
        ({"database": {"schemas": []}}, "schemas"),
        ({"database": {"schemas": ["bad-name"]}}, "schemas"),
        ({"database": {"schemas": ["a" * 33]}}, "schemas"),
        ({"database": {"schemas": ["xwiki", "xwiki"]}}, "schemas"),
        ({"database": {"user": "it's"}}, "user"),
        ({"database": {"user": "a" * 33}}, "user"),
        ({"users": {"backup": "root"}}, "backup"),
        ({"users": {"monitor": "mysql.sys"}}, "monitor"),
        ({"service": {"port": 70000}}, "port"),
        ({"affinity": {"podAfinity": {}}}, "podAfinity"),
        ({"tolerations": [{"name": "x"}]}, "name"),
        ({"secretRevision": "x" * 64}, "secretRevision"),
        ({"auth": {"password": "x"}}, "password"),
        ({"replicas": 2}, "replicas"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_value_that_cannot_be_meant_is_refused_by_name(values: dict[str, Any], word: str) -> None:
    with pytest.raises(IntentError, match=word):
        mysql(values)


@pytest.mark.parametrize("name", ["mysql", "sys", "information_schema", "performance_schema"])
def test_the_servers_own_schemas_are_nobodys(name: str) -> None:
    with pytest.raises(IntentError, match="schemas"):
        mysql({"database": {"schemas": ["xwiki", name]}})


def test_a_name_fits_a_grant_that_escapes_each_of_its_underscores() -> None:
    """MySQL takes 64 characters there, and 32 for an account: seen on 9.7.4."""
    longest = "a" + "_" * 31
    assert len(longest.replace("_", "\\_")) <= 64
    assert mysql({"database": {"schemas": [longest], "user": longest}})


def test_enabled_and_global_are_let_through() -> None:
    assert mysql({"enabled": True, "global": {"anything": 1}}) == mysql()


def test_two_releases_share_no_name() -> None:
    def names(release: str) -> set[str]:
        return {i["metadata"]["name"] for i in render.helm_template(CHART, release=release)}

    assert names("one").isdisjoint(names("two"))
