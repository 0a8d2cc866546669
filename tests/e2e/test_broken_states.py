"""What goes wrong ends in a state that one command explains, and nothing loops or is lost.

Each test breaks one thing in a namespace of its own and reads what `status` says about it; the
healthy wiki's own status (test_install) is the counter-example to all of them.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.conftest import LIGHT, Bed, make_namespace, settled
from tests.e2e.inside import Inside
from tests.e2e.patience import eventually
from tests.e2e.probes import PODS_NETWORK
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

    report = eventually(look, seconds=seconds, pause=1)
    # What a person sees is the same, and a script is told by the exit code.
    said = bed.cli("status", "--namespace", namespace)
    assert said.returncode == 5, said.stdout + said.stderr
    assert "NOT healthy" in said.stdout
    for word in words:
        assert word in said.stdout
    return report


@pytest.fixture(scope="module")
def database(bed: Bed, enforcement: None, values: Values) -> Iterator[str]:
    """The namespace of a MySQL for wikis that have none of their own."""
    namespace = "shared-database"
    make_namespace(bed, namespace)
    credentials.ensure(bed.kube, namespace, render.RELEASE)
    # A server outside of all wikis, whom its own people guard.
    alone = {"xwiki": {"enabled": False}, "netpol": {"enabled": False}}
    bed.release(namespace).install(values(LIGHT, alone))
    yield namespace
    bed.kubectl("delete", "namespace", namespace, "--wait=false")


def external(database: str, secret: str) -> dict[str, Any]:
    """Values of a wiki on the shared MySQL, with the password of a Secret of its own."""
    host = f"{render.RELEASE}-mysql.{database}.svc"
    return {
        "mysql": {"enabled": False},
        "xwiki": {"database": {"host": host, "existingSecret": secret}},
        # Behind its Service it is a pod.
        "netpol": {"mysql": {"cidrs": [PODS_NETWORK]}},
    }


def all_restarts(bed: Bed, namespace: str) -> int:
    """All container restarts of a namespace."""
    return sum(
        container["restartCount"]
        for pod in bed.kube.every("Pod", namespace)
        for kind in ("initContainerStatuses", "containerStatuses")
        for container in pod.get("status", {}).get(kind, [])
    )


def test_a_wrong_database_password_waits_and_is_explained(
    bed: Bed, database: str, secrets: str, values: Values
) -> None:
    """The Secrets of this namespace are others than those the shared database knows."""
    name = f"{render.RELEASE}-mysql"
    bed.release(secrets).install(values(LIGHT, external(database, name)))
    report = explained(bed, secrets, "wait-for-database", "denied", "secretRevision")
    assert all_restarts(bed, secrets) == 0, "the pod fails instead of waiting"
    wrong = credentials.read(bed.kube, secrets, render.RELEASE, "mysql", "xwiki-password")
    assert wrong
    assert wrong not in "".join(map(str, report.findings))
    # Once both agree, the wiki comes up without anybody touching the pod.
    before = bed.pod(secrets, "xwiki")["metadata"]["uid"]
    data = (bed.kube.get("Secret", name, database) or {})["data"]
    bed.kube.patch("Secret", name, secrets, {"data": data})
    # The kubelet brings a changed Secret to a mounted volume within about a minute.
    eventually(lambda: settled(bed, secrets, "xwiki"), seconds=240)
    assert bed.pod(secrets, "xwiki")["metadata"]["uid"] == before


def test_a_missing_secret_is_named_with_its_keys(
    bed: Bed, enforcement: None, namespace: str, values: Values
) -> None:
    bed.release(namespace).install(values(LIGHT))
    explained(bed, namespace, "Secret xwiki-stack-mysql", "does not exist", "root-password")
    assert all_restarts(bed, namespace) == 0
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
    (named, *_more) = [str(found) for found in report.findings if "no-such-class" in str(found)]
    assert all(name in named for name in known)


def test_a_full_volume_is_named_and_what_was_written_stays(
    bed: Bed, database: str, secrets: str, values: Values
) -> None:
    """The volume is a tmpfs of 24 MiB on the node, so that it really runs full."""
    small_volume(bed, secrets)
    own = external(database, "shared-database")
    copy_secret(bed, database, secrets, "shared-database")
    own["xwiki"]["persistence"] = {"existingClaim": "small"}
    bed.release(secrets).install(values(LIGHT, own))
    eventually(lambda: settled(bed, secrets, "xwiki"), seconds=180)
    full = Inside(bed, secrets)
    assert full.write("Full") == "201"
    assert full.attach("Full", "before.bin", "x") == "201"
    before = full.digest("Full", "before.bin")
    full.run("dd if=/dev/zero of=/usr/local/xwiki/data/ballast bs=1M")
    # The kubelet measures volumes once a minute.
    explained(bed, secrets, "PersistentVolumeClaim small", "is full", seconds=150)
    assert full.attach("Full", "after.bin", "y").startswith("5"), "a full volume took it"
    assert full.digest("Full", "before.bin") == before
    # With space again it goes on by itself.
    full.run("rm /usr/local/xwiki/data/ballast")
    assert full.attach("Full", "after.bin", "y") == "201"
    assert full.digest("Full", "before.bin") == before


def copy_secret(bed: Bed, database: str, namespace: str, name: str) -> None:
    """The shared database's passwords under another name."""
    secret = bed.kube.get("Secret", f"{render.RELEASE}-mysql", database)
    assert secret is not None
    bed.kube.apply(credentials.manifest(name, namespace, secret["data"]))


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
