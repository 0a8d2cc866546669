"""Every rule of the diagnosis: what it finds, and that it is silent on a healthy release."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from xwiki_stack import status
from xwiki_stack.intent import bytes_of
from xwiki_stack.release import Record

Object = dict[str, Any]
NAMESPACE = "wiki"
POD_SPEC: Object = {
    "initContainers": [{"name": "wait-for-database", "image": "mysql:1"}],
    "containers": [
        {
            "name": "xwiki",
            "image": "xwiki:1",
            "env": [{"valueFrom": {"secretKeyRef": {"name": "rel-xwiki", "key": "admin"}}}],
        }
    ],
    "volumes": [
        {"name": "data", "persistentVolumeClaim": {"claimName": "data-rel-mysql-0"}},
        {"name": "db", "secret": {"secretName": "rel-mysql", "items": [{"key": "root"}]}},
    ],
}


class Cluster:
    """A healthy release, to be damaged by a test; answers like Kube."""

    def __init__(self) -> None:
        self.usage: dict[str, tuple[int, int]] = {"data-rel-mysql-0": (10, 100)}
        self.said = ""
        self.record: Record | None = None
        labels: Object = {}
        self.objects: dict[str, list[Object]] = {
            "StatefulSet": [
                {
                    "kind": "StatefulSet",
                    "metadata": {
                        "name": "rel-mysql",
                        "generation": 1,
                        "annotations": {status.SIZE_ANNOTATION: "50Gi"},
                        "labels": labels,
                    },
                    "spec": {"replicas": 1, "template": {"spec": copy.deepcopy(POD_SPEC)}},
                    "status": {
                        "observedGeneration": 1,
                        "replicas": 1,
                        "updatedReplicas": 1,
                        "readyReplicas": 1,
                        "currentRevision": "a",
                        "updateRevision": "a",
                    },
                }
            ],
            "Deployment": [],
            "Job": [],
            "Event": [],
            "StorageClass": [{"metadata": {"name": "standard"}}],
            "Secret": [
                {"metadata": {"name": "rel-xwiki"}, "data": {"admin": "eA=="}},
                {"metadata": {"name": "rel-mysql"}, "data": {"root": "eA=="}},
            ],
            "PersistentVolumeClaim": [
                {
                    "metadata": {"name": "data-rel-mysql-0"},
                    "spec": {
                        "storageClassName": "standard",
                        "resources": {"requests": {"storage": "50Gi"}},
                    },
                    "status": {"phase": "Bound"},
                }
            ],
            "Pod": [
                {
                    "metadata": {
                        "name": "rel-mysql-0",
                        "ownerReferences": [{"kind": "StatefulSet", "name": "rel-mysql"}],
                    },
                    "spec": copy.deepcopy(POD_SPEC),
                    "status": {
                        "conditions": [{"type": "PodScheduled", "status": "True"}],
                        "initContainerStatuses": [
                            {"name": "wait-for-database", "state": {"terminated": {}}}
                        ],
                        "containerStatuses": [{"name": "xwiki", "state": {"running": {}}}],
                    },
                }
            ],
        }

    def every(self, kind: str, _namespace: str = "", _labels: str = "") -> list[Object]:
        return self.objects.get(kind, [])

    def get(self, kind: str, name: str, _namespace: str = "") -> Object | None:
        found = [item for item in self.objects[kind] if item["metadata"]["name"] == name]
        return found[0] if found else None

    def live(self, manifest: Object, _namespace: str) -> Object | None:
        return self.get(manifest["kind"], manifest["metadata"]["name"])

    def volume_usage(self, _namespace: str) -> dict[str, tuple[int, int]]:
        return self.usage

    def logs(self, _namespace: str, _pod: str, _container: str, *, lines: int) -> str:
        assert lines
        return self.said


@pytest.fixture(autouse=True)
def _recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Helm's record as the fake cluster has it; test_release reads real ones."""
    monkeypatch.setattr("xwiki_stack.release.recorded", lambda cluster, *_: cluster.record)


def report(cluster: Cluster, ways: status.Ways = status.LOCAL) -> status.Report:
    return status.diagnose(cluster, NAMESPACE, "rel", ways)  # type: ignore[arg-type]


def test_a_healthy_release_has_no_findings() -> None:
    found = report(Cluster())
    assert found.findings == []
    assert found.healthy
    assert found.images == ["mysql:1", "xwiki:1"]


def no_release(cluster: Cluster) -> None:
    cluster.objects["StatefulSet"] = []


def deleted_deployment(cluster: Cluster) -> None:
    """What is not there is no workload that is not ready; only Helm's record tells."""
    installed = [{"kind": "Deployment", "metadata": {"name": "rel-xwiki"}}]
    cluster.record = Record(1, "deployed", [*cluster.objects["StatefulSet"], *installed])


def no_secret(cluster: Cluster) -> None:
    cluster.objects["Secret"].pop(0)


def no_key(cluster: Cluster) -> None:
    cluster.objects["Secret"][1]["data"] = {}


def no_class(cluster: Cluster) -> None:
    claim = cluster.objects["PersistentVolumeClaim"][0]
    claim["spec"]["storageClassName"] = "fast"
    claim["status"]["phase"] = "Pending"


def lost_volume(cluster: Cluster) -> None:
    cluster.objects["PersistentVolumeClaim"][0]["status"]["phase"] = "Lost"


def full_volume(cluster: Cluster) -> None:
    cluster.usage["data-rel-mysql-0"] = (96 * 2**20, 100 * 2**20)


def small_claim(cluster: Cluster) -> None:
    cluster.objects["StatefulSet"][0]["metadata"]["annotations"][status.SIZE_ANNOTATION] = "80Gi"


def no_room(cluster: Cluster) -> None:
    cluster.objects["Pod"][0]["status"]["conditions"] = [
        {"type": "PodScheduled", "status": "False", "message": "Insufficient memory"}
    ]


def no_image(cluster: Cluster) -> None:
    _container(cluster)["state"] = {"waiting": {"reason": "ImagePullBackOff", "message": "gone"}}


def crash_loop(cluster: Cluster) -> None:
    container = _container(cluster)
    container["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
    container["lastState"] = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    container["restartCount"] = 4


def denied(cluster: Cluster) -> None:
    cluster.said = "Access denied for user 'xwiki'"
    init = cluster.objects["Pod"][0]["status"]["initContainerStatuses"][0]
    init["state"] = {"running": {}}


def failed_job(cluster: Cluster) -> None:
    condition = {"type": "Failed", "status": "True", "message": "deadline"}
    cluster.objects["Job"].append(
        {
            "kind": "Job",
            "metadata": {"name": "rel-bootstrap"},
            "spec": {"template": {"spec": {"containers": []}}},
            "status": {"conditions": [condition]},
        }
    )


def refused_pod(cluster: Cluster) -> None:
    cluster.objects["Pod"] = []
    cluster.objects["StatefulSet"][0]["status"]["readyReplicas"] = 0
    cluster.objects["Event"].append(
        {
            "reason": "FailedCreate",
            "involvedObject": {"name": "rel-mysql"},
            "message": 'violates PodSecurity "restricted"',
        }
    )


def scaled_away(cluster: Cluster) -> None:
    cluster.objects["StatefulSet"][0]["spec"]["replicas"] = 0


def kept_down(cluster: Cluster) -> None:
    scaled_away(cluster)
    cluster.objects["StatefulSet"][0]["metadata"]["annotations"][status.STOPPED_ANNOTATION] = "true"


def _container(cluster: Cluster) -> Object:
    container: Object = cluster.objects["Pod"][0]["status"]["containerStatuses"][0]
    return container


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (no_release, ["not installed", "make up"]),
        (deleted_deployment, ["Deployment rel-xwiki: was installed and does not exist", "make up"]),
        (no_secret, ["Secret rel-xwiki", "does not exist", "key admin"]),
        (no_key, ["Secret rel-mysql", "has no key root"]),
        (no_class, ["storage class fast does not exist", "standard"]),
        (lost_volume, ["volume is gone", "backup"]),
        (full_volume, ["is full: 96 MiB of 100 MiB"]),
        (small_claim, ["asks for 50Gi, the intent says 80Gi", "xwiki-stack expand"]),
        (no_room, ["cannot be placed: Insufficient memory"]),
        (no_image, ["ImagePullBackOff", "check the image's name"]),
        (crash_loop, ["ran out of memory 4 times", "exit code 137"]),
        (denied, ["waits in wait-for-database: Access denied", "secretRevision"]),
        (
            failed_job,
            [
                "Job rel-bootstrap",
                "failed: deadline",
                "`xwiki-stack kubectl logs job/rel-bootstrap` tells why; then `xwiki-stack kubectl "
                "delete job/rel-bootstrap` and `make up` make it anew",
            ],
        ),
        (refused_pod, ["violates PodSecurity"]),
        (scaled_away, ["is scaled to 0", "--replicas=1"]),
        (kept_down, ["is kept down by `xwiki.stopped`", "take `stopped` out again"]),
    ],
    ids=lambda item: getattr(item, "__name__", ""),
)
def test_each_kind_of_damage_is_named_with_what_to_do(
    damage: Callable[[Cluster], None], words: list[str]
) -> None:
    cluster = Cluster()
    damage(cluster)
    found = report(cluster)
    assert not found.healthy
    text = "\n".join(str(finding) for finding in found.findings)
    for word in words:
        assert word in text
    assert "; next: " in found.cause


ELSEWHERE = status.Ways("kubectl -n wiki", "xwiki-stack expand --env far", "`flux reconcile`")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (no_release, "next: `flux reconcile` installs it"),
        (deleted_deployment, "next: `flux reconcile` makes it anew"),
        (small_claim, "next: run `xwiki-stack expand --env far`"),
        (crash_loop, "`kubectl -n wiki logs rel-mysql-0 -c xwiki --previous`"),
        (scaled_away, "`kubectl -n wiki scale statefulset/rel-mysql --replicas=1`"),
        (
            failed_job,
            "then `kubectl -n wiki delete job/rel-bootstrap` and `flux reconcile` make it anew",
        ),
    ],
)
def test_the_advice_fits_the_cluster_that_is_looked_at(
    damage: Callable[[Cluster], None], words: str
) -> None:
    cluster = Cluster()
    damage(cluster)
    text = "\n".join(map(str, report(cluster, ELSEWHERE).findings))
    assert words in text
    assert "xwiki-stack kubectl" not in text
    assert "make up" not in text


@pytest.mark.parametrize(
    ("quantity", "size"),
    [("50Gi", 50 * 2**30), ("1.5Gi", 3 * 2**29), ("24M", 24_000_000), ("4096", 4096)],
)
def test_quantities_are_read_as_kubernetes_writes_them(quantity: str, size: int) -> None:
    assert bytes_of(quantity) == size


FLUX = status.Ways(delivered="xwiki-stack-far")


def stage(kind: str, name: str, status: str = "True", message: str = "", **spec: Any) -> Object:
    """An object of Flux; a message begins with the condition's reason."""
    reason, _, words = message.partition(": ")
    condition = {"type": "Ready", "status": status, "reason": reason, "message": words}
    return {
        "kind": kind,
        "metadata": {"name": name},
        "spec": {"sourceRef": {"name": "xwiki-stack"}, **spec},
        "status": {"conditions": [{"type": "Reconciling", "status": "True"}, condition]},
    }


def delivered(*stages: Object, installed: bool = True) -> list[str]:
    """What is found where Flux brought a healthy release, or none, and its objects are these."""
    cluster = Cluster()
    if not installed:
        no_release(cluster)
    for item in stages:
        cluster.objects.setdefault(item["kind"], []).append(item)
    return list(map(str, report(cluster, FLUX).findings))


def test_a_commit_that_does_not_arrive_is_explained_by_where_it_stopped() -> None:
    """The cause before what waits for it; other environments' and progress are no findings."""
    found = delivered(
        stage("GitRepository", "xwiki-stack"),
        stage("Kustomization", "base", "False", "DependencyNotReady: dependency 'x'"),
        stage("Kustomization", "xwiki-stack-far", "False", "BuildFailed: no\nsuch  file"),
        stage("Kustomization", "xwiki-stack-near", "False", "BuildFailed: another's"),
        stage("Kustomization", "foreign", "False", "BuildFailed: x", sourceRef={"name": "y"}),
        stage("HelmChart", "flux-system-xwiki-stack-far", "Unknown", "Progressing: on its way"),
        stage("HelmChart", "flux-system-xwiki-stack-near", "False", "BuildFailed: another's"),
        stage("HelmRelease", "xwiki-stack-far", suspend=True),
    )
    assert found == [
        "Kustomization xwiki-stack-far: is not applied: no such file; next: what it applied before "
        "stays; correct it in Git",
        "HelmRelease xwiki-stack-far: is suspended: no commit arrives; next: `flux resume` or "
        "`suspend: false` in namespace flux-system lets it go on",
        "Kustomization base: is not applied: dependency 'x'; next: what it applied before stays; "
        "correct it in Git",
    ]


def test_what_does_not_arrive_is_the_cause_where_nothing_is_installed() -> None:
    refused = stage("HelmRelease", "xwiki-stack-far", "False", "InstallFailed: refused")
    assert delivered(refused, installed=False)[0].startswith("HelmRelease xwiki-stack-far: is not")
    cluster = Cluster()
    crash_loop(cluster)
    cluster.objects["HelmRelease"] = [refused]
    found = report(cluster, FLUX)
    assert "CrashLoopBackOff" in found.cause, "the release waits for the pod, not the other way"
    assert "refused" in str(found.findings[-1])
    assert "refused" not in str(report(cluster).findings), "nobody asks Flux on a local cluster"


def test_a_release_that_flux_brought_in_order_has_no_findings() -> None:
    kinds = ("GitRepository", "Kustomization", "HelmChart", "HelmRelease")
    assert delivered(*(stage(kind, "xwiki-stack-far") for kind in kinds)) == []
