"""What only the stand-in does: faults on request, and what XWiki shows in no way that is known.

A fault lets tests of other rooms meet what goes wrong. Each is off by default (the contract test is
the proof) and switched on by its variable. All tests are skipped on the real image.
"""

import base64
import zipfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from time import monotonic

import pytest
import requests

from tests.contract.conftest import HEAP, Start
from tests.contract.containers import Host
from tests.contract.wiki import NAMESPACE, SPACES, SUPERADMIN, VOLUME, Schema, Wiki, archive
from tests.e2e.patience import eventually
from xwiki_stack.cluster import images

pytestmark = pytest.mark.usefixtures("standin")

EXPORT = "/bin/export/Main/WebHome?format=xar"
IMPORT = "/rest/wikis/xwiki?backup=true&history=replace"
OCTETS = "application/octet-stream"
FLAVOR = "org.xwiki.platform:xwiki-platform-distribution-flavor-mainwiki"
SMALL_HEAP = 64

# Seconds, of the STANDIN_ variables of these names; what is not delayed takes less on any machine.
DEPLOY_DELAY, INIT_DELAY, FIRST_BOOT_DELAY, DATABASE_HANG = 6, 5, 5, 3
SECONDS_BETWEEN_TRIES = 3
TRUNCATED = 300
"""Bytes: STANDIN_EXPORT_TRUNCATE."""

LOOK = """
until exec 3<>/dev/tcp/127.0.0.1/8080; do sleep 0.1; done 2>/dev/null
curl --silent --output /dev/null --max-time 1 http://127.0.0.1:8080/resources/icons/xwiki/favicon.ico
echo $?
"""
"""Asks, as soon as the port is open, for what is there after deployment; 28: kept waiting."""

INSTALL = f"""<jobRequest xmlns="{NAMESPACE}">
  <id><element>extension</element><element>action</element><element>install</element></id>
  <property><key>extensions</key><value><list xmlns="">
    <org.xwiki.extension.ExtensionId><id>{FLAVOR}</id><version>1</version>
    </org.xwiki.extension.ExtensionId>
  </list></value></property>
</jobRequest>"""


@pytest.fixture(scope="module")
def starting_faulty(
    background: ThreadPoolExecutor,
    start_briefly: Start,
    schema: Callable[..., Schema],
) -> "Future[tuple[Wiki, str]]":
    """A wiki with every fault at once, none of which hides another, on its way; what LOOK said."""
    env = {
        "XCONF_xwikicfg_xwiki_superadminpassword": SUPERADMIN[1],
        "XCONF_xwikiproperties_extension_repositories": "",
        "JAVA_OPTS": f"-Xmx{SMALL_HEAP}m -XX:+UseSerialGC -XX:TieredStopAtLevel=1",
        "STANDIN_DEPLOY_DELAY": str(DEPLOY_DELAY),
        "STANDIN_INIT_DELAY": str(INIT_DELAY),
        "STANDIN_EXPORT_TRUNCATE": str(TRUNCATED),
        "STANDIN_IMPORT_FAIL_PAGE": "Faulty.Lost",
        "STANDIN_DATABASE_HANG": str(DATABASE_HANG),
    }

    def begin() -> tuple[Wiki, str]:
        wiki = start_briefly(schema("faulty", characters="latin1"), env=env)
        # At once, whatever test comes first.
        return wiki, wiki.container.execute("bash", "-c", LOOK).strip()

    return background.submit(begin)


@pytest.fixture(scope="module")
def starting_alone(
    background: ThreadPoolExecutor, start_briefly: Start, schema: Callable[..., Schema]
) -> "Future[Wiki]":
    """A wiki whose database server is not there, and that gives up soon, on its way."""
    env = {"DB_HOST": "127.0.0.1", "STANDIN_DATABASE_TRIES": "2"}
    return background.submit(lambda: start_briefly(schema("alone"), env=env))


@pytest.fixture(scope="module")
def starting_maker(
    background: ThreadPoolExecutor, start_briefly: Start, schema: Callable[..., Schema]
) -> "Future[Wiki]":
    """A wiki whose account may make the database that is not there, on its way."""
    env = {"STANDIN_FIRST_BOOT_DELAY": str(FIRST_BOOT_DELAY)}

    def begin() -> Wiki:
        made = schema("maker")
        made.query("DROP DATABASE maker")
        return start_briefly(made, env=env)

    return background.submit(begin)


@pytest.fixture(scope="module")
def faulty(
    starting_faulty: "Future[tuple[Wiki, str]]",
    starting_alone: "Future[Wiki]",
    starting_maker: "Future[Wiki]",
) -> Wiki:
    """The faulty wiki, when it is ready. The others are started while it idles."""
    wiki, _ = starting_faulty.result()
    assert wiki.wait() == 200
    return wiki


@pytest.fixture(scope="module")
def maker(starting_maker: "Future[Wiki]") -> Wiki:
    """The wiki that makes its database, when it is ready."""
    wiki = starting_maker.result()
    assert wiki.wait() == 200
    return wiki


def initialised(wiki: Wiki) -> list[float]:
    """The seconds that each of its starts took to initialise, from Tomcat's hands until ready."""
    begun, ready = (wiki.container.times(words) for words in ("maximum heap", "ready: this is"))
    return [end - start for start, end in zip(begun, ready, strict=True)]


def test_a_long_deployment_holds_requests_on_an_open_port(
    starting_faulty: "Future[tuple[Wiki, str]]", faulty: Wiki, maker: Wiki
) -> None:
    _, look = starting_faulty.result()
    assert look == "28", "the look was not kept waiting, or came late"

    def deployed(wiki: Wiki) -> float:
        """Of its last start."""
        ends = [wiki.container.times(words)[-1] for words in ("Initializing Proto", "maximum heap")]
        return ends[1] - ends[0]

    assert deployed(faulty) >= DEPLOY_DELAY > deployed(maker)


def test_delays_lengthen_what_they_name_and_nothing_else(faulty: Wiki, maker: Wiki) -> None:
    maker.container.do("stop")
    maker.start_over()
    (slow,), (first, second) = initialised(faulty), initialised(maker)
    assert slow >= INIT_DELAY > second
    assert first >= FIRST_BOOT_DELAY > second


def test_a_slow_start_shows_the_initialising_page(faulty: Wiki) -> None:
    assert 202 in faulty.boots[0].pages


def test_a_database_of_other_characters_is_warned_of(faulty: Wiki, hardened: Wiki) -> None:
    warning = "not utf8mb4/utf8mb4_bin"
    assert warning in faulty.container.logs()
    assert warning not in hardened.container.logs()


def test_it_calls_itself_a_stand_in_everywhere(host: Host, standin: str, hardened: Wiki) -> None:
    assert "stand-in" in str(host.inspect(standin)["Labels"]["org.opencontainers.image.title"])
    hardened.put("/Contract/pages/Footer", "Footer", "text")
    assert "stand-in" in hardened.request("GET", "/bin/view/Contract/Footer").text
    assert "this is a stand-in for XWiki" in hardened.container.logs()
    assert f"maximum heap {HEAP}" in hardened.container.logs()


def test_it_says_the_version_that_the_table_of_images_gives_it(hardened: Wiki) -> None:
    (image,) = [image for image in images.table() if image.name == "xwiki"]
    version = hardened.request("GET", "/rest").headers["XWiki-Version"]
    assert version == f"{image.version}-standin"
    assert image.upstream.rpartition(":")[2].startswith(f"{image.version}-")


def test_names_of_variables_are_encoded_as_xwiki_does_it(host: Host, standin: str) -> None:
    # No key that the stand-in reads needs it, so it is asked in its own language.
    probe = """package org.xwikistack.standin;
    class Probe {
        public static void main(String[] keys) {
            for (String key : keys) { System.out.println(Settings.encode(key)); }
        }
    }"""
    script = """cd /tmp && cat >Probe.java
    classes=/usr/local/tomcat/webapps/ROOT/WEB-INF/classes
    compiler=org.eclipse.jdt.internal.compiler.batch.Main
    java -cp /usr/local/tomcat/lib/ecj-*.jar $compiler -17 -classpath "$classes" -d . Probe.java
    exec java -cp "$classes:." org.xwikistack.standin.Probe "$@"
    """
    keys = {
        "xwiki.store-1:Some_Key": "xwiki_store_1_Some_Key",
        "a@b": "a_40b",
        "a/b": "a_2Fb",
        "tab\t": "tab_09",
    }
    said = host.once(standin, "bash", "-c", script, "probe", *keys, stdin=probe)
    assert said.out.splitlines() == list(keys.values()), said.err


def test_an_export_can_end_in_the_middle_and_still_say_200(faulty: Wiki) -> None:
    answer = faulty.request("GET", EXPORT)
    assert answer.status_code == 200
    assert len(answer.content) == TRUNCATED
    with pytest.raises(zipfile.BadZipFile):
        archive(answer.content)


def test_an_export_without_an_attachments_file_is_broken_off(hardened: Wiki) -> None:
    path, words = "/Broken/pages/Page", "away for a while"
    hardened.put(path, "Broken", "its file goes")
    hardened.attach(f"{path}/attachments/gone.bin", words.encode())
    (file,) = hardened.stored(words)
    hardened.container.execute("mv", file, f"{file}.away")
    with pytest.raises((zipfile.BadZipFile, KeyError, requests.RequestException)):
        archive(hardened.request("GET", f"{EXPORT}&pages=Broken.%25").content)
    hardened.container.execute("mv", f"{file}.away", file)
    assert hardened.request("DELETE", f"{SPACES}{path}").status_code == 204


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
    assert xar.stat().st_size > SMALL_HEAP * size
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

    unpack = f"mkdir -p {VOLUME}/data/extension/repository && cat >$_/flavor.xed"
    described = f"<extension><id>{FLAVOR}</id></extension>"
    faulty.container.execute("bash", "-c", unpack, stdin=described)
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
    (tried,) = wiki.container.times("the database does not answer yet")
    (failed,) = wiki.container.times("initialising failed")
    assert failed - tried >= SECONDS_BETWEEN_TRIES


def test_a_page_hangs_without_its_database(faulty: Wiki, hardened: Wiki) -> None:
    def refused(wiki: Wiki) -> float:
        with wiki.schema.closed():
            began = monotonic()
            assert wiki.request("GET", SPACES, user=None).status_code == 500
            took = monotonic() - began
            assert wiki.request("GET", "/rest", user=None).status_code == 200
        assert wiki.request("GET", SPACES, user=None).status_code == 200
        return took

    assert refused(faulty) >= DATABASE_HANG > refused(hardened)


@pytest.mark.parametrize("user", [None, SUPERADMIN, ("Somebody", "with a password")])
def test_a_reply_without_a_database_carries_the_headers_too(
    user: tuple[str, str] | None, hardened: Wiki
) -> None:
    with hardened.schema.closed():
        answer = hardened.request("GET", SPACES, user=user)
    assert answer.status_code == 500
    assert {"XWiki-Version", "XWiki-User", "XWiki-Form-Token"} <= set(answer.headers)


def test_a_database_that_does_not_exist_is_made(maker: Wiki) -> None:
    assert "the database does not exist and is made" in maker.container.logs()
    assert maker.schema.query("SELECT COUNT(*) FROM xwikidoc") == ["1"]
