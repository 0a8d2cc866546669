"""A wiki over its public HTTP interface, as xwiki.org documents its REST API."""

from dataclasses import dataclass
from xml.sax.saxutils import escape

import requests

from tests.e2e.patience import eventually
from xwiki_stack import credentials, render
from xwiki_stack.kube import Kube

PAGES = "/rest/wikis/xwiki/spaces/{space}/pages/{page}"


@dataclass(frozen=True)
class Wiki:
    """A running wiki: where it is, and what `up` printed when it brought it there."""

    kube: Kube
    namespace: str
    url: str
    report: str = ""

    def password(self, component: str, key: str) -> str:
        """A value of the release's Secrets."""
        value = credentials.read(self.kube, self.namespace, render.RELEASE, component, key)
        assert value, f"no {key} in the Secret of {component}"
        return value

    @property
    def admin(self) -> tuple[str, str]:
        return ("Admin", self.password("xwiki", "admin-password"))

    def request(self, method: str, path: str, **options: object) -> requests.Response:
        """One request, tried again only while nothing answers: the forward follows its pod."""

        def answer() -> tuple[requests.Response]:
            # In a tuple: an error's answer is an answer, though requests calls it false.
            return (requests.request(method, self.url + path, timeout=20, **options),)  # type: ignore[arg-type]

        return eventually(answer, seconds=90)[0]

    def write(self, page: str, content: str, space: str = "Tests") -> None:
        """Put a page."""
        body = (
            '<page xmlns="http://www.xwiki.org">'
            f"<title>{escape(page)}</title><content>{escape(content)}</content></page>"
        )
        answer = self.request(
            "PUT",
            PAGES.format(space=space, page=page),
            data=body.encode(),
            headers={"Content-Type": "application/xml"},
            auth=self.admin,
        )
        assert answer.status_code in (201, 202), f"{answer.status_code} {answer.text[:200]}"

    def read(self, page: str, space: str = "Tests") -> requests.Response:
        """Get a page as XML."""
        return self.request("GET", PAGES.format(space=space, page=page), auth=self.admin)

    def attach(self, page: str, name: str, content: bytes, space: str = "Tests") -> int:
        """Put an attachment; give the status code."""
        path = PAGES.format(space=space, page=page) + f"/attachments/{name}"
        return self.request("PUT", path, data=content, auth=self.admin).status_code

    def attachment(self, page: str, name: str, space: str = "Tests") -> requests.Response:
        """Get an attachment."""
        path = PAGES.format(space=space, page=page) + f"/attachments/{name}"
        return self.request("GET", path, auth=self.admin)

    def shows(self, page: str, content: str) -> bool:
        """The page is served with this content; fit for `eventually`."""
        answer = self.read(page)
        assert answer.status_code == requests.codes.ok, f"{answer.status_code}"
        assert content in answer.text
        return True
