"""XWiki's own export on the cluster, by the text of docs/runbooks/restore-xar.md."""

from urllib.parse import quote, unquote

from tests.e2e.backups import Story, s3, story
from tests.e2e.inside import LOGIN, REST, Inside
from xwiki_stack.desk import BACKUPS
from xwiki_stack.runbook import Runbook

__all__ = ["s3", "story"]


def below(book: Runbook, *headings: str) -> str:
    """Run the blocks below these headings; what they said."""
    return "".join(book.run(block) for heading in headings for block in book.of(heading))


def test_one_page_comes_back_beside_the_live_one_and_all_into_a_fresh_wiki(story: Story) -> None:
    story.begin()
    story.install()
    wiki = Inside(story.bed, story.namespace)
    assert wiki.write("Story") == "201"
    assert wiki.attach("Story", "file.bin", "x", size=200_000) == "201"
    saved, digest = wiki.run(f"{LOGIN} {REST}/Story"), wiki.digest("Story", "file.bin")
    made = story.run("xar")
    assert "\nset " in made

    # Somebody spoils the page and the attachment: what was saved comes back beside them.
    assert wiki.write("Story", content="spoiled") == "202"
    assert wiki.attach("Story", "file.bin", "y", size=200_000) == "202"
    spoiled = wiki.digest("Story", "file.bin")
    book = story.runbook("restore-xar.md", page="Tests.Story")
    said = below(book, "1.", "2.", "B.")
    name = next(line for line in said.splitlines() if line.startswith("made xwiki:Tests.Story"))
    beside = name.removeprefix("made xwiki:Tests.").partition(": ")[0].replace("\\.", ".")
    assert beside.startswith("Story (restored ")
    there = wiki.run(f"{LOGIN} --fail {REST}/{quote(beside)}")
    assert "<content>c</content>" in there
    assert wiki.digest(quote(beside), "file.bin") == digest
    assert "<content>spoiled</content>" in wiki.run(f"{LOGIN} {REST}/Story")
    assert wiki.digest("Story", "file.bin") == spoiled
    one = below(Runbook(book.page, {**book.env, "ATTACHMENT": "file.bin"}), "B.")
    day = beside.removeprefix("Story ")
    assert f"file {day}.bin" in unquote(one)
    assert wiki.digest("Story", quote(f"file {day}.bin")) == digest
    assert wiki.digest("Story", "file.bin") == spoiled

    story.destroy()
    story.begin()
    said = below(book, "2.", "A1.", "A2.", "3.")
    assert "restored " in said
    assert wiki.run(f"{LOGIN} {REST}/Story") == saved
    assert wiki.digest("Story", "file.bin") == digest
    recovery = story.bed.kube.get("Secret", f"{BACKUPS}-recovery", story.namespace)
    assert recovery is None
