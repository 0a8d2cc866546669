"""What goes wrong ends in a state that one command explains, and nothing loops or is lost.

Each test breaks one thing in a namespace of its own and reads what `status` says about it; the
healthy wiki's own status (test_install) is the counter-example to all of them.
"""

import base64
import json
from collections.abc import Callable
from typing import Any

import requests

from tests.e2e.conftest import LIGHT, Bed
from tests.e2e.patience import eventually
from tests.e2e.wiki import Wiki
from xwiki_stack import cluster, credentials, render, status
from xwiki_stack.kube import Manifest

Values = Callable[..., list[render.Values]]

SMALL = 24 * 2**20
"""Bytes of the volume that is filled."""


def explained(bed: Bed, namespace: str, *words: str, seconds: float = 120) -> status.Report:
    """Wait until the diagnosis of a namespace names all words; give it."""

    def look() -> status.Report:
        report = status.diagnose(bed.kube, namespace, render.RELEASE)
        text = "\n".join(str(finding) for finding in report.findings)
        for word in words:
            assert word in text, f"{word!r} is not in: {text or 'no findings'}"
        assert not report.healthy
        return report

    return eventually(look, seconds=seconds, pause=1)


def external(wiki: Wiki, **database: Any) -> dict[str, Any]:
    """Values of a wiki without a MySQL of its own, on the shared one."""
    host = f"{render.RELEASE}-mysql.{wiki.namespace}.svc"
    return {"mysql": {"enabled": False}, "xwiki": {"database": {"host": host, **database}}}


def restarts(bed: Bed, namespace: str) -> int:
    """All container restarts of a namespace."""
    return sum(
        container["restartCount"]
        for pod in bed.kube.every("Pod", namespace)
        for kind in ("initContainerStatuses", "containerStatuses")
        for container in pod.get("status", {}).get(kind, [])
    )


def test_a_wrong_database_password_waits_and_is_explained(
    bed: Bed, wiki: Wiki, secrets: str, values: Values
) -> None:
    """The Secrets of this namespace are others than those the shared database knows."""
    bed.release(secrets).install(values(LIGHT, external(wiki)))
    report = explained(bed, secrets, "wait-for-database", "denied", "secretRevision")
    assert restarts(bed, secrets) == 0, "the pod fails instead of waiting"
    assert "password" not in json.dumps([str(f) for f in report.findings]).lower().replace(
        "using password", ""
    )
    # Once both agree, the wiki comes up without anybody touching the pod.
    data = (bed.kube.get("Secret", f"{render.RELEASE}-mysql", wiki.namespace) or {})["data"]
    bed.kube.patch("Secret", f"{render.RELEASE}-mysql", secrets, {"data": data})


def test_a_missing_secret_is_named_with_its_keys(
    bed: Bed, wiki: Wiki, namespace: str, values: Values
) -> None:
    bed.release(namespace).install(values(LIGHT))
    explained(bed, namespace, "Secret xwiki-stack-mysql", "does not exist", "root-password")
    assert restarts(bed, namespace) == 0
    credentials.ensure(bed.kube, namespace, render.RELEASE)

    def gone() -> bool:
        report = status.diagnose(bed.kube, namespace, render.RELEASE)
        return not any("does not exist" in finding.problem for finding in report.findings)

    eventually(gone, seconds=60)


def test_a_missing_storage_class_is_named_with_those_that_exist(
    bed: Bed, secrets: str, values: Values
) -> None:
    wrong = {"persistence": {"storageClass": "no-such-class"}}
    bed.release(secrets).install(values(LIGHT, {"mysql": wrong, "xwiki": wrong}))
    report = explained(bed, secrets, "storage class no-such-class does not exist")
    known = [item["metadata"]["name"] for item in bed.kube.every("StorageClass")]
    assert known
    assert all(name in str(report.findings[0]) for name in known)


def test_a_full_volume_is_named_and_what_was_written_stays(
    bed: Bed, wiki: Wiki, secrets: str, values: Values
) -> None:
    """The volume is a tmpfs of 24 MiB on the node, so that it really runs full."""
    small_volume(bed, secrets)
    own = external(wiki, name="xwiki", existingSecret="shared-database")
    copy_secret(bed, wiki, secrets, "shared-database")
    own["xwiki"]["persistence"] = {"existingClaim": "small"}
    own["xwiki"]["bootstrap"] = {"enabled": False}
    bed.release(secrets).install(values(LIGHT, own))
    pod = eventually(lambda: running_pod(bed, secrets), seconds=180)
    fill = "dd if=/dev/zero of=/usr/local/xwiki/data/ballast bs=1M 2>&1; df /usr/local/xwiki"
    bed.kubectl("exec", "-n", secrets, pod, "-c", "xwiki", "--", "sh", "-c", fill, check=False)
    # The kubelet measures volumes once a minute.
    explained(bed, secrets, "PersistentVolumeClaim small", "is full", seconds=150)
    command = ["exec", "-n", secrets, pod, "-c", "xwiki", "--"]
    listing = bed.kubectl(*command, "ls", "/usr/local/xwiki/data").out
    assert "configuration.properties" in listing


def copy_secret(bed: Bed, wiki: Wiki, namespace: str, name: str) -> None:
    """The shared database's application password under another name."""
    password = wiki.password("mysql", "xwiki-password").encode()
    data = {"xwiki-password": base64.b64encode(password).decode()}
    bed.kube.apply(credentials.manifest(name, namespace, data))


def small_volume(bed: Bed, namespace: str) -> None:
    """A claim `small`, bound to a tmpfs mounted on the node."""
    (node, *_others) = [item["metadata"]["name"] for item in bed.kube.every("Node")]
    path = f"/var/small/{namespace}"
    mount = f"mkdir -p {path} && mount -t tmpfs -o size={SMALL},mode=1777 tmpfs {path}"
    cluster.on_node(bed.name, node, ["sh", "-c", f"mountpoint -q {path} || ({mount})"])
    host = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    bed.kubectl("delete", "pv", f"small-{namespace}", "--ignore-not-found", "--wait=false")
    meta: Manifest = {"name": f"small-{namespace}"}
    common = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    bed.kube.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": meta,
            "spec": {
                **common,
                "capacity": {"storage": str(SMALL)},
                "local": {"path": path},
                "claimRef": {"name": "small", "namespace": namespace},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [host]}]}},
            },
        }
    )
    bed.kube.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "small", "namespace": namespace},
            "spec": {
                **common,
                "volumeName": meta["name"],
                "resources": {"requests": {"storage": str(SMALL)}},
            },
        }
    )


def running_pod(bed: Bed, namespace: str) -> str:
    """The name of the wiki's pod once its main container runs."""
    for pod in bed.pods(namespace, "xwiki"):
        for container in pod["status"].get("containerStatuses", []):
            if container["name"] == "xwiki" and "running" in container["state"]:
                return str(pod["metadata"]["name"])
    return ""


def test_a_dead_database_does_not_restart_the_wiki_and_is_explained(bed: Bed, wiki: Wiki) -> None:
    (pod,) = bed.pods(wiki.namespace, "xwiki")
    before = (pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"])
    scale = ["scale", "statefulset", "xwiki-stack-mysql", "-n", wiki.namespace]
    bed.kubectl(*scale, "--replicas=0")
    try:
        explained(bed, wiki.namespace, "StatefulSet xwiki-stack-mysql", "scaled to 0")
    finally:
        bed.kubectl(*scale, "--replicas=1")

    def serves() -> bool:
        assert requests.get(wiki.url + "/bin/view/Main/WebHome", timeout=20).ok
        return status.diagnose(bed.kube, wiki.namespace, render.RELEASE).healthy

    eventually(serves, seconds=180)
    (again,) = bed.pods(wiki.namespace, "xwiki")
    after = (again["metadata"]["uid"], again["status"]["containerStatuses"][0]["restartCount"])
    assert after == before, "the wiki was restarted because its database was away"
