"""The tree that Flux applies: it builds, fits its schemas, and nothing precedes what it needs.

Nothing here asks an API server; tests/e2e/test_flux_admission.py does. What the charts of others
make of their values stays unproven, and docs/testing.md says so.
"""

import copy
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests import clusters, crds, environments
from xwiki_stack import flows, generate, gitops, intent, render, repo, sizing
from xwiki_stack.errors import IntentError
from xwiki_stack.render import Manifest

FLUX = repo.ROOT / "flux"

BUILT_IN = {"v1", "apps/v1", "batch/v1", "networking.k8s.io/v1", "rbac.authorization.k8s.io/v1"} | {
    "storage.k8s.io/v1"
}

WIDE = {"Namespace", "StorageClass", "ClusterIssuer", "ClusterSecretStore", "ClusterRole"} | {
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "PriorityClass",
    "IngressClass",
    "GatewayClass",
    "PersistentVolume",
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
}
"""Kinds that belong to no namespace."""

OWNERS = {
    "monitoring.coreos.com": "prometheus-operator-crds",
    "longhorn.io": "longhorn",
    "cert-manager.io": "cert-manager",
    "gateway.networking.k8s.io": "gateway-api",
    "traefik.io": "traefik",
    "external-secrets.io": "external-secrets",
}
"""Group of CRDs to the part that brings them."""


def group(item: Manifest) -> str:
    return str(item["apiVersion"]).rpartition("/")[0]


def texts(value: Any) -> list[tuple[str, str]]:
    """Every key with the text that it holds, at any depth."""
    if isinstance(value, dict):
        own = [(key, inner) for key, inner in value.items() if isinstance(inner, str)]
        return own + [found for inner in value.values() for found in texts(inner)]
    return [found for inner in value for found in texts(inner)] if isinstance(value, list) else []


# It builds, and fits


def misfits(item: Manifest) -> list[str]:
    if item["apiVersion"] not in BUILT_IN:
        return crds.mistakes(item)
    try:
        kubernetes_validate.validate(json.loads(json.dumps(item)), "1.36", strict=True)
    except kubernetes_validate.ValidationError as error:
        return [str(error.message)]
    return []


@crds.here
@pytest.mark.parametrize("name", clusters.NAMES)
def test_every_part_builds_and_every_object_fits_the_schema_of_its_kind(name: str) -> None:
    found = clusters.objects(name)
    assert len(found) >= 8
    assert {part for part, _item in found} == {
        "",
        *(part.name for part in clusters.parts(name).values() if part.source == gitops.SOURCE),
    }
    said = {
        f"{part}: {item['kind']}/{item['metadata']['name']}: {words}"
        for part, item in found
        for words in misfits(item)
    }
    assert said == set()


@crds.here
@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("HelmRelease", ("spec", "intervall"), "1h"),
        ("HelmRelease", ("spec", "upgrade", "strategy", "name"), "Hope"),
        ("Kustomization", ("spec", "wait"), "yes"),
        ("OCIRepository", ("spec", "url"), "https://example.org"),
        ("ClusterIssuer", ("spec", "acme", "solver"), []),
        ("RecurringJob", ("spec", "task"), "pray"),
        ("PrometheusRule", ("spec", "groups", 0, "rules", 0, "fro"), "5m"),
        ("StorageClass", ("reclaimPolicies"), "Retain"),
    ],
)
def test_an_object_that_does_not_fit_is_noticed(kind: str, path: Any, value: Any) -> None:
    item = copy.deepcopy(next(i for _p, i in clusters.objects("decided") if i["kind"] == kind))
    assert misfits(item) == []
    place: Any = item
    keys = [path] if isinstance(path, str) else path
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    assert misfits(item) != []


def test_the_committed_tree_is_built_as_it_lies() -> None:
    """Not from what would be generated: from the files of the checkout."""
    for part in clusters.parts("main").values():
        made = clusters.kustomized(repo.ROOT / part.path)
        assert made == clusters.built("main")[part.name]


# Order


def homes(name: str, kind: str) -> dict[str, str]:
    """The part that applies each object of a kind; `namespace/name` where it has a namespace."""
    found = {}
    for part, item in clusters.objects(name):
        about = item["metadata"]
        if item["kind"] == kind:
            found["/".join([*filter(None, [about.get("namespace")]), about["name"]])] = part
    return found


def misplaced(name: str) -> set[str]:
    """What is applied before what it needs."""
    before, said = clusters.before(name), set()
    for part, item in clusters.objects(name):
        needs = needed(name, item) if part else {}
        for what, owner in needs.items():
            # An object of the part's own is applied in Kubernetes' order: namespaces first.
            beside = owner == part and what.startswith("its namespace")
            if owner not in before[part] and not beside:
                said.add(f"{part}: {item['kind']}/{item['metadata']['name']} before {what}")
    return said


def needed(name: str, item: Manifest) -> dict[str, str | None]:
    """What an object needs, in words, and the part that brings it; None: nobody does."""
    found: dict[str, str | None] = {}
    owner, home = OWNERS.get(group(item)), item["metadata"].get("namespace")
    if owner:
        found[f"the CRDs of {owner}"] = owner
    if item["kind"] not in WIDE and home != "flux-system":
        found[f"its namespace {home}"] = homes(name, "Namespace").get(str(home))
    if item["kind"] != "HelmRelease":
        return found
    for source in item["spec"].get("valuesFrom", []):
        found["its values"] = homes(name, "ConfigMap").get(f"{home}/{source['name']}")
    if target := item["spec"].get("targetNamespace"):
        found[f"the namespace {target}"] = homes(name, "Namespace").get(target)
    values = clusters.values(name).get(item["metadata"]["name"], {})
    if "onitor" in json.dumps(values) and clusters.of(name)[0].metrics:
        found["the CRDs of its monitor"] = "prometheus-operator-crds"
    for key, text in texts(values):
        if key in {"storageClass", "storageClassName"} and text:
            found[f"the class {text}"] = homes(name, "StorageClass").get(text)
    return found


@pytest.mark.parametrize("name", clusters.NAMES)
def test_nothing_comes_before_what_it_needs(name: str) -> None:
    assert misplaced(name) == set()


@pytest.mark.parametrize(
    ("part", "needed", "words"),
    [
        ("longhorn-config", "longhorn", "before the CRDs of longhorn"),
        ("kube-prometheus-stack-config", "kube-prometheus-stack", "prometheus-operator-crds"),
        ("external-dns", "base", "before its values"),
        ("kube-prometheus-stack", "longhorn-config", "before the class longhorn"),
        ("xwiki-stack-prod", "policies", "before the namespace open4goods-prod"),
    ],
)
def test_a_missing_dependency_is_noticed(
    part: str, needed: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = clusters.before("decided")
    assert needed in real[part]
    without = {**real, part: set()}
    monkeypatch.setattr(clusters, "before", lambda _name: without)
    assert any(words in said for said in misplaced("decided"))


@pytest.mark.parametrize("name", clusters.NAMES)
def test_the_entry_says_the_order_to_flux_and_waits_for_health(name: str) -> None:
    told = {
        item["metadata"]["name"]: item["spec"]
        for part, item in clusters.objects(name)
        if item["kind"] == "Kustomization"
    }
    assert set(told) == set(clusters.parts(name))
    for part in clusters.parts(name).values():
        spec = told[part.name]
        assert [need["name"] for need in spec.get("dependsOn", [])] == list(part.needs)
        assert spec["wait"] is True
        assert spec["prune"] is part.pruned
        assert spec["interval"] == "1h"
        assert spec["sourceRef"] == {"kind": "GitRepository", "name": part.source}
        assert "force" not in spec


def test_a_wiki_waits_for_storage_door_issuers_and_policies_but_for_no_alert() -> None:
    before = clusters.before("decided")["xwiki-stack-prod"]
    assert {"longhorn-config", "ingress-nginx", "cert-manager-config", "policies"} <= before
    assert not {"kube-prometheus-stack", "external-dns"} & before
    assert {"traefik-config", "gateway-api"} <= clusters.before("traefik")["xwiki-stack-prod"]


# Secrets


def named(name: str) -> set[tuple[str, str]]:
    """Every Secret that a cluster's platform names: namespace and name."""
    found: set[tuple[str, str]] = set()
    wanted = {"existingSecret", "configSecret", "backupTargetCredentialSecret"}
    for release, values in clusters.values(name).items():
        home = gitops.RELEASES[release]
        found |= {(home, text) for key, text in texts(values) if key in wanted}
        refs = re.findall(r'"secretKeyRef": \{"name": "([^"]+)"', json.dumps(values))
        found |= {(home, secret) for secret in refs}
    for _part, item in clusters.objects(name):
        refs = re.findall(r'Ref": \{"key": "[^"]+", "name": "([^"]+)"', json.dumps(item))
        if item["kind"] == "ClusterIssuer":  # read from cert-manager's namespace
            found |= {("cert-manager", secret) for secret in refs}
    return found


@pytest.mark.parametrize("name", clusters.NAMES)
def test_every_secret_that_is_named_is_in_the_list_and_the_other_way_round(name: str) -> None:
    listed = {(item.namespace, item.name) for item in gitops.secrets(clusters.of(name)[0])}
    assert named(name) == listed
    assert len(listed) >= (0 if name == "bare" else 2)


def test_the_readme_lists_every_secret_with_its_keys() -> None:
    rows = re.findall(
        r"^\| `([^`/]+)/([^`]+)` \| (.*?) \|",
        (FLUX / "README.md").read_text().partition("| Secret |")[2],
        re.M,
    )
    told = {(home, name): tuple(re.findall(r"`([^`]+)`", keys)) for home, name, keys in rows}
    every = [item for name in clusters.NAMES for item in gitops.secrets(clusters.of(name)[0])]
    assert told == {(item.namespace, item.name): item.keys for item in every}


def test_what_is_sealed_in_git_comes_before_what_needs_it(tmp_path: Path) -> None:
    found, carried = clusters.of("decided")
    decided = [env for env in carried if not env.undecided]
    for folder in ("clusters/main/secrets", "apps/xwiki-stack/staging"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.sops.yaml").write_text("kind: Secret")
    parts = {part.name: part for part in gitops.parts(found, decided, tmp_path)}
    assert parts["secrets"].needs == ("base",)
    assert {part.name for part in parts.values() if part.sealed} == {
        "secrets",
        "xwiki-stack-staging",
    }
    earlier = clusters.earlier(parts.values())
    assert len(gitops.secrets(found)) >= 4
    for secret in gitops.secrets(found):
        assert "secrets" in earlier[secret.part]
    files = gitops.files(found, carried, tmp_path)
    assert "- a.sops.yaml" in files["flux/clusters/main/secrets/kustomization.yaml"]
    assert "- a.sops.yaml" in files["flux/apps/xwiki-stack/staging/kustomization.yaml"]
    assert "provider: sops" in files["flux/clusters/main/kustomizations.yaml"]
    nothing = gitops.files(found, carried, tmp_path / "empty")
    assert "provider: sops" not in nothing["flux/clusters/main/kustomizations.yaml"]


def test_what_comes_from_the_vault_comes_before_what_needs_it() -> None:
    before = clusters.before("vault")
    listed = gitops.secrets(clusters.of("vault")[0])
    assert len(listed) >= 5
    assert all("external-secrets-config" in before[secret.part] for secret in listed)
    made = {
        (item["metadata"]["namespace"], item["spec"]["target"]["name"])
        for _part, item in clusters.objects("vault")
        if item["kind"] == "ExternalSecret"
    }
    assert made == {(secret.namespace, secret.name) for secret in listed}
    store = [
        item for _part, item in clusters.objects("vault") if item["kind"] == "ClusterSecretStore"
    ]
    (allowed,) = store[0]["spec"]["conditions"]
    assert set(allowed["namespaces"]) == {secret.namespace for secret in listed}


# Owners


@pytest.mark.parametrize("name", clusters.NAMES)
def test_no_object_has_two_owners(name: str) -> None:
    seen: dict[tuple[str, str, str], str] = {}
    for part, item in clusters.objects(name):
        about = item["metadata"]
        key = (f"{group(item)}/{item['kind']}", about.get("namespace", ""), about["name"])
        assert key not in seen, f"{key} is applied by {seen[key]} and by {part}"
        seen[key] = part
    assert any(kind.endswith("/Namespace") for kind, _home, _name in seen)


@pytest.mark.parametrize("environment", ["staging", "prod-decided", "everything"])
def test_a_wiki_owns_nothing_of_the_whole_cluster(environment: str) -> None:
    kinds = {item["kind"] for item in environments.objects(environment)}
    assert len(kinds) > 4
    assert not kinds & WIDE


@pytest.mark.parametrize("name", clusters.NAMES)
def test_what_charts_could_also_own_is_switched_off_in_all_but_one(name: str) -> None:
    off = {
        "longhorn": [("persistence", "createStorageClass")],
        "kube-prometheus-stack": [("crds", "enabled"), ("thanosRuler", "enabled")],
        "alloy": [("crds", "create")],
        "traefik": [("gateway", "enabled"), ("ingressClass", "enabled")],
    }
    values = clusters.values(name)
    for release, places in off.items():
        for place in places if release in values else []:
            assert intent.at(values[release], *place) is False
    if "cert-manager-webhook-ovh" in values:
        assert values["cert-manager-webhook-ovh"]["issuers"] == []
    assert not {"nginx", "traefik"} <= {r.removeprefix("ingress-") for r in values}


# Treatment


def releases() -> list[Manifest]:
    found = [item for name in clusters.NAMES for _part, item in clusters.objects(name)]
    unique = {item["metadata"]["name"]: item for item in found if item["kind"] == "HelmRelease"}
    assert set(gitops.RELEASES) < set(unique)
    return list(unique.values())


def ill_treated(item: Manifest) -> list[str]:
    """How a release breaks what every release promises."""
    spec, said = item["spec"], []
    for action in ("install", "upgrade"):
        own = spec.get(action, {})
        if intent.at(own, "strategy", "name") != "RetryOnFailure" or "remediation" in own:
            said.append(f"{action} does not only try again")
        if own.get("crds") not in {"Skip", "CreateReplace"}:
            said.append(f"{action} says nothing of CRDs")
        if own.get("force"):
            said.append(f"{action} replaces by force")
    if intent.at(spec, "driftDetection", "mode") != "enabled":
        said.append("drift is not put right")
    if spec.get("interval") != "1h":
        said.append("the interval is not what a small node bears")
    if "rollback" in spec:
        said.append("rolls back")
    return said


def test_every_release_is_tried_again_never_rolled_back_and_kept_from_drift() -> None:
    assert {
        item["metadata"]["name"]: said for item in releases() if (said := ill_treated(item))
    } == {}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("install", "strategy"), {"name": "RemediateOnFailure"}),
        (("upgrade", "remediation"), {"retries": 3}),
        (("upgrade", "crds"), None),
        (("upgrade", "force"), True),
        (("driftDetection", "mode"), "warn"),
        (("interval",), "1m"),
    ],
)
def test_a_release_that_is_treated_otherwise_is_noticed(path: tuple[str, ...], value: Any) -> None:
    item = copy.deepcopy(releases()[0])
    assert ill_treated(item) == []
    place = item["spec"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert len(ill_treated(item)) == 1


def test_charts_and_sources_are_pinned_to_one_version() -> None:
    seen = 0
    for _part, item in [o for name in clusters.NAMES for o in clusters.objects(name)]:
        version = {
            "HelmRelease": intent.at(item, "spec", "chart", "spec", "version"),
            "OCIRepository": intent.at(item, "spec", "ref", "tag"),
        }.get(item["kind"])
        own = intent.at(item, "spec", "chart", "spec", "chart") == "./"
        if item["kind"] == "OCIRepository" or (version is not None and not own):
            assert re.fullmatch(r"v?\d+\.\d+\.\d+", str(version)), item["metadata"]["name"]
            seen += 1
        if item["kind"] in {"OCIRepository", "HelmRepository"}:
            assert item["spec"]["interval"] == "24h"
    assert seen >= 30


def test_our_chart_comes_from_this_repository_at_every_commit_with_committed_values() -> None:
    found = [i for part, i in clusters.objects("main") if part == "xwiki-stack-staging"]
    (item,) = [i for i in found if i["kind"] == "HelmRelease"]
    chart = item["spec"]["chart"]["spec"]
    assert (chart["chart"], chart["reconcileStrategy"]) == ("./", "Revision")
    assert item["spec"]["targetNamespace"] == "open4goods-staging"
    assert item["spec"]["storageNamespace"] == "open4goods-staging"
    for path in chart["valuesFiles"]:
        assert (repo.ROOT / path).is_file()


def test_what_holds_data_is_never_pruned() -> None:
    key = "kustomize.toolkit.fluxcd.io/prune"
    kept = {
        (item["kind"], item["metadata"]["name"])
        for _part, item in clusters.objects("decided")
        if item["metadata"].get("annotations", {}).get(key) == "disabled"
    }
    every = {
        ("Namespace", item["metadata"]["name"])
        for _part, item in clusters.objects("decided")
        if item["kind"] == "Namespace"
    }
    assert len(every) >= 7
    assert kept == {
        *every,
        ("HelmRelease", "longhorn"),
        ("HelmRelease", "prometheus-operator-crds"),
    }


def test_crds_that_others_may_use_stay_when_the_door_is_switched_back() -> None:
    pruned = {
        item["metadata"]["name"]: item["spec"]["prune"]
        for part, item in clusters.objects("traefik")
        if not part and item["kind"] == "Kustomization"
    }
    assert len(pruned) > 10
    assert [name for name, goes in pruned.items() if not goes] == ["gateway-api"]


def test_a_secret_of_the_vault_outlives_what_brought_it() -> None:
    found = [item for _part, item in clusters.objects("vault") if item["kind"] == "ExternalSecret"]
    assert len(found) >= 4
    for item in found:
        target = item["spec"]["target"]
        assert (target["creationPolicy"], target["deletionPolicy"]) == ("Orphan", "Retain")


def test_no_text_of_the_tree_is_taken_for_a_variable() -> None:
    """Nothing here substitutes; whoever turns it on must not eat a dashboard."""
    for part, item in clusters.objects("vault"):
        assert "${" not in json.dumps(item), f"{part}: {item['metadata']['name']}"


# Policies

NETPOL = "values/generated/main/netpol.yaml"


def guards(name: str) -> dict[str, Manifest]:
    """The releases of charts/netpol by the namespace that each is for."""
    return {
        item["spec"]["targetNamespace"]: item["spec"]
        for part, item in clusters.objects(name)
        if part == "policies" and item["kind"] == "HelmRelease"
    }


def netpol(name: str) -> dict[str, Any]:
    """The values that the releases of charts/netpol share."""
    found: dict[str, Any] = yaml.safe_load(clusters.files(name)[NETPOL])
    return found


@pytest.mark.parametrize("name", clusters.NAMES)
def test_every_namespace_of_the_platform_is_guarded_as_the_room_that_it_is(name: str) -> None:
    homes = {item["metadata"]["name"] for _p, item in of_kind(name, "Namespace")}
    # Its pods have the node's network, which no policy holds.
    homes = {home for home in homes if not home.startswith("open4goods-")} - {"node-exporter"}
    found = guards(name)
    assert set(found) == homes
    assert len(found) >= (0 if name == "bare" else 3)
    rooms = flows.defaults()["namespaces"]
    for namespace, spec in found.items():
        assert namespace in rooms[spec["values"]["room"]]
        chart, *values = spec["chart"]["spec"]["valuesFiles"]
        assert (repo.ROOT / chart).is_file()
        assert values == [NETPOL]
        assert (repo.ROOT / spec["chart"]["spec"]["chart"]).resolve() == flows.CHART
    assert (NETPOL in clusters.files(name)) == bool(found)


def of_kind(name: str, kind: str) -> list[tuple[str, Manifest]]:
    return [(part, item) for part, item in clusters.objects(name) if item["kind"] == kind]


@pytest.mark.parametrize("name", [name for name in clusters.NAMES if name != "bare"])
def test_a_room_is_shut_as_far_as_nobody_else_shuts_it(name: str) -> None:
    for namespace, spec in guards(name).items():
        values = [netpol(name), spec["values"]]
        made = render.helm_template(flows.CHART, values, spec["releaseName"], namespace)
        denials = [item for item in made if item["metadata"]["name"].endswith("-deny")]
        assert bool(denials) == (namespace != "longhorn-system"), namespace
        assert len(made) > len(denials)


WATCHED = {"backups", "metrics", "probe"}
"""Where a wiki has backups, and somebody to tell."""


@pytest.mark.parametrize(
    ("name", "on"),
    [
        ("main", {"metrics", "nginx", "longhorn"}),
        ("decided", {*WATCHED, "nginx", "longhorn"}),
        ("ovh", {*WATCHED, "nginx", "longhorn", "dnsChallenge", "ovhChallenge"}),
        ("cloudflare", {*WATCHED, "nginx", "longhorn", "dnsChallenge"}),
        ("inside", {*WATCHED, "logs", "longhorn"}),
    ],
)
def test_what_is_asked_for_is_there_for_policies_too(name: str, on: set[str]) -> None:
    assert {switch for switch, there in netpol(name)["switches"].items() if there} == on
    carried = [env.namespace for env in clusters.of(name)[1] if not env.undecided]
    assert netpol(name)["namespaces"]["apps"] == carried


def test_the_vault_is_let_through_on_the_port_of_its_address() -> None:
    assert netpol("vault")["vault"] == {"port": 443}
    found, carried = clusters.of("vault")
    for server, port in (("https://v.example.org:8200", 8200), ("https://v.example.org", 443)):
        own = dataclasses.replace(found, secrets={**clusters.VAULT, "server": server})
        assert yaml.safe_load(gitops.policy_values(own, carried))["vault"]["port"] == port
    wrong = dataclasses.replace(found, secrets={**clusters.VAULT, "server": "https://v:99999"})
    with pytest.raises(IntentError, match=r"main.yaml: secrets.server.* port from 0 to 65535"):
        gitops.policy_values(wrong, carried)
    assert "vault" not in netpol("decided")


def test_policies_that_only_add_come_after_those_that_they_add_to() -> None:
    """Alone they would shut what Longhorn's own chart lets through."""
    seen = [name for name in clusters.NAMES if "longhorn-system" in guards(name)]
    assert len(seen) > 3
    for name in seen:
        assert "longhorn" in clusters.before(name)["policies"]


# Prod


def test_an_undecided_prod_has_nothing_in_the_tree_and_a_decided_one_has() -> None:
    assert not [path for path in clusters.files("main") if "prod/" in path]
    assert not (FLUX / "apps" / "xwiki-stack" / "prod").exists()
    assert "xwiki-stack-prod" not in clusters.parts("main")
    entry = clusters.files("main")["flux/clusters/main/kustomizations.yaml"]
    assert "# Left out: prod, undecided: decisions 1, 2, 3, 4, 10." in entry
    assert "open4goods-prod" not in json.dumps(clusters.built("main"))
    assert "xwiki-stack-prod" in clusters.parts("decided")
    assert "open4goods-prod" in json.dumps(clusters.built("decided"))


def test_the_open_decisions_of_a_cluster_are_said_where_they_leave_a_hole() -> None:
    entry = clusters.files("main")["flux/clusters/main/kustomizations.yaml"]
    assert "# Left out: external-dns, the domain is undecided (decision 3)." in entry
    assert "# Left out: backups of volumes, their target is undecided (decision 2)." in entry
    assert "Left out" not in clusters.files("decided")["flux/clusters/main/kustomizations.yaml"]


# What is in it


@pytest.mark.parametrize(("name", "default", "database"), [("main", 1, 1), ("ovh", 2, 3)])
def test_copies_follow_the_nodes_and_say_what_that_means(
    name: str, default: int, database: int
) -> None:
    found = {
        item["metadata"]["name"]: item
        for _part, item in clusters.objects(name)
        if item["kind"] == "StorageClass"
    }
    for key, count, filesystem in (("longhorn", default, "ext4"), ("longhorn-db", database, "xfs")):
        own = found[key]
        assert own["parameters"]["numberOfReplicas"] == str(count)
        assert own["parameters"]["fsType"] == filesystem
        assert own["parameters"]["dataLocality"] == "best-effort"
        assert own["allowVolumeExpansion"] is True
        assert own["reclaimPolicy"] == "Retain"
        # Parameters cannot change: Flux makes the class anew when a node comes.
        assert own["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/force"] == "Enabled"
    assert set(found) == {"longhorn", "longhorn-db"}
    text = clusters.files(name)["flux/clusters/main/longhorn-config/storage.yaml"]
    assert ("no fault tolerance" in text) == (default == 1)


@pytest.mark.parametrize("name", ["main", "decided"])
def test_every_class_is_in_a_job_of_each_kind(name: str) -> None:
    objects = [item for _part, item in clusters.objects(name)]
    jobs = [item["spec"] for item in objects if item["kind"] == "RecurringJob"]
    tasks = {"snapshot"} if name == "main" else {"snapshot", "backup"}
    assert {job["task"] for job in jobs} == tasks
    classes = [item for item in objects if item["kind"] == "StorageClass"]
    assert len(classes) == 2
    for own in classes:
        (selected,) = json.loads(own["parameters"]["recurringJobSelector"])
        assert selected["isGroup"] is True
        assert {job["task"] for job in jobs if selected["name"] in job["groups"]} == tasks


@pytest.mark.parametrize(
    ("name", "solvers"),
    [
        ("main", [["http01"], ["http01"]]),
        ("ovh", [["webhook", "http01"]] * 2),
        ("cloudflare", [["cloudflare", "http01"]] * 2),
    ],
)
def test_issuers_prove_by_what_the_cluster_has(name: str, solvers: list[list[str]]) -> None:
    found = [item for _part, item in clusters.objects(name) if item["kind"] == "ClusterIssuer"]
    assert [item["metadata"]["name"] for item in found] == [
        "letsencrypt-prod",
        "letsencrypt-staging",
    ]
    assert "acme-v02" in found[0]["spec"]["acme"]["server"]
    assert "acme-staging-v02" in found[1]["spec"]["acme"]["server"]
    for item, wanted in zip(found, solvers, strict=True):
        own = item["spec"]["acme"]["solvers"]
        assert [next(iter(one.get("dns01") or one)) for one in own] == wanted
        assert ("email" in item["spec"]["acme"]) == (name == "cloudflare")


def test_the_webhook_may_read_the_one_secret_that_it_needs() -> None:
    objects = [item for _part, item in clusters.objects("ovh")]
    (role,) = [item for item in objects if item["kind"] == "Role"]
    assert role["rules"] == [
        {
            "apiGroups": [""],
            "resources": ["secrets"],
            "resourceNames": ["ovh-credentials"],
            "verbs": ["get"],
        }
    ]
    assert not [item for _p, item in clusters.objects("cloudflare") if item["kind"] == "Role"]


def test_traefik_has_the_hardening_of_nginx() -> None:
    objects = {(i["kind"], i["metadata"]["name"]): i for _p, i in clusters.objects("traefik")}
    gateway = objects["Gateway", "public"]["spec"]["listeners"]
    assert [(item["name"], item["port"]) for item in gateway] == [
        ("http", 8000),
        ("https-prod", 8443),
        ("https-staging", 8443),
    ]
    headers = objects["Middleware", "hardened"]["spec"]["headers"]
    assert headers["stsSeconds"] == int(
        clusters.values("decided")["ingress-nginx"]["controller"]["config"]["hsts-max-age"]
    )
    values = clusters.values("traefik")["traefik"]
    assert values["ports"]["websecure"]["http"]["middlewares"] == ["traefik-hardened@kubernetescrd"]
    assert values["tlsOptions"]["default"]["minVersion"] == "VersionTLS12"
    (filtered,) = objects["HTTPRoute", "redirect"]["spec"]["rules"][0]["filters"]
    assert filtered["requestRedirect"]["scheme"] == "https"
    for name, issuer in (("prod", "letsencrypt-prod"), ("staging", "letsencrypt-staging")):
        certificate = objects["Certificate", name]["spec"]
        assert certificate["issuerRef"]["name"] == issuer


@crds.here
def test_a_wiki_behind_traefik_hangs_on_the_listener_of_its_own() -> None:
    found, carried = clusters.of("traefik")
    gateway = next(i for _p, i in clusters.objects("traefik") if i["kind"] == "Gateway")
    listeners = {item["name"]: item for item in gateway["spec"]["listeners"]}
    for environment in carried:
        values = yaml.safe_load(generate.text_of(environment, found))
        made = render.helm_template(values=[values], namespace=environment.namespace)
        route = environments.only(made, "HTTPRoute")
        assert crds.mistakes(route) == []
        (parent,) = route["spec"]["parentRefs"]
        listener = listeners[parent["sectionName"]]
        assert [listener["hostname"]] == route["spec"]["hostnames"] == [environment.host]
        admitted = listener["allowedRoutes"]["namespaces"]["selector"]["matchLabels"]
        assert admitted == {"kubernetes.io/metadata.name": environment.namespace}
        assert not [item for item in made if item["kind"] == "Ingress"]


@pytest.mark.parametrize("name", clusters.NAMES)
def test_every_namespace_has_a_level_and_no_door_that_nobody_asked_for(name: str) -> None:
    objects = [item for _part, item in clusters.objects(name)]
    levels = {
        item["metadata"]["name"]: item["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        for item in objects
        if item["kind"] == "Namespace"
    }
    assert {home for home, level in levels.items() if level == "privileged"} <= {
        "longhorn-system",
        "node-exporter",
    }
    quotas = {
        item["metadata"]["namespace"]: item["spec"]["hard"]
        for item in objects
        if item["kind"] == "ResourceQuota"
    }
    assert set(quotas) == set(levels)
    doors = {home for home, hard in quotas.items() if hard["services.loadbalancers"] != "0"}
    assert doors <= {"ingress-nginx", "traefik"}
    for home, hard in quotas.items():
        if home.startswith("open4goods-"):
            assert levels[home] == "restricted"
            # Twice 700m and 1536Mi, and the jobs.
            assert (hard["requests.cpu"], hard["requests.memory"]) == ("2400m", "5120Mi")


def requested(pod: dict[str, Any]) -> tuple[float, int]:
    """Cores and bytes that a quota counts for a pod: of all containers, or of the largest first."""
    first = pod.get("initContainers", [])
    beside = [item for item in first if item.get("restartPolicy") == "Always"]
    together = [*pod["containers"], *beside]
    alone = [[item, *beside] for item in first if item not in beside]
    cores, memory = [], []
    for group in [together, *alone]:
        amounts = [container["resources"]["requests"] for container in group]
        cores.append(sum(intent.cores_of(own["cpu"]) for own in amounts))
        memory.append(sum(intent.bytes_of(own["memory"]) for own in amounts))
    return max(cores), max(memory)


@pytest.mark.parametrize("name", ["prod", "staging"])
def test_all_that_a_wiki_may_run_at_once_fits_its_quota(name: str) -> None:
    """Every CronJob at one time, but for the drills: they begin on days of their own."""
    decided, cluster = environments.decided_prod()
    own = dataclasses.replace(decided, name=name, purpose=name)
    every: dict[str, tuple[float, int]] = {}
    for item in render.helm_template(values=[yaml.safe_load(generate.text_of(own, cluster))]):
        spec = intent.at(item, "spec", "jobTemplate", "spec") or item.get("spec", {})
        if pod := intent.at(spec, "template", "spec"):
            every[f"{item['kind']}/{item['metadata']['name']}"] = requested(pod)
    drills = [every.pop(key) for key in sorted(every) if "backups-drill" in key]
    assert len(drills) == (2 if name == "staging" else 0)
    assert len(every) >= 10
    cpu, memory = zip(*every.values(), max(drills, default=(0.0, 0)), strict=True)
    bound = sizing.quota(own)
    assert sum(cpu) < intent.cores_of(bound.request_cpu)
    assert sum(memory) < intent.bytes_of(bound.request_memory)


def test_the_entry_of_the_readme_is_what_flux_takes() -> None:
    """One GitRepository and one Kustomization: what somebody with a Flux of their own applies."""
    (block,) = re.findall(r"```yaml\n(.*?)```", (FLUX / "README.md").read_text(), re.S)
    source, entry = yaml.safe_load_all(block)
    assert source["kind"] == "GitRepository"
    assert source["metadata"] == {"name": gitops.SOURCE, "namespace": "flux-system"}
    assert entry["spec"]["path"] == "./flux/clusters/main"
    assert entry["spec"]["sourceRef"]["name"] == gitops.SOURCE
    if crds.FOLDER.is_dir():
        assert crds.mistakes(source) == crds.mistakes(entry) == []
