"""What is backed up comes back: rows and files, byte for byte."""

import pytest

from tests.backups.wiki import Wiki, command
from xwiki_stack.backup import progress, restore, site


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


def test_long_work_says_how_far_it_is(wiki: Wiki, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS", 0)
    sent = command(wiki, "run")
    read = command(wiki, "verify", "--opened")
    wiki.destroy()
    lines: list[str] = []
    restore.restore(wiki.loaded(account="root"), restore.Wish(), lines.append)
    said = "\n".join([sent.out, read.out, *lines])
    for words in ("sent: ", "read: ", "opening: ", "database: ", "files: "):
        assert [line for line in said.splitlines() if line.startswith(words) and "/s" in line], said


def test_the_command_tells_its_story_without_a_secret(wiki: Wiki) -> None:
    said = []
    for words, code, told in (
        (["status"], 5, "there is no site set"),
        (["run"], 0, "all 5 rows of the dump have their file"),
        (["list"], 0, "INTACT"),
        (["show"], 0, "dumped by"),
        (["verify", "--opened"], 0, "opened"),
        (["status"], 0, "all good"),
        (["prune"], 0, "keep"),
        (["restore"], 6, "hold 6 tables"),
    ):
        result = command(wiki, *words, apart=words in (["run"], ["restore"]))
        said.append(result.out + result.err)
        assert result.code == code, said[-1]
        assert told in said[-1]
        assert "Traceback" not in said[-1]
    assert not [secret for secret in wiki.secrets if secret in "".join(said)]


def test_a_mistake_of_the_configuration_is_one_line_that_helps(wiki: Wiki) -> None:
    for changes, words in (
        ({"store__buckett": "x"}, "did you mean 'bucket'?"),
        ({"purpose": "stagin"}, "did you mean 'staging'?"),
        ({"database": None}, "database: is missing"),
        ({"keys__signingKeyFile": "/nowhere"}, "/nowhere cannot be read: No such file"),
    ):
        result = command(wiki, "run", **changes)
        assert result.code == 2, result.err
        assert words in result.err
        assert len(result.err.splitlines()) == 1
