"""What a running wiki does, as far as the charts, the backups and the tests rely on it.

The same tests run on the real image (`XWIKI_IMAGE=docker.io/library/xwiki:<tag>`) and on the
stand-in. Facts: XWiki's documentation and the source of its image; headings follow
images/xwiki-standin/README.md.
"""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import dropwhile

import pytest
import requests

from tests.contract.conftest import QUICK, Hardening, Start
from tests.contract.wiki import NAMESPACE, SPACES, SUPERADMIN, Schema, Wiki, archive, element
from tests.e2e.patience import eventually

EXPORT = "/bin/export/Main/WebHome?format=xar&name=backup&backup=true"
IMPORT = "/rest/wikis/xwiki?backup=true&history=replace"
OCTETS = "application/octet-stream"
FORM = "application/x-www-form-urlencoded"
GUEST = "xwiki:XWiki.XWikiGuest"
HEADERS = ("XWiki-Version", "XWiki-User", "XWiki-Form-Token")

# 3 to 7. A running wiki: files, settings, life, database, phases


def test_while_it_initialises_pages_answer_202_and_rest_is_held(hardened: Wiki) -> None:
    # /rest may be slow just after, too; between two pages that say 202 it was held for this.
    until_the_last_202 = list(
        dropwhile(lambda page: page != 202, reversed(hardened.boots[0].pages))
    )
    assert len(until_the_last_202) >= 2
    assert set(until_the_last_202) == {202}


def test_only_the_named_places_are_written(hardened: Wiki) -> None:
    """The root is read-only, so that the wiki works is the proof; its data lie where they shall."""
    found = set(hardened.container.execute("ls", "/usr/local/xwiki/data").split())
    assert {"logs", "tmp", "store", "configuration.properties"} <= found


def test_a_variable_beats_a_property_and_a_property_beats_a_file(hardened: Wiki) -> None:
    # That superadmin has the variable's password is what all other tests rest on.
    for password in ("FromProperty7", "FromFile7"):
        answer = hardened.request("GET", "/rest/wikis/xwiki", user=(SUPERADMIN[0], password))
        assert answer.headers["XWiki-User"] == GUEST
    assert "Distribution" not in hardened.request("GET", "/bin/view/Main/", user=None).text


def test_the_log_goes_to_the_console_and_to_the_volume(hardened: Wiki) -> None:
    lines = hardened.read("data/logs/xwiki.log").splitlines()
    assert lines
    assert lines[0] in hardened.container.logs()


def test_cookie_keys_that_no_setting_gives_are_made(hardened: Wiki) -> None:
    made = hardened.read("data/configuration.properties")
    assert "validationKey" in made
    assert "encryptionKey" in made


def test_tables_have_the_names_that_backups_count(hardened: Wiki) -> None:
    tables = set(hardened.schema.query("SHOW TABLES"))
    wanted = {"xwikidoc", "xwikiattachment", "xwikircs", "xwikiattrecyclebin", "xwikidbversion"}
    assert wanted <= tables
    assert int(hardened.schema.query("SELECT MAX(XWV_VERSION) FROM xwikidbversion")[0]) > 0


Broken = Callable[[Start, Callable[..., Schema], Hardening], Wiki]

BROKEN: dict[str, Broken] = {
    "no PROCESS privilege": lambda start, schema, _: start(schema("no_process", process=False)),
    "a password that breaks the XML": lambda start, schema, _: start(
        replace(schema("broken_xml"), password="a&b")
    ),
    "a wrong password": lambda start, schema, _: start(
        replace(schema("wrong_password"), password="wrong")
    ),
    "a read-only work folder": lambda start, schema, hardening: start(
        schema("no_work"), options=hardening(without="work")
    ),
    "a read-only temporary folder": lambda start, schema, hardening: start(
        schema("no_temp"),
        env={"CATALINA_TMPDIR": "/usr/local/tomcat/temp"},
        options=hardening(without="temp"),
    ),
    "a read-only permanent directory": lambda start, schema, hardening: start(
        schema("no_data"),
        env={"JAVA_OPTS": f"{QUICK} -Dxwiki.data.dir=/usr/local/tomcat/webapps"},
        options=hardening(),
    ),
}
"""Starts a wiki that cannot become one, by what is wrong with it."""


@pytest.fixture(params=BROKEN)
def broken(
    request: pytest.FixtureRequest,
    start: Start,
    schema: Callable[..., Schema],
    hardening: Hardening,
) -> Iterator[Wiki]:
    """One after another: a real wiki takes a gigabyte."""
    wiki = BROKEN[request.param](start, schema, hardening)
    yield wiki
    wiki.container.remove()


def test_initialising_fails_for_good(broken: Wiki) -> None:
    assert broken.wait() == 500
    for path in ("/bin/view/Main/?async=false", "/rest/wikis/xwiki"):
        assert broken.request("GET", path, user=None).status_code == 500
    assert broken.container.state()["Running"]


# 8. Probes


def test_rest_answers_with_the_version_and_three_headers(hardened: Wiki) -> None:
    answers = [hardened.request("GET", path, user=None) for path in ("/rest", "/rest/")]
    for answer in answers:
        assert answer.status_code == 200
        root = element(answer)
        assert root.tag == f"{{{NAMESPACE}}}xwiki"
        assert root.text("version") == answer.headers["XWiki-Version"]
        assert answer.headers["XWiki-User"] == GUEST
    assert len({answer.headers["XWiki-Form-Token"] for answer in answers}) == len(answers)


def test_a_reply_that_is_an_error_carries_the_headers_too(hardened: Wiki) -> None:
    answers = {
        401: hardened.request("PUT", f"{SPACES}/Contract/pages/Page", user=None),
        403: hardened.request("POST", IMPORT, body=b"a=b", kind=FORM),
        404: hardened.request("GET", "/rest/wikis/other"),
        500: hardened.request("POST", IMPORT, body=b"no archive", kind=OCTETS),
    }
    for status, answer in answers.items():
        assert answer.status_code == status
        assert [name for name in HEADERS if name not in answer.headers] == []


def test_readiness_answers_for_this_wiki_and_no_other(hardened: Wiki) -> None:
    assert hardened.request("GET", "/rest/wikis/xwiki", user=None).status_code == 200
    assert hardened.request("GET", "/rest/wikis/other", user=None).status_code == 404
    assert hardened.request("GET", "/resources/icons/xwiki/favicon.ico").status_code == 200


def test_the_wikis_are_listed_with_their_ids(hardened: Wiki) -> None:
    answer = hardened.request("GET", "/rest/wikis")
    assert answer.status_code == 200
    names = {"wiki": NAMESPACE}
    found = element(answer).root.iterfind("wiki:wiki/wiki:id", names)
    assert [item.text for item in found] == ["xwiki"]


# 9. Pages and attachments


def test_a_page_goes_to_mysql_and_comes_back(hardened: Wiki) -> None:
    path, text = "/Contract/pages/Page", "1 < 2 & \u00e4\u20ac\U0001f600"
    assert hardened.get(path).status_code == 404
    assert hardened.put(path, "A <title>", "first").status_code == 201
    assert hardened.put(path, "A <title>", text).status_code == 202
    page = element(hardened.get(path))
    assert (page.text("title"), page.text("content")) == ("A <title>", text)
    rows = "SELECT COUNT(*) FROM xwikidoc WHERE XWD_FULLNAME = 'Contract.Page'"
    assert hardened.schema.query(rows) == ["1"]
    shown = hardened.request("GET", "/bin/view/Contract/Page")
    assert shown.status_code == 200
    assert "1 &lt; 2 &amp; \u00e4\u20ac\U0001f600" in shown.text


def test_names_of_pages_are_case_sensitive(hardened: Wiki) -> None:
    assert hardened.put("/Contract/pages/Case", "upper", "upper").status_code == 201
    assert hardened.get("/Contract/pages/case").status_code == 404


def test_a_nested_space_holds_pages_too(hardened: Wiki) -> None:
    path = "/Contract/spaces/Below/pages/WebHome"
    assert hardened.put(path, "Below", "nested").status_code == 201
    assert "nested" in hardened.request("GET", "/bin/view/Contract/Below/").text


def test_an_attachment_is_a_row_and_a_file_and_nothing_more(hardened: Wiki) -> None:
    path = "/Contract/pages/Attached"
    words = secrets.token_hex(20)
    assert hardened.put(path, "Attached", "see below").status_code == 201
    assert hardened.attach(f"{path}/attachments/note.txt", words.encode()).status_code == 201
    assert hardened.get(f"{path}/attachments/note.txt").content == words.encode()
    assert "note.txt" in hardened.get(f"{path}/attachments").text
    (file,) = hardened.stored(words)
    assert file.rpartition("/")[2].startswith("f")
    dump = hardened.schema.dump()
    assert "note.txt" in dump
    assert words not in dump
    assert words.encode().hex() not in dump.lower()


def test_a_database_without_its_files_is_noticed(hardened: Wiki) -> None:
    path = "/Contract/pages/Halved"
    hardened.put(path, "Halved", "restored by half")
    words = secrets.token_hex(20)
    assert hardened.attach(f"{path}/attachments/lost.bin", words.encode()).status_code == 201
    (file,) = hardened.stored(words)
    hardened.container.execute("mv", file, f"{file}.away")
    assert hardened.get(f"{path}/attachments/lost.bin").status_code != 200
    hardened.container.execute("mv", f"{file}.away", file)
    assert hardened.get(f"{path}/attachments/lost.bin").text == words


# 10. Who asks


def test_a_wrong_password_is_served_as_a_guest(hardened: Wiki) -> None:
    right = hardened.request("GET", "/rest/wikis/xwiki")
    wrong = hardened.request("GET", "/rest/wikis/xwiki", user=(SUPERADMIN[0], "wrong"))
    assert right.headers["XWiki-User"] == "xwiki:XWiki.superadmin"
    assert wrong.status_code == 200
    assert wrong.headers["XWiki-User"] == GUEST


def test_guests_may_read_and_not_write(hardened: Wiki) -> None:
    hardened.put("/Contract/pages/Guarded", "Guarded", "read me")
    assert hardened.get("/Contract/pages/Guarded", user=None).status_code == 200
    place = f"{SPACES}/Contract/pages/Guarded"
    body = f'<page xmlns="{NAMESPACE}"><content>spoiled</content></page>'.encode()
    for user in (None, (SUPERADMIN[0], "wrong")):
        answer = hardened.request("PUT", place, user=user, body=body, kind="application/xml")
        assert answer.status_code == 401
    assert "read me" in hardened.get("/Contract/pages/Guarded").text


def test_a_guest_is_sent_to_the_login_page_or_asked_for_a_password(hardened: Wiki) -> None:
    sent = hardened.request("GET", EXPORT, user=None)
    assert sent.status_code == 302
    assert "/bin/login/XWiki/XWikiLogin" in sent.headers["Location"]
    asked = hardened.request("GET", f"{EXPORT}&basicauth=1", user=None)
    assert asked.status_code == 401
    assert asked.headers["WWW-Authenticate"].startswith("Basic")


def test_without_a_password_there_is_no_superadmin(plain: Wiki) -> None:
    for password in ("", "superadmin", "system"):
        answer = plain.request("GET", "/rest/wikis/xwiki", user=("superadmin", password))
        assert answer.headers["XWiki-User"] == GUEST


def test_an_admin_can_be_made_over_rest(hardened: Wiki) -> None:
    keeper, reader = ("Keeper", "Keeper7password"), ("Reader", "Reader7password")
    for user in (keeper, reader):
        hardened.make_user(*user)
    assert (
        "<className>XWiki.XWikiUsers</className>"
        in hardened.get("/XWiki/pages/Keeper/objects/XWiki.XWikiUsers").text
    )
    hardened.give_right("Keeper", "admin,edit,programming")
    for name, password in (keeper, reader):
        answer = hardened.request("GET", "/rest/wikis/xwiki", user=(name, password))
        assert answer.headers["XWiki-User"] == f"xwiki:XWiki.{name}"
    assert hardened.request("GET", EXPORT, user=keeper).content.startswith(b"PK")
    refused = hardened.request("GET", EXPORT, user=reader)
    assert refused.headers["Content-Type"].startswith("text/html")
    assert not refused.content.startswith(b"PK")
    assert keeper[1] not in hardened.schema.dump()


# 11 and 12. Export and import


def test_an_export_is_a_whole_archive_and_comes_back(hardened: Wiki) -> None:
    path, words = "/Travel/pages/Page", secrets.token_hex(30).encode()
    hardened.put(path, "Travels", "once & again")
    hardened.attach(f"{path}/attachments/luggage.bin", words)
    export = hardened.request("GET", f"{EXPORT}&pages=Travel.%25")
    assert export.status_code == 200
    assert export.headers["Content-Type"].startswith("application/zip")
    assert "filename=backup.xar" in export.headers["Content-Disposition"]
    assert "Content-Length" not in export.headers
    packed = archive(export.content)
    assert packed.damaged is None
    assert packed.names == {"package.xml", "Travel/Page.xml"}
    assert packed.pages == ["Travel.Page"]
    assert packed.infos["backupPack"] == "true"

    hardened.put(path, "Travels", "spoiled")
    assert hardened.request("DELETE", f"{SPACES}{path}/attachments/luggage.bin").ok
    brought = hardened.request("POST", IMPORT, body=export.content, kind=OCTETS)
    assert brought.status_code == 200
    assert "once &amp; again" in hardened.get(path).text
    assert hardened.get(f"{path}/attachments/luggage.bin").content == words


def test_a_whole_export_names_every_page_of_the_database(hardened: Wiki) -> None:
    hardened.put("/Contract/pages/Counted", "Counted", "one")
    exported = set(archive(hardened.request("GET", EXPORT).content).pages)
    assert "Contract.Counted" in exported
    kept = set(hardened.schema.query("SELECT XWD_FULLNAME FROM xwikidoc"))
    assert exported == kept


def test_an_import_keeps_or_numbers_versions_as_it_is_told(hardened: Wiki) -> None:
    path = "/Versions/pages/Page"
    for text in ("one", "two", "three"):
        hardened.put(path, "Page", text)
    export = hardened.request("GET", f"{EXPORT}&pages=Versions.%25").content
    exported = element(hardened.get(path)).text("version")
    hardened.put(path, "Page", "four")

    def after(history: str) -> str:
        place = f"/rest/wikis/xwiki?backup=true&history={history}"
        assert hardened.request("POST", place, body=export, kind=OCTETS).status_code == 200
        page = element(hardened.get(path))
        assert page.text("content") == "three"
        return page.text("version")

    assert after("replace") == exported
    assert after("add") not in (exported, "1.1")
    assert after("reset") == "1.1"


def test_an_import_keeps_authors_only_where_it_is_told_so(hardened: Wiki) -> None:
    path, author = "/Authors/pages/Page", ("Author", "Author7password")
    hardened.make_user(*author)
    hardened.give_right("Author", "edit")
    assert hardened.put(path, "Page", "text", user=author).status_code == 201
    export = hardened.request("GET", f"{EXPORT}&pages=Authors.%25").content

    def after(backup: str) -> str:
        place = f"/rest/wikis/xwiki?backup={backup}&history=replace"
        assert hardened.request("POST", place, body=export, kind=OCTETS).status_code == 200
        return element(hardened.get(path)).text("author")

    assert after("true").endswith("XWiki.Author")
    assert after("false").endswith("XWiki.superadmin")


def test_an_import_as_a_form_needs_a_token(hardened: Wiki) -> None:
    export = hardened.request("GET", f"{EXPORT}&pages=XWiki.XWikiPreferences").content
    for kind in (FORM, "text/plain", "multipart/form-data; boundary=x"):
        refused = hardened.request("POST", IMPORT, body=export, kind=kind)
        assert refused.status_code == 403
    token = refused.headers["XWiki-Form-Token"]
    taken = hardened.request(
        "POST", IMPORT, body=export, kind="text/plain", headers={"XWiki-Form-Token": token}
    )
    assert taken.status_code == 200


def test_an_import_into_another_wiki_or_of_no_archive_fails(hardened: Wiki) -> None:
    other = hardened.request("POST", "/rest/wikis/other", body=b"PK", kind=OCTETS)
    assert other.status_code == 404
    assert hardened.request("POST", IMPORT, body=b"no archive", kind=OCTETS).status_code == 500


# 13. The wizard


def test_a_pending_wizard_takes_pages_and_leaves_rest(plain: Wiki) -> None:
    page = plain.request("GET", "/bin/view/Main/", user=None)
    assert page.status_code == 200
    assert "Distribution" in page.text
    assert plain.request("GET", "/rest/wikis/xwiki", user=None).status_code == 200


# 14. Behind a proxy


def test_forwarded_headers_count_only_where_tomcat_is_told_to_believe_them(
    hardened: Wiki, plain: Wiki
) -> None:
    told = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "wiki.example.org"}
    sent = hardened.request("GET", EXPORT, user=None, headers=told).headers["Location"]
    assert sent.startswith("https://wiki.example.org/")
    sent = plain.request("GET", EXPORT, user=None, headers=told).headers["Location"]
    assert "https" not in sent
    assert "wiki.example.org" not in sent


# Life and death, last: they restart what the others look at


def test_the_wiki_survives_its_database(hardened: Wiki) -> None:
    hardened.put("/Contract/pages/Outlived", "Outlived", "still here")
    hardened.schema.server.do("kill")
    assert hardened.request("GET", "/rest", user=None, timeout=10).status_code == 200
    try:
        gone = hardened.request("GET", SPACES, user=None, timeout=3)
    except requests.Timeout:
        pass
    else:
        assert gone.status_code == 500
    hardened.schema.server.do("start")
    eventually(lambda: "still here" in hardened.get("/Contract/pages/Outlived").text, seconds=180)
    assert hardened.request("GET", SPACES, user=None).status_code == 200


def test_the_wiki_ends_when_it_is_told_and_finds_its_data_again(hardened: Wiki) -> None:
    path = "/Contract/pages/Kept"
    hardened.put(path, "Kept", "before")
    hardened.attach(f"{path}/attachments/kept.bin", b"kept")
    keys = hardened.read("data/configuration.properties")
    # Docker kills what has not ended by then, which is another exit code.
    hardened.container.do("stop", "--time", "60")
    assert hardened.container.state()["ExitCode"] == 143
    hardened.start_over()
    assert "before" in hardened.get(path).text
    assert hardened.get(f"{path}/attachments/kept.bin").content == b"kept"
    assert hardened.read("data/configuration.properties") == keys
    first, *_, last = hardened.boots
    assert last.seconds < first.seconds, "a first boot makes the tables, the others find them"
