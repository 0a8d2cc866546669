"""The story that this project exists for: written, saved, destroyed, brought back, identical.

By the chart's own CronJobs and an S3 server on the node network; the steps of the restore are those
of charts/backups/README.md.
"""

import pytest

from tests.e2e.backups import Story, s3, story
from tests.e2e.inside import LOGIN, REST, Inside

__all__ = ["s3", "story"]


def test_page_and_attachment_come_back_after_namespace_and_volumes_are_gone(story: Story) -> None:
    story.begin("writer", "verifier", "prune")
    story.install()
    wiki = Inside(story.bed, story.namespace)
    assert wiki.write("Story") == "201"
    assert wiki.attach("Story", "file.bin", "x") == "201"
    page, digest = wiki.run(f"{LOGIN} {REST}/Story"), wiki.digest("Story", "file.bin")

    assert "\nset " in story.run("site")
    assert "  intact  " in story.run("verify")
    story.destroy()

    story.begin("recovery", "writer")
    story.install("mysql", wiki={"stopped": True})
    assert "start XWiki now" in story.run("restore")
    with pytest.raises(AssertionError, match=r"hold \d+ tables"):
        story.run("restore")  # a target that holds something is never touched
    story.install()
    assert wiki.run(f"{LOGIN} {REST}/Story") == page
    assert wiki.digest("Story", "file.bin") == digest
    # And it goes on from there: the next set is chained to the one that was restored.
    assert "\nset " in story.run("site")
