"""The stand-in's faults: what goes wrong on request, so that tests of other rooms can meet it.

Each is off by default (the contract test is the proof) and switched on by its variable.
"""

import base64
import zipfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.contract.conftest import Start
from tests.contract.containers import Host
from tests.contract.wiki import NAMESPACE, SPACES, SUPERADMIN, Schema, Wiki, archive
from tests.e2e.patience import eventually

pytestmark = pytest.mark.contract

EXPORT = "/bin/export/Main/WebHome?format=xar"
IMPORT = "/rest/wikis/xwiki?backup=true&history=replace"
OCTETS = "application/octet-stream"
FLAVOR = "org.xwiki.platform:xwiki-platform-distribution-flavor-mainwiki"
TRUNCATED = 300
HEAP = 64

INSTALL = f"""<jobRequest xmlns="{NAMESPACE}">
  <id><element>extension</element><element>action</element><element>install</element></id>
  <property><key>extensions</key><value><list xmlns="">
    <org.xwiki.extension.ExtensionId><id>{FLAVOR}</id><version>1</version>
    </org.xwiki.extension.ExtensionId>
  </list></value></property>
</jobRequest>"""


@pytest.fixture(scope="session")
def starting_faulty(
    standin: str,
    background: ThreadPoolExecutor,
    start: Start,
    schema: Callable[..., Schema],
) -> "Future[Wiki]":
    """A wiki with every fault at once, none of which hides another, on its way."""
    env = {
        "XCONF_xwikicfg_xwiki_superadminpassword": SUPERADMIN[1],
        "XCONF_xwikiproperties_extension_repositories": "",
        "XCONF_xwikicfg_xwiki_home": "http://variable.example/",
        "JAVA_OPTS": f"-Xmx{HEAP}m -XX:+UseSerialGC -XX:TieredStopAtLevel=1"
        " -Dxconf.xwikicfg.xwiki.home=http://property.example/"
        " -Dxconf.xwikiproperties.distribution.automaticStartOnMainWiki=true",
        "STANDIN_DEPLOY_DELAY": "4",
        "STANDIN_FIRST_BOOT_DELAY": "2",
        "STANDIN_EXPORT_TRUNCATE": str(TRUNCATED),
        "STANDIN_IMPORT_FAIL_PAGE": "Faulty.Lost",
        "STANDIN_DATABASE_HANG": "2",
    }
    return background.submit(lambda: start(schema("faulty", characters="latin1"), env=env))


@pytest.fixture(scope="session")
def starting_alone(
    standin: str, background: ThreadPoolExecutor, start: Start, schema: Callable[..., Schema]
) -> "Future[Wiki]":
    """A wiki whose database server is not there, and that gives up soon, on its way."""
    env = {"DB_HOST": "nowhere", "STANDIN_DATABASE_TRIES": "2"}
    return background.submit(lambda: start(schema("alone"), env=env))


@pytest.fixture(scope="session")
def starting_maker(
    standin: str, background: ThreadPoolExecutor, start: Start, schema: Callable[..., Schema]
) -> "Future[Wiki]":
    """A wiki whose account may make the database that is not there, on its way."""

    def begin() -> Wiki:
        made = schema("maker")
        made.query("DROP DATABASE maker")
        return start(made)

    return background.submit(begin)


@pytest.fixture(scope="session")
def faulty(
    starting_faulty: "Future[Wiki]",
    starting_alone: "Future[Wiki]",
    starting_maker: "Future[Wiki]",
) -> Wiki:
    """The faulty wiki, when it is ready."""
    wiki = starting_faulty.result()
    wiki.wait()
    return wiki


def test_a_long_deployment_holds_requests_on_an_open_port(
    starting_faulty: "Future[Wiki]",
) -> None:
    wiki = starting_faulty.result()
    connect = "until exec 3<>/dev/tcp/127.0.0.1/8080; do sleep 0.1; done"
    ask = "curl --silent --max-time 1 http://127.0.0.1:8080/rest || echo $?"
    said = wiki.container.execute("bash", "-c", f"{connect} 2>/dev/null; {ask}")
    assert said.strip() == "28", "curl was not kept waiting"
    assert "maximum heap" not in wiki.container.logs(), "the wiki had begun before we looked"


def test_a_slow_first_boot_shows_the_initialising_page(faulty: Wiki) -> None:
    assert 202 in faulty.seen
    assert faulty.held


def test_a_database_of_other_characters_is_warned_of(faulty: Wiki, hardened: Wiki) -> None:
    warning = "not utf8mb4/utf8mb4_bin"
    assert warning in faulty.container.logs()
    assert warning not in hardened.container.logs()


def test_a_setting_by_variable_beats_one_by_property(faulty: Wiki) -> None:
    sent = faulty.request("GET", EXPORT, user=None)
    assert sent.headers["Location"] == "http://variable.example/bin/login/XWiki/XWikiLogin"


def test_it_calls_itself_a_stand_in_everywhere(host: Host, standin: str, hardened: Wiki) -> None:
    assert "stand-in" in str(host.inspect(standin)["Labels"]["org.opencontainers.image.title"])
    assert hardened.request("GET", "/rest").headers["XWiki-Version"].endswith("-standin")
    hardened.put("/Contract/pages/Footer", "Footer", "text")
    assert "stand-in" in hardened.request("GET", "/bin/view/Contract/Footer").text
    assert "this is a stand-in for XWiki" in hardened.container.logs()
    assert "maximum heap -Xmx1024m" in hardened.container.logs()


def test_an_export_can_end_in_the_middle_and_still_say_200(faulty: Wiki) -> None:
    answer = faulty.request("GET", EXPORT)
    assert answer.status_code == 200
    assert len(answer.content) == TRUNCATED
    with pytest.raises(zipfile.BadZipFile):
        archive(answer.content)


def test_an_export_without_an_attachments_file_is_broken_off(hardened: Wiki) -> None:
    path = "/Broken/pages/Page"
    hardened.put(path, "Broken", "its file goes")
    hardened.attach(f"{path}/attachments/gone.bin", b"soon gone for ever")
    store = hardened.files / "data" / "store" / "file"
    (file,) = [p for p in store.rglob("f.bin") if p.read_bytes() == b"soon gone for ever"]
    file.unlink()
    with pytest.raises((zipfile.BadZipFile, KeyError, requests.RequestException)):
        archive(hardened.request("GET", f"{EXPORT}&pages=Broken.%25").content)
    assert hardened.request("DELETE", f"{SPACES}{path}").status_code in (204, 500)
    hardened.schema.query("DELETE FROM xwikiattachment WHERE XWA_FILENAME = 'gone.bin'")


def test_an_import_can_lose_a_page_and_still_say_200(faulty: Wiki, tmp_path: Path) -> None:
    xar = write_archive(tmp_path / "two.xar", {"Lost": b"", "Saved": b""})
    answer = faulty.request("POST", IMPORT, body=xar.read_bytes(), kind=OCTETS)
    assert answer.status_code == 200
    assert faulty.get("/Faulty/pages/Saved").status_code == 200
    assert faulty.get("/Faulty/pages/Lost").status_code == 404
    assert "Faulty.Lost could not be saved" in faulty.container.logs()


def test_an_import_larger_than_the_heap_is_streamed(faulty: Wiki, tmp_path: Path) -> None:
    """Also the counter-example of the fault above: pages of other names are all saved."""
    size = 1 << 20
    pages = {f"Page{number}": bytes([number]) * size for number in range(80)}
    xar = write_archive(tmp_path / "large.xar", pages)
    assert xar.stat().st_size > HEAP * size
    with xar.open("rb") as body:
        answer = requests.post(
            faulty.url + IMPORT,
            data=body,
            auth=SUPERADMIN,
            headers={"Content-Type": OCTETS},
            timeout=120,
        )
    assert answer.status_code == 200
    saved = "SELECT COUNT(*) FROM xwikidoc WHERE XWD_FULLNAME LIKE 'Faulty.Page%'"
    assert faulty.schema.query(saved) == [str(len(pages))]
    assert faulty.get("/Faulty/pages/Page7/attachments/bytes.bin").content == b"\x07" * size


def write_archive(target: Path, pages: dict[str, bytes]) -> Path:
    """A XAR of pages in the space Faulty, each with its attachment if that has any bytes."""
    with zipfile.ZipFile(target, "w") as packed:
        for name, content in pages.items():
            attached = (
                "<attachment><filename>bytes.bin</filename>"
                f"<content>{base64.b64encode(content).decode()}</content></attachment>"
            )
            packed.writestr(
                f"Faulty/{name}.xml",
                f'<xwikidoc version="1.5" reference="Faulty.{name}" locale=""><web>Faulty</web>'
                f"<name>{name}</name><title>{name}</title><content>imported</content>"
                f"{attached if content else ''}</xwikidoc>",
            )
        packed.writestr("package.xml", "<package><infos/><files/></package>")
    return target


def test_the_wizard_stays_until_a_flavor_is_installed(faulty: Wiki) -> None:
    def wizard() -> bool:
        return "Distribution Wizard" in faulty.request("GET", "/bin/view/Faulty/Saved").text

    def install(asynchronous: str) -> requests.Response:
        place = f"/rest/jobs?jobType=install&async={asynchronous}"
        return faulty.request("PUT", place, body=INSTALL.encode(), kind="text/xml")

    assert wizard()
    guest = faulty.request("PUT", "/rest/jobs?jobType=install", user=None, body=INSTALL.encode())
    assert guest.status_code == 401
    # No repository is set and the volume has no flavor: the job ends, with an error.
    failed = install("false")
    assert "<state>FINISHED</state>" in failed.text
    assert "<errorMessage>" in failed.text
    assert wizard()

    repository = faulty.files / "data" / "extension" / "repository" / "offline"
    repository.mkdir(parents=True)
    (repository / "flavor.xed").write_text(f"<extension><id>{FLAVOR}</id></extension>")
    assert wizard(), "an unpacked flavor is not an installed one"
    assert "<state>RUNNING</state>" in install("true").text
    status = "/rest/jobstatus/extension/action/install"
    eventually(lambda: "FINISHED" in faulty.request("GET", status).text, seconds=30)
    assert "<errorMessage>" not in faulty.request("GET", status).text
    assert not wizard()
    assert faulty.request("GET", "/rest/jobstatus/unknown").status_code == 404


def test_an_unreachable_database_is_given_up_after_the_tries(
    starting_alone: "Future[Wiki]",
) -> None:
    wiki = starting_alone.result()
    assert wiki.wait() == 500
    assert wiki.container.logs().count("the database does not answer yet") == 1


def test_a_page_hangs_when_its_database_is_gone(faulty: Wiki) -> None:
    faulty.schema.server.do("kill")
    try:
        with pytest.raises(requests.ReadTimeout):
            faulty.request("GET", SPACES, user=None, timeout=1)
        assert faulty.request("GET", "/rest", user=None, timeout=5).status_code == 200
    finally:
        faulty.schema.server.do("start")
    eventually(lambda: faulty.request("GET", SPACES, user=None).status_code == 200, seconds=180)


def test_a_database_that_does_not_exist_is_made(starting_maker: "Future[Wiki]") -> None:
    wiki = starting_maker.result()
    assert wiki.wait() == 200
    assert "the database does not exist and is made" in wiki.container.logs()
    assert wiki.schema.query("SELECT COUNT(*) FROM xwikidoc") == ["1"]
