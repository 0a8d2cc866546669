"""Waits are never fooled by a status that is older than the change."""

from typing import Any

import pytest

from xwiki_stack.errors import UnhealthyError
from xwiki_stack.readiness import Ref, unready, wait_ready


def workload(kind: str, **status: Any) -> dict[str, Any]:
    return {
        "kind": kind,
        "metadata": {"name": "w", "generation": 2},
        "spec": {"replicas": 1},
        "status": status,
    }


DEPLOYED = {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}
ROLLED = {**DEPLOYED, "currentRevision": "w-b", "updateRevision": "w-b"}


@pytest.mark.parametrize(("kind", "status"), [("Deployment", DEPLOYED), ("StatefulSet", ROLLED)])
def test_a_finished_rollout_is_ready(kind: str, status: dict[str, Any]) -> None:
    assert unready(workload(kind, **status)) == ""


@pytest.mark.parametrize(
    ("kind", "status", "why"),
    [
        ("Deployment", {**DEPLOYED, "observedGeneration": 1}, "not seen the newest change"),
        ("Deployment", {**DEPLOYED, "updatedReplicas": 0}, "0 of 1 updated"),
        ("Deployment", {**DEPLOYED, "readyReplicas": 0}, "0 of 1 ready"),
        ("Deployment", {**DEPLOYED, "replicas": 2}, "old pods"),
        ("Deployment", {}, "not seen the newest change"),
        ("StatefulSet", {**ROLLED, "updateRevision": "w-c"}, "newest revision"),
        ("StatefulSet", {**ROLLED, "readyReplicas": 0}, "0 of 1 ready"),
    ],
)
def test_a_stale_status_is_not_ready(kind: str, status: dict[str, Any], why: str) -> None:
    assert why in unready(workload(kind, **status))


def test_an_absent_object_is_not_ready() -> None:
    assert unready(None) == "does not exist"


def test_a_job_is_ready_when_complete_and_tells_why_it_failed() -> None:
    job = workload("Job")
    assert "0 of 1" in unready(job)
    job["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    assert unready(job) == ""
    failed = {"type": "Failed", "status": "True", "message": "deadline exceeded"}
    job["status"] = {"conditions": [failed]}
    assert unready(job) == "failed: deadline exceeded"


class Answers:
    """A cluster that gives one answer after the other, the last one for ever."""

    def __init__(self, *answers: dict[str, Any] | None) -> None:
        self._answers = list(answers)

    def get(self, _kind: str, _name: str, _namespace: str) -> dict[str, Any] | None:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


REF = Ref("Deployment", "w", "ns")


def test_a_wait_outlasts_a_stale_answer() -> None:
    stale = workload("Deployment", **{**DEPLOYED, "observedGeneration": 1})
    ready = workload("Deployment", **DEPLOYED)
    said: list[str] = []
    wait_ready(Answers(None, stale, ready), [REF], seconds=5, pause=0, say=said.append)  # type: ignore[arg-type]
    assert len(said) == 2


def test_a_wait_that_is_over_names_object_state_and_cause() -> None:
    with pytest.raises(UnhealthyError) as caught:
        wait_ready(Answers(None), [REF], seconds=0, pause=0, explain=lambda: "no Secret")  # type: ignore[arg-type]
    assert "Deployment ns/w is not ready after 0 s: does not exist; no Secret" in str(caught.value)


def test_a_failed_job_ends_the_wait_at_once() -> None:
    failed = {"type": "Failed", "status": "True", "message": "backoff limit"}
    job = {**workload("Job"), "status": {"conditions": [failed]}}
    with pytest.raises(UnhealthyError, match="backoff limit"):
        wait_ready(Answers(job), [REF], seconds=3600, pause=0)  # type: ignore[arg-type]
