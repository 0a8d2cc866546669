"""A wiki from elsewhere becomes a set: what the real mysqldump writes, as people call it."""

import gzip
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from tests.backups.wiki import Wiki, command
from xwiki_stack import proc
from xwiki_stack.backup import imports, restore
from xwiki_stack.errors import IntentError

SNAPSHOT = "2026-11-20T05:30:00Z"

SANDBOX = b"/*M!999999\\- enable the sandbox mode */ \n"


def silent(_line: str) -> None:
    """Nobody listens."""


def dumped(wiki: Wiki, *words: str) -> bytes:
    """What mysqldump says, called as an owner calls it."""
    options = (f"[client]\nhost=127.0.0.1\nport={wiki.server.port}\nuser=root\n"
               f"password={wiki.server.password}\n")  # fmt: skip
    argv = [str(wiki.server.programs / "mysqldump"), f"--defaults-file={proc.HANDED}", *words]
    return proc.run(argv, handed=options, timeout=60).out.encode()


def bring(wiki: Wiki, dump: bytes, *words: str, name: str = "wiki.sql") -> proc.Result:
    """The command on a dump, in a file; all it said."""
    path = wiki.folder / name
    path.write_bytes(dump)
    argv = ["--dump", str(path), "--data", str(wiki.root), "--snapshot", SNAPSHOT, *words]
    return command(wiki, "import", *argv)


@pytest.fixture
def foreign(wiki: Wiki) -> Wiki:
    """A wiki with what a plain Docker volume has beside: settings of the place it is from."""
    wiki.write("hibernate.cfg.xml", b"<property name='connection.password'>old secret</property>")
    # XWiki has no code in its schemas; whoever brings some needs an administrator to restore it.
    wiki.server.sql("DROP TRIGGER noted; DROP PROCEDURE fill; DROP VIEW seen", wiki.schema)
    return wiki


CALLS: dict[str, tuple[Callable[[str], list[str]], Callable[[bytes], bytes], list[str]]] = {
    "plain": (lambda s: ["--hex-blob", s], bytes, ["--schema"]),
    "databases": (lambda s: ["--databases", s], bytes, []),
    "gz": (lambda s: ["--single-transaction", "--hex-blob", s], gzip.compress, ["--schema"]),
    "zst": (lambda s: ["--hex-blob", "--routines", "--databases", s],
            zstandard.ZstdCompressor().compress, []),
    "one row each": (lambda s: ["--skip-extended-insert", "--complete-insert", "--hex-blob", s],
                     bytes, ["--schema"]),
    "no transactions told": (lambda s: ["--set-gtid-purged=OFF", "--databases", "--hex-blob", s],
                             bytes, []),
    "two members": (lambda s: ["--hex-blob", s],
                    lambda d: gzip.compress(d[:1000]) + gzip.compress(d[1000:]), ["--schema"]),
    "MariaDB's client": (lambda s: ["--hex-blob", s], lambda d: SANDBOX + d, ["--schema"]),
}  # fmt: skip
"""Words for mysqldump, what packs it, words for us."""


@pytest.mark.parametrize("call", CALLS)
def test_a_dump_as_people_make_it_comes_back(foreign: Wiki, call: str) -> None:
    wiki, (words, pack, own) = foreign, CALLS[call]
    # Bytes that are no text are lost where the test reads a dump as text; --hex-blob spares them.
    wiki.server.sql("DELETE FROM nasty" if call == "databases" else "DO 0", wiki.schema)
    rows, tree = wiki.rows(), wiki.tree()
    del tree["hibernate.cfg.xml"]
    said = bring(wiki, pack(dumped(wiki, *words(wiki.schema))), *[
        part for word in own for part in (word, wiki.schema)
    ])  # fmt: skip
    assert said.code == 0, said.err
    assert "all 5 rows of the dump have their file" in said.out
    assert "hibernate.cfg.xml is left out" in said.out
    assert ("sandbox" in said.out) == (call == "MariaDB's client")
    (name,) = wiki.sets()
    assert name.startswith("20261120T053000Z-")
    assert "intact" in command(wiki, "verify", name, "--opened").out
    assert "import" in command(wiki, "show", name).out
    wiki.destroy()
    # By an account that may do to its own schema what it likes, and nothing else.
    owner = f"o_{wiki.schema}"
    wiki.server.sql(
        f"CREATE USER IF NOT EXISTS {owner} IDENTIFIED BY '{wiki.passwords['backup']}';"
        f"GRANT ALL ON `{wiki.schema}`.* TO {owner}"
    )
    known = wiki.loaded(database__user=owner)
    restore.restore(known, restore.Wish(name), silent)
    assert wiki.rows() == rows
    assert wiki.tree() == tree
    wiki.server.sql(f"DROP USER {owner}")


def test_the_next_run_goes_on_from_there(wiki: Wiki) -> None:
    bring(wiki, dumped(wiki, "--databases", "--hex-blob", wiki.schema))
    (name,) = wiki.sets()
    assert command(wiki, "run").code == 0
    assert name in command(wiki, "show").out


def broken(wiki: Wiki, dump: bytes) -> dict[str, tuple[bytes, list[str], int, str]]:
    """Each with the dump, more words, the exit code and what is said."""
    named = dump.replace(b"-- Host", f"USE `{wiki.schema}`;\n-- Host".encode(), 1)
    schema = ["--schema", wiki.schema]
    packed = gzip.compress(dump)
    head, rows = dump.split(b"-- Dumping data for table `xwikidoc`", 1)
    empty = head + b"-- Dumping" + rows[rows.index(b"UNLOCK TABLES") :]
    maria = dump.replace(b"-- Server version\t9.7", b"-- Server version\t10.11.6-MariaDB 9.7", 1)
    return {
        "cut": (dump[: len(dump) * 2 // 3], schema, 8, "has no end"),
        "cut at a line": (dump[: dump.rindex(b"-- Dump completed")], schema, 8, "has no end"),
        "packed and cut": (packed[: len(packed) // 2], schema, 8, "does not unpack"),
        "packed and damaged": (packed[:-6] + b"abcdef", schema, 8, "does not unpack"),
        "packed and empty": (zlib.compress(b""), schema, 2, "does not begin as a dump"),
        "empty": (b"", schema, 2, "does not begin as a dump"),
        "a page of HTML": (b"<html>login</html>", schema, 2, "does not begin as a dump"),
        "UTF-16": ("﻿".encode("utf-16") + dump.decode().encode("utf-16"), schema, 2, "PowerShell"),
        "no comments": (
            b"\n".join(line for line in dump.splitlines() if not line.startswith(b"-- ")),
            schema, 2, "--skip-comments",
        ),
        "names no schema": (dump, [], 2, f"--schema with one of {wiki.schema}"),
        "named twice": (named, schema, 2, "names its schemas itself"),
        "named for none of ours": (dump, ["--schema", "other"], 2, "none of the wiki's schemas"),
        "of another schema": (named.replace(wiki.schema.encode(), b"other_wiki"), [], 2,
                              "holds schema other_wiki, which is none of the wiki's"),
        "no wiki": (dump.replace(b"`xwikidoc`", b"`ywikidoc`"), schema, 8, "holds no table"),
        "no rows": (empty, schema, 8, "holds no page"),
        "MariaDB's server": (maria, schema, 6, "restore-xar.md"),
    }  # fmt: skip


BROKEN = ["cut", "cut at a line", "packed and cut", "packed and damaged", "packed and empty",
          "empty", "a page of HTML", "UTF-16", "no comments", "names no schema", "named twice",
          "named for none of ours", "of another schema", "no wiki", "no rows",
          "MariaDB's server"]  # fmt: skip


def test_what_is_no_whole_dump_of_the_wiki_is_no_set(wiki: Wiki) -> None:
    cases = broken(wiki, dumped(wiki, "--hex-blob", wiki.schema))
    assert list(cases) == BROKEN
    for case, (dump, words, code, told) in cases.items():
        said = bring(wiki, dump, *words)
        assert said.code == code, f"{case}: {said.code} {said.err} {said.out}"
        assert told in said.err, case
        assert len(said.err.splitlines()) == 1, case
        assert wiki.sets() == [], case


def test_a_schema_too_few_is_noticed(wiki: Wiki) -> None:
    path = wiki.folder / "wiki.sql"
    path.write_bytes(dumped(wiki, "--databases", wiki.schema))
    argv = ["--dump", str(path), "--data", str(wiki.root), "--snapshot", SNAPSHOT]
    said = command(wiki, "import", *argv, database__schemas=[wiki.schema, "second"])
    assert said.code == 8
    assert "holds no table second.xwikidoc" in said.err


def test_lost_attachments_are_named_and_accepted_only_by_word(wiki: Wiki) -> None:
    wiki.attach("Space7.Page", "lost.png", b"x" * 10, row_only=True)
    dump = dumped(wiki, "--databases", "--hex-blob", wiki.schema)
    said = bring(wiki, dump)
    assert said.code == 8
    assert "xwiki:Space7.Page / lost.png: no file" in said.out
    assert "1 of 6 attachments have no file" in said.err
    assert wiki.sets() == []
    said = bring(wiki, dump, "--accept-misses")
    assert said.code == 0, said.err
    assert "delete them in the wiki" in said.out
    assert "1 WITHOUT THEIR FILE" in command(wiki, "show").out
    # No run makes a set of a wiki whose rows lack their files, accepted or not.
    assert command(wiki, "run").code == 8


def test_what_is_given_wrong_is_one_line(wiki: Wiki, tmp_path: Path) -> None:
    dump = dumped(wiki, "--databases", "--hex-blob", wiki.schema)
    path = wiki.folder / "wiki.sql"
    path.write_bytes(dump)
    volume = tmp_path / "volume"
    shutil.copytree(wiki.root, volume / "data", symlinks=True)
    for words, told in (
        (["--dump", "/nowhere", "--data", str(wiki.root)], "/nowhere cannot be read"),
        (["--dump", str(path), "--data", str(tmp_path)], "has no folder `store`"),
        (["--dump", str(path), "--data", str(volume)], f"name {volume}/data"),
    ):
        said = command(wiki, "import", *words, "--snapshot", SNAPSHOT)
        assert (said.code, len(said.err.splitlines())) == (2, 1), said.err
        assert told in said.err
    words = ["--dump", str(path), "--data", str(wiki.root)]
    for moment, told in (
        ("yesterday", "is no moment"),
        ("2026-11-20T05:30:00", "is no moment"),
        ("2199-01-01T00:00:00Z", "lies in the future"),
    ):
        said = command(wiki, "import", *words, "--snapshot", moment)
        assert said.code == 2
        assert told in said.err
    assert wiki.sets() == []


def test_a_moment_has_a_zone() -> None:
    assert imports.moment("2026-11-20T06:30:00+01:00") == imports.moment(SNAPSHOT)
    with pytest.raises(IntentError):
        imports.moment("2026-11-20")
