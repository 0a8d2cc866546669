"""A drill on the cluster: a set comes back beside the wiki, is looked at, and a poisoned one is not
let pass."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.backups.wiki import attachment_path
from tests.e2e.backups import Story, s3, story
from tests.e2e.inside import Inside
from tests.e2e.patience import eventually
from xwiki_stack.backup import canary, config, evidence, report
from xwiki_stack.backup.store import Store

__all__ = ["s3", "story"]

SMALL = {"resources": {"requests": {"cpu": "10m", "memory": "64Mi"}}}

DRILL: dict[str, Any] = {
    "enabled": True,
    "maxAgeDays": 35,
    "volume": {"size": "1Gi"},
    "mysql": SMALL,
    "xwiki": SMALL,
}


def desk(story: Story, folder: Path) -> config.Config:
    """The operator's own configuration, of one to whom drills are promised."""
    document = yaml.safe_load(story.desk.configure().read_text())
    document["drill"] = {"rtoHours": 2, "maxAgeDays": 35}
    path = folder / "backup.yaml"
    path.write_text(yaml.safe_dump(document))
    return config.load(path)


def drills(known: config.Config) -> list[evidence.Record]:
    records = evidence.read(Store(known), known.need_trusted())
    return [record for record in records if record.kind == evidence.DRILL]


def test_a_whole_set_passes_and_a_poisoned_one_does_not(story: Story, tmp_path: Path) -> None:
    bed = story.bed
    story.begin()
    story.install(drill=DRILL, retention={"opened": 1}, xarRetention={"opened": 1})
    wiki, known = Inside(bed, story.namespace), desk(story, tmp_path)
    # The first page is the bootstrap Job's, which comes after the wiki.
    eventually(lambda: wiki.status("WebHome", space="Main") == "200")
    assert "token" in story.run("canary")
    for role in ("site", "xar"):
        assert "\nset " in story.run(role)
    assert "  intact  " in story.run("verify")
    for role in ("drill", "drill-xar"):
        assert " held: back in " in story.run(role)
    record, imported = drills(known)
    assert record.held and imported.held
    assert (record.sets, imported.sets) == ("site", "xar")
    assert 0 < record.facts["rto_seconds"] <= record.facts["objective_seconds"]
    told = report.status(known)
    assert told.healthy, told.text
    assert f"{record.set}, " in told.text and "back in " in told.text
    # Both sets are proven intact, and by their drills to open: prune may judge them.
    assert story.run("prune").count("0 sets went, 1 stay") == 2
    # The living wiki was not touched: it knows nothing of it.
    assert wiki.status("WebHome", space="Main") == "200"

    # The next set is signed and intact, and its canary has other bytes than its page says.
    path = f"/usr/local/xwiki/data/{attachment_path(canary.PAGE, canary.ATTACHMENTS[0])}"
    wiki.run(f"head -c {canary.SIZE} /dev/urandom > {path}")
    assert "\nset " in story.run("site")
    assert "  intact  " in story.run("verify")
    with pytest.raises(AssertionError, match="canary-attachment: NO: "):
        story.run("drill")
    record = drills(known)[-1]
    assert not record.held
    assert record.facts["failed"].keys() == {"canary-attachment"}
    assert "the last site drill failed: canary-attachment" in report.status(known).text
