"""Fields that Kubernetes refuses to change, and the way to get there all the same.

Each row was read in the validation of Kubernetes 1.36.3 (`source` names the function) and is tried
on a real API server by tests/e2e/test_review.py, beside a field of the same kind that may change.
"""

from collections.abc import Callable
from dataclasses import dataclass

from xwiki_stack.policy import Manifest
from xwiki_stack.review.changes import ABSENT, Change, Difference, Fate, amount

When = Callable[[Manifest, Change], bool]
"""Looks at the old object and the change: does it fall under the row?"""


@dataclass(frozen=True)
class Immutable:
    """A row: kinds, the paths that cannot change, where that is known from, and the way.

    `way` may name {name} and {kind}. `when` narrows the row; without it every change counts.
    """

    kinds: tuple[str, ...]
    paths: tuple[str, ...]
    source: str
    way: str
    when: When = lambda _old, _change: True


def _shrinks(_old: Manifest, change: Change) -> bool:
    if ABSENT in (change.old, change.new):
        return False
    return amount(change.new) < amount(change.old)


def _frozen(old: Manifest, _change: Change) -> bool:
    return old.get("immutable") is True


def _waits(old: Manifest, _change: Change) -> bool:
    """A suspended Job takes resources and places of its pods (validatePodTemplateUpdate)."""
    return not old["spec"].get("suspend")


def _sets_address(old: Manifest, change: Change) -> bool:
    """A clusterIP that goes away is kept by the server; one that comes or differs is refused."""
    return change.new is not ABSENT and old["spec"].get("type") != "ExternalName"


def _ends_rolling(_old: Manifest, change: Change) -> bool:
    """A strategy without rollingUpdate, where the server has filled that in by itself."""
    kind = change.new.get("type") if isinstance(change.new, dict) else change.new
    return kind in ("Recreate", "OnDelete")


_ANEW = "`kubectl delete {kind} {name}` first"

ROWS: tuple[Immutable, ...] = (
    Immutable(
        ("StatefulSet",),
        ("spec.volumeClaimTemplates",),
        "apps/validation ValidateStatefulSetUpdate: all but replicas, ordinals, template, "
        "updateStrategy, revisionHistoryLimit, persistentVolumeClaimRetentionPolicy and "
        "minReadySeconds",
        "MySQL's size: `xwiki-stack expand --recreate`; else `kubectl delete statefulset {name} "
        "--cascade=orphan`, which leaves pod and claims, then apply. Claims that exist keep their "
        "class and size: another class means a new claim and a restore",
    ),
    Immutable(
        ("StatefulSet",),
        ("spec.selector", "spec.serviceName", "spec.podManagementPolicy"),
        "apps/validation ValidateStatefulSetUpdate, as above",
        "`kubectl delete statefulset {name} --cascade=orphan`, then apply: the pod and its claim "
        "stay. With another selector delete the orphaned pod too",
    ),
    Immutable(
        ("Deployment",),
        ("spec.strategy",),
        "apps/validation ValidateDeploymentStrategy: server-side apply leaves the rollingUpdate "
        "that the server filled in, which Recreate forbids",
        "before the merge: `kubectl patch deployment {name} --type=merge --patch "
        '\'{{"spec":{{"strategy":{{"type":"Recreate","rollingUpdate":null}}}}}}\'`',
        _ends_rolling,
    ),
    Immutable(
        ("StatefulSet",),
        ("spec.updateStrategy",),
        "apps/validation ValidateStatefulSetSpec: as above, which OnDelete forbids",
        "before the merge: `kubectl patch statefulset {name} --type=merge --patch "
        '\'{{"spec":{{"updateStrategy":{{"type":"OnDelete","rollingUpdate":null}}}}}}\'`',
        _ends_rolling,
    ),
    Immutable(
        ("Deployment", "DaemonSet", "ReplicaSet"),
        ("spec.selector",),
        "apps/validation ValidateDeploymentUpdate, ValidateDaemonSetSpecUpdate, "
        "ValidateReplicaSetUpdate",
        f"{_ANEW}: its pods go with it, so there is a pause; or give it another name",
    ),
    Immutable(
        ("Job",),
        ("spec.template",),
        "batch/validation validatePodTemplateUpdate",
        f"{_ANEW}, or put a hash of the spec into its name, as our bootstrap Job does",
        _waits,
    ),
    Immutable(
        ("Job",),
        (
            "spec.selector",
            "spec.completions",
            "spec.completionMode",
            "spec.podFailurePolicy",
            "spec.backoffLimitPerIndex",
            "spec.managedBy",
            "spec.successPolicy",
        ),
        "batch/validation ValidateJobSpecUpdate",
        f"{_ANEW}; it runs again",
    ),
    Immutable(
        ("PersistentVolumeClaim",),
        (
            "spec.storageClassName",
            "spec.accessModes",
            "spec.volumeMode",
            "spec.selector",
            "spec.volumeName",
            "spec.dataSource",
            "spec.dataSourceRef",
        ),
        "core/validation ValidatePersistentVolumeClaimUpdate: all but resources.requests and "
        "volumeAttributesClassName",
        "make a claim of another name and restore a backup set into it; the old one stays until "
        "you delete it",
    ),
    Immutable(
        ("PersistentVolumeClaim",),
        ("spec.resources.requests",),
        "core/validation ValidatePersistentVolumeClaimUpdate: not less than status.capacity",
        "volumes do not shrink: make a smaller claim of another name and restore into it",
        _shrinks,
    ),
    Immutable(
        ("Service",),
        ("spec.clusterIP", "spec.clusterIPs"),
        "core/validation validateUpgradeDowngradeClusterIPs",
        f"{_ANEW}; clients lose it for a moment, and its address changes",
        _sets_address,
    ),
    Immutable(
        ("StorageClass",),
        ("parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"),
        "storage/validation ValidateStorageClassUpdate",
        f"{_ANEW}, then apply: volumes that exist keep what they were born with, only new claims "
        "see the change",
    ),
    Immutable(
        ("ConfigMap", "Secret"),
        ("data", "binaryData", "stringData", "immutable"),
        "core/validation ValidateConfigMapUpdate, ValidateSecretUpdate",
        f"give it another name, or {_ANEW}",
        _frozen,
    ),
    Immutable(("Secret",), ("type",), "core/validation ValidateSecretUpdate", _ANEW),
    Immutable(
        ("RoleBinding", "ClusterRoleBinding"),
        ("roleRef",),
        "rbac/validation ValidateRoleBindingUpdate, ValidateClusterRoleBindingUpdate",
        f"{_ANEW}; until it is back, its subjects have no rights",
    ),
    Immutable(
        ("PriorityClass",),
        ("value", "preemptionPolicy"),
        "scheduling/validation ValidatePriorityClassUpdate",
        _ANEW,
    ),
    Immutable(
        ("CustomResourceDefinition",),
        ("spec.group", "spec.scope", "spec.names.plural", "spec.names.kind"),
        "apiextensions/validation ValidateCustomResourceDefinitionUpdate, once it is established",
        f"{_ANEW}, which deletes every object of it: save them before",
    ),
    Immutable(
        ("IngressClass",),
        ("spec.controller",),
        "networking/validation validateIngressClassSpecUpdate",
        f"{_ANEW}: its hosts are not served meanwhile",
    ),
)


def refused(difference: Difference) -> list[tuple[Immutable, list[Change]]]:
    """The rows that a changed object falls under, each with the changes that do.

    One under another name is made anew, so nothing of it is refused.
    """
    old = difference.old
    if old is None or difference.fate is not Fate.CHANGED:
        return []
    found = []
    for row in ROWS:
        hit = [change for change in difference.below(*row.paths) if row.when(old, change)]
        if difference.kind in row.kinds and hit:
            found.append((row, hit))
    return found
