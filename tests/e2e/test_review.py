"""What `review` says of fields that cannot change, beside what a real API server does."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import Bed, make_namespace
from tests.review.test_verdicts import patched
from xwiki_stack import proc
from xwiki_stack.review import changes, immutable

NAMESPACE = "reviewed"

POD = {"containers": [{"name": "c", "image": "registry.example.org/c:1"}]}
LABELS = {"app": "a"}
TEMPLATE = {"metadata": {"labels": {"app": "a", "tier": "b"}}, "spec": POD}


def thing(api: str, kind: str, **body: Any) -> dict[str, Any]:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": "reviewed"}, **body}


def claim(name: str, size: str) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    return {"metadata": {"name": name}, "spec": spec}


WORKLOAD = {"selector": {"matchLabels": LABELS}, "template": TEMPLATE}
DEPLOYMENT = thing("apps/v1", "Deployment", spec={**WORKLOAD, "replicas": 0})
DAEMONS = thing("apps/v1", "DaemonSet", spec={**WORKLOAD})
REPLICAS = thing("apps/v1", "ReplicaSet", spec={**WORKLOAD, "replicas": 0})
STATEFUL = thing(
    "apps/v1",
    "StatefulSet",
    spec={
        **WORKLOAD,
        "replicas": 0,
        "serviceName": "one",
        "podManagementPolicy": "OrderedReady",
        "volumeClaimTemplates": [claim("data", "1Gi")],
    },
)
RECREATE = patched(DEPLOYMENT, {"spec": {"strategy": {"type": "Recreate"}}})
ON_DELETE = patched(STATEFUL, {"spec": {"updateStrategy": {"type": "OnDelete"}}})
JOB = thing(
    "batch/v1",
    "Job",
    spec={"parallelism": 0, "template": {"spec": {**POD, "restartPolicy": "Never"}}},
)
SUSPENDED = patched(JOB, {"spec": {"suspend": True}})
CLAIM = thing("v1", "PersistentVolumeClaim", **claim("reviewed", "2Gi"))
CLAIM["spec"]["storageClassName"] = "none-such"
SERVICE = thing("v1", "Service", spec={"selector": LABELS, "ports": [{"port": 80}]})
HEADLESS = patched(SERVICE, {"spec": {"clusterIP": "None"}})
CLASS = thing(
    "storage.k8s.io/v1",
    "StorageClass",
    provisioner="example.org/p",
    parameters={"replicas": "1"},
    reclaimPolicy="Retain",
    volumeBindingMode="Immediate",
)
CONFIG = thing("v1", "ConfigMap", data={"a": "1"})
FROZEN = {**CONFIG, "immutable": True}
SECRET = thing("v1", "Secret", type="Opaque", stringData={"a": "1"})
BINDING = thing(
    "rbac.authorization.k8s.io/v1",
    "RoleBinding",
    roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "one"},
    subjects=[{"kind": "ServiceAccount", "name": "a", "namespace": "default"}],
)
EVERYWHERE = {**BINDING, "kind": "ClusterRoleBinding"}
EVERYWHERE = patched(EVERYWHERE, {"roleRef": {"kind": "ClusterRole"}})
PRIORITY = thing("scheduling.k8s.io/v1", "PriorityClass", value=10)
INGRESS_CLASS = thing("networking.k8s.io/v1", "IngressClass", spec={"controller": "example.org/a"})
DEFINITION = thing(
    "apiextensions.k8s.io/v1",
    "CustomResourceDefinition",
    spec={
        "group": "review.example.org",
        "scope": "Namespaced",
        "names": {"kind": "Reviewed", "plural": "revieweds", "singular": "reviewed"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object"}},
            }
        ],
    },
)
DEFINITION["metadata"]["name"] = "revieweds.review.example.org"


def spec(**fields: Any) -> dict[str, Any]:
    return {"spec": fields}


OTHER_IMAGE = {"spec": {"containers": [{"name": "c", "image": "registry.example.org/c:2"}]}}
NARROW = {"matchLabels": {"app": "a", "tier": "b"}}

UPDATES: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    (STATEFUL, spec(volumeClaimTemplates=[claim("data", "2Gi")]), True),
    (STATEFUL, spec(selector=NARROW), True),
    (STATEFUL, spec(serviceName="two"), True),
    (STATEFUL, spec(podManagementPolicy="Parallel"), True),
    (STATEFUL, spec(minReadySeconds=5, template=OTHER_IMAGE), False),
    (STATEFUL, spec(persistentVolumeClaimRetentionPolicy={"whenDeleted": "Delete"}), False),
    (STATEFUL, spec(revisionHistoryLimit=3), False),
    (STATEFUL, spec(updateStrategy={"type": "OnDelete"}), True),
    (ON_DELETE, spec(updateStrategy={"type": "RollingUpdate"}), False),
    (DEPLOYMENT, spec(selector=NARROW), True),
    (DEPLOYMENT, spec(template=OTHER_IMAGE), False),
    (DEPLOYMENT, spec(strategy={"type": "Recreate"}), True),
    (RECREATE, spec(strategy={"type": "RollingUpdate"}), False),
    (DAEMONS, spec(selector=NARROW), True),
    (DAEMONS, spec(template=OTHER_IMAGE), False),
    (REPLICAS, spec(selector=NARROW), True),
    (JOB, spec(template=OTHER_IMAGE), True),
    (JOB, spec(completions=2), True),
    (JOB, spec(completionMode="Indexed", completions=1), True),
    (JOB, spec(backoffLimit=2, activeDeadlineSeconds=60), False),
    (SUSPENDED, spec(template={"spec": {"nodeSelector": {"a": "b"}}}), False),
    (CLAIM, spec(storageClassName="other"), True),
    (CLAIM, spec(accessModes=["ReadWriteMany"]), True),
    (CLAIM, spec(volumeMode="Block"), True),
    (CLAIM, spec(volumeName="by-hand", selector={"matchLabels": LABELS}), True),
    (CLAIM, spec(resources={"requests": {"storage": "1Gi"}}), True),
    (CLAIM, {"metadata": {"labels": LABELS}}, False),
    (SERVICE, spec(clusterIP="None"), True),
    # The server keeps the address that a manifest no longer names.
    (HEADLESS, spec(clusterIP=None), False),
    (SERVICE, spec(ports=[{"port": 81}], selector={"app": "b"}), False),
    (CLASS, {"parameters": {"replicas": "2"}}, True),
    (CLASS, {"provisioner": "example.org/q"}, True),
    (CLASS, {"reclaimPolicy": "Delete"}, True),
    (CLASS, {"volumeBindingMode": "WaitForFirstConsumer"}, True),
    (CLASS, {"allowVolumeExpansion": True, "mountOptions": ["noatime"]}, False),
    (FROZEN, {"data": {"a": "2"}}, True),
    (FROZEN, {"immutable": None}, True),
    (CONFIG, {"data": {"a": "2"}, "immutable": True}, False),
    (SECRET, {"type": "example.org/other"}, True),
    (SECRET, {"stringData": {"a": "2"}}, False),
    (BINDING, {"roleRef": {"name": "two"}}, True),
    (BINDING, {"subjects": []}, False),
    (EVERYWHERE, {"roleRef": {"name": "two"}}, True),
    (PRIORITY, {"value": 11}, True),
    (PRIORITY, {"preemptionPolicy": "Never"}, True),
    (PRIORITY, {"description": "more words"}, False),
    (INGRESS_CLASS, spec(controller="example.org/b"), True),
    (DEFINITION, spec(scope="Cluster"), True),
    (DEFINITION, spec(names={"kind": "Other"}), True),
    (DEFINITION, spec(names={"shortNames": ["rv"]}), False),
]


def named(number: int, item: dict[str, Any]) -> dict[str, Any]:
    """The object under a name of its own."""
    done = copy.deepcopy(item)
    done["metadata"]["name"] = f"reviewed-{number}"
    if item["kind"] == "CustomResourceDefinition":
        names = {"plural": f"revieweds{number}", "singular": f"reviewed{number}"}
        done["spec"]["names"] |= {**names, "kind": f"Reviewed{number}"}
        done["metadata"]["name"] = f"{names['plural']}.review.example.org"
    return done


OBJECTS = [named(number, item) for number, (item, _patch, _refused) in enumerate(UPDATES)]


@pytest.fixture(scope="module")
def taken(bed: Bed) -> Iterator[set[str]]:
    """Names of the objects whose update the API server would take; all are gone afterwards."""
    make_namespace(bed, NAMESPACE)
    try:
        apply(bed, OBJECTS, check=True)
        definitions = [item for item in OBJECTS if item["kind"] == "CustomResourceDefinition"]
        for item in definitions:
            bed.kubectl("wait", "--for=condition=Established", f"crd/{item['metadata']['name']}")
        new = [patched(item, update[1]) for item, update in zip(OBJECTS, UPDATES, strict=True)]
        said = apply(bed, new, "--dry-run=server")
        lines = [line for line in said.out.splitlines() if line.endswith("(server dry run)")]
        assert said.err.count("reviewed") >= len(UPDATES) - len(lines)
        yield {line.partition(" ")[0].rpartition("/")[2] for line in lines}
    finally:
        words = ["delete", "--wait=false", "--ignore-not-found", "--namespace", NAMESPACE]
        bed.kubectl(*words, "-f", "-", stdin=yaml.safe_dump_all(OBJECTS), check=False)
        bed.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def apply(bed: Bed, items: list[dict[str, Any]], *more: str, check: bool = False) -> proc.Result:
    """Apply as Helm 4 and Flux do, all of them whatever becomes of each."""
    words = ["apply", "--server-side", "--field-manager=review", "--namespace", NAMESPACE]
    return bed.kubectl(*words, *more, "-f", "-", stdin=yaml.safe_dump_all(items), check=check)


def label(number: int) -> str:
    item, patch, refused = UPDATES[number]
    word = "refused" if refused else "taken"
    return f"{item['kind']}-{word}-{json.dumps(patch)[:60]}"


@pytest.mark.parametrize("number", range(len(UPDATES)), ids=label)
def test_the_api_server_refuses_what_review_says_it_does(taken: set[str], number: int) -> None:
    old, (_item, patch, refused) = OBJECTS[number], UPDATES[number]
    compared = changes.compare("env", NAMESPACE, [old], [patched(old, patch)])
    assert bool(immutable.refused(compared.differences[0])) is refused
    assert (old["metadata"]["name"] not in taken) is refused


def test_every_row_is_tried() -> None:
    tried = {
        (row.kinds, row.paths)
        for item, patch, _refused in UPDATES
        for (difference,) in [changes.compare("e", "n", [item], [patched(item, patch)]).differences]
        for row, _hit in immutable.refused(difference)
    }
    assert tried == {(row.kinds, row.paths) for row in immutable.ROWS}
    kinds = {item["kind"] for item, _patch, refused in UPDATES if refused}
    assert kinds == {kind for row in immutable.ROWS for kind in row.kinds}
