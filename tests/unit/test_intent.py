"""Intents are loaded as they are meant, and every mistake is one line that helps."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from xwiki_stack import intent, repo
from xwiki_stack.errors import IntentError

GOOD = """\
cluster: local
purpose: local
host: localhost
xwiki: 17.10.13
mysql: "9.7"
size: small
storage:
  mysql: 60Gi
  xwiki: 20Gi
flavor: none
"""

Write = Callable[[str], Path]


@pytest.fixture
def values(tmp_path: Path) -> Path:
    """A values folder with the real clusters and no environment."""
    shutil.copytree(intent.VALUES / "clusters", tmp_path / "clusters")
    (tmp_path / "envs").mkdir()
    return tmp_path


def loaded(values: Path, text: str) -> intent.Environment:
    (values / "envs" / "test.yaml").write_text(text)
    return intent.load_environment("test", values)


def refused(values: Path, text: str) -> str:
    with pytest.raises(IntentError) as caught:
        loaded(values, text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_good_intent_is_loaded(values: Path) -> None:
    environment = loaded(values, GOOD)
    assert environment.namespace == "wiki-test"
    assert environment.storage == {"mysql": "60Gi", "xwiki": "20Gi"}
    assert environment.undecided == ()


def test_what_an_intent_leaves_out_is_derived(values: Path) -> None:
    short = GOOD[: GOOD.index("host:")] + GOOD[GOOD.index("xwiki:") : GOOD.index("storage:")]
    environment = loaded(values, short + "flavor: none\n")
    assert environment.host == "localhost"
    assert environment.storage == {}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("size:", "sise:", ["sise: unknown key", "did you mean 'size'", "size: is missing"]),
        ("size: small", "size: smal", ["size: 'smal' is not allowed", "did you mean 'small'"]),
        ("mysql: 60Gi", "mysql: 50", ["storage.mysql", "did you mean '50Gi'"]),
        ("  xwiki: 20Gi", "  xwiky: 20Gi", ["storage.xwiky", "did you mean 'xwiki'"]),
        ('"9.7"', "9.3.0", ["9.3.0 is no LTS line", "innovation", '"9.7", "8.4"']),
        ('"9.7"', "9.7.2", ["single release of an LTS line", 'write "9.7"']),
        ('"9.7"', "9.7", ["mysql: 9.7 does not fit"]),
        ("17.10.13", "17.3.0", ["17.3.0 does not run without root", "17.10.12"]),
        ("17.10.13", "18.4.3", ["18.4.3", "18.4.4"]),
        ("17.10.13", "017.10.13", ["xwiki: '017.10.13' does not fit"]),
        ("17.10.13", "17.10.013", ["xwiki: '17.10.013' does not fit"]),
        ("17.10.13", "17.10", ["17.1 does not fit: YAML read a number", "all of it in quotes"]),
        ("cluster: local", "cluster: main", ["purpose: 'local' is for", "main stores on longhorn"]),
        ("purpose: local", "purpose: prod", ["purpose: production has a name", "not 'test'"]),
        ("cluster: local", "cluster: lokal", ["'lokal' is no cluster", "local, main"]),
        ("flavor: none", "flavor: xip", ["xip", "archive"]),
        ("host: localhost", "host: Not_A_Host", ["host: 'Not_A_Host' does not fit"]),
        ("flavor: none", "flavor: none\nflavor: xip", ["'flavor' stands twice (line 11)"]),
        ("flavor: none", "flavor: [", ["test.yaml:11", "not YAML"]),
        ("flavor: none", "", ["flavor: is missing"]),
        ("size: small\n", "", ["size: is missing (Requests and limits"]),
        ('"9.7"', "9.7", ['did you mean "9.7" (in quotes)?']),
        ('"9.7"', "undecided", ["mysql: only prod may wait for it"]),
        ("mysql: 60Gi", "mysql: 60GB", ["'60GB' does not fit", "did you mean '60Gi'"]),
        ("mysql: 60Gi", "mysql: 60gi", ["did you mean '60Gi'"]),
        ("purpose: local", "purpose: staging", ["host: 'localhost' is no public name"]),
        ("flavor: none", "flavor: none\n? [a]\n: 1", ["test.yaml:11", "a key must be one word"]),
        ("flavor: none", "flavor: '\x01'", ["not YAML", "unacceptable character #x0001"]),
        ("17.10.13", "2026-13-45", ["not YAML", "month must be in"]),
        ("flavor: none", "flavor: none\n9: x\nfoo: y", ["9: unknown key", "foo: unknown key"]),
        (
            "flavor: none",
            'flavor: none\nsecretRevision: "2"',
            ["secretRevision: '2' is no set of keys", "mysql, xwiki"],
        ),
        (
            "flavor: none",
            "flavor: none\nmaintenanceWindow: Sunday night",
            ["maintenanceWindow: 'Sunday night' does not fit", "e.g. Sun 02:00-04:00"],
        ),
        (
            "flavor: none",
            "flavor: none\nbackups:\n  target:\n    bukcet: sets",
            [
                "backups.target.bukcet: unknown key, did you mean 'bucket'",
                "target.region: is missing",
            ],
        ),
        (
            "flavor: none",
            "flavor: none\nresources:\n  xwiki:\n    requests: {cpu: 500m, memory: 4Gi}\n"
            "    limits: {cpu: 200m, memory: 3Gi}",
            ["requests.cpu: 500m is more than the limit of 200m", "requests.memory: 4Gi is more"],
        ),
    ],
)
def test_a_mistake_is_one_line_that_says_where_what_and_what_else(
    values: Path, old: str, new: str, words: list[str]
) -> None:
    assert old in GOOD
    said = refused(values, GOOD.replace(old, new, 1))
    for word in words:
        assert word in said
    assert "envs/test.yaml" in said


def test_all_mistakes_of_a_file_are_told_at_once(values: Path) -> None:
    said = refused(values, GOOD.replace("size: small", "size: tiny").replace("flavor:", "hots:"))
    assert "size: 'tiny'" in said
    assert "hots: unknown key" in said
    assert "flavor: is missing" in said
    assert said.count("|") == 2


def test_mistakes_of_form_and_of_meaning_are_told_together(values: Path) -> None:
    text = GOOD.replace("17.10.13", "17.3.0").replace('"9.7"', "9.3.0").replace("flavor: none", "")
    said = refused(values, text)
    for word in ("flavor: is missing", "9.3.0 is no LTS line", "17.3.0 does not run", "3 mistakes"):
        assert word in said


def test_every_missing_key_is_named_once(values: Path) -> None:
    said = refused(values, "")
    schema = json.loads((intent.VALUES / "schemas" / "environment.schema.json").read_text())
    assert len(schema["required"]) == 6
    assert [said.count(f"{key}: is missing") for key in schema["required"]] == [1] * 6


def test_a_file_that_is_no_text_is_refused(values: Path) -> None:
    (values / "envs" / "test.yaml").write_bytes(b"host: caf\xe9\n")
    with pytest.raises(IntentError, match=r"envs/test.yaml: not YAML: 'utf-8' codec"):
        intent.load_environment("test", values)


def test_a_cluster_that_publishes_names_class_and_issuer(values: Path) -> None:
    path = values / "clusters" / "local.yaml"
    path.write_text(path.read_text().replace("controller: none", "controller: nginx"))
    said = refused(values, GOOD)
    assert "clusters/local.yaml" in said
    assert "ingress.className: is missing" in said
    assert "ingress.issuer: is missing" in said


MAIN = """\
project: team
nodes: {count: 1, cpu: "6", memory: 24Gi, disk: 200Gi}
storage: {driver: longhorn, expandable: true}
ingress: {controller: nginx, className: nginx, issuer: letsencrypt}
dns: {provider: ovh}
observability: {metrics: true, logs: stdout}
"""


def facts(values: Path, text: str) -> intent.Cluster:
    """A cluster whose file says this."""
    (values / "clusters" / "main.yaml").write_text(text)
    return intent.load_cluster("main", values)


def test_what_a_cluster_leaves_out_is_the_careful_choice(values: Path) -> None:
    found = facts(values, MAIN)
    assert (found.backups, found.email, found.challenge, found.ttl) == ({}, "", "http", 3600)
    assert (found.receivers, found.secrets["backend"]) == ("alertmanager-config", "sops")
    assert found == facts(values, f"{MAIN}certificates: {{email: undecided}}\n")


def test_facts_of_the_platform_reach_it(values: Path) -> None:
    text = MAIN.replace(
        "expandable: true", "expandable: true, backups: {bucket: vols, region: gra}"
    )
    text = text.replace("provider: ovh", "provider: cloudflare, ttl: 300")
    text += "domain: example.org\ncertificates: {challenge: dns, email: a@example.org}\n"
    found = facts(values, f"{text}secrets: {{backend: vault, server: 'https://v.example.org'}}\n")
    assert found.backups == {"bucket": "vols", "region": "gra"}
    assert (found.challenge, found.email, found.ttl) == ("dns", "a@example.org", 300)
    assert found.secrets["server"] == "https://v.example.org"
    assert (found.secrets["path"], found.secrets["role"]) == ("kv", "xwiki-stack")


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        (
            "{provider: ovh}",
            "{provider: ovh}\ncertificates: {challenge: dns}",
            ["zone is undecided"],
        ),
        (
            "{provider: ovh}",
            "{provider: none}\ndomain: x.org\ncertificates: {challenge: dns}",
            ["certificates.challenge", "nobody serves the zone", "allowed: http"],
        ),
        ("driver: longhorn", "driver: local-path, backups: undecided", ["storage.backups", "only"]),
        ("{provider: ovh}", "{provider: ovh, ttl: 5}", ["dns.ttl", "Seconds"]),
        (
            "{provider: ovh}",
            "{provider: ovh}\nsecrets: {backend: vault}",
            ["secrets.server", "is missing"],
        ),
        (
            "{provider: ovh}",
            "{provider: ovh}\nsecrets: {backend: sops, server: 'https://v.org'}",
            ["secrets.server", "nobody would ask"],
        ),
        ("controller: nginx", "controller: traefix", ["did you mean 'traefik'"]),
        ("className: nginx, ", "", ["ingress.className", "is missing"]),
        ("{provider: ovh}", "{provider: ovh}\ncertificates: {email: nobody}", ["email", "Contact"]),
    ],
)
def test_facts_that_do_not_fit_are_one_line(
    values: Path, right: str, wrong: str, words: list[str]
) -> None:
    assert right in MAIN
    with pytest.raises(IntentError) as caught:
        facts(values, MAIN.replace(right, wrong))
    said = str(caught.value)
    assert "clusters/main.yaml" in said
    assert "\n" not in said
    for word in words:
        assert word in said


def test_traefik_needs_no_class(values: Path) -> None:
    text = MAIN.replace("controller: nginx, className: nginx", "controller: traefik")
    assert facts(values, text).ingress == "traefik"


@pytest.mark.parametrize("name", ["../clusters/local", "../envs/local", "/etc/passwd", ""])
def test_a_name_is_no_path(name: str) -> None:
    with pytest.raises(IntentError, match="there is no environment"):
        intent.load_environment(name)


@pytest.mark.parametrize("name", ["Prod", "a_b", "x" * 60])
def test_a_file_name_that_makes_no_namespace_is_refused(values: Path, name: str) -> None:
    (values / "envs" / f"{name}.yaml").write_text(GOOD)
    with pytest.raises(IntentError, match="cannot be a namespace"):
        intent.load_environment(name, values)


@pytest.mark.parametrize(
    ("name", "purpose"),
    [("prod", "staging"), ("prod", "local"), ("prod-eu", "staging"), ("production", "staging")],
)
def test_what_is_named_prod_passes_the_gate_of_prod(values: Path, name: str, purpose: str) -> None:
    text = GOOD.replace("purpose: local", f"purpose: {purpose}").replace("localhost", "wiki.eu")
    (values / "envs" / f"{name}.yaml").write_text(text)
    with pytest.raises(IntentError, match=rf"purpose: '{name}' is production by its name"):
        intent.load_environment(name, values)
    (values / "envs" / f"{name}.yaml").write_text(
        text.replace(f"purpose: {purpose}", "purpose: prod")
    )
    assert intent.load_environment(name, values).undecided
    said = refused(values, text.replace(f"purpose: {purpose}", "purpose: prod"))
    assert "begins with prod, not 'test'; next: rename the file, e.g. prod-test.yaml" in said


def test_a_cluster_on_local_path_may_carry_more_than_local_wikis(values: Path) -> None:
    text = GOOD.replace("purpose: local", "purpose: staging").replace("localhost", "wiki.eu")
    assert loaded(values, text).purpose == "staging"


def public(values: Path, name: str, host: str = "") -> intent.Environment:
    """An environment of cluster main, whose domain is example.org."""
    path = values / "clusters" / "main.yaml"
    path.write_text(path.read_text().replace("domain: undecided", "domain: example.org"))
    purpose = "prod" if name.startswith("prod") else "staging"
    text = GOOD.replace("local\n", "main\n", 1).replace("purpose: local", f"purpose: {purpose}")
    line = f"host: {host}\n" if host else ""
    (values / "envs" / f"{name}.yaml").write_text(text.replace("host: localhost\n", line))
    return intent.load_environment(name, values)


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("prod", "xwiki.example.org"),
        ("staging", "xwiki-staging.example.org"),
        ("prod-eu", "xwiki-prod-eu.example.org"),
    ],
)
def test_a_host_is_derived_from_the_domain_unless_the_intent_names_one(
    values: Path, name: str, host: str
) -> None:
    assert public(values, name).host == host
    assert "host" not in public(values, name).open_keys
    assert public(values, name, "wiki.example.net").host == "wiki.example.net"


def test_a_host_stays_open_where_nobody_decided_it(values: Path) -> None:
    assert "host" in public(values, "prod", "undecided").open_keys
    path = values / "clusters" / "main.yaml"
    public(values, "prod")
    text = path.read_text()
    for nothing in ("domain: undecided", ""):
        path.write_text(text.replace("domain: example.org", nothing))
        environment = intent.load_environment("prod", values)
        assert environment.host == intent.UNDECIDED
        assert "host" in environment.open_keys


def test_two_environments_of_a_cluster_have_two_hosts(values: Path) -> None:
    prod, staging = public(values, "prod"), public(values, "staging", "xwiki.example.org")
    for one, other in ((prod, "staging"), (staging, "prod")):
        with pytest.raises(
            IntentError, match=rf"host: xwiki.example.org is also the host of {other}"
        ):
            intent.refuse_shared_host(one)
    public(values, "staging")
    intent.refuse_shared_host(prod)


def test_a_host_may_move_between_clusters(values: Path) -> None:
    """Both have it for the time of a cutover."""
    prod = public(values, "prod", "wiki.example.net")
    shutil.copy(values / "clusters" / "main.yaml", values / "clusters" / "next.yaml")
    text = prod.path.read_text()
    (values / "envs" / "prod-next.yaml").write_text(text.replace("cluster: main", "cluster: next"))
    intent.refuse_shared_host(prod)


def test_hosts_that_nobody_reaches_may_be_shared(values: Path) -> None:
    for name in ("test", "other"):
        (values / "envs" / f"{name}.yaml").write_text(GOOD)
    intent.refuse_shared_host(intent.load_environment("test", values))
    for name in ("staging", "staging-2"):
        public(values, name, "undecided")
    intent.refuse_shared_host(intent.load_environment("staging", values))


FIELDS = {
    "environment": {
        "name": "",
        "path": "",
        "namespace": "",
        "open_keys": "",
        "secret_revision": "secretRevision",
        "digests": "images",
        "maintenance_window": "maintenanceWindow",
    },
    "cluster": {
        "name": "",
        "cpu": "nodes",
        "memory": "nodes",
        "disk": "nodes",
        "driver": "storage",
        "expandable": "storage",
        "ingress_class": "ingress",
        "issuer": "ingress",
        "metrics": "observability",
        "logs": "observability",
        "receivers": "observability",
        "backups": "storage",
        "challenge": "certificates",
        "email": "certificates",
        "ttl": "dns",
        "recipients": "secrets",
    },
}
"""Field to the key it comes from, where they are not the same word; '' is derived."""


@pytest.mark.parametrize(
    ("kind", "model"), [("environment", intent.Environment), ("cluster", intent.Cluster)]
)
def test_schema_and_dataclass_know_the_same_keys(
    kind: str, model: type[intent.Environment] | type[intent.Cluster]
) -> None:
    schema = json.loads((intent.VALUES / "schemas" / f"{kind}.schema.json").read_text())
    renamed = FIELDS[kind]
    fields = {renamed.get(field.name, field.name) for field in dataclasses.fields(model)} - {""}
    assert fields == set(schema["properties"])


def described(schema: dict[str, Any], place: str) -> Iterator[tuple[str, str]]:
    for key, item in schema.get("properties", {}).items():
        yield f"{place}.{key}", item.get("description", "")
        for inner in [item, *item.get("oneOf", [])]:
            yield from described(inner, f"{place}.{key}")
    for key, item in schema.get("definitions", {}).items():
        yield from described(item, f"{place}.{key}")


@pytest.mark.parametrize("kind", ["environment", "cluster"])
def test_every_key_of_a_schema_is_described_and_no_other_is_allowed(kind: str) -> None:
    text = (intent.VALUES / "schemas" / f"{kind}.schema.json").read_text()
    schema = json.loads(text)
    Draft7Validator.check_schema(schema)
    found = dict(described(schema, kind))
    assert len(found) >= 15
    assert [place for place, words in found.items() if not words] == []
    objects = text.count('"type": "object"')
    assert objects == text.count('"additionalProperties": false')


@pytest.mark.parametrize(
    ("xwiki", "fits"),
    [
        ("17.10.12", True),
        ("18.4.4", True),
        ("18.7.0", True),
        ("18.8.1", True),
        ("17.10.11", False),
        ("18.6.2", False),
    ],
)
def test_the_oldest_xwiki_that_runs_is_known_per_line(values: Path, xwiki: str, fits: bool) -> None:
    text = GOOD.replace("17.10.13", xwiki)
    if fits:
        assert loaded(values, text).xwiki == xwiki
    else:
        refused(values, text)


def test_an_unknown_environment_lists_the_known_ones() -> None:
    with pytest.raises(IntentError) as caught:
        intent.load_environment("stagin")
    assert "did you mean 'staging'" in str(caught.value)
    assert "local, prod, staging" in str(caught.value)


def test_every_environment_of_the_repository_is_good_and_short() -> None:
    files = [*intent.VALUES.glob("envs/*.yaml"), *intent.VALUES.glob("clusters/*.yaml")]
    assert len(files) >= 5
    for path in files:
        assert len(path.read_text().splitlines()) <= 40, repo.relative(path)
    for name in intent.environments():
        environment = intent.load_environment(name)
        assert intent.load_cluster_of(name).name == environment.cluster


def test_prod_waits_for_its_five_decisions() -> None:
    undecided = intent.load_environment("prod").undecided
    assert {item.partition("(")[2] for item in undecided} == {
        f"decision {n})" for n in (1, 2, 3, 4, 10)
    }


@pytest.mark.parametrize(
    ("quantity", "size"),
    [("50Gi", 50 * 2**30), ("1.5Gi", 3 * 2**29), ("24M", 24_000_000), ("4096", 4096)],
)
def test_quantities_are_read_as_kubernetes_writes_them(quantity: str, size: int) -> None:
    assert intent.bytes_of(quantity) == size


@pytest.mark.parametrize("quantity", ["50 Gi", "Gi", "5Pi", "-1Gi", ""])
def test_what_is_no_quantity_is_refused(quantity: str) -> None:
    with pytest.raises(IntentError):
        intent.bytes_of(quantity)


@pytest.mark.parametrize(
    ("outside", "words"),
    [
        ("{smpt: {port: 25}}", ["outside.smpt", "did you mean 'smtp'"]),
        ("{smtp: {}}", ["outside.smtp.port: is missing"]),
        ("{smtp: {port: 0}}", ["outside.smtp.port", "0"]),
        ("{ldap: {port: 636, cidrs: []}}", ["outside.ldap.cidrs"]),
        ("{ldap: {port: 636, cidrs: [10.1.2.3]}}", ["outside.ldap.cidrs.0", "10.1.2.3"]),
        ("{oidc: {port: 443, cidrs: [169.254.0.0/16]}}", ["outside.oidc.cidrs.0", "metadata"]),
        ("{oidc: {port: 443, cidrs: ['fd00:ec2::/32']}}", ["outside.oidc.cidrs.0", "metadata"]),
    ],
)
def test_a_server_outside_that_cannot_be_meant_is_refused(
    values: Path, outside: str, words: list[str]
) -> None:
    said = refused(values, f"{GOOD}outside: {outside}\n")
    for word in words:
        assert word in said


def test_servers_outside_are_none_unless_they_are_named(values: Path) -> None:
    assert loaded(values, GOOD).outside == {}
    named = loaded(values, f"{GOOD}outside: {{ldap: {{port: 636, cidrs: [10.1.2.0/24]}}}}\n")
    assert named.outside == {"ldap": {"port": 636, "cidrs": ["10.1.2.0/24"]}}
