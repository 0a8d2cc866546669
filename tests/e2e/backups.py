"""What stories of backups share: an S3 server that pods reach, a desk, the chart's CronJobs."""

import secrets as random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.backups.s3 import S3, documented
from tests.e2e.conftest import LIGHT, Bed, make_namespace, settled
from tests.e2e.patience import eventually
from xwiki_stack import cluster, demo, up
from xwiki_stack.backup import manifest
from xwiki_stack.backup.config import load
from xwiki_stack.backup.store import Store
from xwiki_stack.cluster.objectstore import node_address
from xwiki_stack.desk import BACKUPS, HOLDERS, Desk
from xwiki_stack.render import Values
from xwiki_stack.runbook import FOLDER, Runbook

LABELS = {"pod-security.kubernetes.io/enforce": "restricted"}
"""What every namespace of the tests carries; no other is ever deleted."""

PAGE = "/rest/wikis/xwiki/spaces/Tests/pages/Story"
"""What a runbook looks at in the end."""


@dataclass(frozen=True)
class Story:
    """A release with backups in a namespace of its own; bucket and desk survive it."""

    bed: Bed
    desk: Desk

    @property
    def namespace(self) -> str:
        """Where it runs."""
        return self.desk.namespace

    def begin(self) -> None:
        """The namespace with the Secrets of both components and of all but the restore."""
        make_namespace(self.bed, self.namespace)
        self.desk.furnish(self.bed.kube)

    def values(self, **backups: Any) -> list[Values]:
        """Of the release. backups: more of chart backups."""
        own = self.desk.values()
        own["backups"] |= backups
        own["netpol"]["switches"]["metrics"] = "metrics" in backups
        return [*up.values("local", self.bed.name), LIGHT, own]

    def install(self, **backups: Any) -> None:
        """Install the release, or change it, and wait for wiki and database."""
        self.bed.release(self.namespace).install(self.values(**backups))
        eventually(lambda: settled(self.bed, self.namespace), seconds=300)

    def run(self, role: str) -> str:
        """Run a CronJob's job now; its log. AssertionError with the log when it fails."""
        job = f"{role}-{random.token_hex(3)}"
        source = f"--from=cronjob/{BACKUPS}-{role}"
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

    def runbook(self, name: str, page: str = PAGE) -> Runbook:
        """A runbook, with the variables that an operator edits."""
        own = self.desk.variables(self.values(), page)
        env = {**cluster.environment(self.bed.name), **own}
        return Runbook(FOLDER / name, demo.with_command(env))

    def sets(self) -> list[manifest.Found[manifest.Site]]:
        """All sets of the story, oldest first, as the desk sees them."""
        known = load(self.desk.configure())
        trusted, environment = known.need_trusted(), known.environment
        found = manifest.listing(Store(known), trusted, environment, manifest.Site)
        assert not found.unreadable
        return found.sets

    def destroy(self) -> None:
        """The namespace with all that is in it, and its volumes with all that was written."""
        demo.destroy(self.bed.kube, self.bed.kubeconfig, self.namespace, LABELS)


@pytest.fixture(scope="module")
def s3(bed: Bed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """An S3 server that pods reach: on this machine's address in the network of the nodes."""
    served = S3(tmp_path_factory.mktemp("s3"), address=node_address())
    served.start()
    yield served
    served.stop()


@pytest.fixture
def story(bed: Bed, s3: S3, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Story]:
    """A story in a namespace named after its file, which is not there before and after.

    Each holder has an identity of its own at the store, with the rights that are documented.
    """
    name = request.path.stem.removeprefix("test_")
    identities = {holder: s3.identity() for holder in HOLDERS}
    s3.allow(documented(name, identities))
    told = Story(bed, Desk(tmp_path / "desk", s3, name, name, identities))
    told.destroy()
    yield told
    told.destroy()
