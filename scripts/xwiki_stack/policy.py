"""Rules that every object of every environment obeys: functions from an object to verdicts.

A rule yields one verdict for each part of the object that it looked at, so that a sweep can tell
"nothing wrong" from "nothing seen". The pod rules are Kubernetes' Pod Security Standard
`restricted` and what the mission adds to it.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from xwiki_stack import intent

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """What a rule found at one part of an object; `problem` is empty where it obeys."""

    subject: str
    problem: str = ""


Rule = Callable[[Manifest], Iterator[Verdict]]

WORKLOADS = {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"}
VERSION_LABELS = {"helm.sh/chart", "app.kubernetes.io/version"}
SECRET_NAME = re.compile(r"(password|passwd|secret|token|key|credential)s?$", re.I)
"""Names of settings that hold a secret; a name that ends in _FILE holds a path."""

SECRET_TEXT = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----|AGE-SECRET-KEY-1|\bAKIA[0-9A-Z]{16}\b"
    r"|://[^/\s:@${}]+:[^/\s:@${}]+@"
)
"""Secrets that are known by their shape: private keys, cloud keys, passwords inside URLs."""


PRIVATE_SETTING = re.compile(
    r"(password|passwd|token|credential|(access|secret|private|signing)[_-]?key)s?$", re.I
)
"""Names of values that could only hold a secret itself: charts take names of Secrets and of keys
in them (`existingSecret`, `passwordKey`), never what is in them."""

WIDE_NAMESPACES = {
    "longhorn-system": ("privileged", "Longhorn mounts the disks of its node"),
    "node-exporter": ("privileged", "it reads the node itself, and is alone there"),
    "observability": ("baseline", "sidecars of Grafana's chart say less than `restricted` asks"),
}
"""Namespaces whose Pod Security level is wider than `restricted`: which one, and why."""

CLUSTER_BINDINGS: dict[str, str] = {}
"""ClusterRoleBindings that may be, by name, and why: none, no pod of ours asks the API server."""

POD_SECURITY = "pod-security.kubernetes.io/"
ESCALATING = {"bind", "escalate", "impersonate"}
"""Verbs by which rights beget rights."""

BROAD_ROLES = {"admin", "cluster-admin", "edit", "view"}
"""Kubernetes' own roles for people: all of a namespace, or of everything."""

EVERYONE = re.compile(r"system:(authenticated|unauthenticated|anonymous|serviceaccounts)(:|$)")


def pod_of(item: Manifest) -> Manifest:
    """The pod (metadata and spec) that an object is or makes; empty if it makes none."""
    if item.get("kind") == "Pod":
        return item
    spec: Manifest = item.get("spec") or {}
    if item.get("kind") == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    elif item.get("kind") not in WORKLOADS:
        return {}
    template: Manifest = spec["template"]
    return template


def containers_of(item: Manifest) -> list[Manifest]:
    """All containers of the pod that an object makes, those of the start first."""
    spec = pod_of(item).get("spec", {})
    return [*spec.get("initContainers", []), *spec.get("containers", [])]


def lasting(item: Manifest) -> list[Manifest]:
    """The containers that run at the same time, once those of the start are done."""
    spec = pod_of(item).get("spec", {})
    sidecars = [c for c in spec.get("initContainers", []) if c.get("restartPolicy") == "Always"]
    return [*sidecars, *spec.get("containers", [])]


def long_running(item: Manifest) -> list[Manifest]:
    """The containers that are to run for ever."""
    return [] if item.get("kind") in {"Job", "CronJob"} else lasting(item)


def non_root(item: Manifest) -> Iterator[Verdict]:
    """Every container runs as a named user that is not root."""
    pod = pod_of(item).get("spec", {}).get("securityContext", {})
    for container in containers_of(item):
        context = {**pod, **container.get("securityContext", {})}
        problem = ""
        if context.get("runAsNonRoot") is not True:
            problem = "runAsNonRoot is not true"
        elif not context.get("runAsUser"):
            problem = "runAsUser is not set to a uid above 0"
        yield Verdict(container["name"], problem)


def read_only_root(item: Manifest) -> Iterator[Verdict]:
    """Every container's root file system is read-only."""
    for container in containers_of(item):
        locked = container.get("securityContext", {}).get("readOnlyRootFilesystem") is True
        yield Verdict(container["name"], "" if locked else "readOnlyRootFilesystem is not true")


def seccomp(item: Manifest) -> Iterator[Verdict]:
    """Every container runs under the runtime's seccomp profile."""
    pod = pod_of(item).get("spec", {}).get("securityContext", {})
    for container in containers_of(item):
        context = {**pod, **container.get("securityContext", {})}
        profile = context.get("seccompProfile", {}).get("type")
        yield Verdict(
            container["name"],
            "" if profile == "RuntimeDefault" else f"seccompProfile is {profile}",
        )


def capabilities(item: Manifest) -> Iterator[Verdict]:
    """Every container drops all capabilities, adds none and cannot gain any."""
    for container in containers_of(item):
        context = container.get("securityContext", {})
        granted = context.get("capabilities", {})
        problem = ""
        if granted.get("drop") != ["ALL"]:
            problem = "capabilities.drop is not [ALL]"
        elif granted.get("add"):
            problem = f"capabilities.add has {', '.join(granted['add'])}"
        elif context.get("allowPrivilegeEscalation") is not False:
            problem = "allowPrivilegeEscalation is not false"
        yield Verdict(container["name"], problem)


def no_token(item: Manifest) -> Iterator[Verdict]:
    """No pod has a service account token, and no account offers one."""
    if item.get("kind") == "ServiceAccount":
        place = item
    elif pod_of(item):
        place = pod_of(item)["spec"]
    else:
        return
    off = place.get("automountServiceAccountToken") is False
    yield Verdict("token", "" if off else "automountServiceAccountToken is not false")


def bounded_containers(item: Manifest) -> Iterator[Verdict]:
    """Every container has requests and limits of CPU, memory and disk of its node."""
    for container in containers_of(item):
        resources = container.get("resources", {})
        missing = [
            f"{kind}.{name}"
            for kind in ("requests", "limits")
            for name in ("cpu", "memory", "ephemeral-storage")
            if not resources.get(kind, {}).get(name)
        ]
        yield Verdict(container["name"], f"no {', '.join(missing)}" if missing else "")


def bounded_scratch(item: Manifest) -> Iterator[Verdict]:
    """Every emptyDir has a size limit: a runaway file costs its own pod, not the node.

    Those on disk fit together into what the pod's containers may take of it: else the pod is
    evicted before a volume is full.
    """
    on_disk = 0
    for volume in pod_of(item).get("spec", {}).get("volumes", []):
        if "emptyDir" in volume:
            scratch = volume["emptyDir"] or {}
            limit = scratch.get("sizeLimit")
            yield Verdict(volume["name"], "" if limit else "emptyDir without sizeLimit")
            if limit and scratch.get("medium") != "Memory":
                on_disk += intent.bytes_of(limit)
    room = sum(
        intent.bytes_of(limits["ephemeral-storage"])
        for container in lasting(item)
        if "ephemeral-storage" in (limits := container.get("resources", {}).get("limits", {}))
    )
    if room:
        yield Verdict(
            "limits.ephemeral-storage",
            f"hold {room} bytes, the scratch volumes {on_disk}" if on_disk >= room else "",
        )


def bounded_jobs(item: Manifest) -> Iterator[Verdict]:
    """Every Job ends: a hung one would block its successors for ever."""
    if item.get("kind") == "Job":
        spec = item["spec"]
    elif item.get("kind") == "CronJob":
        spec = item["spec"]["jobTemplate"]["spec"]
    else:
        return
    yield Verdict("job", "" if spec.get("activeDeadlineSeconds") else "no activeDeadlineSeconds")


def probes(item: Manifest) -> Iterator[Verdict]:
    """Every container that is to run for ever tells when it started, is ready and is alive."""
    for container in long_running(item):
        missing = [
            probe
            for probe in ("startupProbe", "readinessProbe", "livenessProbe")
            if not container.get(probe)
        ]
        yield Verdict(container["name"], f"no {', '.join(missing)}" if missing else "")


def named_images(item: Manifest) -> Iterator[Verdict]:
    """Every image names its registry and a version: no `latest`, no default."""
    for container in containers_of(item):
        name, _, digest = container["image"].partition("@")
        repository, _, tag = name.rpartition(":")
        host = repository.partition("/")[0]
        problem = ""
        if not repository or "/" in tag:
            problem = f"image {name} has no tag"
        elif tag == "latest":
            problem = f"image {name} is whatever is latest"
        elif "." not in host and host != "localhost":
            problem = f"image {name} names no registry"
        elif digest and not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            problem = f"image {name} has no valid digest"
        yield Verdict(container["name"], problem)


def no_host_access(item: Manifest) -> Iterator[Verdict]:
    """No pod touches its node: no host path, namespace, port or privilege."""
    spec = pod_of(item).get("spec")
    if not spec:
        return
    shared = [key for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    yield Verdict("pod", f"uses {', '.join(shared)}" if shared else "")
    for volume in spec.get("volumes", []):
        yield Verdict(volume["name"], "is a hostPath" if "hostPath" in volume else "")
    for container in containers_of(item):
        ports = [port["hostPort"] for port in container.get("ports", []) if port.get("hostPort")]
        problem = f"takes port {ports[0]} of the node" if ports else ""
        if container.get("securityContext", {}).get("privileged"):
            problem = "is privileged"
        yield Verdict(container["name"], problem)


def no_secrets(item: Manifest) -> Iterator[Verdict]:
    """No Secret object, and nothing in any other object that looks like a secret's value."""
    yield Verdict(
        item["kind"],
        "a Secret is made outside the charts, they only name it"
        if item["kind"] == "Secret"
        else "",
    )
    for container in containers_of(item):
        for setting in container.get("env", []):
            literal = setting.get("value") and SECRET_NAME.search(setting["name"])
            yield Verdict(setting["name"], "is a secret as a literal" if literal else "")
    if item["kind"] == "ConfigMap":
        for key in item.get("data") or {}:
            secret = SECRET_NAME.search(key)
            yield Verdict(key, "is a secret in a ConfigMap" if secret else "")
    for path, text in _texts(item):
        if SECRET_TEXT.search(text):
            yield Verdict(path, "holds what looks like a key or a password")


def claims_kept(item: Manifest) -> Iterator[Verdict]:
    """No claim goes with its release or its workload."""
    if item.get("kind") == "PersistentVolumeClaim":
        policy = item["metadata"].get("annotations", {}).get("helm.sh/resource-policy")
        kept = policy == "keep"
        yield Verdict("claim", "" if kept else "helm.sh/resource-policy is not keep")
    if item.get("kind") == "StatefulSet" and item["spec"].get("volumeClaimTemplates"):
        policy = item["spec"].get("persistentVolumeClaimRetentionPolicy", {})
        kept = policy == {"whenDeleted": "Retain", "whenScaled": "Retain"}
        yield Verdict("claims", "" if kept else "the retention policy is not Retain for both")


def inside_only(item: Manifest) -> Iterator[Verdict]:
    """Every Service is reachable inside the cluster only."""
    if item.get("kind") == "Service":
        spec = item["spec"]
        problem = "" if spec.get("type") == "ClusterIP" else f"type is {spec.get('type')}"
        if spec.get("externalIPs"):
            problem = "has externalIPs"
        yield Verdict("service", problem)


def named_bindings(item: Manifest) -> Iterator[Verdict]:
    """Nothing has rights in the whole cluster but what `CLUSTER_BINDINGS` names."""
    name = item["metadata"]["name"]
    strange = item["kind"] == "ClusterRoleBinding" and name not in CLUSTER_BINDINGS
    yield Verdict(item["kind"], "is a binding for the whole cluster that nobody named" * strange)


def narrow_rights(item: Manifest) -> Iterator[Verdict]:
    """No role means everything or can grant itself more; no binding means everybody."""
    yield Verdict(
        item["kind"],
        "takes its rights from whatever carries a label" if item.get("aggregationRule") else "",
    )
    if item["kind"] in {"Role", "ClusterRole"}:
        for number, rule in enumerate(item.get("rules") or []):
            yield Verdict(f"rules[{number}]", _too_much(rule))
    if item["kind"] in {"RoleBinding", "ClusterRoleBinding"}:
        role = item["roleRef"]
        broad = role["kind"] == "ClusterRole" and role["name"] in BROAD_ROLES
        yield Verdict("roleRef", f"is Kubernetes' own {role['name']}" if broad else "")
        for subject in item.get("subjects") or []:
            shared = EVERYONE.match(subject["name"]) or subject["name"] == "default"
            yield Verdict("subject", f"{subject['name']} is more than one account" * bool(shared))


def _too_much(rule: Manifest) -> str:
    """What is wrong with one rule of a role; empty if nothing is."""
    for part in ("verbs", "resources", "apiGroups", "nonResourceURLs"):
        if any("*" in word for word in rule.get(part, [])):
            return f"{part} has a *"
    verbs = set(rule.get("verbs", []))
    if verbs & ESCALATING:
        return f"may {', '.join(sorted(verbs & ESCALATING))}"
    if "secrets" in rule.get("resources", []) and not rule.get("resourceNames"):
        read = sorted(verbs & {"get", "list", "watch"})
        return f"may {', '.join(read)} every Secret" if read else ""
    return ""


def restricted_namespaces(item: Manifest) -> Iterator[Verdict]:
    """Every namespace enforces and warns of `restricted`, but for what `WIDE_NAMESPACES` names."""
    if item["kind"] != "Namespace":
        return
    labels = item["metadata"].get("labels", {})
    wanted, _why = WIDE_NAMESPACES.get(item["metadata"]["name"], ("restricted", ""))
    level = labels.get(f"{POD_SECURITY}enforce")
    yield Verdict("enforce", "" if level == wanted else f"is {level}, not {wanted}")
    warned = labels.get(f"{POD_SECURITY}warn")
    told = warned in {"restricted", wanted}
    yield Verdict("warn", "" if told else f"is {warned}, not restricted")


def version_free(item: Manifest) -> Iterator[Verdict]:
    """What restarts pods or cannot change does not carry the chart's version."""
    spec = item.get("spec") or {}
    parts = {
        "selector": (spec.get("selector") or {}).get("matchLabels", {}),
        "pod": pod_of(item).get("metadata", {}).get("labels", {}) if spec.get("template") else {},
    }
    if item.get("kind") == "Service":
        parts["selector"] = spec.get("selector") or {}
    for template in spec.get("volumeClaimTemplates", []):
        parts[f"claim {template['metadata']['name']}"] = template["metadata"].get("labels", {})
    for part, labels in parts.items():
        if labels:
            found = sorted(VERSION_LABELS.intersection(labels))
            yield Verdict(part, f"has {', '.join(found)}" if found else "")


RULES: dict[str, Rule] = {
    "bounded-containers": bounded_containers,
    "bounded-jobs": bounded_jobs,
    "bounded-scratch": bounded_scratch,
    "capabilities": capabilities,
    "claims-kept": claims_kept,
    "inside-only": inside_only,
    "named-bindings": named_bindings,
    "named-images": named_images,
    "narrow-rights": narrow_rights,
    "no-host-access": no_host_access,
    "no-secrets": no_secrets,
    "no-token": no_token,
    "non-root": non_root,
    "probes": probes,
    "read-only-root": read_only_root,
    "restricted-namespaces": restricted_namespaces,
    "seccomp": seccomp,
    "version-free": version_free,
}
"""Every rule by the name that its test and its counter-examples carry."""


def violations(objects: Iterable[Manifest], rule: Rule) -> list[str]:
    """`kind/name: part: problem` for everything that breaks the rule, in the objects' order."""
    return [
        f"{item['kind']}/{item['metadata']['name']}: {verdict.subject}: {verdict.problem}"
        for item in objects
        for verdict in rule(item)
        if verdict.problem
    ]


def looked_at(objects: Iterable[Manifest], rule: Rule) -> int:
    """How many parts of the objects the rule had something to say about."""
    return sum(1 for item in objects for _verdict in rule(item))


def values_without_secrets(document: Manifest) -> list[Verdict]:
    """A verdict for each setting of a values file or an intent: none holds a secret, or is for one.

    An empty one is refused as well: it invites to be filled.
    """
    return [
        Verdict(path, _private(path.rpartition(".")[2], text)) for path, text in _settings(document)
    ]


def _private(name: str, text: str) -> str:
    switch = text.lower() in {"true", "false"}
    if PRIVATE_SETTING.search(name) and not switch:
        return "takes a secret itself, not the name of one"
    return "holds what looks like a key or a password" if SECRET_TEXT.search(text) else ""


def _settings(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every leaf of a document with the path to it; items of lists by their list's."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _settings(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value:
        for inner in value:
            yield from _settings(inner, path)
    else:
        yield path, str(value)


def _texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text in an object, with the path to it."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _texts(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _texts(inner, f"{path}[{number}]")
