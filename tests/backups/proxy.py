"""A proxy before the S3 server that answers, drops or holds requests as a test wants."""

import http.client
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Request:
    """What a client asks: `kind` is the S3 operation as far as faults tell them apart."""

    method: str
    path: str
    size: int
    headers: Mapping[str, str] = field(default_factory=dict)
    """By their names in small letters."""

    @property
    def kind(self) -> str:
        """part, begin, complete, abort, put, get, head, list or another."""
        query = self.path.partition("?")[2]
        if self.method == "PUT":
            return "part" if "partNumber=" in query else "put"
        if self.method == "POST":
            return "begin" if "uploads" in query else "complete" if "uploadId" in query else "post"
        if self.method == "DELETE":
            return "abort" if "uploadId" in query else "delete"
        return "list" if "list-type" in query else self.method.lower()


@dataclass(frozen=True)
class Answer:
    """What the proxy says in the server's place. after: the server has acted all the same."""

    status: int
    code: str = ""
    after: bool = False

    @property
    def body(self) -> bytes:
        """An error as S3 writes it; nothing where there is no code."""
        if not self.code:
            return b""
        return (f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{self.code}</Code>'
                f"<Message>said by the proxy</Message></Error>").encode()  # fmt: skip


DROP, HOLD, TRICKLE = "drop", "hold", "trickle"
"""Close without an answer; keep waiting; take one byte of the body a second."""

Fault = Callable[[Request], "Answer | str | None"]


@dataclass
class Proxy:
    """Serves on a port of 127.0.0.1. `seen`: kinds of all requests, in order."""

    target: int
    fault: Fault = lambda _request: None
    seen: list[str] = field(default_factory=list)
    port: int = 0
    trickled: int = 0
    skew: timedelta = timedelta(0)
    free: threading.Event = field(default_factory=threading.Event)

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def proxy(target: int, fault: Fault, *, skew: timedelta = timedelta(0)) -> Iterator[Proxy]:
    """A proxy before the port `target` for the block. skew: how far its Date is ahead."""
    made = Proxy(target, fault, skew=skew)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_words: Any) -> None:
            pass

        def pass_on(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            told = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, size, told)
            made.seen.append(request.kind)
            wanted = made.fault(request)
            if wanted == HOLD:
                made.free.wait(60)
                wanted = DROP
            if wanted == TRICKLE:
                while not made.free.wait(1) and self.rfile.read(1):
                    made.trickled += 1
                wanted = DROP
            if wanted == DROP:
                # The client sees a reset; what it still sends is not read.
                self.close_connection = True
                return None
            body = self.rfile.read(size)
            if isinstance(wanted, Answer) and not wanted.after:
                return self.answer(wanted.status, {}, wanted.body)
            connection = http.client.HTTPConnection("127.0.0.1", made.target, timeout=60)
            headers = {name: value for name, value in self.headers.items() if name != "Expect"}
            connection.request(self.command, self.path, body, headers)
            said = connection.getresponse()
            content = said.read()
            connection.close()
            if isinstance(wanted, Answer):
                return self.answer(wanted.status, {}, wanted.body)
            kept = {k: v for k, v in said.getheaders() if k.lower() not in
                    ("connection", "transfer-encoding", "content-length")}  # fmt: skip
            length = said.getheader("Content-Length") if self.command == "HEAD" else None
            return self.answer(said.status, kept, content, length)

        def answer(self, status: int, headers: dict[str, str], body: bytes,
                   length: str | None = None) -> None:  # fmt: skip
            self.send_response_only(status)
            for name, value in headers.items():
                if name != "Date":
                    self.send_header(name, value)
            date = headers.get("Date")
            moment = (parsedate_to_datetime(date) if date else datetime.now(UTC)) + made.skew
            self.send_header("Date", self.date_time_string(int(moment.timestamp())))
            self.send_header("Content-Length", length or str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = pass_on  # noqa: N815

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_words: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.free.set()
        server.shutdown()
        server.server_close()
        thread.join()


def first(count: int, kind: str, wanted: "Answer | str") -> Fault:
    """The fault for the first requests of a kind, then none."""
    left = [count]

    def fault(request: Request) -> "Answer | str | None":
        if request.kind == kind and left[0] > 0:
            left[0] -= 1
            return wanted
        return None

    return fault


def always(kind: str, wanted: "Answer | str") -> Fault:
    """The fault for every request of a kind."""
    return lambda request: wanted if request.kind == kind else None


def away(seconds: float, kind: str) -> Fault:
    """From the second request of a kind on, the server is away for a while."""
    began: list[float] = []
    count = [0]

    def fault(request: Request) -> "Answer | str | None":
        count[0] += request.kind == kind
        if count[0] == 2 and not began:
            began.append(time.monotonic())
        return DROP if began and time.monotonic() - began[0] < seconds else None

    return fault
