"""A wiki as a client on HTTP meets it, and the database behind it."""

import io
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import requests

from tests.contract.containers import Container

SPACES = "/rest/wikis/xwiki/spaces"
SUPERADMIN = ("superadmin", "Superadmin7password")
NAMESPACE = "http://www.xwiki.org"

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


@dataclass
class Wiki:
    """A wiki in a container. `seen`: what /bin/view answered until /rest did."""

    container: Container
    schema: Schema
    files: Path
    url: str = ""
    seen: set[int] = field(default_factory=set)
    held: bool = False

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
        """Read the address anew, after a start of the container, and wait for the wiki."""
        self.url = self.container.address()
        self.wait()

    def wait(self, seconds: float = PATIENCE) -> int:
        """Wait until /rest answers; give its status. Says why when it does not."""
        deadline, patience = time.monotonic() + seconds, 0.5
        while time.monotonic() < deadline:
            try:
                page = self.request("GET", "/bin/view/Main/", user=None, timeout=30).status_code
                try:
                    return self.request("GET", "/rest", user=None, timeout=patience).status_code
                except requests.ReadTimeout:
                    self.seen.add(page)
                    self.held, patience = True, min(2 * patience, 30)
            except (requests.ConnectionError, requests.ReadTimeout):
                assert self.container.state()["Running"], self.container.logs()[-3000:]
                time.sleep(0.1)
        raise AssertionError(f"no answer within {seconds:.0f} s\n{self.container.logs()[-3000:]}")

    def put(self, path: str, title: str, content: str) -> requests.Response:
        """Write a page; `path` below the spaces: /Space/pages/Page."""
        text = (
            f'<page xmlns="{NAMESPACE}"><title>{escape(title)}</title>'
            f"<content>{escape(content)}</content></page>"
        )
        return self.request("PUT", SPACES + path, body=text.encode(), kind="application/xml")

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
