"""What one environment's release is doing, and if something is wrong: what, and what to do.

Reads only. Each rule looks at one kind of object and gives findings; the first blocking finding
is the likely cause, since rules are ordered from what others depend on (Secrets, claims) to what
depends on them (pods, the bootstrap Job).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from xwiki_stack import gitops, readiness, release
from xwiki_stack.intent import bytes_of
from xwiki_stack.kube import Kube, Manifest

FULL = 0.95
"""Share of a volume's bytes in use from which it counts as full."""

SIZE_ANNOTATION = "xwiki-stack/claim-size"
"""On the MySQL StatefulSet: the size its claim shall have (charts/mysql, persistence.size)."""

STOPPED_ANNOTATION = "xwiki-stack/stopped"
"""On the wiki's Deployment while it is kept down for a restore (charts/xwiki, stopped)."""


@dataclass(frozen=True)
class Ways:
    """How the reader of a diagnosis gets at the cluster: what `next` may advise.

    delivered: the HelmRelease that brings the release, '' where no Flux does.
    """

    kubectl: str = "xwiki-stack kubectl"
    expand: str = "xwiki-stack expand"
    install: str = "`make up`"
    delivered: str = ""


LOCAL = Ways()
"""On the local cluster, in the environment's own namespace."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: the object, what is wrong with it, what to do."""

    subject: str
    problem: str
    next: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.problem}; next: {self.next}"


@dataclass(frozen=True)
class Report:
    """The state of a release: workloads as (name, state), images in use, and what is wrong."""

    namespace: str
    release: str
    workloads: list[tuple[str, str]] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Something is installed, all of it is ready and nothing is wrong."""
        ready = all(state == "ready" for _name, state in self.workloads)
        return bool(self.workloads) and ready and not self.findings

    @property
    def cause(self) -> str:
        """The first finding on one line, or ''."""
        return str(self.findings[0]) if self.findings else ""


def diagnose(kube: Kube, namespace: str, name: str, ways: Ways = LOCAL) -> Report:
    """Look at everything the release `name` owns. Raises UnhealthyError when the API is silent."""
    selector = f"app.kubernetes.io/instance={name}"
    workloads = [
        item
        for kind in ("StatefulSet", "Deployment", "Job")
        for item in kube.every(kind, namespace, selector)
    ]
    pods = kube.every("Pod", namespace, selector)
    findings: list[Finding] = []
    delivery = list(_delivery(kube, ways)) if ways.delivered else []
    if not workloads:
        # What does not arrive explains why nothing is there; else it is what comes of the rest.
        findings, delivery = delivery, findings
        problem = f"release {name} is not installed in this namespace"
        findings.append(Finding(f"Namespace {namespace}", problem, f"{ways.install} installs it"))
    findings += _missing(kube, namespace, name, ways)
    findings += _secrets(kube, namespace, workloads)
    findings += _claims(kube, namespace, workloads, pods, ways)
    findings += _pods(kube, namespace, pods, ways)
    findings += _workloads(workloads, pods, kube.every("Event", namespace), ways)
    findings += delivery
    return Report(
        namespace,
        name,
        [(_name(item), readiness.unready(item) or "ready") for item in workloads],
        sorted({c["image"] for item in workloads for c in _containers(_template(item))}),
        findings,
    )


_DELIVERED = {
    "GitRepository": ("is not fetched", "see its address and its Secret"),
    "Kustomization": ("is not applied", "what it applied before stays; correct it in Git"),
    "HelmChart": ("is not packaged", "the release stays on its last chart; correct it in Git"),
    "HelmRelease": (
        "is not rolled out",
        "what was not touched runs on; correct it in Git, or delete what was changed by hand",
    ),
}
"""The way of a commit through Flux: where it may stop, and what then."""


def _delivery(kube: Kube, ways: Ways) -> Iterator[Finding]:
    """Where Flux stopped on its way from Git to the release, the cause before what waits for it."""
    late: list[Finding] = []
    for kind, (problem, hint) in _DELIVERED.items():
        for item in kube.every(kind, gitops.HOME):
            if not _brings(item, ways.delivered):
                continue
            name = f"{kind} {item['metadata']['name']}"
            if item["spec"].get("suspend"):
                words = (
                    f"`flux resume` or `suspend: false` in namespace {gitops.HOME} lets it go on"
                )
                yield Finding(name, "is suspended: no commit arrives", words)
            ready = next((c for c in _conditions(item) if c["type"] == "Ready"), {})
            if ready.get("status") != "False":
                continue
            said = " ".join(str(ready.get("message", "no reason given")).split())
            finding = Finding(name, f"{problem}: {said}", hint)
            if ready.get("reason") == "DependencyNotReady":
                late.append(finding)
            else:
                yield finding
    yield from late


def _brings(item: Manifest, release_name: str) -> bool:
    """Whether an object of Flux is on the way to a release: not another environment's."""
    name, kind = item["metadata"]["name"], item["kind"]
    if kind in ("HelmChart", "HelmRelease"):
        return name in (release_name, f"{gitops.HOME}-{release_name}")
    source = item["spec"].get("sourceRef", {}).get("name", name)
    other = name.startswith(f"{gitops.SOURCE}-") and name != release_name
    return source == gitops.SOURCE and not other


def _conditions(item: Manifest) -> list[Manifest]:
    found: list[Manifest] = item.get("status", {}).get("conditions", [])
    return found


def _missing(kube: Kube, namespace: str, name: str, ways: Ways) -> Iterator[Finding]:
    """What Helm installed and somebody has deleted since."""
    record = release.recorded(kube, namespace, name)
    for item in record.objects if record else []:
        if kube.live(item, namespace) is None:
            problem = "was installed and does not exist any more"
            yield Finding(_name(item), problem, f"{ways.install} makes it anew")


def _secrets(kube: Kube, namespace: str, workloads: list[Manifest]) -> Iterator[Finding]:
    """Secrets that workloads name and that are not there, or lack a key."""
    wanted: dict[str, set[str]] = {}
    for item in workloads:
        for named, keys in _secret_keys(_template(item)):
            wanted.setdefault(named, set()).update(keys)
    for name, keys in sorted(wanted.items()):
        secret = kube.get("Secret", name, namespace)
        how = f"create it in namespace {namespace} (`make up` does so for a local environment)"
        if secret is None:
            yield Finding(f"Secret {name}", f"does not exist; it needs {_words(keys)}", how)
        elif missing := {key for key in keys if not secret.get("data", {}).get(key)}:
            yield Finding(f"Secret {name}", f"has no {_words(missing)}", f"add to it: {how}")


def _claims(
    kube: Kube, namespace: str, workloads: list[Manifest], pods: list[Manifest], ways: Ways
) -> Iterator[Finding]:
    """Claims that are not bound, too small or full."""
    mounted = {
        volume["persistentVolumeClaim"]["claimName"]
        for pod in pods
        for volume in pod["spec"].get("volumes", [])
        if "persistentVolumeClaim" in volume
    }
    classes = {item["metadata"]["name"] for item in kube.every("StorageClass")}
    usage = kube.volume_usage(namespace)
    for claim in kube.every("PersistentVolumeClaim", namespace):
        name, spec = claim["metadata"]["name"], claim["spec"]
        if name not in mounted:
            continue
        subject = f"PersistentVolumeClaim {name}"
        phase = claim.get("status", {}).get("phase", "Pending")
        wanted_class = spec.get("storageClassName", "")
        if phase == "Lost":
            yield Finding(subject, "its volume is gone", "restore it from a backup set")
        elif phase == "Pending" and wanted_class not in classes:
            known = ", ".join(sorted(classes)) or "none"
            problem = f"storage class {wanted_class or '(none, and no default)'} does not exist"
            yield Finding(subject, problem, f"name an existing one in the cluster file: {known}")
        used, capacity = usage.get(name, (0, 0))
        if capacity and used >= FULL * capacity:
            problem = f"is full: {_mebi(used)} of {_mebi(capacity)} in use"
            yield Finding(subject, problem, "raise its size in the intent, or free space on it")
    yield from _small_claims(kube, namespace, workloads, ways)


def _small_claims(
    kube: Kube, namespace: str, workloads: list[Manifest], ways: Ways
) -> Iterator[Finding]:
    """MySQL claims that wait for `expand`, since a claim template cannot change."""
    for item in workloads:
        wanted = item["metadata"].get("annotations", {}).get(SIZE_ANNOTATION)
        if not wanted:
            continue
        name = f"data-{item['metadata']['name']}-0"
        claim = kube.get("PersistentVolumeClaim", name, namespace)
        if claim and bytes_of(claim["spec"]["resources"]["requests"]["storage"]) < bytes_of(wanted):
            have = claim["spec"]["resources"]["requests"]["storage"]
            problem = f"asks for {have}, the intent says {wanted}"
            yield Finding(f"PersistentVolumeClaim {name}", problem, f"run `{ways.expand}`")


def _pods(kube: Kube, namespace: str, pods: list[Manifest], ways: Ways) -> Iterator[Finding]:
    """Pods that cannot be placed, cannot start, or start again and again."""
    for pod in pods:
        name, status = pod["metadata"]["name"], pod.get("status", {})
        conditions = {c["type"]: c for c in status.get("conditions", [])}
        placed = conditions.get("PodScheduled", {})
        if placed.get("status") == "False":
            reason = placed.get("message", "no reason given")
            hint = "see the claim above, or free CPU and memory on the node"
            yield Finding(f"Pod {name}", f"cannot be placed: {reason}", hint)
        containers = [
            *status.get("initContainerStatuses", []),
            *status.get("containerStatuses", []),
        ]
        for container in containers:
            if problem := _container_problem(container):
                said = kube.logs(namespace, name, container["name"], lines=3)
                yield _container_finding(name, container["name"], problem, said, ways)
        waiting = _waiting_init(pod)
        if waiting and (said := kube.logs(namespace, name, waiting, lines=1).strip()):
            hint = "make the Secret and the database agree, then bump secretRevision"
            problem = f"waits in {waiting}: {said}"
            yield Finding(f"Pod {name}", problem, hint if "denied" in said else "wait, or see it")


def _container_problem(container: Manifest) -> str:
    """Why a container does not run, in the words of its state, or ''."""
    state, last = container.get("state", {}), container.get("lastState", {})
    waiting = state.get("waiting", {})
    if waiting.get("reason") in (None, "PodInitializing", "ContainerCreating"):
        return ""
    ended = last.get("terminated", {})
    if ended:
        why = "ran out of memory" if ended.get("reason") == "OOMKilled" else "ended"
        again = f"{container.get('restartCount', 0)} times, last with exit code"
        return f"{waiting['reason']}: {why} {again} {ended.get('exitCode')}"
    return f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")


def _container_finding(pod: str, container: str, problem: str, said: str, ways: Ways) -> Finding:
    said = said.strip().replace("\n", " | ")
    words = f"container {container} {problem}" + (f"; it said: {said}" if said else "")
    read = f"`{ways.kubectl} logs {pod} -c {container} --previous` shows more"
    if "ErrImage" in problem or "ImagePull" in problem:
        read = "check the image's name, tag and digest in the values"
    if "CreateContainerConfigError" in problem:
        read = "see the Secret above"
    return Finding(f"Pod {pod}", words, read)


def _waiting_init(pod: Manifest) -> str:
    """The init container that has been running for more than a moment, if any."""
    for container in pod.get("status", {}).get("initContainerStatuses", []):
        if "running" in container.get("state", {}):
            return str(container["name"])
    return ""


def _workloads(
    workloads: list[Manifest], pods: list[Manifest], events: list[Manifest], ways: Ways
) -> Iterator[Finding]:
    """Workloads whose pods are refused, and Jobs that failed."""
    owners = {ref["name"] for pod in pods for ref in pod["metadata"].get("ownerReferences", [])}
    for item in workloads:
        state = readiness.unready(item)
        if item["kind"] != "Job" and item["spec"].get("replicas") == 0:
            name = f"{item['kind'].lower()}/{item['metadata']['name']}"
            if STOPPED_ANNOTATION in item["metadata"].get("annotations", {}):
                hint = f"when the restore has ended: take `stopped` out again, {ways.install}"
                yield Finding(_name(item), "is kept down by `xwiki.stopped`", hint)
                continue
            hint = f"`{ways.kubectl} scale {name} --replicas=1`"
            yield Finding(_name(item), "is scaled to 0", hint)
        if item["kind"] == "Job" and state.startswith("failed"):
            job = f"job/{item['metadata']['name']}"
            # Its name follows from its spec: as long as it is there, no upgrade makes it anew.
            anew = f"`{ways.kubectl} delete {job}` and {ways.install} make it anew"
            hint = f"`{ways.kubectl} logs {job}` tells why; then {anew}"
            yield Finding(_name(item), state, hint)
        if not state or any(owner.startswith(item["metadata"]["name"]) for owner in owners):
            continue
        for event in events:
            about = event["involvedObject"].get("name", "")
            if event["reason"] == "FailedCreate" and about.startswith(item["metadata"]["name"]):
                yield Finding(_name(item), event["message"], "correct the chart's values")
                break


def _template(workload: Manifest) -> Manifest:
    spec: Manifest = workload["spec"]["template"]["spec"]
    return spec


def _containers(pod_spec: Manifest) -> list[Manifest]:
    return [*pod_spec.get("initContainers", []), *pod_spec["containers"]]


def _secret_keys(pod_spec: Manifest) -> Iterator[tuple[str, set[str]]]:
    """Every Secret a pod needs, with the keys it names."""
    for container in _containers(pod_spec):
        for variable in container.get("env", []):
            ref = variable.get("valueFrom", {}).get("secretKeyRef")
            if ref and not ref.get("optional"):
                yield ref["name"], {ref["key"]}
    for volume in pod_spec.get("volumes", []):
        sources = [volume, *volume.get("projected", {}).get("sources", [])]
        for source in sources:
            ref = source.get("secret")
            if ref and not ref.get("optional"):
                name = ref.get("secretName") or ref.get("name")
                yield name, {item["key"] for item in ref.get("items", [])}


def _name(item: Manifest) -> str:
    return f"{item['kind']} {item['metadata']['name']}"


def _words(keys: set[str]) -> str:
    return "key " + ", ".join(sorted(keys)) if keys else "no key by name"


def _mebi(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
