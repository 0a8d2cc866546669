"""What goes wrong ends in a state that one command explains, and nothing loops or is lost.

Each test breaks one thing in a namespace of its own and reads what `status` says about it; the
healthy wiki's own status (test_install) is the counter-example to all of them.
"""

import base64
from collections.abc import Callable
from typing import Any

from tests.e2e.conftest import LIGHT, Bed
from tests.e2e.patience import eventually
from tests.e2e.wiki import Wiki
from xwiki_stack import cluster, credentials, readiness, render, status
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


def external(wiki: Wiki, **database: Any) -> dict[str, Any]:
    """Values of a wiki without a MySQL of its own, on the shared one."""
    host = f"{render.RELEASE}-mysql.{wiki.namespace}.svc"
    return {
        "mysql": {"enabled": False},
        # What lies in the shared database was made by the shared wiki's own Job.
        "xwiki": {"database": {"host": host, **database}, "bootstrap": {"enabled": False}},
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
    bed: Bed, wiki: Wiki, secrets: str, values: Values
) -> None:
    """The Secrets of this namespace are others than those the shared database knows."""
    name = f"{render.RELEASE}-mysql"
    bed.release(secrets).install(values(LIGHT, external(wiki, existingSecret=name)))
    report = explained(bed, secrets, "wait-for-database", "denied", "secretRevision")
    assert all_restarts(bed, secrets) == 0, "the pod fails instead of waiting"
    wrong = credentials.read(bed.kube, secrets, render.RELEASE, "mysql", "xwiki-password")
    assert wrong
    assert wrong not in "".join(map(str, report.findings))
    # Once both agree, the wiki comes up without anybody touching the pod.
    before = bed.pod(secrets, "xwiki")["metadata"]["uid"]
    data = (bed.kube.get("Secret", name, wiki.namespace) or {})["data"]
    bed.kube.patch("Secret", name, secrets, {"data": data})
    # The kubelet brings a changed Secret to a mounted volume within about a minute.
    eventually(lambda: ready_pod(bed, secrets), seconds=240)
    assert bed.pod(secrets, "xwiki")["metadata"]["uid"] == before


def test_a_missing_secret_is_named_with_its_keys(
    bed: Bed, wiki: Wiki, namespace: str, values: Values
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
    bed: Bed, wiki: Wiki, secrets: str, values: Values
) -> None:
    """The volume is a tmpfs of 24 MiB on the node, so that it really runs full."""
    small_volume(bed, secrets)
    own = external(wiki, name="xwiki", existingSecret="shared-database")
    copy_secret(bed, wiki, secrets, "shared-database")
    own["xwiki"]["persistence"] = {"existingClaim": "small"}
    bed.release(secrets).install(values(LIGHT, own))
    pod = eventually(lambda: ready_pod(bed, secrets), seconds=180)

    def inside(script: str) -> str:
        words = ["exec", "-n", secrets, pod, "-c", "xwiki", "--", "bash", "-c", script]
        return bed.kubectl(*words, check=False).out.strip()

    page = "http://localhost:8080/rest/wikis/xwiki/spaces/Full/pages/Volume"
    login = 'curl -s -u "superadmin:$XCONF_xwikicfg_xwiki_superadminpassword"'
    put = f"{login} -o /dev/null -w '%{{http_code}}' -X PUT --data-binary @-"
    xml = "-H 'Content-Type: application/xml'"
    text = "<page xmlns='http://www.xwiki.org'><title>t</title><content>c</content></page>"
    attach = "head -c 2000000 /dev/zero | tr '\\0' {} | " + put + " {}/attachments/{}.bin"
    digest = f"{login} {page}/attachments/before.bin | sha256sum"
    assert inside(f'echo "{text}" | {put} {xml} {page}') == "201"
    assert inside(attach.format("x", page, "before")) == "201"
    before = inside(digest)
    inside("dd if=/dev/zero of=/usr/local/xwiki/data/ballast bs=1M 2>&1")
    # The kubelet measures volumes once a minute.
    explained(bed, secrets, "PersistentVolumeClaim small", "is full", seconds=150)
    assert inside(attach.format("y", page, "after")).startswith("5"), "a full volume took it"
    assert inside(digest) == before
    # With space again it goes on by itself.
    inside("rm /usr/local/xwiki/data/ballast")
    assert inside(attach.format("y", page, "after")) == "201"
    assert inside(digest) == before
    inside(f"{login} -X DELETE {page}")


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


def ready_pod(bed: Bed, namespace: str) -> str:
    """The name of the wiki's pod. AssertionError while it is not ready."""
    found = bed.kube.get("Deployment", f"{render.RELEASE}-xwiki", namespace)
    assert readiness.unready(found) == ""
    return str(bed.pod(namespace, "xwiki")["metadata"]["name"])
