"""A wiki as a client on HTTP meets it, and the database behind it."""

import io
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import requests

from tests.contract.containers import Container

SPACES = "/rest/wikis/xwiki/spaces"
SUPERADMIN = ("superadmin", "Superadmin7password")
NAMESPACE = "http://www.xwiki.org"
VOLUME = "/usr/local/xwiki"

PATIENCE = 900.0
"""Seconds for a wiki to start: the real image may take minutes for it."""


@dataclass(frozen=True)
class Schema:
    """A schema of the tests' MySQL server, and the account of its wiki."""

    server: Container
    root: str
    name: str
    password: str

    @property
    def environment(self) -> dict[str, str]:
        """What the wiki's entrypoint is told."""
        return {
            "DB_HOST": "database",
            "DB_USER": self.name,
            "DB_DATABASE": self.name,
            "DB_PASSWORD": self.password,
        }

    def query(self, statement: str) -> list[str]:
        """The rows of a query on this schema, columns parted by tabs."""
        words = ["mysql", "--user=root", "--batch", "--skip-column-names", self.name]
        said = self.server.execute(*words, stdin=statement, env={"MYSQL_PWD": self.root})
        return said.splitlines()

    def dump(self) -> str:
        """Everything in this schema as SQL."""
        words = ["mysqldump", "--user=root", "--no-tablespaces", "--hex-blob", self.name]
        return self.server.execute(*words, env={"MYSQL_PWD": self.root})

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Let the wiki's account in no more, for a while.

        The server answers, and at once: no name is looked up and nothing times out, as may happen
        where the whole server is gone.
        """
        self.query(f"ALTER USER {self.name} ACCOUNT LOCK")
        mine = f"SELECT ID FROM information_schema.PROCESSLIST WHERE USER = '{self.name}'"
        for number in self.query(mine):
            self.query(f"KILL {number}")
        try:
            yield
        finally:
            self.query(f"ALTER USER {self.name} ACCOUNT UNLOCK")


@dataclass(frozen=True)
class Boot:
    """One start of a wiki: the seconds until /rest answered, and what was seen meanwhile.

    `pages`: what /bin/view answered at each look, where /rest was held right after it.
    """

    seconds: float
    pages: tuple[int, ...]


@dataclass
class Wiki:
    """A wiki in a container. `began`: when its container was started, by this machine's clock."""

    container: Container
    schema: Schema
    began: float
    url: str = ""
    boots: list[Boot] = field(default_factory=list)

    def read(self, path: str) -> str:
        """A text file on its volume. Raises CommandFailed where there is none."""
        return self.container.execute("cat", f"{VOLUME}/{path}")

    def stored(self, words: str) -> list[str]:
        """The paths of attachments that hold the words; CommandFailed where none does."""
        look = ["grep", "--recursive", "--files-with-matches", "--fixed-strings", words]
        return self.container.execute(*look, f"{VOLUME}/data/store/file").splitlines()

    def request(
        self,
        method: str,
        path: str,
        *,
        user: tuple[str, str] | None = SUPERADMIN,
        body: bytes | None = None,
        kind: str | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = 60,
    ) -> requests.Response:
        """One request, redirects not followed. `kind`: the content type, None for none at all."""
        head = {**(headers or {}), **({"Content-Type": kind} if kind else {})}
        return requests.request(
            method,
            self.url + path,
            auth=user,
            data=body,
            headers=head,
            timeout=timeout,
            allow_redirects=False,
        )

    def start_over(self) -> None:
        """Start its container again and wait for the wiki."""
        self.began = time.monotonic()
        self.container.do("start")
        self.url = self.container.address()
        self.wait()

    def wait(self, seconds: float = PATIENCE) -> int:
        """Wait until /rest answers; give its status. Says why when it does not."""
        deadline, patience = time.monotonic() + seconds, 0.5
        pages = []
        while time.monotonic() < deadline:
            try:
                page = self.request("GET", "/bin/view/Main/", user=None).status_code
                try:
                    status = self.request("GET", "/rest", user=None, timeout=patience).status_code
                except requests.ReadTimeout:
                    pages.append(page)
                    patience = min(2 * patience, 30)
                else:
                    self.boots.append(Boot(time.monotonic() - self.began, tuple(pages)))
                    return status
            except (requests.ConnectionError, requests.ReadTimeout):
                assert self.container.state()["Running"], self.container.logs()[-3000:]
                time.sleep(0.1)
        raise AssertionError(f"no answer within {seconds:.0f} s\n{self.container.logs()[-3000:]}")

    def put(
        self, path: str, title: str, content: str, user: tuple[str, str] = SUPERADMIN
    ) -> requests.Response:
        """Write a page; `path` below the spaces: /Space/pages/Page."""
        text = (
            f'<page xmlns="{NAMESPACE}"><title>{escape(title)}</title>'
            f"<content>{escape(content)}</content></page>"
        )
        kind = "application/xml"
        return self.request("PUT", SPACES + path, user=user, body=text.encode(), kind=kind)

    def get(self, path: str, user: tuple[str, str] | None = SUPERADMIN) -> requests.Response:
        """Read below the spaces."""
        return self.request("GET", SPACES + path, user=user)

    def attach(self, path: str, content: bytes) -> requests.Response:
        """Put an attachment: /Space/pages/Page/attachments/file."""
        kind = "application/octet-stream"
        return self.request("PUT", SPACES + path, body=content, kind=kind)

    def add(self, path: str, class_name: str, **properties: str) -> requests.Response:
        """Add an object to a page."""
        values = "".join(
            f'<property name="{name}"><value>{escape(value)}</value></property>'
            for name, value in properties.items()
        )
        text = f'<object xmlns="{NAMESPACE}"><className>{class_name}</className>{values}</object>'
        place = f"{SPACES}{path}/objects"
        return self.request("POST", place, body=text.encode(), kind="application/xml")

    def make_user(self, name: str, password: str) -> None:
        """A user as the chart's bootstrap makes one."""
        assert self.put(f"/XWiki/pages/{name}", name, "").status_code == 201
        path = f"/XWiki/pages/{name}"
        answer = self.add(path, "XWiki.XWikiUsers", first_name=name, active="1", password=password)
        assert answer.status_code == 201

    def give_right(self, name: str, levels: str) -> None:
        """A global right, as the chart's bootstrap gives it."""
        place = "/XWiki/pages/XWikiPreferences"
        user = f"XWiki.{name}"
        answer = self.add(place, "XWiki.XWikiGlobalRights", users=user, levels=levels, allow="1")
        assert answer.status_code == 201


@dataclass(frozen=True)
class Element:
    """The root of an XML document that a wiki of our own sent."""

    root: ElementTree.Element

    @property
    def tag(self) -> str:
        """Its name with its namespace."""
        return self.root.tag

    def text(self, name: str) -> str:
        """The text of a child in XWiki's namespace, '' where there is none."""
        return self.root.findtext(f"{{{NAMESPACE}}}{name}") or ""


def element(answer: requests.Response) -> Element:
    """The body of an answer as XML."""
    return Element(ElementTree.fromstring(answer.content))  # noqa: S314 - our own container said it


@dataclass(frozen=True)
class Archive:
    """A XAR: what it holds, what its package.xml says, and the first entry that is damaged."""

    names: set[str]
    pages: list[str]
    infos: dict[str, str]
    damaged: str | None


def archive(content: bytes) -> Archive:
    """Read a XAR whole. Raises BadZipFile where it ends too early, KeyError without package.xml."""
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        package = ElementTree.fromstring(packed.read("package.xml"))  # noqa: S314 - as above
        return Archive(
            names=set(packed.namelist()),
            pages=[str(file.text) for file in package.iter("file")],
            infos={child.tag: child.text or "" for child in package.iterfind("infos/*")},
            damaged=packed.testzip(),
        )
