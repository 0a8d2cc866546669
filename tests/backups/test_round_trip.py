"""What is backed up comes back: rows and files, byte for byte."""

from tests.backups.wiki import Wiki, command
from xwiki_stack.backup import restore, site


def test_a_wiki_that_was_lost_comes_back_byte_for_byte(wiki: Wiki) -> None:
    rows, tree = wiki.rows(), wiki.tree()
    lines: list[str] = []
    outcome = site.run(wiki.loaded(), lines.append)
    made = outcome.found.manifest
    assert made.tables[f"{wiki.schema}.nasty"] == len(rows["nasty"]) > 50
    assert made.tables[f"{wiki.schema}.empty_one"] == 0
    assert made.attachments == {"rows": 5, "bytes": 15010, "elsewhere": 0, "misses": 0}
    assert made.position["gtid"] and made.position["file"].startswith("binlog.")
    wiki.destroy()
    assert wiki.tree() == {}
    restored = restore.restore(wiki.loaded(account="root"), restore.Wish(), lines.append)
    assert restored.found == outcome.found
    assert wiki.rows() == rows
    assert wiki.tree() == tree
    assert wiki.server.sql(f"SHOW PROCEDURE STATUS WHERE Db = '{wiki.schema}'")
    assert wiki.server.sql("SELECT COUNT(*) FROM seen", wiki.schema) == ["5"]


def test_the_command_tells_its_story_without_a_secret(wiki: Wiki) -> None:
    said = []
    for words in (["status"], ["run"], ["list"], ["show"], ["verify", "--opened"], ["status"],
                  ["prune"], ["restore"]):  # fmt: skip
        result = command(wiki, *words)
        said.append(result.out + result.err)
        print(words, result.code, result.out, result.err)
        assert "Traceback" not in said[-1]
    text = "".join(said)
    assert not [secret for secret in wiki.secrets if secret in text]
