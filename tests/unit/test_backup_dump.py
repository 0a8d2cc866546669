"""What the scanner says of a dump, whatever stands in its values and wherever chunks are cut."""

import random
import time

import pytest

from xwiki_stack.backup.dump import Scanner, Summary, Unswitched

HEAD = b"""-- MySQL dump 10.13  Distrib 9.7.1, for Linux (x86_64)
-- Server version\t9.7.1
-- CHANGE REPLICATION SOURCE TO SOURCE_LOG_FILE='binlog.000002', SOURCE_LOG_POS=1234;
/* SET @@GLOBAL.GTID_PURGED=/*!80000 '+'*/ 'aaaa-bb:1-5,
cccc-dd:1-7';*/
USE `xwiki`;
"""

DOCUMENTS = b"""CREATE TABLE `xwikidoc` (
  `XWD_ID` bigint NOT NULL,
  `XWD_FULLNAME` varchar(700) NOT NULL,
  `XWD_CONTENT` longtext,
  PRIMARY KEY (`XWD_ID`)
) ENGINE=InnoDB;
"""

ATTACHMENTS = b"""CREATE TABLE `xwikiattachment` (
  `XWA_ID` bigint NOT NULL,
  `XWA_DOC_ID` bigint NOT NULL,
  `XWA_FILENAME` varchar(255),
  `XWA_SIZE` int,
  `XWA_LONGSIZE` bigint NOT NULL DEFAULT '-1',
  `XDD_CONTENTSTORE` varchar(50) DEFAULT NULL
) ENGINE=InnoDB;
"""

ODD = b"INSERT INTO `odd``name` (`a'),(b`, `c`) VALUES "

INTO = b"INSERT INTO `xwikidoc` VALUES "

END = b"-- Dump completed on 2026-11-26  5:30:00\n"

PIECES = ["),(", "');", "'", '"', "\\", "\n", "\r", "\0", "`", "INSERT INTO `t` VALUES (", "é", ";",
          "--", "a" * 90, ",", "(", ")"]  # fmt: skip


def escaped(text: str) -> bytes:
    """A value as mysqldump writes it."""
    for plain, written in (("\\", "\\\\"), ("'", "\\'"), ('"', '\\"'), ("\n", "\\n"),
                           ("\r", "\\r"), ("\0", "\\0")):  # fmt: skip
        text = text.replace(plain, written)
    return b"'" + text.encode() + b"'"


def scan(dump: bytes, cuts: "random.Random | int" = 0) -> Summary:
    """Feed a dump in chunks: of one size, or of random ones."""
    scanner = Scanner(lambda schema: f"wiki-{schema}")
    position = 0
    while position < len(dump):
        step = cuts.randrange(1, 40) if isinstance(cuts, random.Random) else cuts or len(dump)
        scanner.feed(dump[position : position + step])
        position += step
    scanner.end()
    return scanner.summary


@pytest.mark.parametrize("seed", range(20))
def test_rows_and_names_are_right_whatever_the_values_hold(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311

    def text() -> str:
        return "".join(chance.choice(PIECES) for _ in range(chance.randrange(8)))

    names = [text() for _ in range(chance.randrange(1, 12))]
    rows = [b"(%d,%d,%s,%s,%s)" % (n, n + 100, escaped(name),
                                   chance.choice([b"%d,-1", b"NULL,%d", b"7,%d"]) % (n * 10),
                                   chance.choice([b"'file'", b"'hibernate'", b"NULL"]))
            for n, name in enumerate(names)]  # fmt: skip
    pages = [b"(%d,%s,%s)" % (n + 100, escaped(f"Space.{name}"), escaped(text() * 50))
             for n, name in enumerate(names)]  # fmt: skip
    others = [b"(%d,NULL,0x%s,%s,-1.5e3)" % (n, text().encode().hex().encode() or b"00",
                                             escaped(text())) for n in range(7)]  # fmt: skip
    dump = (HEAD + ATTACHMENTS + b"INSERT INTO `xwikiattachment` VALUES " + b",".join(rows) + b";\n"
            + b"CREATE TABLE `odd``name` (\n  `a'),(b` int\n) ENGINE=InnoDB;\n"
            + ODD + b",".join(others) + b";\n"
            + b"INSERT INTO `odd``name` VALUES " + b",".join(others) + b";\n"
            + DOCUMENTS + INTO + b",".join(pages) + b";\n" + END)  # fmt: skip
    for cuts in (0, 1, 7, chance):
        found = scan(dump, cuts)
        assert found.tables == {
            "xwiki.xwikiattachment": len(rows), "xwiki.odd`name": 14, "xwiki.xwikidoc": len(pages)
        }  # fmt: skip
        on_disk = [(n, name) for n, name in enumerate(names) if b"'hibernate'" not in rows[n][-12:]]
        assert [(row.wiki, row.page, row.name, row.size) for row in found.attachments.rows] == [
            ("wiki-xwiki", str(n + 100), name, n * 10) for n, name in on_disk
        ]
        assert found.attachments.elsewhere == len(rows) - len(on_disk)
        for n, name in on_disk:
            assert found.attachments.pages["wiki-xwiki", str(n + 100)] == f"Space.{name}"
        assert found.complete
        assert found.server == "9.7.1"
        assert (found.position.file, found.position.offset) == ("binlog.000002", 1234)
        assert found.position.gtid == "aaaa-bb:1-5,cccc-dd:1-7"


def test_code_and_views_are_no_rows() -> None:
    dump = (HEAD + b"DELIMITER ;;\nCREATE PROCEDURE x() BEGIN\nINSERT INTO `t` VALUES (1),(2);\n"
            b"-- Dump completed\nEND ;;\nDELIMITER ;\n" + END)  # fmt: skip
    assert scan(dump).tables == {}
    assert scan(dump).complete
    assert not scan(dump[: -len(END)]).complete


def test_the_trailer_counts_only_as_the_last_line() -> None:
    assert not scan(HEAD + END + b"CREATE TABLE `t` (\n").complete
    assert not scan(HEAD + b"INSERT INTO `t` VALUES (1),(2)").complete


def test_a_huge_value_costs_no_memory() -> None:
    import tracemalloc

    scanner = Scanner(lambda schema: schema)
    scanner.feed(
        HEAD + ATTACHMENTS + b"INSERT INTO `xwikiattachment` VALUES (1,7,'f.png',1,1,'file');\n"
    )
    scanner.feed(DOCUMENTS + b"INSERT INTO `xwikidoc` VALUES (1,'S.P','")
    chunk = (b"text\\n with \\' and ),( " * 12000)[: 256 * 1024 - 1] + b"\\"
    tracemalloc.start()
    for _ in range(100):
        scanner.feed(chunk)
        scanner.feed(b"\\")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    scanner.feed(b"'),(7,'S.Q','x');\n" + END)
    assert scanner.summary.tables["xwiki.xwikidoc"] == 2
    assert scanner.summary.attachments.pages["xwiki", "7"] == "S.Q"
    assert peak < 8 * 2**20


def test_it_reads_faster_than_a_dump_comes() -> None:
    row = b"(%d,'Space.Page name','some words, it\\'s a ),( text with more of them',NULL,0xAB)"
    line = b"INSERT INTO `big` VALUES " + b",".join(row % n for n in range(12000)) + b";\n"
    scanner = Scanner(lambda schema: schema)
    scanner.feed(HEAD)
    began = time.process_time()
    for _ in range(40):
        for start in range(0, len(line), 256 * 1024):
            scanner.feed(line[start : start + 256 * 1024])
    seconds = time.process_time() - began
    assert scanner.summary.tables["xwiki.big"] == 40 * 12000
    # Far from the real speed, so that a loaded machine does not decide; a parser in Python fails.
    assert 40 * len(line) / seconds > 40e6


SWITCHED = b"""-- MySQL dump
SET @MYSQLDUMP_TEMP_LOG_BIN = @@SESSION.SQL_LOG_BIN;
SET @@SESSION.SQL_LOG_BIN= 0;
INSERT INTO `t` VALUES ('SET @@SESSION.SQL_LOG_BIN= 0;'),('a\\nSET @@SESSION.SQL_LOG_BIN= 0;\\n');
SET @@GLOBAL.GTID_PURGED=/*!80000 '+'*/ 'aaaa-bb:1-5,
cccc-dd:1-7';
INSERT INTO `t` VALUES ('\\nSET @@GLOBAL.GTID_PURGED=','b');
SET @@SESSION.SQL_LOG_BIN = @MYSQLDUMP_TEMP_LOG_BIN;
-- Dump completed"""


@pytest.mark.parametrize("size", [1, 2, 7, 30, 64, 150, 1000])
def test_statements_that_only_an_administrator_may_run_are_left_out(size: int) -> None:
    out: list[bytes] = []
    statements = Unswitched(out.append)
    for start in range(0, len(SWITCHED), size):
        statements.feed(SWITCHED[start : start + size])
    statements.end()
    lines = SWITCHED.split(b"\n")
    assert b"".join(out).split(b"\n") == [lines[0], lines[1], lines[3], lines[6], lines[8]]
