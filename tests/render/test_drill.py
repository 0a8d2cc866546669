"""The pod of a drill: a database and a wiki beside the engine, started as the release's own are."""

import argparse
from pathlib import Path
from typing import Any

import pytest

from tests import environments
from tests.render import schemas
from tests.render.test_backups import cronjob
from xwiki_stack import policy, render, sizing
from xwiki_stack.backup import cli, config
from xwiki_stack.render import Manifest

ON: dict[str, Any] = {"drill": {"enabled": True}}

HOME = "/run/secrets/backups"

TOMCAT = "/usr/local/tomcat/"


def pod(*values: dict[str, Any]) -> Manifest:
    spec: Manifest = policy.pod_of(cronjob("drill", ON, *values))["spec"]
    return spec


def container(name: str, *values: dict[str, Any]) -> Manifest:
    spec = pod(*values)
    (found,) = [c for c in [*spec["initContainers"], *spec["containers"]] if c["name"] == name]
    return dict(found)


def env(found: Manifest) -> dict[str, Any]:
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in found["env"]}


def mounts(found: Manifest) -> dict[str, tuple[str, str, bool]]:
    """Path in the container: volume, path in the volume, whether only to be read."""
    return {m["mountPath"]: (m["name"], m.get("subPath", ""), m.get("readOnly", False))
            for m in found["volumeMounts"]}  # fmt: skip


def test_there_is_none_unless_values_say_so() -> None:
    names = [item["metadata"]["name"] for item in environments.chart("backups")]
    assert names and not [name for name in names if "drill" in name]


def test_the_drill_ends_and_its_companions_with_it() -> None:
    spec = pod()
    assert [c["name"] for c in spec["containers"]] == ["drill"]
    kinds = {c["name"]: c.get("restartPolicy") for c in spec["initContainers"]}
    assert kinds == {"make-passwords": None, "copy-configuration": None,
                     "mysql": "Always", "xwiki": "Always"}  # fmt: skip
    # A kubelet that waits for a probe starts no drill, and then nobody leaves a record.
    assert not [c["name"] for c in spec["initContainers"] if set(c) & {"startupProbe"}]
    job = cronjob("drill", ON)["spec"]["jobTemplate"]["spec"]
    limits, drill = (schemas.defaults("backups")[key] for key in ("limits", "drill"))
    waits = drill["databaseMinutes"] + drill["wikiMinutes"]
    assert job["activeDeadlineSeconds"] > 60 * (limits["restoreMinutes"] + waits)
    assert job["backoffLimit"] == 0
    # A log is there when somebody comes back from a long weekend; with it, the pod's volume.
    days = {cronjob(name, ON)["spec"]["jobTemplate"]["spec"]["ttlSecondsAfterFinished"] / 86400
            for name in ("drill", "drill-xar")}  # fmt: skip
    assert days == {5}
    assert job["ttlSecondsAfterFinished"] > 86400 * sizing.DRILL_GRACE


def test_its_pod_has_the_rights_of_every_other() -> None:
    drill, site = pod(), policy.pod_of(cronjob("site"))["spec"]
    for key in ("securityContext", "serviceAccountName", "automountServiceAccountToken"):
        assert drill[key] == site[key]
    assert "affinity" not in drill
    own: dict[str, Any] = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}
    assert pod({"affinity": own})["affinity"] == own


def test_only_the_drill_holds_keys_and_only_its_own() -> None:
    spec = pod()
    secret = {v["name"]: v["secret"] for v in spec["volumes"] if "secret" in v}
    assert {v["secretName"] for v in secret.values()} == {f"{render.RELEASE}-backups-drill"}
    (items,) = [{item["key"] for item in v["items"]} for v in secret.values()]
    assert items == {"access-key", "secret-key", "identity", "signing-key"}
    for found in spec["initContainers"]:
        assert not {m["name"] for m in found["volumeMounts"]} & secret.keys(), found["name"]
        assert not [e for e in found.get("env", []) if "secretKeyRef" in e.get("valueFrom", {})]
    claims = [v for v in spec["volumes"] if "persistentVolumeClaim" in v]
    assert claims == [], "no volume of the living wiki is mounted"


def test_passwords_are_made_in_memory_for_this_pod_alone() -> None:
    (volume,) = [v for v in pod()["volumes"] if v["name"] == "passwords"]
    assert volume["emptyDir"]["medium"] == "Memory"
    assert env(container("make-passwords"))["FOLDER"] in mounts(container("make-passwords"))
    readers = {name: mounts(container(name)) for name in ("mysql", "xwiki", "drill")}
    for name, found in readers.items():
        assert [ro for volume, _, ro in found.values() if volume == "passwords"] == [True], name


def test_the_engine_reads_a_configuration_of_its_own(tmp_path: Path) -> None:
    data = environments.only(environments.objects("everything"), "ConfigMap", "-backups")["data"]
    path = tmp_path / "drill.yaml"
    path.write_text(data["drill.yaml"])
    said = config.load(path)
    assert said.need_database().host == "127.0.0.1"
    assert said.need_web().url == "http://127.0.0.1:8080"
    wanted = said.need_drill()
    assert (wanted.source, wanted.rto_hours, wanted.max_age_days) == ("prod", 3, 40)
    assert (said.store.bucket, said.store.prefix) == ("prod-backups", "wiki/prod/")
    assert len(said.keys.trusted) == 2
    there = mounts(container("drill"))
    files = [said.need_database().password_file, said.need_web().password_file, wanted.marker,
             said.store.access_key_file, *said.keys.identity_files, said.need_files()]  # fmt: skip
    assert [str(f) for f in files if not {str(f), str(f.parent)} & there.keys()] == []
    # XWiki waits for the very file that the engine writes, and takes the very password.
    asks = env(container("xwiki"))
    assert asks["MARKER"] == str(wanted.marker)
    assert asks["SUPERADMIN_PASSWORD_FILE"] == str(said.need_web().password_file)
    assert there["/run/drill"][0] == mounts(container("xwiki"))["/run/drill"][0]


def test_the_three_share_one_scratch_volume_and_the_wikis_folder() -> None:
    found = {name: mounts(container(name)) for name in ("mysql", "xwiki", "drill")}
    assert found["mysql"]["/var/lib/mysql"] == ("scratch", "mysql", False)
    assert found["xwiki"]["/usr/local/xwiki"] == ("scratch", "xwiki", False)
    assert found["drill"]["/usr/local/xwiki/data"] == ("scratch", "xwiki/data", False)
    (volume,) = [v for v in pod()["volumes"] if v["name"] == "scratch"]
    spec = volume["ephemeral"]["volumeClaimTemplate"]["spec"]
    assert spec["resources"]["requests"]["storage"] == "70Gi"
    assert "storageClassName" not in spec
    (volume,) = [v for v in pod({"drill": {"volume": {"storageClass": "fast"}}})["volumes"]
                 if v["name"] == "scratch"]  # fmt: skip
    assert volume["ephemeral"]["volumeClaimTemplate"]["spec"]["storageClassName"] == "fast"


def test_its_wiki_starts_as_the_living_one_does() -> None:
    """Scripts and settings are the release's own ConfigMaps; the mounts are those of its pod."""
    (deployment,) = [i for i in environments.chart("xwiki") if i["kind"] == "Deployment"]
    spec = policy.pod_of(deployment)["spec"]
    (living,), tried = spec["containers"], container("xwiki")
    names = {"wiki-config": "config"}
    mine = {
        path: (names.get(volume, volume), inside, ro)
        for path, (volume, inside, ro) in mounts(tried).items()
    }
    theirs = mounts(living)
    shared = [p for p in theirs if p.startswith((TOMCAT, "/tmp", "/run/xwiki-stack"))]  # noqa: S108
    assert len(shared) >= 9
    for path in [*shared, "/etc/xwiki-stack/config"]:
        assert mine[path] == theirs[path], path
    volumes = {v["name"]: v for v in spec["volumes"]}
    own = {v["name"]: v for v in pod()["volumes"]}
    for name in ("webinf", "work", "tomcat", "tmp"):
        assert own[name] == volumes[name]
    assert own["wiki-config"]["configMap"] == volumes["config"]["configMap"]
    assert env(tried)["JAVA_OPTS"] == env(living)["JAVA_OPTS"]
    (copies,) = [c for c in spec["initContainers"] if c["name"] == "copy-configuration"]
    assert container("copy-configuration")["command"] == copies["command"]


def test_its_database_starts_by_the_servers_own_script_and_settings() -> None:
    objects = environments.chart("mysql")
    data = environments.only(objects, "ConfigMap")["data"]
    (server,) = [i for i in objects if i["kind"] == "StatefulSet"]
    (living,), tried = policy.pod_of(server)["spec"]["containers"], container("mysql")
    assert tried["command"] == living["command"]
    # The script is told the same things; two accounts that a drill has no use for have other names.
    assert env(tried).keys() == env(living).keys()
    differ = {k for k in env(tried) if env(tried)[k] != env(living)[k]}
    assert differ == {"BACKUP_USER", "MONITOR_USER"}
    places = set(mounts(living)) - {"/var/lib/mysql"}
    assert places <= set(mounts(tried))
    (volume,) = [v for v in pod()["volumes"] if v["name"] == "database-config"]
    found = {
        item["path"]: (source["configMap"]["name"], item["key"])
        for source in volume["projected"]["sources"]
        for item in source["configMap"]["items"]
    }
    name = environments.only(objects, "ConfigMap")["metadata"]["name"]
    assert found["start.sh"] == (name, "start.sh") and found["server.cnf"] == (name, "my.cnf")
    assert {"start.sh", "my.cnf"} <= data.keys()
    own = environments.only(environments.chart("backups", ON), "ConfigMap")["data"]
    (folder,) = [p for p, (volume, _, _) in mounts(tried).items() if volume == "database-config"]
    assert f"!include {folder}/server.cnf" in own["drill.cnf"]
    assert "bind-address                    = 127.0.0.1" in own["drill.cnf"]


def test_an_export_is_tried_in_a_pod_of_the_same_form() -> None:
    one, other = (policy.pod_of(cronjob(role, ON))["spec"] for role in ("drill", "drill-xar"))
    ours = {"name": "drill-xar", "args": ["drill", "--kind", "xar"]}
    (engine,) = one["containers"]
    assert {**one, "containers": [{**engine, **ours}]} == other
    off: dict[str, Any] = {"drill": {"enabled": True, "xar": {"enabled": False}}}
    names = [item["metadata"]["name"] for item in environments.chart("backups", off)]
    assert [n.rpartition("backups-")[2] for n in names if "drill" in n] == ["drill"]


@pytest.mark.parametrize("role", ["drill", "drill-xar"])
def test_the_command_is_one_that_the_engine_has(role: str) -> None:
    parser = argparse.ArgumentParser()
    cli.add(parser)
    (found,) = policy.pod_of(cronjob(role, ON))["spec"]["containers"]
    assert parser.parse_args(found["args"]).backup_verb == "drill"


def test_nothing_leaves_its_wiki() -> None:
    options = env(container("xwiki"))["JAVA_TOOL_OPTIONS"].split()
    for kind in ("socks", "http.", "https."):
        name = kind + ("ProxyHost" if kind == "socks" else "proxyHost")
        assert f"-D{name}=127.0.0.1" in options
    assert env(container("xwiki"))["XCONF_xwikiproperties_extension_repositories"] == ""


@pytest.mark.parametrize(("one", "other"), [("mysql", "xwiki"), ("xwiki", "mysql")])
def test_each_companion_has_its_own_image_and_amounts(one: str, other: str) -> None:
    own = {"image": {"tag": "1.2.3"}, "resources": {"limits": {"memory": "7Gi"}}}
    found = container(one, {"drill": {one: own}})
    assert found["image"].endswith(":1.2.3")
    assert found["resources"]["limits"]["memory"] == "7Gi"
    assert container(other, {"drill": {one: own}})["image"] == container(other)["image"]
