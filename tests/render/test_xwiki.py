"""What charts/xwiki renders, property by property."""

from typing import Any
from xml.etree import ElementTree

import pytest

from tests import environments
from tests.render import schemas
from xwiki_stack import proc, render, repo, sizing
from xwiki_stack.errors import IntentError
from xwiki_stack.render import Manifest
from xwiki_stack.status import STOPPED_ANNOTATION

CHART = repo.ROOT / "charts" / "xwiki"


def wiki(*values: dict[str, Any]) -> list[Manifest]:
    return environments.chart("xwiki", *values)


def pod(objects: list[Manifest]) -> Manifest:
    spec: Manifest = environments.only(objects, "Deployment", "-xwiki")["spec"]["template"]["spec"]
    return spec


def container(objects: list[Manifest]) -> Manifest:
    (found,) = pod(objects)["containers"]
    return dict(found)


def variables(objects: list[Manifest]) -> dict[str, Any]:
    """The wiki's environment: a text for a literal, a dict for a reference."""
    return {
        item["name"]: item["value"] if "value" in item else item["valueFrom"]
        for item in container(objects)["env"]
    }


# The one pod


@pytest.mark.parametrize(
    "values", [{}, schemas.everything("xwiki")], ids=["defaults", "everything"]
)
def test_there_is_one_wiki_and_never_two_at_a_time(values: dict[str, Any]) -> None:
    deployment = environments.only(wiki(values), "Deployment")
    spec, stopped = deployment["spec"], values.get("stopped", False)
    assert spec["replicas"] == (0 if stopped else 1)
    told = STOPPED_ANNOTATION in deployment["metadata"].get("annotations", {})
    assert told == stopped, "`status` tells it from a wiki that somebody scaled away"
    assert spec["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize("key", ["replicas", "replicaCount", "strategy", "extraEnv"])
def test_what_would_make_two_wikis_or_hide_settings_is_no_value(key: str) -> None:
    with pytest.raises(IntentError, match=key):
        wiki({key: 2})


def test_heap_is_literal_and_the_collector_is_asked_for_short_pauses() -> None:
    objects = wiki({"java": {"heap": "1280m", "options": ["-Da=b"]}})
    data = environments.only(objects, "ConfigMap", "-xwiki")["data"]
    options = data["JAVA_OPTS"].split()
    assert {"-Xmx1280m", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=200", "-Da=b"} <= set(options)
    assert "-XX:+ExitOnOutOfMemoryError" in options
    source = {"configMapKeyRef": {"name": "xwiki-stack-xwiki", "key": "JAVA_OPTS"}}
    assert variables(objects)["JAVA_OPTS"] == source


def test_probes_ask_what_means_something_and_never_a_page() -> None:
    probes = container(wiki())
    paths = {
        kind: probes[f"{kind}Probe"]["httpGet"]["path"]
        for kind in ("startup", "liveness", "readiness")
    }
    assert paths == {"startup": "/rest", "liveness": "/rest", "readiness": "/rest/wikis/xwiki"}
    start = probes["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] == 15 * 60
    alive = probes["livenessProbe"]
    # A probe that is still waiting when the next one starts would count one hang twice.
    assert alive["timeoutSeconds"] < alive["periodSeconds"]
    assert alive["periodSeconds"] * alive["failureThreshold"] >= 180


# Configuration and secrets


def test_secrets_reach_the_wiki_by_reference_only() -> None:
    found = variables(wiki())
    keys = {
        "XCONF_xwikicfg_xwiki_superadminpassword": "superadmin-password",
        "XCONF_xwikicfg_xwiki_authentication_validationKey": "validation-key",
        "XCONF_xwikicfg_xwiki_authentication_encryptionKey": "encryption-key",
    }
    for variable, key in keys.items():
        assert found[variable] == {"secretKeyRef": {"name": "xwiki-stack-xwiki", "key": key}}
    assert found["DB_PASSWORD_FILE"] == "/etc/xwiki-stack/database/password"
    # The entrypoint refuses to start when both are set.
    assert "DB_PASSWORD" not in found


def test_no_name_of_a_setting_is_given_twice() -> None:
    for name in environments.names():
        for item in environments.objects(name):
            if item["kind"] == "Deployment":
                env = item["spec"]["template"]["spec"]["containers"][0].get("env", [])
                given = [entry["name"] for entry in env]
                assert sorted(given) == sorted(set(given)), name


def test_the_public_address_sets_home_and_scheme() -> None:
    found = variables(wiki({"home": "https://wiki.example.org/"}))
    assert found["XCONF_xwikicfg_xwiki_home"] == "https://wiki.example.org/"
    assert found["XCONF_xwikicfg_xwiki_url_protocol"] == "https"
    assert not [name for name in variables(wiki()) if name.endswith(("_home", "_protocol"))]


@pytest.mark.parametrize("home", ["https://wiki.example.org", "wiki.example.org/", "https://a/b/"])
def test_an_address_that_xwiki_would_misread_is_refused(home: str) -> None:
    with pytest.raises(IntentError, match="home"):
        wiki({"home": home})


def test_tomcat_believes_the_proxy_by_a_file_of_ours() -> None:
    objects = wiki()
    text = environments.only(objects, "ConfigMap", "-xwiki")["data"]["context.xml"]
    (valve,) = ElementTree.fromstring(text).iter("Valve")  # noqa: S314 - our own file
    assert valve.attrib["className"] == "org.apache.catalina.valves.RemoteIpValve"
    assert valve.attrib["protocolHeader"] == "x-forwarded-proto"
    assert {
        "mountPath": "/usr/local/tomcat/conf/context.xml",
        "subPath": "context.xml",
    }.items() <= (
        next(m for m in container(objects)["volumeMounts"] if m.get("subPath") == "context.xml")
    ).items()


def test_a_database_that_hangs_gives_the_connections_back() -> None:
    """And the image's own parameters, which ours replace, are among them."""
    values = schemas.defaults("xwiki")
    query = variables(wiki())["JDBC_PARAMS"]
    assert query.startswith("?")
    given = dict(pair.split("=") for pair in query[1:].split("&amp;"))
    waits = int(given.pop("socketTimeout")) / 1000
    start = values["probes"]["startup"]
    # Whatever a start may take, a single statement of it may take, and then some.
    assert start["periodSeconds"] * start["failureThreshold"] * 2 <= waits <= 3600
    assert given == {
        "useSSL": "false",
        "connectionTimeZone": "LOCAL",
        "allowPublicKeyRetrieval": "true",
        "tcpKeepAlive": "true",
    }
    assert "JDBC_PARAMS" not in variables(wiki({"database": {"jdbcParams": ""}}))


@pytest.mark.parametrize(
    "option",
    [
        "-Xmx1g",
        "-XX:MaxHeapSize=1g",
        "-XX:MaxRAMPercentage=75",
        "-XX:+UseG1GC",
        "-XX:-UseG1GC",
        "-XX:+UseSerialGC",
        "-XX:MaxGCPauseMillis=100",
        "-XX:MaxMetaspaceSize=1g",
        "-XX:ReservedCodeCacheSize=1g",
        "-XX:-ExitOnOutOfMemoryError",
    ],
)
def test_an_option_that_the_chart_sets_is_not_given_twice(option: str) -> None:
    with pytest.raises(IntentError, match="java/options"):
        wiki({"java": {"options": [option]}})


def test_every_option_that_the_chart_sets_is_such_a_one() -> None:
    data = environments.only(wiki(), "ConfigMap", "-xwiki")["data"]
    own = data["JAVA_OPTS"].split()
    assert len(own) == 6
    for option in own:
        with pytest.raises(IntentError, match="java/options"):
            wiki({"java": {"options": [option]}})


def test_other_options_pass() -> None:
    options = ["-Xms512m", "-XX:+UseStringDeduplication", "-Dcom.sun.management.jmxremote=true"]
    data = environments.only(wiki({"java": {"options": options}}), "ConfigMap", "-xwiki")["data"]
    assert data["JAVA_OPTS"].split()[-3:] == options


@pytest.mark.parametrize("params", ["useSSL=true", "?a=b&c=d", "?a=<b>"])
def test_database_parameters_that_break_the_xml_are_refused(params: str) -> None:
    with pytest.raises(IntentError, match="jdbcParams"):
        wiki({"database": {"jdbcParams": params}})


@pytest.mark.parametrize(
    ("flavor", "wizard", "asks"),
    [("none", "off", False), ("xip", "by itself", False), ("online", "by itself", True)],
)
def test_no_flavor_asks_a_visitor_what_to_install(flavor: str, wizard: str, asks: bool) -> None:
    """What the settings are; what XWiki makes of them stands, with its proof, in the README."""
    xip = {"claim": "archives", "path": "/xip/flavor.xip"}
    found = variables(wiki({"flavor": flavor, "xip": xip}))
    start = found.get("XCONF_xwikiproperties_distribution_automaticStartOnMainWiki")
    questions = found.get("XCONF_xwikiproperties_distribution_job_interactive")
    assert (start, questions) == (("false", None) if wizard == "off" else (None, "false"))
    # An empty list is the switch; an absent one asks the project's servers.
    assert (found.get("XCONF_xwikiproperties_extension_repositories") != "") is asks


def test_attachments_in_s3_name_their_secret() -> None:
    s3 = {"bucket": "b", "region": "r", "existingSecret": "s3"}
    found = variables(wiki({"attachments": {"store": "s3", "s3": s3}}))
    prefix = "XCONF_xwikiproperties_store_"
    assert found[f"{prefix}blobStoreType"] == "s3"
    assert found[f"{prefix}s3_accessKey"] == {"secretKeyRef": {"name": "s3", "key": "access-key"}}
    assert found[f"{prefix}s3_secretKey"] == {"secretKeyRef": {"name": "s3", "key": "secret-key"}}
    # Left empty, the endpoint is AWS's own; an empty variable would override that.
    assert f"{prefix}s3_endpoint" not in found
    assert not [name for name in variables(wiki()) if "s3" in name]


# The image's recipe: what it writes is mounted, and outlives nothing it should not


def test_every_place_the_image_writes_to_is_a_writable_mount() -> None:
    mounts = {m["mountPath"]: m for m in container(wiki())["volumeMounts"] if not m.get("readOnly")}
    tomcat = "/usr/local/tomcat"
    webinf = f"{tomcat}/webapps/ROOT/WEB-INF"
    assert set(mounts) == {
        "/usr/local/xwiki",
        "/tmp",  # noqa: S108
        *(f"{tomcat}/{name}" for name in ("work", "logs", "temp", "conf/Catalina")),
        *(f"{webinf}/{name}" for name in ("hibernate.cfg.xml", "xwiki.cfg", "xwiki.properties")),
    }
    assert variables(wiki())["HOME"] in mounts


def test_the_pristine_files_cannot_be_changed_by_the_wiki() -> None:
    mounts = {m["mountPath"]: m for m in container(wiki())["volumeMounts"]}
    assert mounts["/run/xwiki-stack/pristine"]["readOnly"] is True


def test_a_script_of_a_pod_is_the_file_and_parses() -> None:
    objects = wiki({"flavor": "xip", "xip": {"claim": "c", "path": "/xip/x"}})
    config = environments.only(objects, "ConfigMap", "-xwiki")["data"]
    config |= environments.only(objects, "ConfigMap", "-bootstrap")["data"]
    scripts = sorted((CHART / "files").glob("*.sh"))
    assert {path.name for path in scripts} == {key for key in config if key.endswith(".sh")}
    assert len(scripts) >= 5
    for path in scripts:
        assert config[path.name].rstrip("\n") == path.read_text().rstrip("\n"), path.name
        proc.run(["bash", "-n", path])


def test_every_script_that_a_container_starts_is_in_its_mount() -> None:
    objects = wiki({"flavor": "xip", "xip": {"claim": "c", "path": "/xip/x"}})
    spec = pod(objects)
    data = environments.only(objects, "ConfigMap", "-xwiki")["data"]
    started = [c["command"] for c in [*spec["initContainers"], *spec["containers"]]]
    assert len(started) == 4
    for shell, script in started:
        folder, _, name = script.rpartition("/")
        assert (shell, folder) == ("bash", "/etc/xwiki-stack/config")
        assert name in data


# What restarts what


def template(objects: list[Manifest]) -> Manifest:
    return dict(environments.only(objects, "Deployment", "-xwiki")["spec"]["template"])


def job_name(objects: list[Manifest]) -> str:
    return str(environments.only(objects, "Job")["metadata"]["name"])


@pytest.mark.parametrize(
    "change",
    [
        {"java": {"maxGCPauseMillis": 150}},
        {"secretRevision": "2"},
        {"flavor": "online"},
        {"podAnnotations": {"a": "b"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_change_for_the_wiki_restarts_it(change: dict[str, Any]) -> None:
    assert template(wiki(change)) != template(wiki())


@pytest.mark.parametrize(
    "change",
    [
        {"bootstrap": {"title": "Other"}},
        {"admin": {"username": "Other"}},
        {"persistence": {"size": "30Gi"}},
        {"ingress": {"enabled": True, "host": "wiki.example.org"}},
        {"service": {"port": 80}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_change_beside_the_wiki_does_not_restart_it(change: dict[str, Any]) -> None:
    assert template(wiki(change)) == template(wiki())
    assert wiki(change) != wiki()


def test_the_job_has_a_new_name_exactly_when_it_differs() -> None:
    assert job_name(wiki()) == job_name(wiki({"java": {"heap": "2g"}}))
    changes: list[dict[str, Any]] = [
        {"bootstrap": {"content": "Other"}},
        {"image": {"tag": "18.4.5-mysql-tomcat"}},
        {"secretRevision": "2"},
        {"tolerations": [{"key": "a", "operator": "Exists"}]},
    ]
    assert len({job_name(wiki(change)) for change in [{}, *changes]}) == len(changes) + 1


def test_without_bootstrap_there_is_no_job_and_no_script() -> None:
    kinds = [item["kind"] for item in wiki({"bootstrap": {"enabled": False}})]
    assert "Job" not in kinds
    assert kinds.count("ConfigMap") == 1


# The way in, and the volume


def test_the_wiki_is_published_only_when_asked() -> None:
    assert not {item["kind"] for item in wiki()} & {"Ingress", "HTTPRoute"}
    objects = environments.objects("everything")
    ingress = environments.only(objects, "Ingress")["spec"]
    assert ingress["tls"] == [{"secretName": "wiki-tls", "hosts": ["wiki.example.org"]}]
    route = environments.only(objects, "HTTPRoute")
    assert route["apiVersion"] == "gateway.networking.k8s.io/v1"
    assert route["spec"]["hostnames"] == ["wiki.example.org"]
    assert route["spec"]["rules"][0]["backendRefs"] == [{"name": "xwiki-stack-xwiki", "port": 80}]


def test_a_claim_that_exists_is_used_and_none_is_made() -> None:
    objects = wiki({"persistence": {"existingClaim": "restored"}})
    assert "PersistentVolumeClaim" not in {item["kind"] for item in objects}
    (data,) = [volume for volume in pod(objects)["volumes"] if volume["name"] == "data"]
    assert data["persistentVolumeClaim"]["claimName"] == "restored"
    assert environments.only(wiki(), "PersistentVolumeClaim")["metadata"]["name"] == (
        "xwiki-stack-xwiki-data"
    )


def test_two_releases_share_no_name() -> None:
    one, other = (
        {(i["kind"], i["metadata"]["name"]) for i in render.helm_template(CHART, release=name)}
        for name in ("one", "other")
    )
    assert one
    assert not one & other


# Values, schema, documentation


def test_the_default_heap_is_what_the_default_limit_leaves() -> None:
    values = schemas.defaults("xwiki")
    assert values["java"]["heap"] == sizing.heap(values["resources"]["limits"]["memory"]).value
    bounds = {"metaspace": sizing.METASPACE, "codeCache": sizing.CODE_CACHE}
    assert {key: values["java"][key] for key in bounds} == {k: f"{v}m" for k, v in bounds.items()}


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"typo": 1}, "typo"),
        ({"database": {"hots": "x"}}, "hots"),
        ({"probes": {"startup": {"initialDelaySeconds": 1}}}, "initialDelaySeconds"),
        ({"attachments": {"s3": {"accessKey": "x"}}}, "accessKey"),
        ({"image": {"tag": "latest"}}, "tag"),
        ({"java": {"heap": "75%"}}, "heap"),
        ({"java": {"heap": None}}, "heap"),
        ({"flavor": "standard"}, "flavor"),
        ({"secretRevision": 2}, "secretRevision"),
        ({"admin": {"username": "a/b"}}, "username"),
        ({"xip": {"path": "flavor.xip"}}, "path"),
        ({"tolerations": [{"name": "x"}]}, "name"),
        ({"affinity": {"podAfinity": {}}}, "podAfinity"),
        ({"database": {"user": "a&b"}}, "user"),
        ({"podAnnotations": {"checksum/config": "x"}}, "checksum/config"),
        ({"podAnnotations": {"xwiki-stack/secret-revision": "x"}}, "xwiki-stack/secret-revision"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_value_that_cannot_be_meant_is_refused_by_name(values: dict[str, Any], word: str) -> None:
    with pytest.raises(IntentError, match=word):
        wiki(values)


def test_enabled_and_global_are_let_through() -> None:
    assert wiki({"enabled": True, "global": {"anything": 1}}) == wiki()


@pytest.mark.parametrize("host", ["", "mail-off.invalid"])
def test_mail_goes_where_the_values_say_if_no_page_says_it(host: str) -> None:
    (wiki,) = [
        item
        for item in environments.chart("xwiki", {"mailHost": host})
        if item["kind"] == "Deployment"
    ]
    env = wiki["spec"]["template"]["spec"]["containers"][0]["env"]
    said = [e["value"] for e in env if e["name"] == "XCONF_xwikiproperties_mail_sender_host"]
    assert said == ([host] if host else [])
