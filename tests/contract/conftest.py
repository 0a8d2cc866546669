"""Images under test, and the containers that the tests look at.

`XWIKI_IMAGE` and `MYSQL_IMAGE` name the images; without them they are those of this machine's bed:
the stand-in where nothing can be pulled. Containers start in the background while tests that need
none of them run. Variables `STANDIN_*` mean nothing to the real image.
"""

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.contract.containers import Container, Host
from tests.contract.wiki import SUPERADMIN, Schema, Wiki
from xwiki_stack import proc, repo, steps
from xwiki_stack.cluster import engine, images, registry

RULES = repo.ROOT / "charts" / "xwiki" / "files" / "context.xml"
CONFIGURATION = ("hibernate.cfg.xml", "xwiki.cfg", "xwiki.properties")
WEB_INF = "/usr/local/tomcat/webapps/ROOT/WEB-INF"

QUICK = "-Xmx1024m -XX:+UseSerialGC -XX:TieredStopAtLevel=1"
"""JAVA_OPTS for wikis that live a minute: half of a start's work is for good machine code."""

Start = Callable[..., Wiki]


@pytest.fixture(scope="session")
def host() -> Iterator[Host]:
    """The machine's container engine, with a network for this run."""
    engine.start(steps.Log(repo.logs() / "contract-engine.log", lambda _text: None))
    made = Host(engine.require())
    made.open()
    yield made
    made.close()


def _image(host: Host, name: str, variable: str) -> str:
    if chosen := os.environ.get(variable):
        return chosen
    (image,) = [image for image in images.table() if image.name == name]
    if not host.engine.has_image(image.reference):
        if registry.choose() is registry.Bed.REGISTRY:
            return image.upstream
        images.build(image, steps.Log(repo.logs() / f"image-{name}.log", lambda _text: None))
    return image.reference


@pytest.fixture(scope="session")
def xwiki_image(host: Host) -> str:
    """The XWiki image under test."""
    return _image(host, "xwiki", "XWIKI_IMAGE")


@pytest.fixture(scope="session")
def mysql_image(host: Host) -> str:
    """The MySQL image under test."""
    return _image(host, "mysql", "MYSQL_IMAGE")


@pytest.fixture(scope="session")
def standin(host: Host, xwiki_image: str) -> str:
    """The XWiki image, for tests that only the stand-in can pass."""
    labels = host.inspect(xwiki_image).get("Labels") or {}
    if labels.get("xwiki-stack.stand-in") != "true":
        pytest.skip("asks for faults that only the stand-in has")
    return xwiki_image


@pytest.fixture(scope="session")
def root_password() -> str:
    """Of the MySQL server behind all wikis of the run."""
    return secrets.token_hex(12)


@pytest.fixture(scope="session")
def background() -> Iterator[ThreadPoolExecutor]:
    """One worker for starting containers."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture(scope="session", autouse=True)
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
    deadline = time.monotonic() + 180
    words = ["mysqladmin", "--host=127.0.0.1", "--user=root", "status"]
    while time.monotonic() < deadline:
        try:
            server.execute(*words, env={"MYSQL_PWD": password})
        except proc.CommandFailed:
            assert server.state()["Running"], server.logs()[-3000:]
            time.sleep(0.2)
        else:
            return server
    raise AssertionError(f"MySQL does not answer\n{server.logs()[-3000:]}")


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def start(host: Host, xwiki_image: str, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Starts a wiki on a schema, its permanent directory in a folder of this machine."""

    def begin(
        schema: Schema,
        *,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> Wiki:
        files = open_folder(tmp_path_factory, "data")
        container = host.start(
            schema.name.replace("_", "-"),
            xwiki_image,
            env={**schema.environment, "JAVA_OPTS": QUICK, **(env or {})},
            options=["--publish", "127.0.0.1::8080", "-v", f"{files}:/usr/local/xwiki", *options],
        )
        wiki = Wiki(container, schema, files)
        wiki.url = container.address()
        return wiki

    return begin


def open_folder(factory: pytest.TempPathFactory, name: str) -> Path:
    """A folder that any user may write, as a volume with fsGroup is for a pod."""
    folder = factory.mktemp(name)
    folder.chmod(0o777)
    return folder


@pytest.fixture(scope="session")
def hardening(
    host: Host, xwiki_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., list[str]]:
    """docker's options for the recipe of the chart: any user, read-only root, writable copies."""

    def options(without: str = "") -> list[str]:
        folder = open_folder(tmp_path_factory, "webinf")
        mounts = []
        for name in CONFIGURATION:
            host.copy(xwiki_image, f"{WEB_INF}/{name}", folder / name)
            (folder / name).chmod(0o666)
            mounts += ["-v", f"{folder / name}:{WEB_INF}/{name}"]
        scratch = {"work", "logs", "temp", "conf/Catalina"} - {without}
        places = ["/tmp", *(f"/usr/local/tomcat/{name}" for name in sorted(scratch))]  # noqa: S108
        for place in places:
            mounts += ["--tmpfs", f"{place}:mode=1777"]
        user = ["--user", "10001:10001", "--cap-drop", "ALL"]
        return ["--read-only", "--security-opt", "no-new-privileges", *user, *mounts]

    return options


@pytest.fixture(scope="session")
def starting_hardened(
    background: ThreadPoolExecutor,
    start: Start,
    schema: Callable[..., Schema],
    hardening: Callable[..., list[str]],
) -> "Future[Wiki]":
    """A wiki run as the chart runs it, on its way."""
    valve = ["-v", f"{RULES}:/usr/local/tomcat/conf/context.xml:ro"]
    env = {
        "XCONF_xwikicfg_xwiki_superadminpassword": SUPERADMIN[1],
        "XCONF_xwikiproperties_distribution_automaticStartOnMainWiki": "false",
        # Long enough to be looked at; the real image takes its own time.
        "STANDIN_INIT_DELAY": "3",
    }
    return background.submit(
        lambda: start(schema("hardened"), env=env, options=[*hardening(), *valve])
    )


@pytest.fixture(scope="session")
def starting_plain(
    background: ThreadPoolExecutor, start: Start, schema: Callable[..., Schema]
) -> "Future[Wiki]":
    """A wiki that is told its database and nothing else, on its way."""
    return background.submit(lambda: start(schema("plain")))


@pytest.fixture(scope="session")
def starting_failures(
    background: ThreadPoolExecutor,
    start: Start,
    schema: Callable[..., Schema],
    hardening: Callable[..., list[str]],
) -> "dict[str, Future[Wiki]]":
    """Wikis that cannot start, on their way, by what is wrong."""

    def broken_xml() -> Wiki:
        made = schema("broken_xml")
        return start(Schema(made.server, made.root, made.name, f"{made.password}&"))

    def wrong_password() -> Wiki:
        made = schema("wrong_password")
        return start(Schema(made.server, made.root, made.name, "wrong"))

    return {
        "no PROCESS privilege": background.submit(
            lambda: start(schema("no_process", process=False))
        ),
        "a password that breaks the XML": background.submit(broken_xml),
        "a wrong password": background.submit(wrong_password),
        "a read-only work folder": background.submit(
            lambda: start(schema("no_work"), options=hardening(without="work"))
        ),
    }


@pytest.fixture(scope="session")
def hardened(
    starting_hardened: "Future[Wiki]",
    starting_plain: "Future[Wiki]",
    starting_failures: "dict[str, Future[Wiki]]",
) -> Wiki:
    """A wiki run as the chart runs it, with a superadmin and without the wizard.

    The others are started along: this one idles while it initialises.
    """
    wiki = starting_hardened.result()
    status = wiki.wait()
    assert status == 200, wiki.container.logs()[-3000:]
    return wiki


@pytest.fixture(scope="session")
def plain(starting_plain: "Future[Wiki]") -> Wiki:
    """A wiki that is told its database and nothing else."""
    wiki = starting_plain.result()
    assert wiki.wait() == 200, wiki.container.logs()[-3000:]
    return wiki
