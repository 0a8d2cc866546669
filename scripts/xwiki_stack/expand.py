"""Growing MySQL's volume: the one change that Kubernetes does not let a chart make.

A StatefulSet's claim template cannot change, and Helm would be refused if the chart tried. So the
template keeps the size the claim was born with, the wanted size stands in an annotation of the
StatefulSet, and this command carries it to the claim. Shrinking is refused here, as by the API.
"""

from xwiki_stack.errors import RefusedError, UnhealthyError
from xwiki_stack.intent import bytes_of
from xwiki_stack.kube import Kube
from xwiki_stack.status import SIZE_ANNOTATION


def expand(kube: Kube, namespace: str, statefulset: str) -> str:
    """Raise the claim's request to the annotated size; give what was done in words.

    Raises UnhealthyError when StatefulSet or claim are missing, RefusedError when it would
    shrink or the storage class cannot expand.
    """
    owner = kube.get("StatefulSet", statefulset, namespace)
    name = f"data-{statefulset}-0"
    claim = kube.get("PersistentVolumeClaim", name, namespace)
    if owner is None or claim is None:
        missing = f"PersistentVolumeClaim {name}" if owner else f"StatefulSet {statefulset}"
        raise UnhealthyError(
            f"{missing} does not exist in namespace {namespace}",
            next="install the release (locally `make up`)",
        )
    wanted = owner["metadata"].get("annotations", {}).get(SIZE_ANNOTATION, "0")
    have = claim["spec"]["resources"]["requests"]["storage"]
    if bytes_of(wanted) == bytes_of(have):
        return f"nothing to do: claim {name} asks for {have} already"
    if bytes_of(wanted) < bytes_of(have):
        raise RefusedError(
            f"claim {name} asks for {have}, the intent says {wanted}: volumes do not shrink",
            next=f"set the size to {have} in the intent, or restore a backup into a new claim",
        )
    class_name = claim["spec"].get("storageClassName", "")
    storage_class = kube.get("StorageClass", class_name) or {}
    if not storage_class.get("allowVolumeExpansion"):
        raise RefusedError(
            f"storage class {class_name} cannot expand volumes",
            next="restore a backup into a claim of the new size",
        )
    body = {"spec": {"resources": {"requests": {"storage": wanted}}}}
    kube.patch("PersistentVolumeClaim", name, namespace, body)
    return f"claim {name} now asks for {wanted} (was {have}); the storage driver grows it online"


def recreate(kube: Kube, namespace: str, statefulset: str) -> str:
    """Take the StatefulSet away and leave its pod and claim, for the next install to adopt.

    Needed only where `persistence.claimTemplateSize` was raised, so that claims born later have
    the new size. Raises UnhealthyError when there is no such StatefulSet.
    """
    if kube.get("StatefulSet", statefulset, namespace) is None:
        raise UnhealthyError(
            f"StatefulSet {statefulset} does not exist in namespace {namespace}",
            next="install the release (locally `make up`)",
        )
    kube.delete("StatefulSet", statefulset, namespace, orphan=True)
    return (
        f"StatefulSet {statefulset} was taken away, its pod runs on; "
        "the next install or reconciliation makes it anew and adopts the pod"
    )
