"""The story that this project exists for: written, saved, destroyed, brought back, identical.

By the chart's own CronJobs and an S3 server on the node network; the way back is the text of
docs/runbooks/restore-site.md, block by block.
"""

import secrets as random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import LIGHT, Bed, make_namespace, settled
from tests.e2e.inside import LOGIN, REST, Inside
from tests.e2e.patience import eventually
from xwiki_stack import cluster, demo, up
from xwiki_stack.backup import manifest
from xwiki_stack.backup.config import load
from xwiki_stack.backup.store import Store
from xwiki_stack.cluster.objectstore import ObjectStore, node_address
from xwiki_stack.desk import BACKUPS, Desk
from xwiki_stack.errors import StackError
from xwiki_stack.render import Values
from xwiki_stack.runbook import FOLDER, Runbook

NAMESPACE = "brought-back"
LABELS = {"pod-security.kubernetes.io/enforce": "restricted"}
PAGE = "/rest/wikis/xwiki/spaces/Tests/pages/Story"


@pytest.fixture(scope="module")
def s3(bed: Bed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """An S3 server that pods reach: on this machine's address in the network of the nodes."""
    served = ObjectStore(tmp_path_factory.mktemp("s3"), address=node_address())
    served.start()
    yield served
    served.stop()


@pytest.fixture
def desk(s3: ObjectStore, tmp_path: Path) -> Desk:
    """What the operator holds outside the cluster: it survives the namespace."""
    return Desk(tmp_path / "desk", s3, "story", NAMESPACE)


@pytest.fixture
def empty(bed: Bed) -> Iterator[Bed]:
    """The cluster without the story's namespace, before and after."""
    destroy(bed)
    yield bed
    destroy(bed)


def destroy(bed: Bed) -> None:
    """The namespace with all that is in it, and its volumes with all that was written."""
    demo.destroy(bed.kube, bed.kubeconfig, NAMESPACE, LABELS)


def values(bed: Bed, desk: Desk) -> list[Values]:
    return [*up.values("local", bed.name), LIGHT, desk.values()]


def runbook(bed: Bed, desk: Desk, name: str) -> Runbook:
    """A page, with the variables that an operator edits."""
    env = {**cluster.environment(bed.name), **desk.variables(values(bed, desk), PAGE)}
    return Runbook(FOLDER / name, demo.with_command(env))


def run(bed: Bed, role: str) -> str:
    """Run a CronJob's job now; its log. AssertionError with the log when it fails."""
    job = f"{role}-{random.token_hex(3)}"
    source = f"--from=cronjob/{BACKUPS}-{role}"
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


def sets(desk: Desk) -> list[manifest.Found[manifest.Site]]:
    """All sets of the story, oldest first, as the desk sees them."""
    known = load(desk.configure())
    found = manifest.listing(Store(known), known.need_trusted(), "story", manifest.Site)
    assert not found.unreadable
    return found.sets


def test_page_and_attachment_come_back_after_namespace_and_volumes_are_gone(
    empty: Bed, desk: Desk
) -> None:
    bed = empty
    make_namespace(bed, NAMESPACE)
    desk.furnish(bed.kube)
    bed.release(NAMESPACE).install(values(bed, desk))
    eventually(lambda: settled(bed, NAMESPACE), seconds=300)
    wiki = Inside(bed, NAMESPACE)
    assert wiki.write("Story") == "201"
    assert wiki.attach("Story", "file.bin", "x") == "201"
    page, digest = wiki.run(f"{LOGIN} {REST}/Story"), wiki.digest("Story", "file.bin")

    assert "\nset " in run(bed, "site")
    assert "  intact  " in run(bed, "verify")
    destroy(bed)

    (first,) = sets(desk)
    # What an operator does who has nothing but the kit: the key is tried before anything else.
    lost = runbook(bed, desk, "lost-node.md")
    (opening,) = lost.of("2.")
    assert "opens the newest set today" in lost.run(opening)

    book = runbook(bed, desk, "restore-site.md")
    said: dict[str, str] = {}
    for block in book.steps:
        said[block.heading] = said.get(block.heading, "") + book.run(block)
        if block.heading.startswith("5."):
            with pytest.raises(StackError, match=r"hold \d+ tables"):
                book.run(block)  # a target that holds something is never touched
    by_number = {heading[:2]: text for heading, text in said.items()}
    assert sorted(by_number) == ["1.", "3.", "4.", "5.", "6.", "7.", "8."]
    assert first.manifest.id in by_number["1."]
    assert "start XWiki now" in by_number["5."]
    assert by_number["7."].strip() == page
    assert wiki.run(f"{LOGIN} {REST}/Story") == page
    assert wiki.digest("Story", "file.bin") == digest
    # And it goes on from there: the next set is chained to the one that was restored.
    assert "\nset " in by_number["8."]
    newest = sets(desk)[-1].manifest
    assert newest.previous == {"id": first.manifest.id, "sha256": first.sha256}
    # The key that opens sets has left the cluster.
    assert bed.kube.get("Secret", f"{BACKUPS}-recovery", NAMESPACE) is None
