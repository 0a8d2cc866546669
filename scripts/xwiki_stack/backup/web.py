"""A running wiki over HTTP: the little of XWiki's interface that backups need.

Facts: REST answers 200 to a wrong password and serves a guest, so the header `XWiki-User` of each
answer is what tells who was served; preemptive Basic works on /bin and /rest; a page's path has
one `spaces/` per space. Source: XWiki's REST documentation and its source.
"""

import contextlib
import re
import secrets
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote
from xml.etree.ElementTree import Element, ParseError, fromstring
from xml.sax.saxutils import escape

import requests

from xwiki_stack import proc
from xwiki_stack.backup.config import Config, secret
from xwiki_stack.errors import MachineError, RefusedError

TIMEOUT = (10, 120)
"""Seconds for connecting and for silence: an answer may wait for a slow start or a large page."""

SILENCE = 600
"""Seconds of silence within an export: XWiki may be at a large attachment."""

BLOCK = 64 * 1024
"""Bytes that are taken at a time."""

PREFERENCES = "XWiki.XWikiPreferences"
"""A page that every wiki has."""

NAMESPACE = "{http://www.xwiki.org}"

GUEST = "XWiki.XWikiGuest"


class Web:
    """The wiki of a configuration. Every call raises MachineError where nothing fit answers,
    RefusedError where the account is not let in."""

    def __init__(self, config: Config) -> None:
        said = config.need_web()
        self.url = said.url
        self._session = requests.Session()
        # Credentials of a .netrc, proxies of an environment: nothing but the configuration counts.
        self._session.trust_env = False
        self.user = said.user
        self._password = secret(said.password_file, config, "web.passwordFile")
        self._session.auth = (said.user, self._password)

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """One request below the wiki's URL; its answer, whatever its status."""
        options.setdefault("timeout", TIMEOUT)
        options.setdefault("allow_redirects", False)
        try:
            answer = self._session.request(method, self.url + path, **options)
        except requests.RequestException as error:
            raise MachineError(
                f"does not answer: {_words(error)}",
                where=self.url,
                next="see whether XWiki runs and is reached from here",
            ) from error
        if answer.headers.get("XWiki-User", "").endswith(GUEST):
            raise RefusedError(
                f"{self.user} is served as a guest: its password is wrong, or it does not exist",
                where=self.url,
                next="put the right password into the file of web.passwordFile",
            )
        return answer

    def expect(
        self, method: str, path: str, *, allowed: tuple[int, ...] = (200,), **options: Any
    ) -> requests.Response:
        """A request whose answer must have one of these statuses."""
        answer = self.request(method, path, **options)
        if answer.status_code not in allowed:
            raise MachineError(
                f"{method} {path} is answered with {answer.status_code}",
                where=self.url,
                next="see the log of XWiki",
            )
        return answer

    def version(self) -> str:
        """XWiki's version, e.g. 17.10.13."""
        found = self._xml("/rest").find(f"{NAMESPACE}version")
        return found.text or "" if found is not None else ""

    def awaited(self) -> None:
        """Bear for 7 s that nothing answers: the rules that let a new pod out may land late."""
        for seconds in (0.5, 1, 2, 4):
            try:
                self.version()
            except MachineError:
                proc.pause(seconds)
            else:
                return

    @contextlib.contextmanager
    def export(self, pages: str = "") -> Iterator[Iterator[bytes]]:
        """An archive as a stream. Raises RefusedError where something else is served.

        pages: "" is the whole main wiki, `sub:%` another wiki, `Space.%` a part. Who may not export
        gets a page for people, with status 200.
        """
        chosen = {"pages": pages} if pages else {}
        answer = self.request(
            "GET",
            "/bin/export/Main/WebHome",
            params={"format": "xar", "name": "backup", "backup": "true", "history": "true",
                    **chosen},
            headers={"Accept-Encoding": "identity"},
            stream=True,
            timeout=(TIMEOUT[0], SILENCE),
        )  # fmt: skip
        with answer:
            kind = answer.headers.get("Content-Type", "nothing").partition(";")[0]
            if answer.status_code in (301, 302, 303, 401, 403):
                raise RefusedError(
                    f"{self.user} is sent to the login instead of being given an export",
                    where=self.url,
                    next="put the right password into the file of web.passwordFile",
                )
            if answer.status_code != 200:
                raise MachineError(
                    f"the export is answered with {answer.status_code}",
                    where=self.url,
                    next="see the log of XWiki",
                )
            if kind != "application/zip":
                raise RefusedError(
                    f"{self.user} is given {kind} instead of an archive: it is no administrator",
                    where=self.url,
                    next="name an account with admin rights in web.user, or superadmin",
                )
            yield self.blocks(answer)

    def expect_admin(self) -> None:
        """Raises RefusedError unless the account administers the wiki: only then it may export."""
        self.version()
        with self.export(PREFERENCES):
            pass

    def load(self, wiki: str, archive: Iterable[bytes], *, history: str) -> None:
        """Import an archive into a wiki, authors and all. history: add, reset or replace.

        It may take as long as it likes. That it succeeds says nothing of single pages: those that
        could not be saved are left out.
        """
        self.expect(
            "POST",
            f"/rest/wikis/{quote(wiki, safe='')}",
            params={"backup": "true", "history": history},
            headers={"Content-Type": "application/octet-stream"},
            data=(block for block in archive if block),
            timeout=(TIMEOUT[0], None),
        )

    def has_wiki(self, wiki: str) -> bool:
        """Whether there is such a wiki."""
        path = f"/rest/wikis/{quote(wiki, safe='')}"
        return self.expect("GET", path, allowed=(200, 404)).status_code == 200

    def page(self, reference: str, wiki: str = "xwiki", locale: str = "") -> Element | None:
        """A page, or its translation, as REST's XML; None where there is none."""
        path = page_path(reference, wiki) + (f"/translations/{quote(locale)}" if locale else "")
        answer = self.expect("GET", path, allowed=(200, 404))
        return None if answer.status_code == 404 else _parsed(answer, self.url)

    def put_page(self, reference: str, title: str, content: str, wiki: str = "xwiki") -> None:
        """Write a page, in the place of what it was."""
        body = (
            f'<page xmlns="{NAMESPACE[1:-1]}"><title>{escape(title)}</title>'
            f"<syntax>xwiki/2.1</syntax><content>{escape(content)}</content></page>"
        )
        self.expect(
            "PUT",
            page_path(reference, wiki),
            allowed=(201, 202, 304),
            data=body.encode(),
            headers={"Content-Type": "application/xml"},
        )

    def attachment(self, reference: str, name: str, wiki: str = "xwiki") -> requests.Response:
        """An attachment's bytes as a stream; status 404 where there is none."""
        path = f"{page_path(reference, wiki)}/attachments/{quote(name, safe='')}"
        return self.expect("GET", path, allowed=(200, 404), stream=True)

    def attachments(self, reference: str, wiki: str = "xwiki") -> set[str]:
        """Names of a page's attachments, as many as REST lists at once."""
        listed = self._xml(f"{page_path(reference, wiki)}/attachments")
        return {found.text or "" for found in listed.iter(f"{NAMESPACE}name")}

    def has_attachment(self, reference: str, name: str, wiki: str = "xwiki") -> bool:
        """Whether there is such an attachment."""
        with self.attachment(reference, name, wiki) as answer:
            return answer.status_code == 200

    def put_attachment(
        self, reference: str, name: str, content: bytes | Iterator[bytes], wiki: str = "xwiki"
    ) -> None:
        """Attach bytes to a page, in the place of what had that name."""
        path = f"{page_path(reference, wiki)}/attachments/{quote(name, safe='')}"
        headers = {"Content-Type": "application/octet-stream"}
        self.expect("PUT", path, allowed=(201, 202), data=content, headers=headers)

    def wikis(self) -> set[str]:
        """Ids of all wikis that it serves."""
        return {item.text or "" for item in self._xml("/rest/wikis").iterfind(
            f"{NAMESPACE}wiki/{NAMESPACE}id")}  # fmt: skip

    def served(self, *, wrong: bool = False) -> str:
        """Who the account is to the wiki, e.g. `xwiki:XWiki.superadmin`; GUEST for nobody.

        wrong: with a password that is not the account's.
        """
        password = secrets.token_hex(16) if wrong else self._password
        try:
            answer = self.request("GET", "/rest", auth=(self.user, password))
        except RefusedError:
            return GUEST
        if answer.status_code == 401:
            return GUEST
        if answer.status_code != 200:
            raise MachineError(f"GET /rest is answered with {answer.status_code}", where=self.url)
        return answer.headers.get("XWiki-User", "")

    def blocks(self, answer: requests.Response) -> Iterator[bytes]:
        """The body of an answer that comes as a stream."""
        try:
            yield from answer.iter_content(BLOCK)
        except requests.RequestException as error:
            raise MachineError(
                f"breaks off in the middle of an answer: {_words(error)}",
                where=self.url,
                next="see the log of XWiki",
            ) from error

    def _xml(self, path: str) -> Element:
        return _parsed(self.expect("GET", path), self.url)


def page_path(reference: str, wiki: str = "xwiki") -> str:
    """REST's path of a page: `A.B.Page` is /rest/wikis/xwiki/spaces/A/spaces/B/pages/Page."""
    *spaces, page = names_of(reference)
    inner = "".join(f"/spaces/{quote(space, safe='')}" for space in spaces)
    return f"/rest/wikis/{quote(wiki, safe='')}{inner}/pages/{quote(page, safe='')}"


def names_of(reference: str) -> list[str]:
    """A reference cut at its dots, of which `\\.` is none: `A.v1\\.0.Page` has three names."""
    parts = re.findall(r"(?:\\.|[^.\\])+", reference)
    return [re.sub(r"\\(.)", r"\1", part) for part in parts]


def _parsed(answer: requests.Response, where: str) -> Element:
    try:
        # The parser expands no entity without bound and fetches none (expat 2.4.1 and later).
        root: Element = fromstring(answer.content)  # noqa: S314
    except ParseError as error:
        raise MachineError(
            "answers with something else than XWiki's XML",
            where=where,
            next="see that web.url is the wiki's own address, its context path included",
        ) from error
    return root


def _words(error: requests.RequestException) -> str:
    # The library's own text holds object addresses and whole stacks of causes.
    if isinstance(error, requests.Timeout):
        return "it was silent for too long"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return type(error).__name__
