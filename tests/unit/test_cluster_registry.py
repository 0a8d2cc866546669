"""Registry or offline bed: the decision, its override, and the one request behind it."""

import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from xwiki_stack import proc
from xwiki_stack.cluster import images, registry
from xwiki_stack.cluster.registry import Bed
from xwiki_stack.errors import IntentError

PATH = f"/v2/kindest/node/manifests/{registry.NODE_IMAGE.partition('@')[2]}"


class Registry(ThreadingHTTPServer):
    """A registry on this machine that asks for an anonymous token, or fails as a test says."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.seen: list[str] = []
        self.status: list[int] = []
        """What it answers instead, request by request."""
        self.kind = registry.MANIFESTS[0]
        self.seconds = 0.0
        self.closed = True
        """Whether it wants a token."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that have gone."""


class Answer(BaseHTTPRequestHandler):
    """One request to `Registry`."""

    server: Registry

    def do_HEAD(self) -> None:
        self.server.seen.append(f"HEAD {self.path}")
        time.sleep(self.server.seconds)
        if self.server.status:
            return self._answer(self.server.status.pop(0))
        if self.server.closed and self.headers["Authorization"] != "Bearer anyone's":
            scope = "repository:kindest/node:pull,push"
            challenge = f'Bearer realm="{self.server.url}/token",service="r.test",scope="{scope}"'
            return self._answer(401, ("WWW-Authenticate", challenge))
        assert registry.MANIFESTS[0] in self.headers["Accept"]
        return self._answer(200, ("Content-Type", self.server.kind))

    def do_GET(self) -> None:
        self.server.seen.append(f"GET {self.path}")
        self._answer(200, ("Content-Type", "application/json"), body=b'{"token": "anyone\'s"}')

    def _answer(self, status: int, *headers: tuple[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(autouse=True)
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """The registry of these tests; no other is ever asked, and what it said is forgotten."""
    made = Registry()
    monkeypatch.setattr(registry, "ENDPOINTS", {"docker.io": made.url})
    monkeypatch.setattr(registry, "REST", 0.0)
    monkeypatch.delenv(registry.VARIABLE, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    registry._answered.cache_clear()
    thread = Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()
    registry._answered.cache_clear()


@pytest.mark.parametrize(
    ("environment", "bed"),
    [
        ({}, None),
        ({registry.VARIABLE: "auto"}, None),
        ({registry.VARIABLE: "offline"}, Bed.OFFLINE),
        ({registry.VARIABLE: "registry"}, Bed.REGISTRY),
    ],
)
def test_the_environment_may_decide(environment: dict[str, str], bed: Bed | None) -> None:
    assert registry.wanted(environment) is bed


@pytest.mark.parametrize("bed", list(Bed))
def test_what_the_environment_decides_is_not_asked(
    bed: Bed, server: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(registry.VARIABLE, bed.value)
    assert registry.decide().bed is bed
    assert f"{registry.VARIABLE} says so" in registry.decide().text
    assert server.seen == []


def test_an_unknown_word_is_refused_with_the_known_ones() -> None:
    with pytest.raises(IntentError, match="allowed: auto, offline, registry"):
        registry.wanted({registry.VARIABLE: "online"})


def test_a_registry_is_recognised_without_any_container_client(
    server: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proc, "run", lambda *_, **__: pytest.fail("a program was started"))
    monkeypatch.setattr(proc, "which", lambda _tool: None)
    assert registry.choose() is Bed.REGISTRY
    token = "/token?service=r.test&scope=repository%3Akindest%2Fnode%3Apull%2Cpush"
    assert server.seen == [f"HEAD {PATH}", f"GET {token}", f"HEAD {PATH}"]
    assert "pulled: docker.io answers (XWIKI_STACK_BED=offline" in registry.decide().text


def test_the_answer_is_kept_for_the_whole_run(server: Registry) -> None:
    server.closed = False
    assert registry.choose() is Bed.REGISTRY
    server.status = [503] * 9
    assert registry.choose() is Bed.REGISTRY, "one run was split in two"
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_blip_is_asked_about_once_more(status: int, server: Registry) -> None:
    server.closed, server.status = False, [status]
    assert registry.choose() is Bed.REGISTRY


def test_a_registry_that_refuses_means_offline_and_says_why(server: Registry) -> None:
    server.status = [429] * 9
    choice = registry.decide()
    assert choice.bed is Bed.OFFLINE
    assert "HTTP 429" in choice.text
    assert f"({registry.VARIABLE}=registry for the other way)" in choice.text
    assert len(server.seen) == 2


def test_a_page_that_answers_everything_is_no_registry(server: Registry) -> None:
    server.closed, server.kind = False, "text/html; charset=utf-8"
    assert registry.refusal(registry.NODE_IMAGE, server.url).endswith("with text/html")
    server.kind = f"{registry.MANIFESTS[1]}; charset=utf-8"
    assert registry.refusal(registry.NODE_IMAGE, server.url) == ""


def test_patience_ends(server: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "PATIENCE", 0.2)
    server.seconds = 0.5
    assert registry.refusal(registry.NODE_IMAGE, server.url) == "ReadTimeout"


def test_nobody_there_and_a_proxy_that_is_away_are_refusals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert registry.refusal(registry.NODE_IMAGE, "http://127.0.0.1:9") == "ConnectionError"
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert registry.refusal(registry.NODE_IMAGE, "http://registry.invalid") == "ProxyError"


def test_the_table_names_the_node_image_that_is_used() -> None:
    (node,) = [image for image in images.table() if image.name == "node"]
    assert node.upstream == registry.NODE_IMAGE
    assert registry.NODE_IMAGE.partition("/")[0] in registry.ENDPOINTS
