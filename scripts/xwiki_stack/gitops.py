"""What Flux applies on a cluster: which releases, namespaces, Secrets, and in which order.

A part is one Kustomization of Flux. It waits until all parts that it needs are healthy, so that
CRDs, webhooks and Secrets are there before what asks for them. docs/decisions/0022-flux-tree.md.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from xwiki_stack import intent, repo, sizing, templates
from xwiki_stack.intent import Cluster, Environment
from xwiki_stack.sizing import Resources

SOURCE = "xwiki-stack"
"""The GitRepository, in flux-system, that whoever runs Flux makes for this repository."""

ACME_GROUP = "acme.xwiki-stack.local"
"""API group of the webhook that answers OVH's challenges; any name that nobody else uses."""

BASE = "base"
"""The part that everything needs: namespaces and values."""


@dataclass(frozen=True)
class Part:
    """One Kustomization of Flux: its path in the repository and the parts that it needs.

    sealed: whether SOPS opens what lies there; source: the GitRepository it comes from.
    """

    name: str
    path: str
    why: str
    needs: tuple[str, ...] = ()
    timeout: str = "10m"
    sealed: bool = False
    source: str = SOURCE


@dataclass(frozen=True)
class Namespace:
    """A namespace: its Pod Security level, the LoadBalancers that it may have, its quota."""

    name: str
    level: str
    why: str
    doors: int = 0
    quota: Resources | None = None


@dataclass(frozen=True)
class Secret:
    """A Secret that something names and nobody here makes, and the part that needs it."""

    namespace: str
    name: str
    keys: tuple[str, ...]
    part: str
    why: str


RELEASES = {
    "longhorn": "longhorn-system",
    "ingress-nginx": "ingress-nginx",
    "traefik": "traefik",
    "cert-manager": "cert-manager",
    "cert-manager-webhook-ovh": "cert-manager",
    "external-dns": "external-dns",
    "prometheus-operator-crds": "observability",
    "kube-prometheus-stack": "observability",
    "loki": "observability",
    "alloy": "observability",
    "external-secrets": "external-secrets",
}
"""Every release of a chart of others, and its namespace."""

VALUELESS = {"prometheus-operator-crds"}
"""Releases that take their chart as it is."""

LEVELS = {
    "longhorn-system": ("privileged", "Longhorn mounts disks of its node."),
    "ingress-nginx": ("restricted", "The door: one Service is seen from outside."),
    "traefik": ("restricted", "The door: one Service is seen from outside."),
    "cert-manager": ("restricted", "Certificates."),
    "external-dns": ("restricted", "Records of the zone."),
    "external-secrets": ("restricted", "Brings Secrets from the vault."),
    "observability": ("baseline", "Not restricted: sidecars of Grafana say less than that asks."),
    "node-exporter": ("privileged", "Reads the node itself; nothing else is here."),
}
"""Pod Security level of each namespace of the platform, and why."""

DOORS = {"ingress-nginx", "traefik"}


def releases(cluster: Cluster) -> list[str]:
    """The releases of a cluster, in the order of RELEASES."""
    wanted = {
        "longhorn": cluster.driver == "longhorn",
        "ingress-nginx": cluster.ingress == "nginx",
        "traefik": cluster.ingress == "traefik",
        "cert-manager": cluster.ingress != "none" or cluster.metrics,
        "cert-manager-webhook-ovh": cluster.ingress != "none" and _proves_at_ovh(cluster),
        "external-dns": _writes_records(cluster),
        "prometheus-operator-crds": cluster.metrics,
        "kube-prometheus-stack": cluster.metrics,
        "loki": cluster.logs == "loki",
        "alloy": cluster.logs == "loki",
        "external-secrets": cluster.secrets["backend"] == "vault",
    }
    return [name for name in RELEASES if wanted[name]]


def with_values(cluster: Cluster) -> list[str]:
    """The releases of a cluster that have values."""
    return [name for name in releases(cluster) if name not in VALUELESS]


def _proves_at_ovh(cluster: Cluster) -> bool:
    return cluster.challenge == "dns" and cluster.dns == "ovh"


def _writes_records(cluster: Cluster) -> bool:
    return cluster.dns != "none" and not intent.is_undecided(cluster.domain)


def left_out(cluster: Cluster, environments: Sequence[Environment]) -> list[str]:
    """What is missing as long as a decision is open, in words."""
    said = []
    if cluster.dns != "none" and not _writes_records(cluster):
        said.append("external-dns, the domain is undecided (decision 3)")
    if cluster.driver == "longhorn" and not cluster.backups:
        said.append("backups of volumes, their target is undecided (decision 2)")
    for env in environments:
        if env.undecided:
            numbers = sorted(set(env.open_keys.values()))
            said.append(f"{env.name}, undecided: decisions {', '.join(map(str, numbers))}")
    return said


def published(cluster: Cluster, environments: Iterable[Environment]) -> list[Environment]:
    """The environments that visitors reach by name."""
    if cluster.ingress == "none":
        return []
    return [env for env in environments if not intent.is_undecided(env.host)]


def issuer_of(cluster: Cluster, environment: Environment) -> str:
    """The ClusterIssuer of an environment's certificate."""
    return f"{cluster.issuer}-{'prod' if environment.purpose == 'prod' else 'staging'}"


def namespaces(cluster: Cluster, environments: Sequence[Environment]) -> list[Namespace]:
    """All namespaces of a cluster, the platform's first."""
    names = list(dict.fromkeys(RELEASES[name] for name in releases(cluster)))
    names += ["node-exporter"] if cluster.metrics else []
    found = [Namespace(name, *LEVELS[name], doors=int(name in DOORS)) for name in names]
    found += [
        Namespace(env.namespace, "restricted", f"The wiki of {env.name}.", quota=sizing.quota(env))
        for env in environments
    ]
    return found


def secrets(cluster: Cluster) -> list[Secret]:
    """The Secrets that a cluster's platform needs; the wikis' own are in charts/*/README.md."""
    have = releases(cluster)
    found = []
    keys: tuple[str, ...]
    if cluster.driver == "longhorn" and cluster.backups:
        keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINTS")
        found.append(
            Secret(
                "longhorn-system", "longhorn-backup-s3", keys, "longhorn", "The volumes' bucket."
            )
        )
    if cluster.challenge == "dns":
        if cluster.dns == "ovh":
            keys = ("applicationKey", "applicationSecret", "applicationConsumerKey")
            name = "ovh-credentials"
        else:
            keys, name = ("apiToken",), "cloudflare-credentials"
        found.append(
            Secret("cert-manager", name, keys, "cert-manager-config", "Proves certificates.")
        )
    if "external-dns" in have:
        keys = ("applicationKey", "applicationSecret", "consumerKey")
        keys = keys if cluster.dns == "ovh" else ("apiToken",)
        name = f"external-dns-{cluster.dns}"
        found.append(Secret("external-dns", name, keys, "external-dns", "Writes the zone."))
    if cluster.metrics:
        part = "kube-prometheus-stack"
        found += [
            Secret(
                "observability", cluster.receivers, ("alertmanager.yaml",), part, "Who is told."
            ),
            Secret(
                "observability",
                "grafana-admin",
                ("admin-user", "admin-password"),
                part,
                "Grafana's admin.",
            ),
        ]
    return found


def sealed(folder: Path) -> list[str]:
    """Names of the files that SOPS sealed in a folder."""
    return sorted(path.name for path in folder.glob("*.sops.yaml"))


def parts(cluster: Cluster, environments: Sequence[Environment], flux: Path) -> list[Part]:
    """The parts of a cluster, each after those that it needs.

    environments: those that are decided; flux: the folder of the tree, for what is sealed in it.
    """
    have = releases(cluster)
    own = f"flux/clusters/{cluster.name}"
    first = [
        Part(BASE, f"{own}/{BASE}", "Namespaces with their bounds, and the values of releases.")
    ]
    if sealed(flux / "clusters" / cluster.name / "secrets"):
        why = "Secrets of the platform, sealed by SOPS."
        first.append(Part("secrets", f"{own}/secrets", why, (BASE,), sealed=True))
    ground = (first[-1].name,)
    vault = cluster.secrets["backend"] == "vault"

    def released(name: str, why: str, *needs: str, timeout: str = "10m") -> Part:
        kept = tuple(need for need in needs if need in have or need.endswith("-config"))
        fed = any(secret.part == name for secret in secrets(cluster))
        kept += ("external-secrets-config",) if vault and fed else ()
        return Part(name, f"flux/infra/{name}", why, (*ground, *kept), timeout)

    def configured(name: str, why: str, *needs: str) -> Part:
        kept = tuple(need for need in needs if need in have or need.endswith("-config"))
        return Part(f"{name}-config", f"{own}/{name}-config", why, kept)

    monitors = "prometheus-operator-crds"
    longhorn = ("longhorn-config",) if "longhorn" in have else ()
    gateway = ("gateway-api",) if "traefik" in have else ()
    made = {
        monitors: released(monitors, "CRDs of monitors and rules, before whatever has one."),
        "external-secrets": released("external-secrets", "Secrets from the vault.", monitors),
        "longhorn": released("longhorn", "Volumes.", monitors, timeout="20m"),
        "cert-manager": released("cert-manager", "Certificates.", monitors),
        "cert-manager-webhook-ovh": released(
            "cert-manager-webhook-ovh", "Proves certificates by records at OVH.", "cert-manager"
        ),
        "ingress-nginx": released("ingress-nginx", "The door.", monitors),
        "traefik": released("traefik", "The door.", monitors),
        "external-dns": released("external-dns", "Records of the wikis' hosts.", monitors),
        "kube-prometheus-stack": released(
            "kube-prometheus-stack",
            "Metrics and alerts; its webhook's certificate comes from cert-manager.",
            monitors,
            "cert-manager",
            *longhorn,
            timeout="15m",
        ),
        "loki": released("loki", "Logs.", monitors, *longhorn),
        "alloy": released("alloy", "Brings the logs.", monitors, "loki"),
    }
    infra = [made[name] for name in made if name in have]
    if gateway:
        infra.insert(
            0,
            Part("gateway-api", "config/crd", "CRDs of Gateway API.", ground, source="gateway-api"),
        )
        infra = [
            _needing(part, gateway)
            if part.name in {"traefik", "cert-manager", "external-dns"}
            else part
            for part in infra
        ]
    configs = []
    if "longhorn" in have:
        configs.append(
            configured("longhorn", "Classes of volumes, their snapshots and backups.", "longhorn")
        )
    if cluster.ingress != "none":
        needs = ("cert-manager", "cert-manager-webhook-ovh")
        issuers = configured("cert-manager", "Issuers of certificates.", *needs)
        fed = vault and cluster.challenge == "dns"
        configs.append(_needing(issuers, ("external-secrets-config",)) if fed else issuers)
    if "traefik" in have:
        needs = ("traefik", "cert-manager-config")
        configs.append(configured("traefik", "The Gateway, its certificates and headers.", *needs))
    if vault:
        configs.append(
            configured("external-secrets", "Which Secrets come from the vault.", "external-secrets")
        )
    if cluster.metrics:
        configs.append(configured("kube-prometheus-stack", "Alerts.", "kube-prometheus-stack"))
    policies = [
        Part("policies", "flux/policies/longhorn-system", "Who may talk to whom.", ("longhorn",))
        for _ in longhorn
    ]
    before = [
        part.name
        for part in configs
        if part.name in {"longhorn-config", "cert-manager-config", "traefik-config"}
    ]
    before += [name for name in ("ingress-nginx", monitors) if name in have]
    before += [part.name for part in policies]
    apps = [_app(env, tuple(before) or ground, flux) for env in environments]
    return list(_ordered([*first, *infra, *configs, *policies, *apps]))


def _app(environment: Environment, needs: tuple[str, ...], flux: Path) -> Part:
    path = f"flux/apps/{SOURCE}/{environment.name}"
    closed = bool(sealed(flux / "apps" / SOURCE / environment.name))
    why = f"The wiki of {environment.name}. It needs neither alerts nor records to come up."
    return Part(f"{SOURCE}-{environment.name}", path, why, needs, "25m", closed)


def _needing(part: Part, more: tuple[str, ...]) -> Part:
    return Part(
        part.name, part.path, part.why, (*part.needs, *more), part.timeout, part.sealed, part.source
    )


def _ordered(found: list[Part]) -> Iterator[Part]:
    """Each after those that it needs, else as given."""
    seen: set[str] = set()
    while found:
        ready = next(part for part in found if seen.issuperset(part.needs))
        found.remove(ready)
        seen.add(ready.name)
        yield ready


def files(cluster: Cluster, environments: Sequence[Environment], flux: Path) -> dict[str, str]:
    """The generated files of a cluster by their path in the repository.

    environments: all of the cluster; those that are undecided get nothing. flux: as in `parts`.
    """
    decided = [env for env in environments if not env.undecided]
    own = f"flux/clusters/{cluster.name}"
    every = parts(cluster, decided, flux)
    facts: dict[str, Any] = {
        "cluster": cluster,
        "sizing": sizing,
        "acme_group": ACME_GROUP,
        "copies": sizing.copies(cluster),
        "doubled": sizing.doubled(cluster),
        "retention_size": sizing.retention_size(),
        "prometheus_limit": sizing.prometheus_limit(cluster),
        "platform_class": "longhorn" if cluster.driver == "longhorn" else "",
        "published": published(cluster, decided),
        "issuer_of": lambda env: issuer_of(cluster, env),
    }

    def kustomization(resources: Sequence[str], **more: Any) -> str:
        return templates.text(
            "flux/kustomization.yaml.j2",
            cluster=cluster,
            resources=resources,
            **{"releases": (), **more},
        )

    made = {
        f"values/generated/{cluster.name}/{name}.yaml": templates.text(f"{name}.yaml.j2", **facts)
        for name in with_values(cluster)
    }
    made[f"{own}/kustomizations.yaml"] = templates.text(
        "flux/kustomizations.yaml.j2",
        cluster=cluster,
        parts=every,
        left_out=left_out(cluster, environments),
    )
    gateway = ["../../infra/gateway-api/source.yaml"] if cluster.ingress == "traefik" else []
    made[f"{own}/kustomization.yaml"] = kustomization(["kustomizations.yaml", *gateway])
    made[f"{own}/{BASE}/namespaces.yaml"] = templates.text(
        "flux/namespaces.yaml.j2", cluster=cluster, namespaces=namespaces(cluster, decided)
    )
    made[f"{own}/{BASE}/kustomization.yaml"] = kustomization(
        ["namespaces.yaml"],
        releases=[(name, RELEASES[name]) for name in with_values(cluster)],
        values=f"../../../../values/generated/{cluster.name}",
    )
    if closed := sealed(flux / "clusters" / cluster.name / "secrets"):
        made[f"{own}/secrets/kustomization.yaml"] = kustomization(closed)
    configs = {"longhorn": "storage", "cert-manager": "issuers", "traefik": "gateway"}
    configs["external-secrets"] = "vault"
    facts |= {"classes": CLASSES, "secrets": secrets(cluster)}
    facts["namespaces"] = sorted({secret.namespace for secret in secrets(cluster)})
    names = {part.name for part in every}
    for component, template in configs.items():
        if f"{component}-config" in names:
            folder = f"{own}/{component}-config"
            made[f"{folder}/{template}.yaml"] = templates.text(f"flux/{template}.yaml.j2", **facts)
            made[f"{folder}/kustomization.yaml"] = kustomization([f"{template}.yaml"])
    if cluster.metrics:
        rules = "../../../infra/kube-prometheus-stack-config"
        made[f"{own}/kube-prometheus-stack-config/kustomization.yaml"] = kustomization(
            [f"{rules}/{name}.yaml" for name in alerts(cluster)]
        )
    for env in decided:
        made |= app_files(env, flux)
    return made


CLASSES = (
    ("longhorn", "The default class.", "ext4"),
    ("longhorn-db", "For databases.", "xfs"),
)
"""Longhorn's storage classes: name, what for, file system."""


def alerts(cluster: Cluster) -> list[str]:
    """Files of flux/infra/kube-prometheus-stack-config that watch what a cluster has."""
    found = ["pod-crash-looping", "volume-claim-broken"]
    found += ["longhorn-volume-degraded"] if cluster.driver == "longhorn" else []
    if cluster.ingress != "none":
        found += ["certificate-expiring", f"ingress-errors-{cluster.ingress}"]
    return found


def app_files(environment: Environment, flux: Path) -> dict[str, str]:
    """The generated files of an environment by their path in the repository."""
    own = f"flux/apps/{SOURCE}/{environment.name}"
    closed = sealed(flux / "apps" / SOURCE / environment.name)
    return {
        f"{own}/helmrelease.yaml": templates.text(
            "flux/helmrelease.yaml.j2", env=environment, source=SOURCE
        ),
        f"{own}/kustomization.yaml": templates.text(
            "flux/app.yaml.j2", env=environment, resources=["helmrelease.yaml", *closed]
        ),
    }


def plain_secrets(root: Path) -> list[str]:
    """Where a tree of manifests holds a Secret that SOPS did not seal: file and name."""
    found = []
    for path in sorted(root.rglob("*.y*ml")):
        for item in yaml.safe_load_all(path.read_text()):
            if not isinstance(item, dict) or item.get("kind") != "Secret":
                continue
            name = intent.at(item, "metadata", "name") or "without a name"
            values = [*(item.get("data") or {}).values(), *(item.get("stringData") or {}).values()]
            closed = "sops" in item and all(str(value).startswith("ENC[") for value in values)
            if not closed:
                found.append(f"{repo.relative(path)}: Secret {name} is not sealed")
            elif not path.name.endswith(".sops.yaml"):
                found.append(f"{repo.relative(path)}: Secret {name} is in no file *.sops.yaml")
    return found
