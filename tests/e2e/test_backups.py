"""The story that this project exists for: written, saved, destroyed, brought back, identical.

By the chart's own CronJobs and an S3 server on the node network; the steps of the restore are the
text of docs/runbooks.
"""

import pytest

from tests.e2e import flows
from tests.e2e.backups import Story, s3, story
from tests.e2e.conftest import Bed
from tests.e2e.inside import LOGIN, REST, Inside
from tests.e2e.patience import eventually
from xwiki_stack.desk import BACKUPS
from xwiki_stack.errors import StackError

__all__ = ["s3", "story"]

WATCHED = {"enabled": True, "every": 10}


def scraped(bed: Bed, namespace: str) -> dict[str, float]:
    """What Prometheus would get of the exporter: name with labels to number."""
    path = f"/api/v1/namespaces/{namespace}/services/{BACKUPS}-exporter:metrics/proxy/metrics"
    lines = bed.kubectl("get", "--raw", path).out.splitlines()
    parts = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    return {name: float(number) for name, _, number in parts}


def test_page_and_attachment_come_back_after_namespace_and_volumes_are_gone(story: Story) -> None:
    bed, desk = story.bed, story.desk
    story.begin()
    story.install(metrics=WATCHED)
    wiki = Inside(bed, story.namespace)
    assert wiki.write("Story") == "201"
    assert wiki.attach("Story", "file.bin", "x") == "201"
    page, digest = wiki.run(f"{LOGIN} {REST}/Story"), wiki.digest("Story", "file.bin")

    assert "\nset " in story.run("site")
    assert "  intact  " in story.run("verify")
    flows.prove(story, "verify", {"dns", "s3"})
    told = f'xwiki_stack_backup_sets{{environment="{desk.environment}",kind="site"}}'
    eventually(lambda: scraped(bed, story.namespace)[told] == 1, seconds=60)
    story.destroy()

    (first,) = story.sets()
    # What an operator does who has nothing but the kit: the key is tried before anything else.
    lost = story.runbook("lost-node.md")
    (opening,) = lost.of("2.")
    assert "opens the newest set today" in lost.run(opening)

    book = story.runbook("restore-site.md")
    said: dict[str, str] = {}
    for block in book.steps:
        said[block.heading] = said.get(block.heading, "") + book.run(block)
        if block.heading.startswith("5."):
            with pytest.raises(StackError, match=r"hold \d+ tables"):
                book.run(block)  # a target that holds something is never touched
            # A set can be made while XWiki is stopped, chained to the one that was restored.
            assert "\nset " in story.run("site")
    by_number = {heading[:2]: text for heading, text in said.items()}
    assert sorted(by_number) == ["1.", "3.", "4.", "5.", "6.", "7.", "8."]
    assert first.manifest.id in by_number["1."]
    assert "start XWiki now" in by_number["5."]
    assert by_number["7."].strip() == page
    assert wiki.run(f"{LOGIN} {REST}/Story") == page
    assert wiki.digest("Story", "file.bin") == digest
    # And it goes on from there: each set is chained to the one before it.
    assert "\nset " in by_number["8."]
    again, stopped, newest = story.sets()
    assert again == first
    for before, after in ((first, stopped), (stopped, newest)):
        assert after.manifest.previous == {"id": before.manifest.id, "sha256": before.sha256}
    # The key that opens sets has left the cluster.
    assert bed.kube.get("Secret", f"{BACKUPS}-recovery", story.namespace) is None
