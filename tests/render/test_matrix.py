"""Policies come to what the table wants, for every pair of places, and to nothing else.

The table is one half of that; for the pods of a wiki what is wanted stands here once more, role by
role, since a table that is compared with itself proves nothing.
"""

import copy
import dataclasses
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import environments
from xwiki_stack import flows, generate, gitops, intent, matrix, mutation, oracle, render
from xwiki_stack.matrix import World
from xwiki_stack.oracle import EGRESS, INGRESS, Place

Reach = dict[str, set[str]]
"""Whom a pod reaches, or who reaches it, on which ports."""


def cluster(**facts: Any) -> World:
    """The decided cluster, with other facts: its wikis, and every room of its platform."""
    prod, found = environments.decided_prod()
    found = dataclasses.replace(found, **facts)
    staging = intent.load_environment("staging")
    wikis = []
    for environment in (prod, staging):
        values = yaml.safe_load(generate.text_of(environment, found))
        wikis.append(matrix.wiki([values], values["netpol"], environment.namespace))
    own = yaml.safe_load(gitops.policy_values(found, [prod, staging]))
    table = flows.load()
    rooms = [matrix.platform(own, room) for room in matrix.rooms(table)]
    return matrix.world(table, [*wikis, *rooms])


def everything() -> World:
    """Every value of the charts at something else than its default."""
    values = yaml.safe_load(environments.EVERYTHING.read_text())
    guards = [matrix.wiki([values], values["netpol"], "wiki-local")]
    table = flows.load()
    guards += [matrix.platform(values["netpol"], room) for room in matrix.rooms(table)]
    return matrix.world(table, guards)


def local() -> World:
    """A wiki alone, as `make up` makes it."""
    values = yaml.safe_load(generate.path_of("local").read_text())
    return matrix.world(flows.load(), [matrix.wiki([values], values["netpol"], "wiki-local")])


def elsewhere() -> World:
    """Backups of a wiki and a database that are not here."""
    backups = {
        "enabled": True,
        "environment": "away",
        "store": {"bucket": "sets"},
        "keys": {"recipients": ["age1example"], "trusted": [f"{'A' * 43}="]},
        "database": {"host": "db.example.org", "existingSecret": "database"},
        "files": {"claim": "wiki"},
        "web": {"url": "https://wiki.example.org"},
    }
    policies = {
        "enabled": True,
        "switches": {"backups": True},
        "mysql": {"cidrs": ["192.0.2.1/32"]},
        "xwiki": {"port": 443, "cidrs": ["192.0.2.2/32"]},
    }
    values: dict[str, Any] = {"xwiki": {"enabled": False}, "mysql": {"enabled": False}}
    guard = matrix.wiki([{**values, "backups": backups, "netpol": policies}], policies, "away")
    return matrix.world(flows.load(), [guard])


def alone() -> World:
    """A wiki that is told of no other namespace: an end that is nowhere is not everybody."""
    values, own = matrix.fullest(flows.load())
    nowhere: dict[str, Any] = {"namespaces": {room: [] for room in flows.load().rooms}}
    policies = {**own, **nowhere}
    return matrix.world(
        flows.load(),
        [matrix.wiki([{**values, "netpol": {"enabled": True, **policies}}], policies, "wiki")],
    )


WORLDS: dict[str, Callable[[], World]] = {
    "nginx": cluster,
    "traefik": lambda: cluster(ingress="traefik", logs="loki"),
    "no door": lambda: cluster(ingress="none", metrics=False, driver="local-path"),
    "everything": everything,
    "local": local,
    "elsewhere": elsewhere,
    "alone": alone,
    "fullest": lambda: matrix.fullest_world(flows.load()),
}


@cache
def world(name: str) -> World:
    """A world, made once."""
    return WORLDS[name]()


@pytest.mark.parametrize("name", WORLDS)
def test_policies_and_table_agree_on_every_pair_both_ways_and_on_every_port(name: str) -> None:
    found = world(name)
    pods = [place for place in found.places if place.namespace]
    assert len(pods) > 70
    assert len(found.places) - len(pods) > 60
    assert list(found.differences()) == []


# What is wanted, once more.

DNS = {"dns": {"53/tcp, 53/udp"}}
S3 = {"s3": {"443/tcp"}}
MYSQL = {"mysql": {"3306/tcp"}}
XWIKI = {"xwiki": {"8080/tcp"}}

LEAVES: dict[str, Reach] = {
    "site": DNS | S3 | MYSQL,
    "xar": DNS | S3 | MYSQL | XWIKI,
    "verify": DNS | S3,
    "prune": DNS | S3,
    "canary": DNS | XWIKI,
    # Database and wiki of a drill are beside it: never those of the release.
    "drill": DNS | S3,
    "drill-xar": DNS | S3,
    "restore": DNS | S3 | MYSQL,
    "restore-xar": DNS | S3 | XWIKI,
    "exporter": DNS | S3,
    "xwiki": DNS
    | MYSQL
    | {"attachments": {"443/tcp"}, "extensions": {"443/tcp"}, "ldap": {"636/tcp"}}
    | {"oidc": {"443/tcp"}, "smtp": {"587/tcp"}},
    "xwiki-bootstrap": DNS | XWIKI,
    "mysql": {},
    # Of the pods that try policies each may do what the other forbids it.
    "probe": {"target": {"9201/tcp, 9205/tcp"}},
    "target": {},
}
"""Where each pod of a wiki goes, with every switch on."""

ENTERS: dict[str, Reach] = {
    **{role: {} for role in LEAVES},
    "exporter": {"prometheus": {"9105/tcp"}},
    "probe": {"prometheus": {"9106/tcp"}},
    "target": {"probe": {"9201/tcp, 9203/tcp"}},
    "mysql": {who: {"3306/tcp"} for who in ("xwiki", "site", "xar", "restore")},
    "xwiki": {
        who: {"8080/tcp"}
        for who in ("nginx", "traefik", "xwiki-bootstrap", "xar", "canary", "restore-xar")
    },
}


def role(place: Place) -> str:
    """The word for a pod of a wiki."""
    return place.labels.get(flows.ROLE) or place.labels[flows.COMPONENT]


def told(found: World, direction: str, pod: Place) -> Reach:
    """Whom policies let a rendered pod reach, or be reached by: near misses and strangers too."""
    _, own = matrix.fullest(flows.load())
    servers = {
        name: dict.fromkeys(value["cidrs"], ()) for name, value in own.items() if "cidrs" in value
    }
    reached: Reach = {}
    for other in found.places:
        if other is pod:
            continue
        ports = oracle.judge(found.policies, found.namespaces, direction, pod, other)
        if not ports:
            continue
        name = other.name
        if other.namespace == "wiki" and flows.COMPONENT in other.labels:
            name = role(other)
        for server, networks in servers.items():
            if oracle.within(other.address, networks):
                name = server
        # NodeLocal DNS
        name = "dns" if name == "169.254.20.10" else name
        reached.setdefault(name, set()).add(str(ports))
    return reached


def unwanted(found: World) -> list[str]:
    """Where the policies of a wiki with every switch on are not what stands above."""
    pods = {
        role(place): place
        for place in found.places
        if place.namespace == "wiki" and place.name.partition("-")[0] in RENDERED
    }
    assert pods.keys() == LEAVES.keys()
    return [
        f"{direction} of {name}: {there} instead of {wanted[name]}"
        for direction, wanted in ((EGRESS, LEAVES), (INGRESS, ENTERS))
        for name, pod in pods.items()
        if (there := told(found, direction, pod)) != wanted[name]
    ]


RENDERED = {"deployment", "statefulset", "job", "cronjob"}


def test_every_pod_of_a_wiki_reaches_what_it_needs_and_nothing_else() -> None:
    assert unwanted(world("fullest")) == []


API = {"apiserver": {"6443/tcp"}}
PROVIDER = {"provider": {"443/tcp"}}
DOOR: Reach = API | XWIKI | {"solver": {"8089/tcp"}}

PLATFORM: dict[str, Reach] = {
    "ingress-nginx/nginx": DOOR,
    "ingress-nginx/nginx-certgen": API,
    "traefik/traefik": DOOR,
    "cert-manager/cert-manager": DNS
    | API
    | {"acme": {"80/tcp, 443/tcp"}, "nameservers": {"53/tcp, 53/udp"}}
    | {"nginx": {"80/tcp, 443/tcp"}, "traefik": {"8000/tcp, 8443/tcp"}},
    "cert-manager/cert-manager-cainjector": API,
    "cert-manager/cert-manager-webhook": API,
    "cert-manager/cert-manager-startupapicheck": API,
    "cert-manager/cert-manager-webhook-ovh": DNS | API | PROVIDER,
    "external-dns/external-dns": DNS | API | PROVIDER,
    "external-secrets/external-secrets": DNS | API | {"vault": {"8200/tcp"}},
    "external-secrets/external-secrets-webhook": API,
    "external-secrets/external-secrets-cert-controller": API,
    "observability/prometheus": {
        "dns": {"53/tcp, 9153/tcp, 53/udp"},
        "apiserver": {"6443/tcp"},
        "nodes": {"9100/tcp, 10250/tcp"},
        "exporter": {"9105/tcp"},
        "probe": {"9106/tcp"},
        "nginx": {"10254/tcp"},
        "traefik": {"9100/tcp"},
        "cert-manager": {"9402/tcp"},
        "cert-manager-cainjector": {"9402/tcp"},
        "cert-manager-webhook": {"9402/tcp"},
        "external-dns": {"7979/tcp"},
        "external-secrets": {"8080/tcp"},
        "external-secrets-webhook": {"8080/tcp"},
        "external-secrets-cert-controller": {"8080/tcp"},
        "longhorn-manager": {"9500/tcp"},
        "alertmanager": {"8080/tcp, 9093/tcp"},
        "grafana": {"3000/tcp"},
        "kube-state-metrics": {"8080/tcp"},
        "prometheus-operator": {"10250/tcp"},
        "loki": {"3100/tcp"},
        "alloy": {"12345/tcp"},
    },
    "observability/prometheus-operator": API,
    "observability/alertmanager": DNS | {"receivers": {"443/tcp"}, "smtp": {"587/tcp"}},
    "observability/grafana": DNS
    | API
    | {"prometheus": {"9090/tcp"}, "alertmanager": {"9093/tcp"}, "loki": {"3100/tcp"}},
    "observability/kube-state-metrics": API,
    "observability/loki": DNS | API,
    "observability/alloy": DNS | API | {"loki": {"3100/tcp"}},
}
"""Where each pod of the platform goes, with every switch on."""

CALLED: dict[str, Reach] = {
    "cert-manager/cert-manager-webhook": {
        "apiserver": {"10250/tcp"}, "prometheus": {"9402/tcp"},
    },
    "external-secrets/external-secrets": {"prometheus": {"8080/tcp"}},
    "observability/prometheus": {"grafana": {"9090/tcp"}},
    "observability/alertmanager": {
        "prometheus": {"8080/tcp, 9093/tcp"}, "grafana": {"9093/tcp"},
    },
    "observability/grafana": {"prometheus": {"3000/tcp"}},
    "observability/loki": {who: {"3100/tcp"} for who in ("alloy", "grafana", "prometheus")},
    "longhorn-system/longhorn-manager": {"prometheus": {"9500/tcp"}},
}  # fmt: skip
"""Who calls some of them: those that hold what others want."""


def test_every_pod_of_the_platform_reaches_what_it_needs_and_nothing_else() -> None:
    found = world("fullest")
    places = {str(place): place for place in found.places}
    peers = {peer.name for peer in found.table.peers.values() if peer.kind == "pods"}
    ours = {"xwiki", "bootstrap", "mysql", "backups", "netpol", "solver"}
    assert {name.partition("/")[2] for name in PLATFORM} == peers - ours - {
        "dns", "longhorn-manager",
    }  # fmt: skip
    for direction, wanted in ((EGRESS, PLATFORM), (INGRESS, CALLED)):
        for name, there in wanted.items():
            assert told(found, direction, places[name]) == there, f"{direction} of {name}"


def test_a_cluster_has_the_flows_of_what_it_is_made_of() -> None:
    def switched(name: str) -> set[str]:
        guard = next(guard for guard in world(name).guards if guard.room == "observability")
        return {word for word, on in guard.values["switches"].items() if on}

    assert switched("nginx") == {"backups", "metrics", "probe", "nginx", "longhorn"}
    assert switched("traefik") == {"backups", "metrics", "probe", "traefik", "longhorn", "logs"}
    assert switched("no door") == {"backups"}
    for name in ("nginx", "traefik", "no door"):
        for guard in world(name).guards:
            if guard.room != "apps":
                apps = guard.values["namespaces"]["apps"]
                assert apps == ["open4goods-prod", "open4goods-staging"]


TABLES: dict[str, Callable[[Any], Any]] = {
    "a drill at the release's database": lambda row: roles(row("backups-mysql")).append("drill"),
    "the canary at the store": lambda row: roles(row("backups-s3")).append("canary"),
    "no way to the store": lambda row: roles(row("backups-s3")).remove("prune"),
    "dashboards at the wiki": lambda row: row("door-xwiki")["from"].append("grafana"),
    "the first page at the database": lambda row: row("xwiki-mysql")["from"].append("bootstrap"),
    "the database at the mail server": lambda row: row("smtp")["from"].append("mysql"),
    "no names for the wiki": lambda row: row("dns")["from"].remove("xwiki"),
    "another port of the exporter": lambda row: row("metrics-backups").update(ports=["9106/tcp"]),
    "no direction that is forbidden to the probe": lambda row: row("probe-no-egress").pop("alone"),
    "the wiki asks the door": lambda row: row("clients-nginx")["from"].append("xwiki"),
}


def roles(row: dict[str, Any]) -> list[str]:
    found: list[str] = row["from"][0]["roles"]
    return found


@pytest.mark.parametrize("table", TABLES)
def test_a_table_that_says_something_else_is_noticed(table: str, tmp_path: Path) -> None:
    document = yaml.safe_load(flows.TABLE.read_text())
    TABLES[table](lambda name: next(row for row in document["flows"] if row["name"] == name))
    chart = Path(shutil.copytree(flows.CHART, tmp_path / "netpol"))
    (chart / "files" / "flows.yaml").write_text(yaml.safe_dump(document))
    guard = world("fullest").guards[0]
    others = [item for item in guard.objects if item["kind"] != "NetworkPolicy"]
    policies = render.helm_template(chart, [dict(guard.values)], namespace=guard.namespace)
    changed = dataclasses.replace(guard, objects=(*others, *policies))
    found = matrix.world(flows.load(chart / "files" / "flows.yaml"), [changed])
    # The policies are what that table says; what it says is not what is wanted.
    assert list(found.differences()) == []
    assert unwanted(found) != []


def test_who_is_not_told_of_is_denied_both_ways() -> None:
    found = world("nginx")
    strangers = [place for place in found.places if place.name == "stranger"]
    assert len(strangers) >= 10
    looked = 0
    for stranger in strangers:
        guard = found.guard_of(stranger)
        if guard is None or found.table.rooms[guard.room].policies != "deny":
            continue
        looked += 1
        for direction in (EGRESS, INGRESS):
            for other in found.places:
                arguments = (found.policies, found.namespaces, direction, stranger, other)
                assert not oracle.judge(*arguments), f"{direction} of {stranger} and {other}"
    assert looked >= 8


def test_staging_and_prod_side_by_side_do_not_meet() -> None:
    found = world("nginx")
    pods = {
        name: [place for place in found.places if place.namespace == f"open4goods-{name}"]
        for name in ("prod", "staging")
    }
    assert len(pods["prod"]) > 20 < len(pods["staging"])
    for one, other in (("prod", "staging"), ("staging", "prod")):
        for source in pods[one]:
            for target in pods[other]:
                assert not oracle.reach(found.policies, found.namespaces, source, target)


def test_no_pod_reaches_a_metadata_service() -> None:
    looked = 0
    for name in WORLDS:
        found = world(name)
        never = [place for place in found.places if place.name in found.table.never]
        assert len(never) == len(found.table.never)
        for place in found.places:
            guard = found.guard_of(place)
            if guard and found.table.rooms[guard.room].policies == "deny":
                looked += 1
                for target in never:
                    assert not oracle.reach(found.policies, found.namespaces, place, target)
    assert looked > 300


# Mutants


def test_every_change_of_a_policy_is_noticed() -> None:
    """A part of them; `xwiki-stack flows` tries all."""
    found = world("fullest")
    every = list(mutation.mutants(found.policies))
    assert len(every) > 1500
    sample = every[::7]
    assert [str(mutant) for mutant in sample if not mutation.noticed(found, mutant)] == []


def test_a_world_that_shows_too_little_lets_mutants_live() -> None:
    """The counter-example: without near misses and addresses nobody notices a wider rule."""
    full = world("fullest")
    kept = [p for p in full.places if p.namespace and "other" not in p.name and "str" not in p.name]
    few = dataclasses.replace(full, places=tuple(kept))
    assert list(few.differences()) == []
    every = list(mutation.mutants(full.policies))
    living = [mutant for mutant in every[::7] if not mutation.noticed(few, mutant)]
    assert len(living) > 30
    score = mutation.Score(1, 2, (str(living[0]),), 3)
    assert "not so: " in score.summary


def test_a_policy_that_does_not_fit_the_table_has_no_score() -> None:
    full = world("fullest")
    wrong = copy.deepcopy(full.policies)
    wrong[0]["spec"]["policyTypes"] = ["Ingress"]
    with pytest.raises(AssertionError, match="differ already: Egress of wiki/"):
        mutation.score(dataclasses.replace(full, policies=wrong))


def test_the_results_are_of_all_mutants_and_the_page_shows_them() -> None:
    document = json.loads(mutation.RESULTS.read_text())
    found = document["mutation"]
    assert found["killed"] / found["total"] >= 0.95
    assert found["killed"] + len(found["living"]) == found["total"]
    # As many as there are: of this table, not of an earlier one.
    assert found["total"] == len(list(mutation.mutants(world("fullest").policies)))
    assert f"**{found['killed']} of {found['total']} noticed**" in flows.PAGE.read_text()
