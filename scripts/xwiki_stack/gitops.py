"""What Flux applies on a cluster: which releases, namespaces, Secrets, and in which order.

A part is one Kustomization of Flux. It waits until all parts that it needs are healthy, so that
CRDs, webhooks and Secrets are there before what asks for them. docs/decisions/0022-flux-tree.md.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xwiki_stack import flows, intent, sizing, templates
from xwiki_stack.intent import Cluster, Environment
from xwiki_stack.sizing import Resources

SOURCE = "xwiki-stack"
"""The GitRepository, in flux-system, that whoever runs Flux makes for this repository."""

HOME = "flux-system"
"""The namespace of Flux, where the tree's Kustomizations and our releases lie."""

ACME_GROUP = "acme.xwiki-stack.local"
"""API group of the webhook that answers OVH's challenges; any name that nobody else uses."""

BASE = "base"
"""The part that everything needs: namespaces and values."""


@dataclass(frozen=True)
class Part:
    """One Kustomization of Flux: its path in the repository and the parts that it needs.

    sealed: whether SOPS opens what lies there; source: the GitRepository it comes from; pruned:
    whether what it applied goes when Git no longer has it.
    """

    name: str
    path: str
    why: str
    needs: tuple[str, ...] = ()
    timeout: str = "10m"
    sealed: bool = False
    source: str = SOURCE
    pruned: bool = True


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
"""Namespaces that are seen from outside."""

CLASSES = (
    ("longhorn", "The default class.", "ext4"),
    ("longhorn-db", "For databases.", "xfs"),
)
"""Longhorn's storage classes: name, what for, file system."""


ORDER: dict[str, tuple[str, tuple[str, ...], str]] = {
    "prometheus-operator-crds": ("CRDs of monitors and rules, before what has one.", (), "10m"),
    "gateway-api": ("CRDs of Gateway API, before what looks for them at its start.", (), "10m"),
    "external-secrets": ("Secrets from the vault.", ("prometheus-operator-crds",), "10m"),
    "longhorn": ("Volumes.", ("prometheus-operator-crds",), "20m"),
    "cert-manager": ("Certificates.", ("prometheus-operator-crds", "gateway-api"), "10m"),
    "cert-manager-webhook-ovh": ("Proves certificates by records.", ("cert-manager",), "10m"),
    "ingress-nginx": ("The door.", ("prometheus-operator-crds",), "10m"),
    "traefik": ("The door.", ("prometheus-operator-crds", "gateway-api"), "10m"),
    "external-dns": ("Records of hosts.", ("prometheus-operator-crds", "gateway-api"), "10m"),
    "kube-prometheus-stack": (
        "Metrics and alerts; its webhook's certificate comes from cert-manager.",
        ("prometheus-operator-crds", "cert-manager", "longhorn-config"),
        "15m",
    ),
    "loki": ("Logs.", ("prometheus-operator-crds", "longhorn-config"), "10m"),
    "alloy": ("Brings the logs.", ("prometheus-operator-crds", "loki"), "10m"),
    "external-secrets-config": ("Which Secrets the vault gives.", ("external-secrets",), "10m"),
    "longhorn-config": ("Classes of volumes, snapshots and backups.", ("longhorn",), "10m"),
    "cert-manager-config": (
        "Issuers of certificates.",
        ("cert-manager", "cert-manager-webhook-ovh"),
        "10m",
    ),
    "traefik-config": (
        "The Gateway, its certificates and headers.",
        ("traefik", "cert-manager-config"),
        "10m",
    ),
    "kube-prometheus-stack-config": ("Alerts.", ("kube-prometheus-stack",), "10m"),
    "policies": ("Who may talk to whom.", ("longhorn",), "10m"),
}
"""Every part that a platform can have: why, what it needs as far as that is there, how long it may
take. What needs nothing else needs the namespaces, and what is sealed for them."""

BEFORE_A_WIKI = (
    "longhorn-config",
    "ingress-nginx",
    "traefik-config",
    "cert-manager-config",
    "prometheus-operator-crds",
    "policies",
)
"""A wiki needs a volume, a door, an issuer, and the kinds that its chart may render; it comes up
without alerts, logs and records."""


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


def rooms(cluster: Cluster) -> dict[str, str]:
    """The platform's namespaces that charts/netpol guards, and which of its rooms each is."""
    theirs = {RELEASES[name] for name in releases(cluster)}
    return {
        namespace: room
        for room, names in flows.defaults()["namespaces"].items()
        for namespace in names
        if namespace in theirs
    }


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
    own = f"flux/clusters/{cluster.name}"
    have = _present(cluster)
    first = [
        Part(BASE, f"{own}/{BASE}", "Namespaces with their bounds, and the values of releases.")
    ]
    if sealed(flux / "clusters" / cluster.name / "secrets"):
        why = "Secrets of the platform, sealed by SOPS."
        first.append(Part("secrets", f"{own}/secrets", why, (BASE,), sealed=True))
    ground = (first[-1].name,)
    fed = {item.part for item in secrets(cluster) if cluster.secrets["backend"] == "vault"}
    platform = []
    for name in (name for name in ORDER if name in have):
        why, wanted, timeout = ORDER[name]
        needs = tuple(need for need in wanted if need in have)
        needs += ("external-secrets-config",) if name in fed else ()
        generated = name.endswith("-config") or name == "policies"
        path = f"{own}/{name}" if generated else f"flux/infra/{name}"
        source = SOURCE
        if name == "gateway-api":
            path, source = "config/crd", name
        # With the CRDs of Gateway API would go every route of the cluster, those of others too.
        pruned = name != "gateway-api"
        platform.append(
            Part(name, path, why, needs or ground, timeout, source=source, pruned=pruned)
        )
    before = tuple(name for name in BEFORE_A_WIKI if name in have) or ground
    apps = [_app(env, before, flux) for env in environments]
    return list(_ordered([*first, *platform, *apps]))


def _present(cluster: Cluster) -> set[str]:
    """Names of the parts of a cluster's platform."""
    found = set(releases(cluster))
    found |= {"longhorn-config"} if "longhorn" in found else set()
    found |= {"policies"} if rooms(cluster) else set()
    found |= {"gateway-api", "traefik-config"} if "traefik" in found else set()
    found |= {"cert-manager-config"} if cluster.ingress != "none" else set()
    for name in ("external-secrets", "kube-prometheus-stack"):
        found |= {f"{name}-config"} if name in found else set()
    return found


def _app(environment: Environment, needs: tuple[str, ...], flux: Path) -> Part:
    path = f"flux/apps/{SOURCE}/{environment.name}"
    closed = bool(sealed(flux / "apps" / SOURCE / environment.name))
    why = f"The wiki of {environment.name}. It needs neither alerts nor records to come up."
    return Part(f"{SOURCE}-{environment.name}", path, why, needs, "25m", closed)


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
            **{"releases": (), "components": (), **more},
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
    if rooms(cluster):
        made |= policy_files(cluster, decided)
    for env in decided:
        made |= app_files(env, flux)
    return made


def policy_files(cluster: Cluster, environments: Sequence[Environment]) -> dict[str, str]:
    """The generated files of a platform's policies by their path in the repository."""
    own = f"flux/clusters/{cluster.name}/policies"
    return {
        f"values/generated/{cluster.name}/netpol.yaml": policy_values(cluster, environments),
        f"{own}/helmreleases.yaml": templates.text(
            "flux/policies.yaml.j2", cluster=cluster, rooms=rooms(cluster), source=SOURCE
        ),
        f"{own}/kustomization.yaml": templates.text(
            "flux/kustomization.yaml.j2",
            cluster=cluster,
            resources=["helmreleases.yaml"],
            releases=(),
            components=["../../../release"],
        ),
    }


def policy_values(cluster: Cluster, environments: Sequence[Environment]) -> str:
    """The values of charts/netpol that all namespaces of a cluster's platform have in common.

    environments: those that the cluster carries.
    """
    vault = cluster.secrets["backend"] == "vault"
    where = f"values/clusters/{cluster.name}.yaml: secrets.server"
    return templates.text(
        "netpol.yaml.j2",
        cluster=cluster,
        namespaces=[environment.namespace for environment in environments],
        backups=any(environment.saved for environment in environments),
        proves_at_ovh=_proves_at_ovh(cluster),
        vault=sizing.port(cluster.secrets["server"], where) if vault else None,
    )


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
