"""The umbrella: its parts, its switches, and the contradictions it refuses in words."""

import re
from typing import Any

import pytest
import yaml

from tests import environments
from tests.render import schemas
from xwiki_stack import generate, render, repo
from xwiki_stack.errors import IntentError

COMPONENTS = {"xwiki", "mysql", "backups", "netpol"}

EXTERNAL: dict[str, Any] = {
    "mysql": {"enabled": False},
    "xwiki": {"database": {"host": "db.example.org", "existingSecret": "database"}},
}
"""A wiki on another server's database."""

BACKUPS: dict[str, Any] = {
    "enabled": True,
    "environment": "staging",
    "store": {"bucket": "wiki-backups"},
    "keys": {"recipients": ["age1example"], "trusted": [f"{'A' * 43}="]},
}
"""The least that backups need."""

PUBLISHED = {"enabled": True, "host": "wiki.example.org"}


def flows(backups: dict[str, Any] | None = None, **netpol: Any) -> dict[str, Any]:
    """Values with backups and policies on."""
    policies = {"enabled": True, "switches": {"backups": True}, **netpol}
    return {"backups": {**BACKUPS, **(backups or {})}, "netpol": policies}


S3 = {"bucket": "attachments", "existingSecret": "s3"}


def guarded(wiki: dict[str, Any] | None = None, **netpol: Any) -> dict[str, Any]:
    """Values with policies on, and no backups."""
    return {"xwiki": wiki or {}, "netpol": {"enabled": True, **netpol}}


def umbrella(*values: dict[str, Any]) -> list[render.Manifest]:
    return render.helm_template(values=list(values))


def components(*values: dict[str, Any]) -> set[str]:
    labels = [item["metadata"]["labels"] for item in umbrella(*values)]
    return {label["app.kubernetes.io/component"] for label in labels}


def test_four_subcharts_of_the_umbrellas_own_version_without_a_repository() -> None:
    meta = yaml.safe_load((repo.ROOT / "Chart.yaml").read_text())
    assert {item["name"] for item in meta["dependencies"]} == COMPONENTS
    for item in meta["dependencies"]:
        own = yaml.safe_load((repo.ROOT / "charts" / item["name"] / "Chart.yaml").read_text())
        assert item["version"] == own["version"] == meta["version"]
        assert item["condition"] == f"{item['name']}.enabled"
        assert "repository" not in item


def test_a_switched_off_component_renders_nothing() -> None:
    assert components() == {"xwiki", "mysql"}
    assert components(EXTERNAL) == {"xwiki"}
    assert components({"xwiki": {"enabled": False}}) == {"mysql"}
    assert components({"backups": BACKUPS}) == {"xwiki", "mysql", "backups"}
    assert components(flows()) == {"xwiki", "mysql", "backups", "netpol"}


@pytest.mark.parametrize("name", sorted(COMPONENTS))
def test_every_subchart_renders_alone(name: str) -> None:
    objects = environments.chart(name)
    assert len(objects) >= 5


def tag(component: str, name: str) -> dict[str, Any]:
    return {component: {"image": {"tag": name}}}


CONTRADICTIONS: list[tuple[dict[str, Any], list[str]]] = [
    ({"mysql": {"enabled": False}}, ["mysql.enabled is false", "xwiki.database.host is empty"]),
    (
        {"xwiki": {"database": {"host": "db.example.org"}}},
        ["mysql.enabled is true", '"db.example.org"'],
    ),
    (
        {"mysql": {"enabled": False}, "xwiki": {"database": {"host": "db.example.org"}}},
        ["xwiki.database.host", "xwiki.database.existingSecret is empty"],
    ),
    (
        {"mysql": {"auth": {"existingSecret": "other"}}},
        ["mysql.auth.existingSecret", "xwiki.database.existingSecret", '"other"'],
    ),
    (
        {"xwiki": {"database": {"passwordKey": "other"}}},
        ["xwiki.database.passwordKey", "xwiki-password"],
    ),
    ({"xwiki": {"database": {"name": "wiki"}}}, ["xwiki.database.name", "mysql.database.schemas"]),
    ({"xwiki": {"database": {"user": "wiki"}}}, ["xwiki.database.user", "mysql.database.user"]),
    ({"mysql": {"service": {"port": 3307}}}, ["xwiki.database.port", "mysql.service.port"]),
    (
        {"mysql": {"users": {"backup": "xwiki"}}},
        ["mysql.database.user", "mysql.users.backup", "mysql.users.monitor", "three names"],
    ),
    (
        {"mysql": {"users": {"backup": "one", "monitor": "one"}}},
        ["mysql.users.backup", "mysql.users.monitor"],
    ),
    (
        {"mysql": {"persistence": {"size": "20Gi"}}},
        ["mysql.persistence.size", "mysql.persistence.claimTemplateSize", "does not shrink"],
    ),
    (
        {"mysql": {"persistence": {"size": "1000Gi", "claimTemplateSize": "1Ti"}}},
        ["mysql.persistence.size", "mysql.persistence.claimTemplateSize"],
    ),
    ({"xwiki": {"ingress": {"enabled": True}}}, ["xwiki.ingress.host is empty"]),
    ({"xwiki": {"httpRoute": {"enabled": True}}}, ["xwiki.httpRoute.host", "parentRefs"]),
    (
        {
            "xwiki": {
                "ingress": PUBLISHED,
                "httpRoute": {**PUBLISHED, "host": "a.example.org", "parentRefs": [{"name": "a"}]},
            }
        },
        ["xwiki.ingress.host", "xwiki.httpRoute.host", "one public address"],
    ),
    (
        {"xwiki": {"home": "https://other.example.org/", "ingress": PUBLISHED}},
        ["xwiki.home", "xwiki.ingress.host", "elsewhere"],
    ),
    (
        {
            "xwiki": {
                "home": "https://other.example.org/",
                "httpRoute": {**PUBLISHED, "parentRefs": [{"name": "public"}]},
            }
        },
        ["xwiki.home", "xwiki.httpRoute.host", "elsewhere"],
    ),
    (
        {
            "xwiki": {
                "home": "http://wiki.example.org/",
                "ingress": {**PUBLISHED, "tlsSecret": "tls"},
            }
        },
        ["xwiki.ingress.tlsSecret", "xwiki.home", "https://"],
    ),
    (
        {
            "xwiki": {
                "home": "http://wiki.example.org/",
                "httpRoute": {**PUBLISHED, "parentRefs": [{"name": "public"}]},
            }
        },
        ["xwiki.httpRoute.enabled", "xwiki.home", "https://"],
    ),
    ({"xwiki": {"flavor": "xip"}}, ["xwiki.xip.claim", "xwiki.xip.path"]),
    ({"xwiki": {"attachments": {"store": "s3"}}}, ["attachments.s3.bucket", "existingSecret"]),
    (tag("mysql", "9.3.0"), ["mysql.image.tag", "9.7 and 8.4"]),
    (tag("mysql", "9"), ["mysql.image.tag", "9.7 and 8.4"]),
    (tag("mysql", "9.70.1"), ["mysql.image.tag", "9.7 and 8.4"]),
    (tag("mysql", "lts-oracle"), ["mysql.image.tag", "which moves"]),
    (tag("xwiki", "17.10-mysql-tomcat"), ["xwiki.image.tag", "17.10.12"]),
    (tag("xwiki", "16.10.18"), ["xwiki.image.tag", "read-only root"]),
    (tag("xwiki", "lts-mysql-tomcat"), ["xwiki.image.tag", "which moves"]),
    (
        {"backups": {"enabled": True}},
        ["backups.environment", "backups.store.bucket", "keys.recipients", "keys.trusted"],
    ),
    (
        {**EXTERNAL, "backups": BACKUPS},
        ["backups.database.host is empty", "backups.database.existingSecret is empty"],
    ),
    (
        {"backups": {**BACKUPS, "database": {"host": "db.example.org"}}},
        ["mysql.enabled is true", "backups.database.host"],
    ),
    (
        {"xwiki": {"enabled": False}, "backups": BACKUPS},
        ["xwiki.enabled is false", "backups.files.claim is empty"],
    ),
    (
        {"xwiki": {"persistence": {"existingClaim": "restored"}}, "backups": BACKUPS},
        ["backups.files.claim", "xwiki.persistence.existingClaim"],
    ),
    (
        {
            "mysql": {
                "users": {"backup": "dumper"},
                "database": {"schemas": ["xwiki", "second"]},
            },
            "backups": BACKUPS,
        },
        ["backups.database.user", "mysql.users.backup", "backups.database.schemas"],
    ),
    (
        {"backups": {**BACKUPS, "database": {"existingSecret": "other"}}},
        ["mysql.auth.existingSecret", "backups.database.existingSecret"],
    ),
    (
        {"xwiki": {"enabled": False}, "backups": {**BACKUPS, "files": {"claim": "wiki"}}},
        ["xwiki.enabled is false", "backups.web.url is empty"],
    ),
    (
        {"xwiki": {"service": {"port": 80}}, "backups": BACKUPS},
        ["backups.web.port is 8080", "xwiki.service.port is 80"],
    ),
    (
        {"xwiki": {"auth": {"existingSecret": "other"}}, "backups": BACKUPS},
        ["xwiki.auth.existingSecret", "backups.web.existingSecret"],
    ),
    (
        {"backups": {**BACKUPS, "purpose": "prod", "drill": {"enabled": True}}},
        ["backups.drill.enabled", "backups.purpose is prod"],
    ),
    (
        {**EXTERNAL, "backups": {**BACKUPS, "drill": {"enabled": True}}},
        ["backups.drill.enabled is true but mysql.enabled is false"],
    ),
    (
        guarded(switches={"backups": True}),
        ["netpol.switches.backups is true but backups.enabled is false"],
    ),
    (
        flows(switches={"backups": False}),
        ["netpol.switches.backups is false but backups.enabled is true"],
    ),
    (
        flows({"metrics": {"enabled": True}}),
        ["backups.metrics.enabled is true", "netpol.switches.metrics is false"],
    ),
    (
        flows(switches={"backups": True, "probe": True}, probe={"rules": {"enabled": True}}),
        ["netpol.probe.rules.enabled is true", "netpol.switches.metrics is false"],
    ),
    (
        guarded(probe={"serviceMonitor": {"enabled": True}}, switches={"metrics": True}),
        ["netpol.probe.serviceMonitor.enabled is true but netpol.switches.probe is false"],
    ),
    (
        guarded({"flavor": "online"}),
        ["netpol.switches.extensions is false but xwiki.flavor online is true"],
    ),
    (
        guarded(switches={"extensions": True}),
        ["netpol.switches.extensions is true but xwiki.flavor online is false"],
    ),
    (
        guarded({"ingress": PUBLISHED}),
        ["xwiki.ingress.enabled is true", "netpol.switches.nginx and .traefik are false"],
    ),
    (
        guarded({"attachments": {"store": "s3", "s3": S3}}),
        ["netpol.switches.attachments is false but xwiki.attachments.store s3 is true"],
    ),
    (
        guarded(
            {"attachments": {"store": "s3", "s3": {**S3, "endpoint": "http://10.1.2.3"}}},
            switches={"attachments": True},
        ),
        ["xwiki.attachments.s3.endpoint", "netpol.attachments.port", "attachments.cidrs is empty"],
    ),
    (guarded(room="nginx"), ['netpol.room is "nginx"', '"apps"']),
    (guarded(mysql={"port": 3307}), ["netpol.mysql.port is 3307", "mysql.service.port is 3306"]),
    (
        {**EXTERNAL, "netpol": {"enabled": True, "mysql": {"port": 3307}}},
        ["netpol.mysql.port is 3307 but xwiki.database.port is 3306", "mysql.cidrs is empty"],
    ),
    (
        guarded(xwiki={"cidrs": ["192.0.2.1/32"]}),
        ["netpol.xwiki.cidrs is 192.0.2.1/32 but xwiki.enabled is true"],
    ),
    (
        flows(s3={"port": 9000}),
        ["backups.store.endpoint", "on port 443", "netpol.s3.port is 9000"],
    ),
    (
        flows({"store": {"bucket": "sets", "endpoint": "http://s3.example.org"}}),
        ["on port 80", "netpol.s3.port is 443"],
    ),
    (
        flows({"store": {"bucket": "sets", "endpoint": "https://10.1.2.3"}}),
        ["backups.store.endpoint", "no address of the internet", "netpol.s3.cidrs is empty"],
    ),
    (
        flows({"store": {"bucket": "sets", "endpoint": "https://minio.store.svc"}}),
        ["backups.store.endpoint", "netpol.s3.cidrs is empty"],
    ),
    (flows(mysql={"port": 3307}), ["netpol.mysql.port is 3307", "backups.database.port is 3306"]),
    (flows(mysql={"cidrs": ["192.0.2.1/32"]}), ["netpol.mysql.cidrs", "database.host is empty"]),
    (
        {
            **EXTERNAL,
            **flows({"database": {"host": "db.example.org", "existingSecret": "database"}}),
        },
        ['backups.database.host is "db.example.org"', "netpol.mysql.cidrs is empty"],
    ),
    (flows(xwiki={"port": 80}), ["netpol.xwiki.port is 80", "listens on 8080"]),
    (
        flows({"web": {"url": "https://wiki.example.org"}}, xwiki={"port": 8443}),
        ["backups.web.url", "netpol.xwiki.port is 8443", "netpol.xwiki.cidrs is empty"],
    ),
]


@pytest.mark.parametrize(("values", "words"), CONTRADICTIONS, ids=lambda v: v[0] if isinstance(v, list) else "")  # fmt: skip  # noqa: E501
def test_a_contradiction_is_refused_with_both_keys(
    values: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(IntentError) as caught:
        umbrella(values)
    for word in words:
        assert word in str(caught.value)


def test_all_contradictions_are_told_at_once() -> None:
    both = {"xwiki": {"database": {"name": "a"}, "ingress": {"enabled": True}}}
    with pytest.raises(IntentError) as caught:
        umbrella(both)
    assert "xwiki.database.name" in str(caught.value)
    assert "xwiki.ingress.host" in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"typo": {}},
        {"xwiki": {"typo": 1}},
        {"mysql": {"config": {"typo": 1}}},
        {"backups": {"typo": 1}},
        {"backups": {"enabled": False, "store": {"typo": 1}}},
        {"netpol": {"typo": 1}},
        {"netpol": {"enabled": False, "s3": {"typo": 1}}},
        {"global": {"typo": 1}},
        # Of a component that is switched off, whose own schema Helm does not read.
        {**EXTERNAL, "mysql": {"enabled": False, "typo": 1}},
        {**EXTERNAL, "mysql": {"enabled": False, "config": {"typo": 1}}},
        {**EXTERNAL, "mysql": {"enabled": False, "tolerations": [{"typo": "x"}]}},
        {"xwiki": {"enabled": False, "attachments": {"s3": {"typo": 1}}}},
    ],
    ids=str,
)
def test_an_unknown_key_is_refused_wherever_it_stands(values: dict[str, Any]) -> None:
    with pytest.raises(IntentError, match="typo"):
        umbrella(values)


@pytest.mark.parametrize(
    "values",
    [
        {
            "xwiki": {"database": {"name": "wiki", "user": "wiki"}},
            "mysql": {"database": {"schemas": ["wiki"], "user": "wiki"}},
        },
        {
            "xwiki": {"database": {"existingSecret": "other"}},
            "mysql": {"auth": {"existingSecret": "other"}},
        },
        # A Secret of its own may hold a copy under a name of its own.
        {"xwiki": {"database": {"existingSecret": "copy", "passwordKey": "password"}}},
        {"mysql": {"auth": {"existingSecret": f"{render.RELEASE}-mysql"}}},
        {"mysql": {"persistence": {"size": "1Ti", "claimTemplateSize": "1024Gi"}}},
        {"mysql": {"users": {"backup": "one", "monitor": "other"}}},
    ],
    ids=str,
)
def test_values_that_agree_are_accepted(values: dict[str, Any]) -> None:
    """The counter-example to all refusals above."""
    assert len(umbrella(values)) == len(umbrella())


@pytest.mark.parametrize(
    ("home", "door"),
    [
        ("https://wiki.example.org/", {"ingress": {**PUBLISHED, "tlsSecret": "tls"}}),
        ("https://wiki.example.org:8443/", {"ingress": {**PUBLISHED, "tlsSecret": "tls"}}),
        ("http://wiki.example.org/", {"ingress": PUBLISHED}),
        ("", {"httpRoute": {**PUBLISHED, "parentRefs": [{"name": "public"}]}}),
        ("https://elsewhere.example.org/", {}),
    ],
)
def test_a_home_that_leads_back_is_accepted(home: str, door: dict[str, Any]) -> None:
    assert umbrella({"xwiki": {"home": home, **door}})


def test_a_component_that_is_off_may_keep_its_values() -> None:
    kept = {"enabled": False, "config": {"maxConnections": 1}, "nodeSelector": {"any": "thing"}}
    assert components({**EXTERNAL, "mysql": kept}) == {"xwiki"}


# Versions


def least() -> list[tuple[int, int, int]]:
    """The least versions of XWiki that the values' comment names."""
    words = schemas.explained("xwiki")["image.tag"]
    found = re.findall(r"(\d+)\.(\d+)\.(\d+)", words.partition("At least")[2])
    return [(int(major), int(minor), int(patch)) for major, minor, patch in found]


def test_the_least_versions_are_those_that_the_values_name() -> None:
    assert len(least()) == 3
    for major, minor, patch in least():
        assert umbrella(tag("xwiki", f"{major}.{minor}.{patch}-mysql-tomcat"))
        below = (major, minor, patch - 1) if patch else (major, minor - 1, 99)
        with pytest.raises(IntentError, match=r"xwiki\.image\.tag"):
            umbrella(tag("xwiki", ".".join(map(str, below))))


DIGEST = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    "name",
    [
        "17.10.13",
        "17.10.13-7e7bbd58df84768c",
        "17.10.13-0123456789",
        f"18.7.0-mysql-tomcat@{DIGEST}",
        "19.1.0",
        "wiki-of-ours",
        "7e7bbd58df84768c",
    ],
)
def test_a_tag_of_xwiki_passes_if_it_is_new_enough_or_says_nothing(name: str) -> None:
    assert umbrella(tag("xwiki", name))


@pytest.mark.parametrize(
    "name",
    [
        "9.7.1",
        "9.7",
        "9.7-d5c59ab7c99712e1",
        "8.4.10-oracle",
        f"9.7.4@{DIGEST}",
        f"lts@{DIGEST}",
        "database-of-ours",
        "7e7bbd58df84768c",
    ],
)
def test_a_tag_of_mysql_passes_if_it_is_of_a_line_or_says_nothing(name: str) -> None:
    assert umbrella(tag("mysql", name))


# The release's name

LONGEST = 38
"""Characters of a release's name."""


def test_the_longest_release_still_fits_all_names() -> None:
    """Also those that Kubernetes derives: a StatefulSet's pods carry its name and a hash."""
    found = render.helm_template(release="a" * LONGEST)
    names = [item["metadata"]["name"] for item in found]
    assert max(map(len, names)) == 63
    (stateful,) = [i["metadata"]["name"] for i in found if i["kind"] == "StatefulSet"]
    assert len(f"{stateful}-0123456789") <= 63


@pytest.mark.parametrize("release", ["a" * (LONGEST + 1), "a.b", "1a"])
def test_a_release_whose_names_would_not_fit_is_refused(release: str) -> None:
    with pytest.raises(IntentError, match="the release is called"):
        render.helm_template(release=release)


def test_backups_have_names_that_fit_a_cronjob() -> None:
    found = render.helm_template(release="a" * 32, values=[{"backups": BACKUPS}])
    names = [item["metadata"]["name"] for item in found if item["kind"] == "CronJob"]
    assert max(map(len, names)) == 52
    with pytest.raises(IntentError, match="at most 32"):
        render.helm_template(release="a" * 37, values=[{"backups": BACKUPS}])


def test_backups_of_a_wiki_elsewhere_are_accepted() -> None:
    database = {"host": "db.example.org", "existingSecret": "database"}
    web = {"url": "https://wiki.example.org"}
    own = {**BACKUPS, "database": database, "files": {"claim": "wiki"}, "web": web}
    off = {"mysql": {"enabled": False}, "xwiki": {"enabled": False}}
    assert components({**off, "backups": own}) == {"backups"}
    reached = flows(
        own, mysql={"cidrs": ["192.0.2.1/32"]}, xwiki={"port": 443, "cidrs": ["192.0.2.2/32"]}
    )
    assert components({**off, **reached}) == {"backups", "netpol"}


@pytest.mark.parametrize(
    ("endpoint", "s3"),
    [
        ("", {}),
        ("https://s3.example.org", {}),
        ("https://192.0.2.1:9000", {"port": 9000}),
        ("http://10.1.2.3", {"port": 80, "cidrs": ["10.1.2.3/32"]}),
        ("https://minio.store.svc:9000", {"port": 9000, "cidrs": ["10.244.0.0/16"]}),
    ],
)
def test_a_store_in_reach_is_accepted(endpoint: str, s3: dict[str, Any]) -> None:
    assert umbrella(flows({"store": {"bucket": "sets", "endpoint": endpoint}}, s3=s3))


@pytest.mark.parametrize(
    "values",
    [
        guarded(),
        guarded({"flavor": "online"}, switches={"extensions": True}),
        guarded({"ingress": PUBLISHED}, switches={"nginx": True}),
        guarded({"attachments": {"store": "s3", "s3": S3}}, switches={"attachments": True}),
        {**EXTERNAL, "netpol": {"enabled": True, "mysql": {"cidrs": ["192.0.2.1/32"]}}},
        {**EXTERNAL, "xwiki": {"enabled": False}, "netpol": {"enabled": True}},
    ],
    ids=str,
)
def test_policies_that_let_through_what_is_there_are_accepted(values: dict[str, Any]) -> None:
    assert "netpol" in components(values)


@pytest.mark.parametrize("environment", ["local", "staging"])
def test_the_generated_values_are_what_the_charts_accept(environment: str) -> None:
    assert len(render.helm_template(values=[generate.path_of(environment)])) >= 10


def test_what_the_command_prints_are_the_objects_of_the_environment() -> None:
    printed = render.documents(generate.rendered("staging"))
    names = [(item["kind"], item["metadata"]["name"]) for item in printed]
    wanted = environments.objects("staging")
    assert names == [(item["kind"], item["metadata"]["name"]) for item in wanted]


def test_a_preview_prints_what_is_not_decided_yet() -> None:
    names = {
        item["metadata"]["name"]
        for item in render.documents(generate.rendered("prod", preview=True))
    }
    assert "xwiki-stack-mysql" in names
