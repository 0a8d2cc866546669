"""What stories of backups share: an S3 server that pods reach, keys, the chart's CronJobs."""

import secrets as random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyrage
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.backups.s3 import BUCKET, S3
from tests.e2e.conftest import LIGHT, Bed, make_namespace, settled
from tests.e2e.patience import eventually
from xwiki_stack import credentials, proc, render, up
from xwiki_stack.backup import signature
from xwiki_stack.cluster import engine

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
            "prune": store,
            "recovery": {**store, "identity": str(self.recovery)},
            "drill": {**store, "identity": str(self.recovery), "signing-key": pem},
        }


@dataclass
class Story:
    """A release with backups in a namespace of its own; the bucket survives it."""

    bed: Bed
    s3: S3
    namespace: str
    keys: Keys = field(init=False)

    def __post_init__(self) -> None:
        self.keys = Keys(self.s3)

    def begin(self, *holders: str) -> None:
        """The namespace with the Secrets of both components and of these holders."""
        make_namespace(self.bed, self.namespace)
        credentials.ensure(self.bed.kube, self.namespace, render.RELEASE)
        for holder in holders:
            said = self.keys.secrets[holder]
            data = {key: credentials.encode(text) for key, text in said.items()}
            self.bed.kube.apply(credentials.manifest(f"{NAME}-{holder}", self.namespace, data))

    def install(self, *components: str, wiki: dict[str, Any] | None = None, **more: Any) -> None:
        """Install the release, or change it, and wait for components, or for both.

        wiki: values of chart xwiki. more: values of chart backups.
        """
        backups = {
            "enabled": True,
            "environment": "story",
            "store": {"endpoint": self.s3.endpoint, "bucket": BUCKET, "prefix": self.namespace},
            "keys": {"recipients": [str(self.keys.recovery.to_public())],
                     "trusted": [self.keys.trusted]},
            **more,
        }  # fmt: skip
        values = up.values("local", self.bed.name)
        own = {"backups": backups, "xwiki": wiki or {}}
        self.bed.release(self.namespace).install([*values, LIGHT, own])
        eventually(lambda: settled(self.bed, self.namespace, *components), seconds=300)

    def run(self, role: str) -> str:
        """Run a CronJob's job now; its log. AssertionError with the log when it fails."""
        job = f"{role}-{random.token_hex(3)}"
        source = f"--from=cronjob/{NAME}-{role}"
        self.bed.kubectl("create", "job", "-n", self.namespace, source, job)

        def ended() -> dict[str, Any]:
            found = self.bed.kube.get("Job", job, self.namespace)
            status: dict[str, Any] = found["status"]  # type: ignore[index]
            assert status.get("succeeded") or status.get("failed"), status
            return status

        try:
            status = eventually(ended, seconds=180)
        finally:
            log = self.bed.kubectl("logs", "-n", self.namespace, f"job/{job}", check=False)
        assert status.get("succeeded"), log.out + log.err
        return log.out

    def destroy(self) -> None:
        """The namespace with all that is in it, and its volumes with all that was written."""
        self.bed.kubectl("delete", "namespace", self.namespace, "--ignore-not-found", "--wait=true")

        def gone() -> bool:
            volumes = self.bed.kube.every("PersistentVolume")
            claims = [item["spec"].get("claimRef", {}) for item in volumes]
            return self.namespace not in [claim.get("namespace") for claim in claims]

        eventually(gone, seconds=120)


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
def story(bed: Bed, s3: S3, request: pytest.FixtureRequest) -> Iterator[Story]:
    """A story in a namespace named after its file, which is not there before and after."""
    told = Story(bed, s3, request.path.stem.removeprefix("test_"))
    told.destroy()
    yield told
    told.destroy()
