"""Production's set in staging: it sends no mail, answers to staging's host, and says so.

The tables are made as XWiki's mapping says (xwiki.hbm.xml); no XWiki has read them here.
"""

from typing import Any

import pytest

from tests.backups.wiki import Wiki, command
from xwiki_stack.backup.rewrite import MAIL_OFF, Hosts

TABLES = """
CREATE TABLE xwikiobjects (XWO_ID BIGINT NOT NULL PRIMARY KEY, XWO_NUMBER INT,
  XWO_NAME VARCHAR(768) NOT NULL, XWO_CLASSNAME VARCHAR(768) NOT NULL, XWO_GUID VARCHAR(255));
CREATE TABLE xwikiproperties (XWP_ID BIGINT NOT NULL, XWP_NAME VARCHAR(255) NOT NULL,
  XWP_CLASSTYPE VARCHAR(768), PRIMARY KEY (XWP_ID, XWP_NAME));
CREATE TABLE xwikistrings (XWS_ID BIGINT NOT NULL, XWS_NAME VARCHAR(255) NOT NULL,
  XWS_VALUE VARCHAR(768), PRIMARY KEY (XWS_ID, XWS_NAME));
CREATE TABLE xwikilargestrings (XWL_ID BIGINT NOT NULL, XWL_NAME VARCHAR(255) NOT NULL,
  XWL_VALUE LONGTEXT, PRIMARY KEY (XWL_ID, XWL_NAME));
CREATE TABLE xwikipreferences (XWP_ID BIGINT NOT NULL PRIMARY KEY, XWP_LANGUAGE VARCHAR(255),
  XWP_SMTP_SERVER VARCHAR(255), XWP_META TEXT, XWP_MULTI_LINGUAL INT);
"""

OBJECTS = {
    1: ("Mail.MailConfig", "Mail.SendMailConfigClass"),
    2: ("XWiki.XWikiServerXwiki", "XWiki.XWikiServerClass"),
    3: ("XWiki.XWikiServerSub", "XWiki.XWikiServerClass"),
    4: ("XWiki.XWikiPreferences", "XWiki.XWikiPreferences"),
    5: ("Some.Page", "Some.Class"),
    6: ("XWiki.XWikiServerFar", "XWiki.XWikiServerClass"),
}

STRINGS = {
    (1, "host"): "smtp.example.org",
    (1, "username"): "mailer",
    (1, "password"): "the-mail-password",
    (1, "from"): "wiki@wiki.example.org",
    (2, "server"): "wiki.example.org",
    (2, "wikiprettyname"): "Wiki of wiki.example.org",
    (3, "server"): "sub.wiki.example.org",
    (6, "server"): "elsewhere.example.net",
    (4, "smtp_server"): "smtp.example.org",
    (4, "title"): "ünïcode 𝄞 wiki.example.org's",
    (4, "skin"): "flamingo",
    (5, "link"): "https://wiki.example.org/x",
}

LARGE = {
    (1, "properties"): "mail.smtp.host=smtp.example.org\nmail.smtp.starttls.enable=true",
    (4, "javamail_extra_props"): "mail.smtp.host=smtp.example.org",
    (4, "footer"): "a\tb\\c 'x'\nhttps://wiki.example.org:8443/y, notwiki.example.org,"
    " me@wiki.example.org",
}


def sql(text: str) -> str:
    return f"CONVERT(0x{text.encode().hex()} USING utf8mb4)"


def fill(wiki: Wiki) -> None:
    lines = [TABLES]
    for number, (page, owner) in OBJECTS.items():
        lines.append(f"INSERT INTO xwikiobjects VALUES ({number}, 0, '{page}', '{owner}', 'g');")
    for table, values in (("xwikistrings", STRINGS), ("xwikilargestrings", LARGE)):
        for (number, name), text in values.items():
            lines.append(f"INSERT INTO xwikiproperties VALUES ({number}, '{name}', 'x');")
            lines.append(f"INSERT INTO {table} VALUES ({number}, '{name}', {sql(text)});")
    lines.append("INSERT INTO xwikistrings VALUES (2, 'owner', NULL);")
    lines.append("INSERT INTO xwikipreferences VALUES (4, 'en', 'smtp.example.org',"
                 " 'see wiki.example.org', 0);")  # fmt: skip
    wiki.server.sql("\n".join(lines), wiki.schema)


def values(wiki: Wiki, table: str, prefix: str) -> dict[tuple[int, str], str]:
    rows = wiki.server.sql(
        f"SELECT {prefix}_ID, {prefix}_NAME, IFNULL(HEX({prefix}_VALUE), '') FROM {table}",
        wiki.schema,
    )
    cells = [row.split("\t") for row in rows]
    return {(int(a), b): bytes.fromhex(c).decode() for a, b, c in cells}


HERE: dict[str, Any] = {"environment": "staging",
        "purpose": "staging", "host": "staging.example.org",
        "foreignHosts": ["wiki.example.org"]}  # fmt: skip


@pytest.fixture
def lost(wiki: Wiki) -> Wiki:
    """Production with a set, and an empty target."""
    fill(wiki)
    wiki.environment, wiki.purpose = "prod", "prod"
    wiki.write("xwiki.cfg", b"xwiki.home=https://wiki.example.org/\n")
    said = command(wiki, "run")
    assert said.code == 0, said.err
    wiki.destroy()
    return wiki


def test_prods_set_in_staging_sends_no_mail_and_has_staging_s_host(lost: Wiki) -> None:
    said = command(lost, "restore", "--from", "prod", account="root", **HERE)
    assert said.code == 0, said.err
    host = "staging.example.org"
    assert values(lost, "xwikistrings", "XWS") == {
        **STRINGS,
        (1, "host"): MAIL_OFF,
        (1, "username"): "",
        (1, "password"): "",
        (2, "server"): host,
        (3, "server"): f"sub.{host}",
        (4, "smtp_server"): MAIL_OFF,
        (4, "title"): f"ünïcode 𝄞 {host}'s",
        (2, "owner"): "",
    }
    large = values(lost, "xwikilargestrings", "XWL")
    assert large == {
        (1, "properties"): "",
        (4, "javamail_extra_props"): "",
        (4, "footer"): f"a\tb\\c 'x'\nhttps://{host}:8443/y, notwiki.example.org,"
        " me@wiki.example.org",
    }
    assert lost.server.sql("SELECT XWP_SMTP_SERVER, XWP_META FROM xwikipreferences",
                           lost.schema) == [f"{MAIL_OFF}\tsee {host}"]  # fmt: skip
    told = [line for line in said.out.splitlines() if line.startswith("rewrite: ")]
    assert len([line for line in told if ": emptied" in line]) == 4
    assert any("Mail.MailConfig, Mail.SendMailConfigClass.host: 'smtp.example.org'" in t
               for t in told)  # fmt: skip
    assert any("XWiki.XWikiServerFar answers to 'elsewhere.example.net'" in t for t in told)
    assert "the-mail-password" not in said.out + said.err
    assert "xwiki.cfg is left out" in said.out
    assert not (lost.root / "xwiki.cfg").exists()
    assert (lost.root / "configuration.properties").exists()


def test_prods_own_set_comes_back_to_prod_as_it_was(lost: Wiki) -> None:
    said = command(lost, "restore", account="root")
    assert said.code == 0, said.err
    assert values(lost, "xwikistrings", "XWS") == {**STRINGS, (2, "owner"): ""}
    assert values(lost, "xwikilargestrings", "XWL") == LARGE
    assert "rewrite" not in said.out
    assert (lost.root / "xwiki.cfg").exists()


def test_without_a_host_nothing_is_touched(lost: Wiki) -> None:
    said = command(lost, "restore", "--from", "prod", account="root", **{**HERE, "host": ""})
    assert said.code == 2
    without = {key: value for key, value in HERE.items() if key != "host"}
    said = command(lost, "restore", "--from", "prod", account="root", **without)
    assert said.code == 2
    assert "host: is missing" in said.err
    assert lost.server.sql(f"SHOW DATABASES LIKE '{lost.schema}'") == []


def test_what_could_not_be_changed_is_a_failure(
    lost: Wiki, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xwiki_stack.backup import rewrite

    monkeypatch.setattr(rewrite.Change, "statement", property(lambda _self: "DO 0;"))
    said = command(lost, "restore", "--from", "prod", account="root", **HERE)
    assert said.code == 8
    assert "could not be changed" in said.err
    assert "do not start XWiki on it" in said.err


@pytest.mark.parametrize(
    ("text", "moved"),
    [
        ("wiki.example.org", "staging.wiki.example.org"),
        ("WIKI.example.org/x", "staging.wiki.example.org/x"),
        ("https://a.wiki.example.org.", "https://a.staging.wiki.example.org."),
        ("staging.wiki.example.org", "staging.wiki.example.org"),
        ("x@wiki.example.org", "x@wiki.example.org"),
        ("mywiki.example.org", "mywiki.example.org"),
        ("wiki.example.org.uk", "wiki.example.org.uk"),
        ("wiki.example.organic", "wiki.example.organic"),
        ("old.example.org, wiki.example.org", "staging.wiki.example.org, staging.wiki.example.org"),
    ],
)
def test_a_host_is_moved_as_a_whole_name(text: str, moved: str) -> None:
    hosts = Hosts("staging.wiki.example.org", ["wiki.example.org", "old.example.org"])
    assert hosts.moved(text) == moved
    assert hosts.moved(moved) == moved
