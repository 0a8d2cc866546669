"""When a rollout is over: never fooled by a status that is older than the change.

pytest-helm-charts' and many tools' waits read only `readyReplicas` and so call a rollout done
before it began; ours compare generations and, for StatefulSets, revisions.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xwiki_stack import proc
from xwiki_stack.errors import UnhealthyError
from xwiki_stack.kube import Kube, Manifest


@dataclass(frozen=True)
class Ref:
    """The name of one object."""

    kind: str
    name: str
    namespace: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


def unready(workload: Manifest | None) -> str:
    """Why a Deployment, StatefulSet or Job is not there yet, or '' when it is.

    Fields as apps/v1 and batch/v1 define them; an absent counter is zero.
    """
    if workload is None:
        return "does not exist"
    meta, spec = workload["metadata"], workload.get("spec", {})
    status = workload.get("status", {})
    if workload["kind"] == "Job":
        return _job_unready(status, spec)
    if status.get("observedGeneration", 0) < meta["generation"]:
        return "its controller has not seen the newest change yet"
    return _rollout_unready(workload["kind"], spec.get("replicas", 1), status)


def _rollout_unready(kind: str, wanted: int, status: Manifest) -> str:
    for field, words in (("updatedReplicas", "updated"), ("readyReplicas", "ready")):
        if (have := status.get(field, 0)) < wanted:
            return f"{have} of {wanted} {words}"
    if kind == "StatefulSet" and wanted:
        if status.get("currentRevision") != status.get("updateRevision"):
            return "still rolling to the newest revision"
    elif status.get("replicas", 0) > wanted:
        return "old pods are still ending"
    return ""


def _job_unready(status: Manifest, spec: Manifest) -> str:
    conditions = {c["type"]: c for c in status.get("conditions", []) if c["status"] == "True"}
    if "Complete" in conditions:
        return ""
    if "Failed" in conditions:
        return f"failed: {conditions['Failed'].get('message', 'no reason given')}"
    return f"{status.get('succeeded', 0)} of {spec.get('completions', 1)} completed"


def wait_ready(
    kube: Kube,
    refs: Sequence[Ref],
    *,
    seconds: float,
    say: Callable[[str], None] = lambda _text: None,
    explain: Callable[[], str] = lambda: "",
    pause: float = 1.0,
) -> None:
    """Wait until all are ready, by the wall clock.

    say: told what is waited for. explain: asked for the cause when time is up.
    Raises UnhealthyError with the object, its state and the explanation.
    """
    deadline = time.monotonic() + seconds
    while True:
        missing = [(ref, why) for ref in refs if (why := _reason(kube, ref))]
        if not missing:
            return
        ref, why = missing[0]
        say("; ".join(f"{item.kind} {item.name}: {reason}" for item, reason in missing))
        if time.monotonic() > deadline or why.startswith("failed"):
            cause = explain()
            raise UnhealthyError(
                f"{ref} is not ready after {seconds:.0f} s: {why}"
                + (f"; {cause}" if cause else ""),
                next="`xwiki-stack status` explains what is wrong",
            )
        proc.pause(pause)


def wait_gone(kube: Kube, refs: Sequence[Ref], *, seconds: float) -> None:
    """Wait until none of these exists. Raises UnhealthyError with the first that stays."""
    deadline = time.monotonic() + seconds
    while left := [ref for ref in refs if kube.get(ref.kind, ref.name, ref.namespace)]:
        if time.monotonic() > deadline:
            raise UnhealthyError(
                f"{left[0]} is still being deleted after {seconds:.0f} s",
                next="`xwiki-stack status` explains what is wrong",
            )
        proc.pause(0.5)


def _reason(kube: Kube, ref: Ref) -> str:
    return unready(kube.get(ref.kind, ref.name, ref.namespace))
