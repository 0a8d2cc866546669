"""What a change means for who runs it: rules, each a function from one object to findings.

Rules know Kubernetes and what this chart promises, nothing of a live cluster: what they say holds
where the old tree is what runs. A rule is named by its key in RULES, which its tests carry too.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from xwiki_stack import policy, status
from xwiki_stack.policy import Manifest, containers_of, pod_of
from xwiki_stack.review import access, immutable
from xwiki_stack.review.changes import (
    ABSENT,
    CHECKSUM_WORD,
    Change,
    Comparison,
    Difference,
    Fate,
    Identity,
    amount,
    joined,
    sources_of,
    under,
)


class Weight(Enum):
    """How heavy a verdict is, the heaviest first; the last two need no human."""

    REFUSED = "refused"
    """The API server will not take it."""
    DATA = "data"
    """A volume, or objects with what they hold, may go or be exchanged."""
    OUTAGE = "outage"
    """Something is not there for a while, or any more."""
    ACCESS = "access"
    """More may reach, or do, more than before."""
    UPGRADE = "upgrade"
    """A program's version moves, and its data with it."""
    PROMISE = "promise"
    """Backups, their proofs or another duty run otherwise or not at all."""
    PREPARE = "prepare"
    """Something must be done first, or afterwards, by hand."""
    RESTART = "restart"
    """Pods are replaced, nobody notices."""
    NOTE = "note"
    """Worth knowing."""

    @property
    def human(self) -> bool:
        """Whether somebody has to say yes, choose the time or do something."""
        return self not in (Weight.RESTART, Weight.NOTE)


@dataclass(frozen=True)
class Finding:
    """What a rule says: weight, words, the fields that cause it, what to do."""

    weight: Weight
    text: str
    causes: tuple[str, ...] = ()
    next: str = ""


@dataclass(frozen=True)
class Verdict:
    """A finding with the rule that made it and the object it is about."""

    rule: str
    subject: Identity
    finding: Finding


Rule = Callable[[Difference, Comparison], Iterator[Finding]]

GRACE, PERIOD, THRESHOLD = 30, 10, 3
"""Kubernetes' defaults: seconds to stop a pod; period and failures of a probe (core/v1 types)."""

SERVED = {"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"}
"""Workloads whose pods run for ever."""


SAID_ELSEWHERE = {"claims-kept", "inside-only"}
"""Our own rules about what `claim`, `claims_of_pods` and `reach` say with more words."""


def restart(item: Difference, all_: Comparison) -> Iterator[Finding]:
    """A changed pod template replaces the pods; with one replica that is a pause."""
    if item.kind not in SERVED | {"CronJob", "Job"} or item.fate is Fate.ADDED or not item.new:
        return
    causes = tuple(_causes(item, all_))
    if item.kind == "CronJob":
        if causes:
            yield Finding(Weight.NOTE, "its next run uses the new pod", causes)
        return
    if item.kind == "Job":
        if item.fate is Fate.REPLACED:
            text = "is a new Job, since its name carries a hash of its spec: it runs once more"
            yield Finding(Weight.NOTE, text, causes)
        return
    if not causes or _replicas(item.new) == 0:
        return
    if not _pauses(item.new):
        yield Finding(Weight.RESTART, "restarts pod by pod, without a pause", causes)
        return
    waiting = [str(other) for other in dependents(item.new, all_.new)]
    others = f"; {', '.join(waiting)} cannot reach it meanwhile" if waiting else ""
    yield Finding(
        Weight.OUTAGE,
        f"restarts: {downtime(item.new)}{others}",
        causes,
        "merge inside the maintenance window",
    )


def scale(item: Difference, all_: Comparison) -> Iterator[Finding]:
    """The number of pods changes."""
    changed = item.below("spec.replicas")
    if item.kind not in SERVED or not changed or not item.new or not item.old:
        return
    before, after = _replicas(item.old), _replicas(item.new)
    paths = _paths(changed)
    if after == 0:
        kept = status.STOPPED_ANNOTATION in _annotations(item.new)
        how = "when the restore has ended, take `xwiki.stopped` out again" if kept else ""
        waiting = [str(other) for other in dependents(item.new, all_.new)]
        others = f"; {', '.join(waiting)} cannot reach it" if waiting else ""
        yield Finding(Weight.OUTAGE, f"is taken down: no pod runs any more{others}", paths, how)
    elif after > 1 and _single_volume(item.new):
        text = f"runs {after} pods on one volume, of which no more than one may write"
        yield Finding(Weight.DATA, text, paths, "keep one replica")
    else:
        yield Finding(Weight.NOTE, f"runs {after} pods instead of {before}", paths)


def cannot_change(item: Difference, _all: Comparison) -> Iterator[Finding]:
    """A field that Kubernetes never changes: the upgrade stops there."""
    for row, hit in immutable.refused(item):
        way = row.way.format(name=item.identity.name, kind=item.kind.lower())
        what = ", ".join(dict.fromkeys(_first(change.path, row.paths) for change in hit))
        text = f"{what} cannot change: the API server will refuse it"
        yield Finding(Weight.REFUSED, text, _paths(hit), way)


def claim(item: Difference, _all: Comparison) -> Iterator[Finding]:
    """Claims that come, go, grow or lose what keeps them."""
    if item.kind != "PersistentVolumeClaim":
        return
    keep = "helm.sh/resource-policy"
    before, after = (_annotations(side).get(keep) == "keep" for side in (item.old, item.new))
    if item.old is None or item.new is None:
        yield _whole_claim(item, kept=before if item.new is None else after)
        return
    if before and not after:
        path = (joined("metadata.annotations", keep),)
        text = "loses what keeps it: the next uninstall deletes its data"
        yield Finding(Weight.DATA, text, path, f"leave the annotation {keep}: keep")
    for change in item.below("spec.resources.requests.storage"):
        if ABSENT not in (change.old, change.new) and amount(change.new) > amount(change.old):
            text = f"grows from {change.old} to {change.new}: its class must allow expansion"
            yield Finding(Weight.PREPARE, text, (change.path,), "there is no way back to less")


def _whole_claim(item: Difference, *, kept: bool) -> Finding:
    if item.old is None:
        size = item.new["spec"]["resources"]["requests"]["storage"] if item.new else ""
        return Finding(Weight.NOTE, f"is a new claim of {size}, empty")
    if kept:
        text = "goes from the release but stays in the cluster, with its data, unused"
        return Finding(Weight.DATA, text, next="delete it by hand once nobody needs it")
    text = "goes, and its data with it if the volume's class deletes"
    return Finding(Weight.DATA, text, next="take and prove a backup set first")


def claims_of_pods(item: Difference, _all: Comparison) -> Iterator[Finding]:
    """A pod that mounts another claim, and a StatefulSet whose claims are not kept or grow."""
    if not item.old or not item.new:
        return
    before, after = _claims(item.old), _claims(item.new)
    if item.kind in SERVED and before != after:
        for name in sorted(before - after):
            text = f"no longer mounts claim {name}: its data stays there, unseen"
            to = ", ".join(sorted(after - before))
            hint = f"bring the data over to {to} first" if to else "is that meant?"
            yield Finding(Weight.DATA, text, ("spec.template.spec.volumes",), hint)
    if item.kind == "StatefulSet":
        for change in item.below("spec.persistentVolumeClaimRetentionPolicy"):
            if "Delete" in str(change.new) or change.new is ABSENT:
                text = "no longer keeps its claims when it is deleted or scaled"
                yield Finding(Weight.DATA, text, (change.path,), "leave Retain for both")
        path = joined("metadata.annotations", status.SIZE_ANNOTATION)
        for change in item.below(path):
            if ABSENT not in (change.old, change.new):
                text = f"its claim shall have {change.new} instead of {change.old}"
                hint = "after the merge run `xwiki-stack expand`"
                yield Finding(Weight.PREPARE, text, (change.path,), hint)


def image(item: Difference, _all: Comparison) -> Iterator[Finding]:
    """Another image; of a program that keeps data, another version of it."""
    before, after = _images(item.old), _images(item.new)
    moved = [name for name in after if name in before and before[name] != after[name]]
    said = {after[name] for name in moved if _program(item.new, name)}
    for name in moved:
        old, new = before[name], after[name]
        path = (f"image of {name}",)
        program = _program(item.new, name)
        if new in said and not program:
            continue  # a helper beside the program, of the same image
        if old.repository == new.repository and old.tag == new.tag:
            if not new.digest:
                text = f"{new.name} is no longer pinned by digest"
                yield Finding(Weight.PROMISE, text, path, "`xwiki-stack images pin`")
            else:
                kind = "another build" if old.digest else "the same tag, now pinned"
                yield Finding(Weight.NOTE, f"{kind} of {new.name}: {new.digest[:19]}", path)
            continue
        elsewhere = "" if old.repository == new.repository else f" from {old.repository}"
        words = f"{old.tag} -> {new.tag}{elsewhere}"
        if not program or old.repository != new.repository:
            weight = Weight.UPGRADE if program else Weight.NOTE
            yield Finding(weight, f"image {new.repository} {words}", path, _window(program))
        elif _older(new.tag, old.tag):
            text = f"{program} goes back, {words}: its data does not"
            hint = "restore a set of that version into an empty volume"
            yield Finding(Weight.DATA, text, path, hint)
        else:
            line = " to another line" if _line(old.tag) != _line(new.tag) else ""
            text = f"{program} moves{line}, {words}: its data moves with it, there is no way back"
            yield Finding(Weight.UPGRADE, text, path, _window(program))


def flow(item: Difference, all_: Comparison) -> Iterator[Finding]:
    """NetworkPolicies let more pass than before, or less."""
    if item.kind != "NetworkPolicy" or item.fate is Fate.SAME:
        return
    for pods in sorted(
        {access.pods_of(side, all_.namespace) for side in (item.old, item.new) if side}
    ):
        if item.identity != _speaker(pods, all_):
            continue
        before = access.flows(all_.old, pods, all_.namespace)
        after = access.flows(all_.new, pods, all_.namespace)
        opened, closed = access.beyond(after, before), access.beyond(before, after)
        if opened:
            text = f"opens {pods} {_listed(opened)}"
            yield Finding(Weight.ACCESS, text, next="say in the commit who needs it")
        if closed:
            text = f"closes {pods} {_listed(closed)}"
            yield Finding(Weight.NOTE, text, next="nothing that works may need it")


def rights(item: Difference, _all: Comparison) -> Iterator[Finding]:
    """Roles grant more, or to more."""
    hint = "least privilege: does it need that?"
    is_role = item.kind in ("Role", "ClusterRole")
    if is_role and (more := access.wider(access.rights(item.new), access.rights(item.old))):
        yield Finding(Weight.ACCESS, f"grants {_listed(more)}", ("rules",), hint)
    if item.kind in ("RoleBinding", "ClusterRoleBinding"):
        role = ((item.new or {}).get("roleRef") or {}).get("name")
        if whom := sorted(access.subjects(item.new) - access.subjects(item.old)):
            text = f"gives role {role} to {', '.join(whom)}"
            yield Finding(Weight.ACCESS, text, ("subjects",), hint)


def secret(item: Difference, all_: Comparison) -> Iterator[Finding]:
    """Pods, and what ends TLS, read other Secrets or other keys of them."""
    before, after = secrets_of(item.old), secrets_of(item.new)
    made = {side["metadata"]["name"] for side in all_.new if side["kind"] == "Secret"}
    for name in sorted(after):
        more = sorted(after[name] - before.get(name, set()))
        if name in before and not more:
            continue
        keys = f" with {', '.join(more)}" if more else ""
        if name in made:
            yield Finding(Weight.NOTE, f"reads Secret {name}{keys}, which this tree makes")
        elif item.kind in ("Ingress", "Gateway"):
            text = f"serves TLS from Secret {name}; cert-manager makes it if it is told to"
            yield Finding(Weight.NOTE, text)
        elif name in before:
            text = (
                f"reads more keys of Secret {name}, {', '.join(more)}: without them the pod waits"
            )
            yield Finding(Weight.PREPARE, text, next="add them to it before the merge")
        else:
            text = f"reads Secret {name}{keys}: until it exists, the pod waits"
            hint = "make sure that it exists in the namespace before the merge"
            yield Finding(Weight.PREPARE, text, next=hint)
    for name in sorted(_pull_secrets(item.new) - _pull_secrets(item.old)):
        text = f"pulls images with Secret {name}: without it a private registry refuses"
        hint = "make sure that it exists in the namespace before the merge"
        yield Finding(Weight.PREPARE, text, next=hint)
    for name in sorted(before.keys() - after.keys()):
        if item.new is not None:
            yield Finding(Weight.NOTE, f"no longer reads Secret {name}")


def definition(item: Difference, _all: Comparison) -> Iterator[Finding]:
    """A CustomResourceDefinition goes, or stops serving a version."""
    if item.kind != "CustomResourceDefinition":
        return
    names = ((item.old or {}).get("spec") or {}).get("names") or {}
    if item.new is None:
        text = f"goes, and every {names.get('kind', 'object')} of the cluster with it"
        hint = "save them: `kubectl get {} --all-namespaces -o yaml`"
        yield Finding(Weight.DATA, text, next=hint.format(item.identity.name))
        return
    served = [
        {version["name"] for version in side["spec"].get("versions", []) if version.get("served")}
        for side in (item.old or {"spec": {}}, item.new)
    ]
    for version in sorted(served[0] - served[1]):
        text = f"no longer serves {version}: manifests that name it are refused"
        yield Finding(Weight.OUTAGE, text, ("spec.versions",), "move them to a served version")


def namespace(item: Difference, _all: Comparison) -> Iterator[Finding]:
    """A Namespace goes with all that is in it, or lowers what it enforces."""
    if item.kind != "Namespace":
        return
    if item.new is None:
        text = "goes, and everything in it: workloads, Secrets, claims"
        yield Finding(Weight.DATA, text, next="take and prove a backup set first")
        return
    strict = ("privileged", "baseline", "restricted")
    for change in item.below(joined("metadata.labels", "pod-security.kubernetes.io/enforce")):
        before, after = (
            strict.index(side) if side in strict else 0 for side in (change.old, change.new)
        )
        if after < before:
            text = f"enforces less for its pods: {change.old} -> {strict[after]}"
            yield Finding(Weight.ACCESS, text, (change.path,))


def schedule(item: Difference, _all: Comparison) -> Iterator[Finding]:
    """A CronJob runs at other times, not at all, or again."""
    if item.kind != "CronJob":
        return
    duty = _component(item) == "backups"
    weight = Weight.PROMISE if duty else Weight.NOTE
    if item.new is None:
        yield Finding(weight, "goes: it never runs again", next="what does its duty now?")
        return
    when = item.new["spec"].get("schedule")
    suspended = [bool(side and side["spec"].get("suspend")) for side in (item.old, item.new)]
    if item.old is None:
        how = "suspended: only by hand" if suspended[1] else f"at {when}"
        yield Finding(Weight.NOTE, f"is new, {how}")
        return
    if suspended == [False, True]:
        text = "is suspended: it no longer runs by itself"
        yield Finding(weight, text, ("spec.suspend",), "its alert will tell in time")
    if suspended == [True, False]:
        text = f"is no longer suspended: it runs by itself, at {when}"
        yield Finding(weight, text, ("spec.suspend",), "a restore must never run by itself")
    for change in item.below("spec.schedule", "spec.timeZone"):
        words = f"{change.path.rpartition('.')[2]} {_plain(change.old)} -> {_plain(change.new)}"
        yield Finding(weight, words, (change.path,), "does it still keep the RPO?" if duty else "")


def published(item: Difference, _all: Comparison) -> Iterator[Finding]:
    """The wiki is published under other names, without TLS, by another controller."""
    if item.kind not in ("Ingress", "HTTPRoute"):
        return
    before, after = _hosts(item.old), _hosts(item.new)
    for host in sorted(after - before):
        hint = "is its DNS record, and its certificate, on the way?"
        yield Finding(Weight.ACCESS, f"publishes {host}", next=hint)
    for host in sorted(before - after):
        hint = "lower its TTL first, and tell who has bookmarks"
        yield Finding(Weight.OUTAGE, f"no longer answers to {host}", next=hint)
    if item.kind != "Ingress" or not item.old or not item.new:
        return
    secrets = [_tls(side) for side in (item.old, item.new)]
    for host in sorted(before & after):
        if host in secrets[0] and host not in secrets[1]:
            text = f"serves {host} without its certificate"
            yield Finding(Weight.ACCESS, text, ("spec.tls",))
        elif secrets[0].get(host) != secrets[1].get(host):
            text = f"serves {host} with the certificate in {secrets[1][host]}"
            yield Finding(Weight.PREPARE, text, ("spec.tls",), "it must be valid before the merge")
    for change in item.below("spec.ingressClassName"):
        text = f"is served by {_plain(change.new)} instead of {_plain(change.old)}"
        hint = "that controller must run, and DNS must lead to it"
        yield Finding(Weight.OUTAGE, text, (change.path,), hint)


def reach(item: Difference, _all: Comparison) -> Iterator[Finding]:
    """A Service is reachable from outside, or its clients lose it."""
    if item.kind != "Service":
        return
    if item.new is None:
        yield Finding(Weight.OUTAGE, "goes: whoever names it cannot reach it any more")
        return
    outside = ("NodePort", "LoadBalancer")
    types = [(side or {"spec": {}})["spec"].get("type") for side in (item.old, item.new)]
    if types[1] in outside and types[0] not in outside:
        text = f"is reachable from outside the cluster ({types[1]})"
        yield Finding(Weight.ACCESS, text, ("spec.type",), "ClusterIP is what the mission asks for")
    for change in item.below("spec.selector"):
        text = f"leads to other pods: {_plain(change.old)} -> {_plain(change.new)}"
        yield Finding(Weight.OUTAGE, text, (change.path,), "do pods with these labels run?")
    if item.old is not None:
        gone = _ports(item.old) - _ports(item.new)
        for port in sorted(gone):
            yield Finding(Weight.OUTAGE, f"no longer has port {port}", ("spec.ports",))


def gone(item: Difference, all_: Comparison) -> Iterator[Finding]:
    """A workload comes or goes."""
    if item.kind not in SERVED:
        return
    if item.new is None and item.old is not None:
        waiting = [str(other) for other in dependents(item.old, all_.new)]
        others = f"; {', '.join(waiting)} cannot reach it any more" if waiting else ""
        kept = item.old["spec"].get("volumeClaimTemplates")
        claims = "; its claims stay" if kept else ""
        yield Finding(Weight.OUTAGE, f"goes, and its pods with it{claims}{others}")
    elif item.old is None:
        yield Finding(Weight.NOTE, "is new")


ANEW = (
    "spec.releaseName",
    "spec.targetNamespace",
    "spec.storageNamespace",
    "spec.chart.spec.chart",
)
"""Fields of a HelmRelease that make helm-controller uninstall it and install it anew."""


def release(item: Difference, _all: Comparison) -> Iterator[Finding]:
    """What Flux installs comes, goes, moves to another version, or is made anew."""
    if item.kind == "Kustomization" and _prunes(item.old) and not _prunes(item.new):
        if item.new is None:
            text = "goes, and Flux deletes everything that it applied, since it prunes"
            hint = "set `prune: false` first and let that reach the cluster; a new name is the same"
            yield Finding(Weight.DATA, text, next=hint)
        else:
            yield Finding(Weight.NOTE, "no longer deletes what goes from Git", ("spec.prune",))
    if item.kind == "HelmRelease" and _foreign(item.new or item.old):
        if item.old is None:
            text = "installs a chart whose objects and rights are not shown here"
            yield Finding(
                Weight.ACCESS, text, next="read its values, and render it where it is had"
            )
        if item.new is None:
            text = "goes, and Flux uninstalls it: its objects, and claims that nothing keeps"
            yield Finding(Weight.DATA, text, next="what of it holds data, and is that kept?")
    if item.fate is not Fate.CHANGED:
        return
    if item.kind == "HelmRelease" and (moved := item.below(*ANEW)):
        text = "is uninstalled and installed anew, with all its objects"
        yield Finding(Weight.DATA, text, _paths(moved), "what of it holds data, and is that kept?")
    if item.kind in ("HelmRelease", "OCIRepository"):
        for change in item.below("spec.chart.spec.version", "spec.ref"):
            words = f"{_plain(change.old)} -> {_plain(change.new)}"
            text = f"chart {words}; its objects are not shown here"
            yield Finding(Weight.UPGRADE, text, (change.path,), "read its release notes")


def broken_rule(item: Difference, _all: Comparison) -> Iterator[Finding]:
    """An object breaks one of our own rules that it obeyed, or did not fall under, before."""
    for name, rule in policy.RULES.items():
        if item.old and name in SAID_ELSEWHERE:
            continue
        before = set(policy.violations([item.old], rule)) if item.old else set()
        after = policy.violations([item.new], rule) if item.new else []
        for line in (line for line in after if line not in before):
            what = line.partition(": ")[2]
            text = f"breaks the rule {name}: {what}"
            yield Finding(Weight.ACCESS, text, next="docs: scripts/xwiki_stack/policy.py")


RULES: dict[str, Rule] = {
    "broken-rule": broken_rule,
    "cannot-change": cannot_change,
    "claim": claim,
    "claims-of-pods": claims_of_pods,
    "definition": definition,
    "flow": flow,
    "gone": gone,
    "image": image,
    "namespace": namespace,
    "published": published,
    "reach": reach,
    "release": release,
    "restart": restart,
    "rights": rights,
    "scale": scale,
    "schedule": schedule,
    "secret": secret,
}
"""Every rule by the name that its cases carry (tests/review/cases)."""


def judge(comparison: Comparison) -> list[Verdict]:
    """Every verdict, the heaviest first."""
    found = [
        Verdict(name, item.identity, finding)
        for item in comparison.shown
        for name, rule in RULES.items()
        for finding in rule(item, comparison)
    ]
    order = list(Weight)
    return sorted(found, key=lambda verdict: order.index(verdict.finding.weight))


def downtime(workload: Manifest) -> str:
    """How long a restart takes at most, by the bounds of the pod: grace, then its startup."""
    stop, start = bounds(workload)
    if not start:
        return f"down from its end (up to {_time(stop)}) until it is ready, which no probe bounds"
    return f"down for up to {_time(stop)} to stop and {_time(start)} to start, by its probes"


def bounds(workload: Manifest) -> tuple[int, int]:
    """Seconds that a restart may take to stop and to start; 0 for a start that no probe bounds."""
    spec = pod_of(workload)["spec"]
    starts = [
        _bound(container.get("startupProbe") or container.get("readinessProbe") or {})
        for container in policy.long_running(workload)
    ]
    stop = int(spec.get("terminationGracePeriodSeconds", GRACE))
    return stop, max((bound for bound in starts if bound), default=0)


def dependents(workload: Manifest, objects: list[Manifest] | Any) -> list[Identity]:
    """The workloads that name a Service of this one in their settings."""
    labels = (pod_of(workload).get("metadata") or {}).get("labels") or {}
    names = [
        item["metadata"]["name"]
        for item in objects
        if item["kind"] == "Service"
        and (selector := item["spec"].get("selector") or {})
        and selector.items() <= labels.items()
    ]
    pattern = re.compile(rf"(?<![\w-])({'|'.join(map(re.escape, names))})(?![\w-])")
    found = []
    for item in objects:
        same = (item["kind"], item["metadata"]["name"]) == (
            workload["kind"],
            workload["metadata"]["name"],
        )
        texts = [
            str(variable.get("value", ""))
            for container in containers_of(item)
            for variable in container.get("env") or []
        ]
        if names and not same and item["kind"] in SERVED and any(map(pattern.search, texts)):
            found.append(Identity(item["kind"], item["metadata"]["name"]))
    return found


def secrets_of(item: Manifest | None) -> dict[str, set[str]]:
    """Secrets that an object needs, each with the keys it names."""
    found: dict[str, set[str]] = {}
    if item is None:
        return found
    if item["kind"] == "Ingress":
        return {
            entry["secretName"]: set()
            for entry in item["spec"].get("tls") or []
            if "secretName" in entry
        }
    for kind, name in sources_of(item):
        if kind == "Secret":
            found.setdefault(name, set())
    spec = pod_of(item).get("spec", {})
    for volume in spec.get("volumes") or []:
        for source in [volume, *(volume.get("projected") or {}).get("sources", [])]:
            if "secret" in source:
                own = source["secret"]
                name = own.get("secretName") or own["name"]
                found[name].update(entry["key"] for entry in own.get("items") or [])
    for container in containers_of(item):
        for variable in container.get("env") or []:
            reference = (variable.get("valueFrom") or {}).get("secretKeyRef")
            if reference:
                found[reference["name"]].add(reference["key"])
    return found


def _pull_secrets(item: Manifest | None) -> set[str]:
    spec = pod_of(item).get("spec", {}) if item else {}
    return {reference["name"] for reference in spec.get("imagePullSecrets") or []}


@dataclass(frozen=True)
class Image:
    """A reference of an image in its parts."""

    repository: str
    tag: str
    digest: str

    @property
    def name(self) -> str:
        """Without the digest."""
        return f"{self.repository}:{self.tag}" if self.tag else self.repository


def image_of(reference: str) -> Image:
    """The parts of a reference such as docker.io/library/mysql:9.7.1@sha256:..."""
    name, _, digest = reference.partition("@")
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:  # no tag, or the port of a registry
        repository, tag = name, ""
    return Image(repository, tag, digest)


def _images(item: Manifest | None) -> dict[str, Image]:
    containers = containers_of(item) if item else []
    return {container["name"]: image_of(container["image"]) for container in containers}


def _program(item: Manifest | None, container: str) -> str:
    """The program that keeps data, if this is its own container: by the chart's component."""
    names = {"mysql": "MySQL", "xwiki": "XWiki"}
    if item is None or item["kind"] not in SERVED or container not in names:
        return ""
    labels = (pod_of(item).get("metadata") or {}).get("labels") or {}
    own = labels.get("app.kubernetes.io/component") == container
    return names[container] if own else ""


def _window(program: str) -> str:
    if not program:
        return ""
    return (
        "inside the maintenance window, after an opened backup set younger than an hour and a "
        "green staging, for which `xwiki-stack upgrade` asks; the way back is a restore"
    )


def _line(tag: str) -> tuple[int, ...]:
    return _version(tag)[:2]


def _older(tag: str, than: str) -> bool:
    return bool(_version(tag)) and _version(tag) < _version(than)


def _version(tag: str) -> tuple[int, ...]:
    match = re.match(r"v?(\d+(?:\.\d+)*)", tag)
    return tuple(int(part) for part in match[1].split(".")) if match else ()


def _causes(item: Difference, all_: Comparison) -> Iterator[str]:
    """The fields that replace the pods; for a checksum, what it is the sum of."""
    pod = "spec.jobTemplate.spec.template" if item.kind == "CronJob" else "spec.template"
    yield from (change.path.removeprefix(f"{pod}.") for change in item.below(pod))
    if CHECKSUM_WORD not in item.folded:
        return
    read = set(sources_of(item.new or {}))
    for other in all_.shown:
        if (other.kind, other.identity.name) in read:
            fields = ", ".join(change.path for change in other.changes)
            yield f"{other.identity} ({fields})" if fields else f"{other.identity}"


def _pauses(workload: Manifest) -> bool:
    """Whether a restart leaves a moment without a pod."""
    if workload["kind"] == "DaemonSet":
        return False
    spec = workload["spec"]
    if workload["kind"] == "StatefulSet":
        return _replicas(workload) == 1
    strategy = (spec.get("strategy") or {}).get("type")
    return strategy == "Recreate" or (_replicas(workload) == 1 and bool(_claims(workload)))


def _single_volume(workload: Manifest) -> bool:
    return workload["kind"] == "Deployment" and bool(_claims(workload))


def _replicas(workload: Manifest) -> int:
    return int(workload["spec"].get("replicas", 1))


def _claims(item: Manifest) -> set[str]:
    volumes = pod_of(item).get("spec", {}).get("volumes") or []
    return {
        volume["persistentVolumeClaim"]["claimName"]
        for volume in volumes
        if "persistentVolumeClaim" in volume
    }


def _speaker(pods: access.Pods, all_: Comparison) -> Identity:
    """The first changed policy about these pods: it speaks for all of them."""
    return next(
        item.identity
        for item in all_.shown
        if item.kind == "NetworkPolicy"
        and pods in {access.pods_of(side, all_.namespace) for side in (item.old, item.new) if side}
    )


def _prunes(item: Manifest | None) -> bool:
    return bool(item and item["spec"].get("prune"))


def _foreign(item: Manifest | None) -> bool:
    """Whether a HelmRelease is whole, not a patch of one, and its chart not of this repository."""
    spec = (item or {}).get("spec") or {}
    chart = str(((spec.get("chart") or {}).get("spec") or {}).get("chart", ""))
    return "chartRef" in spec or bool(chart and not chart.startswith("."))


def _component(item: Difference) -> str:
    labels = ((item.new or item.old or {}).get("metadata") or {}).get("labels") or {}
    return str(labels.get("app.kubernetes.io/component", ""))


def _hosts(item: Manifest | None) -> set[str]:
    if item is None:
        return set()
    names = item["spec"].get("hostnames") or [
        rule["host"] for rule in item["spec"].get("rules") or [] if rule.get("host")
    ]
    return set(names)


def _tls(item: Manifest) -> dict[str, str]:
    return {
        host: entry.get("secretName", "the controller's default")
        for entry in item["spec"].get("tls") or []
        for host in entry.get("hosts") or []
    }


def _ports(item: Manifest) -> set[str]:
    return {
        f"{port['port']}/{port.get('protocol', 'TCP')}" for port in item["spec"].get("ports") or []
    }


def _annotations(item: Manifest | None) -> dict[str, str]:
    return ((item or {}).get("metadata") or {}).get("annotations") or {}


def _first(path: str, prefixes: tuple[str, ...]) -> str:
    return next(prefix for prefix in prefixes if under(path, prefix))


def _paths(changed: list[Change]) -> tuple[str, ...]:
    return tuple(change.path for change in changed)


def _plain(value: Any) -> str:
    return "nothing" if value is ABSENT else str(value)


def _bound(probe: dict[str, Any]) -> int:
    """Seconds that a probe gives at most."""
    if not probe:
        return 0
    period, failures = probe.get("periodSeconds", PERIOD), probe.get("failureThreshold", THRESHOLD)
    return int(probe.get("initialDelaySeconds", 0)) + int(period) * int(failures)


def _time(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    parts = [f"{minutes} min" if minutes else "", f"{rest} s" if rest else ""]
    return " ".join(part for part in parts if part) or "0 s"


def _listed(items: list[Any], most: int = 6) -> str:
    words = [str(item) for item in items]
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more
