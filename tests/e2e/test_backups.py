"""The story that this project exists for: written, saved, destroyed, brought back, identical.

By the chart's own CronJobs and an S3 server on the node network; the steps of the restore are those
of charts/backups/README.md.
"""

import secrets as random
from collections.abc import Iterator
from typing import Any

import pyrage
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.backups.s3 import BUCKET, S3
from tests.e2e.conftest import LIGHT, Bed, make_namespace, settled
from tests.e2e.inside import LOGIN, REST, Inside
from tests.e2e.patience import eventually
from xwiki_stack import credentials, proc, render, up
from xwiki_stack.backup import signature
from xwiki_stack.cluster import engine
from xwiki_stack.render import Values

NAMESPACE = "brought-back"
NAME = f"{render.RELEASE}-backups"


class Keys:
    """What the operator holds outside the cluster: it survives the namespace."""

    def __init__(self, s3: S3) -> None:
        self.recovery = pyrage.x25519.Identity.generate()
        signing = Ed25519PrivateKey.generate()
        pem = signing.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        self.trusted = signature.public_of(signing)
        store = {"access-key": s3.access, "secret-key": s3.secret}
        index = str(pyrage.x25519.Identity.generate())
        self.secrets = {
            "writer": {**store, "signing-key": pem, "index-identity": index},
            "verifier": {**store, "signing-key": pem},
            "prune": {**store, "signing-key": pem},
            "recovery": {**store, "identity": str(self.recovery)},
        }

    def put(self, bed: Bed, *holders: str) -> None:
        """Make the Secrets of these holders."""
        for holder in holders:
            data = {key: credentials.encode(text) for key, text in self.secrets[holder].items()}
            bed.kube.apply(credentials.manifest(f"{NAME}-{holder}", NAMESPACE, data))


@pytest.fixture(scope="module")
def s3(bed: Bed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """An S3 server that pods reach: on this machine's address in the network of the nodes."""
    form = "{{range .IPAM.Config}}{{.Gateway}} {{end}}"
    asked = proc.run(engine.require().docker("network", "inspect", "kind", "--format", form)).out
    address = next(word for word in asked.split() if ":" not in word)
    served = S3(tmp_path_factory.mktemp("s3"), address=address)
    served.start()
    yield served
    served.stop()


@pytest.fixture
def empty(bed: Bed) -> Iterator[Bed]:
    """The cluster without the story's namespace, before and after."""
    destroy(bed)
    yield bed
    destroy(bed)


def destroy(bed: Bed) -> None:
    """The namespace with all that is in it, and its volumes with all that was written."""
    bed.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=true")

    def gone() -> bool:
        claims = [item["spec"].get("claimRef", {}) for item in bed.kube.every("PersistentVolume")]
        return NAMESPACE not in [claim.get("namespace") for claim in claims]

    eventually(gone, seconds=120)


def values(bed: Bed, s3: S3, keys: Keys, **wiki: Any) -> list[Values]:
    backups = {
        "enabled": True,
        "environment": "story",
        "store": {"endpoint": s3.endpoint, "bucket": BUCKET, "prefix": "story"},
        "keys": {"recipients": [str(keys.recovery.to_public())], "trusted": [keys.trusted]},
    }
    return [*up.values("local", bed.name), LIGHT, {"backups": backups, "xwiki": wiki}]


def run(bed: Bed, role: str) -> str:
    """Run a CronJob's job now; its log. AssertionError with the log when it fails."""
    job = f"{role}-{random.token_hex(3)}"
    source = f"--from=cronjob/{NAME}-{role}"
    bed.kubectl("create", "job", "-n", NAMESPACE, source, job)

    def ended() -> dict[str, Any]:
        status: dict[str, Any] = bed.kube.get("Job", job, NAMESPACE)["status"]  # type: ignore[index]
        assert status.get("succeeded") or status.get("failed"), status
        return status

    try:
        status = eventually(ended, seconds=180)
    finally:
        log = bed.kubectl("logs", "-n", NAMESPACE, f"job/{job}", check=False)
    assert status.get("succeeded"), log.out + log.err
    return log.out


def test_page_and_attachment_come_back_after_namespace_and_volumes_are_gone(
    empty: Bed, s3: S3
) -> None:
    bed, keys = empty, Keys(s3)
    make_namespace(bed, NAMESPACE)
    credentials.ensure(bed.kube, NAMESPACE, render.RELEASE)
    keys.put(bed, "writer", "verifier", "prune")
    bed.release(NAMESPACE).install(values(bed, s3, keys))
    eventually(lambda: settled(bed, NAMESPACE), seconds=300)
    wiki = Inside(bed, NAMESPACE)
    assert wiki.write("Story") == "201"
    assert wiki.attach("Story", "file.bin", "x") == "201"
    page, digest = wiki.run(f"{LOGIN} {REST}/Story"), wiki.digest("Story", "file.bin")

    assert "\nset " in run(bed, "site")
    assert "  intact  " in run(bed, "verify")
    destroy(bed)

    make_namespace(bed, NAMESPACE)
    credentials.ensure(bed.kube, NAMESPACE, render.RELEASE)
    keys.put(bed, "recovery", "writer")
    bed.release(NAMESPACE).install(values(bed, s3, keys, stopped=True))
    eventually(lambda: settled(bed, NAMESPACE, "mysql"), seconds=300)
    assert "start XWiki now" in run(bed, "restore")
    with pytest.raises(AssertionError, match=r"hold \d+ tables"):
        run(bed, "restore")  # a target that holds something is never touched
    bed.release(NAMESPACE).install(values(bed, s3, keys))
    eventually(lambda: settled(bed, NAMESPACE), seconds=300)
    assert wiki.run(f"{LOGIN} {REST}/Story") == page
    assert wiki.digest("Story", "file.bin") == digest
    # And it goes on from there: the next set is chained to the one that was restored.
    assert "\nset " in run(bed, "site")
