"""Images under test, and the containers that the tests look at.

`XWIKI_IMAGE` and `MYSQL_IMAGE` name the images; without them they are those of this machine's bed:
the stand-in where nothing can be pulled. Containers start in the background while tests that need
none of them run. Variables `STANDIN_*` mean nothing to the real image.

Fixtures end with the package: no server of theirs is left beside the end-to-end tests.
"""

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.contract.containers import Container, Host
from tests.contract.wiki import SUPERADMIN, VOLUME, Schema, Wiki
from xwiki_stack import repo, steps
from xwiki_stack.cluster import engine, images, registry

RULES = repo.ROOT / "charts" / "xwiki" / "files" / "context.xml"
CONFIGURATION = ("hibernate.cfg.xml", "xwiki.cfg", "xwiki.properties")
WEB_INF = "/usr/local/tomcat/webapps/ROOT/WEB-INF"

HEAP = "-Xmx768m"
"""Less than the image's own 1024m: three real wikis and two servers fit a machine of 8 GB."""

QUICK = f"{HEAP} -XX:+UseSerialGC -XX:TieredStopAtLevel=1"
"""JAVA_OPTS for wikis that live a minute: half of a start's work is for good machine code."""

UNPRIVILEGED = [
    "--user=10001:10001",
    "--cap-drop=ALL",
    "--read-only",
    "--security-opt=no-new-privileges",
]
"""docker's options for what the chart's pods may do: any user, a read-only root, no rights."""

Start = Callable[..., Wiki]
Hardening = Callable[..., list[str]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder carries the marker `contract`."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.contract)


@pytest.fixture(scope="package")
def host() -> Iterator[Host]:
    """The machine's container engine, with a network for this run."""
    engine.start(steps.Log(repo.logs() / "contract-engine.log", lambda _text: None))
    made = Host(engine.require())
    made.open()
    yield made
    made.close()


def image_under_test(host: Host, name: str, chosen: str | None) -> str:
    """An image of the table, or the one that was chosen instead; the engine has it afterwards."""
    (image,) = [image for image in images.table() if image.name == name]
    if not chosen and host.engine.has_image(image.reference):
        return image.reference
    if not chosen and registry.choose() is registry.Bed.OFFLINE:
        images.build(image, steps.Log(repo.logs() / f"image-{name}.log", lambda _text: None))
        return image.reference
    reference = chosen or image.upstream
    host.obtain(reference)
    return reference


@pytest.fixture(scope="package")
def xwiki_image(host: Host) -> str:
    """The XWiki image under test."""
    return image_under_test(host, "xwiki", os.environ.get("XWIKI_IMAGE"))


@pytest.fixture(scope="package")
def mysql_image(host: Host) -> str:
    """The MySQL image under test."""
    return image_under_test(host, "mysql", os.environ.get("MYSQL_IMAGE"))


@pytest.fixture(scope="package")
def standin(host: Host, xwiki_image: str) -> str:
    """The XWiki image, for tests that only the stand-in can pass."""
    labels = host.inspect(xwiki_image).get("Labels") or {}
    if labels.get("xwiki-stack.stand-in") != "true":
        pytest.skip("asks for what only the stand-in does")
    return xwiki_image


@pytest.fixture(scope="package")
def root_password() -> str:
    """Of the MySQL server behind all wikis of the run."""
    return secrets.token_hex(12)


@pytest.fixture(scope="package")
def background() -> Iterator[ThreadPoolExecutor]:
    """One worker for starting containers."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture(scope="package")
def starting_server(
    host: Host, mysql_image: str, root_password: str, background: ThreadPoolExecutor
) -> "Future[Container]":
    """A MySQL server on its way, with the character set that XWiki wants."""
    return background.submit(_start_server, host, mysql_image, root_password)


def _start_server(host: Host, image: str, password: str) -> Container:
    server = host.start(
        "database",
        image,
        "--character-set-server=utf8mb4",
        "--collation-server=utf8mb4_bin",
        "--skip-log-bin",
        "--skip-mysqlx",
        "--skip-performance-schema",
        "--innodb-redo-log-capacity=16M",
        "--secure-file-priv=NULL",
        env={"MYSQL_ROOT_PASSWORD": password},
        # A place for the socket, whatever the image brings.
        options=["--tmpfs", "/var/run/mysqld:mode=1777"],
    )
    status = ["mysqladmin", "--host=127.0.0.1", "--user=root", "status"]
    server.until(*status, env={"MYSQL_PWD": password})
    return server


@pytest.fixture(scope="package")
def schema(starting_server: "Future[Container]", root_password: str) -> Callable[..., Schema]:
    """Makes a schema and its account: all rights on it, and PROCESS unless told otherwise."""

    def make(name: str, *, process: bool = True, characters: str = "utf8mb4") -> Schema:
        server = starting_server.result()
        made = Schema(server, root_password, name, secrets.token_hex(12))
        words = ["mysql", "--user=root"]
        lines = [
            f"CREATE DATABASE {name} CHARACTER SET {characters} COLLATE {characters}_bin;",
            f"CREATE USER {name} IDENTIFIED BY '{made.password}';",
            f"GRANT ALL ON {name}.* TO {name};",
            f"GRANT PROCESS ON *.* TO {name};" if process else "",
        ]
        server.execute(*words, stdin="\n".join(lines), env={"MYSQL_PWD": root_password})
        return made

    return make


@pytest.fixture(scope="package")
def start(host: Host, xwiki_image: str) -> Start:
    """Starts a wiki on a schema. Its volume is its own unless the options mount one."""

    def begin(
        schema: Schema,
        *,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> Wiki:
        began = time.monotonic()
        container = host.start(
            schema.name.replace("_", "-"),
            xwiki_image,
            env={**schema.environment, "JAVA_OPTS": QUICK, **(env or {})},
            options=["--publish", "127.0.0.1::8080", *options],
        )
        return Wiki(container, schema, began, container.address())

    return begin


@pytest.fixture(scope="module")
def start_briefly(start: Start) -> Iterator[Start]:
    """As `start`, for wikis that end with the test module."""
    started: list[Wiki] = []

    def begin(schema: Schema, **options: Any) -> Wiki:
        started.append(start(schema, **options))
        return started[-1]

    yield begin
    for wiki in started:
        wiki.container.remove()


def open_folder(factory: pytest.TempPathFactory, name: str) -> Path:
    """A folder that any user may write, as a volume with fsGroup is for a pod."""
    folder = factory.mktemp(name)
    folder.chmod(0o777)
    return folder


@pytest.fixture(scope="package")
def hardening(host: Host, xwiki_image: str, tmp_path_factory: pytest.TempPathFactory) -> Hardening:
    """docker's options for the recipe of the chart: any user, read-only root, writable copies.

    without: a folder of Tomcat's that is to stay read-only. lines: added to a copy, by its name.
    volume: for the wiki's data, else a new one.
    """

    def options(
        *, without: str = "", lines: Mapping[str, str] | None = None, volume: str = ""
    ) -> list[str]:
        folder = open_folder(tmp_path_factory, "webinf")
        mounts = ["-v", f"{volume or host.volume(xwiki_image, VOLUME)}:{VOLUME}"]
        host.copy(xwiki_image, [f"{WEB_INF}/{name}" for name in CONFIGURATION], folder)
        for name in CONFIGURATION:
            file = folder / name
            file.write_text(file.read_text() + (lines or {}).get(name, ""))
            file.chmod(0o666)
            mounts += ["-v", f"{file}:{WEB_INF}/{name}"]
        scratch = {"work", "logs", "temp", "conf/Catalina"} - {without}
        places = ["/tmp", *(f"/usr/local/tomcat/{name}" for name in sorted(scratch))]  # noqa: S108
        for place in places:
            mounts += ["--tmpfs", f"{place}:mode=1777"]
        return [*UNPRIVILEGED, *mounts]

    return options


@pytest.fixture(scope="package")
def starting_hardened(
    background: ThreadPoolExecutor,
    start: Start,
    schema: Callable[..., Schema],
    hardening: Hardening,
) -> "Future[Wiki]":
    """A wiki run as the chart runs it, on its way. Its settings contradict each other in layers."""
    valve = ["-v", f"{RULES}:/usr/local/tomcat/conf/context.xml:ro"]
    files = {
        "xwiki.cfg": "\nxwiki.superadminpassword=FromFile7\n",
        "xwiki.properties": "\ndistribution.automaticStartOnMainWiki=true\n",
    }
    properties = {
        "xwikicfg.xwiki.superadminpassword": "FromProperty7",
        "xwikiproperties.distribution.automaticStartOnMainWiki": "false",
    }
    options = [f"-Dxconf.{name}={value}" for name, value in properties.items()]
    env = {
        "XCONF_xwikicfg_xwiki_superadminpassword": SUPERADMIN[1],
        "JAVA_OPTS": " ".join([QUICK, *options]),
        # Long enough to be looked at; the real image takes its own time.
        "STANDIN_FIRST_BOOT_DELAY": "5",
    }
    return background.submit(
        lambda: start(schema("hardened"), env=env, options=[*hardening(lines=files), *valve])
    )


@pytest.fixture(scope="package")
def starting_plain(
    background: ThreadPoolExecutor, start: Start, schema: Callable[..., Schema]
) -> "Future[Wiki]":
    """A wiki that is told its database and nothing else, on its way."""
    return background.submit(lambda: start(schema("plain")))


@pytest.fixture(scope="package")
def hardened(starting_hardened: "Future[Wiki]", starting_plain: "Future[Wiki]") -> Wiki:
    """A wiki run as the chart runs it, with a superadmin and without the wizard.

    The plain one is started along: this one idles while it initialises.
    """
    wiki = starting_hardened.result()
    assert wiki.wait() == 200, wiki.container.logs()[-3000:]
    return wiki


@pytest.fixture(scope="package")
def plain(starting_plain: "Future[Wiki]") -> Wiki:
    """A wiki that is told its database and nothing else."""
    wiki = starting_plain.result()
    assert wiki.wait() == 200, wiki.container.logs()[-3000:]
    return wiki
