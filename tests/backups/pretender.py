"""What answers in a wiki's place as the test wants: look-alikes that no real wiki shows twice."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

ZIP = "application/zip"


@dataclass
class Pretender:
    """export: wiki and pattern of pages ("" for the whole) to status, headers and body.

    A body that is shorter than the `Content-Length` among its headers breaks off.
    """

    export: Callable[[str], tuple[int, dict[str, str], bytes]]
    user: str = "xwiki:XWiki.superadmin"
    version: str = "17.10.13"
    asked: list[str] = field(default_factory=list)
    port: int = 0
    """0: any, which stays the pretender's own."""

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def pretending(made: Pretender) -> Iterator[Pretender]:
    """Serve for the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_words: Any) -> None:
            pass

        def do_GET(self) -> None:
            made.asked.append(f"{self.command} {self.path}")
            address = urlsplit(self.path)
            if address.path == "/rest":
                version = f"<version>{made.version}</version>"
                body = f'<xwiki xmlns="http://www.xwiki.org">{version}</xwiki>'
                self.answer(200, {"XWiki-User": made.user}, body.encode())
            elif address.path == "/bin/export/Main/WebHome":
                (pages,) = parse_qs(address.query).get("pages", [""])
                self.answer(*made.export(pages))
            else:
                self.answer(404, {}, b"")

        do_POST = do_GET  # noqa: N815

        def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response_only(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_words: Any) -> None:
            pass

    server = Server(("127.0.0.1", made.port), Handler)
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
