"""Whether the cluster's network plugin enforces policies, asked by packets, for as long as it runs.

A policy that nobody enforces is accepted by the API server and does nothing. So in each namespace
two pods of charts/netpol try it: the target answers at three ports, the probe connects to them.
Of one nothing is forbidden (it tells a policy that works from a target that is gone); to the
second the probe may not go, and the third the target may not be asked at. What connects although it
is forbidden is not enforced, in that direction.
"""

import selectors
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from xwiki_stack import proc
from xwiki_stack.errors import MachineError

CONTROL = 9201
"""Port that both ends allow."""

FORBIDDEN = {"egress": 9203, "ingress": 9205}
"""Direction that forbids it, to port; the other end allows it.

No two ports are neighbours: a policy that is one port too wide must be seen (`mutation`).
"""

PORTS = (CONTROL, *FORBIDDEN.values())
METRICS = 9106

PATIENCE = 3.0
"""Seconds until a packet without an answer counts as dropped; answers of a cluster take 1 ms."""

FORGOTTEN = 3
"""Rounds without an answer after which what was found before is no longer said."""

PREFIX = "xwiki_stack_netpol_"

Connects = Callable[[str, int], bool]
Emit = Callable[[str], None]


@dataclass(frozen=True)
class Finding:
    """What one round found: per direction whether the policy is enforced."""

    enforced: Mapping[str, bool]

    @property
    def text(self) -> str:
        """In words, for the log."""
        said = [f"{name} {'is' if held else 'is NOT'}" for name, held in self.enforced.items()]
        return f"{', '.join(said)} enforced"


def connects(host: str, port: int) -> bool:
    """Whether a connection comes about: neither a timeout nor a refusal is one."""
    try:
        socket.create_connection((host, port), timeout=PATIENCE).close()
    except OSError:
        return False
    return True


def look(host: str, connect: Connects = connects) -> Finding | None:
    """One round; None where the target does not answer even at the port that is allowed.

    It is asked there before and after: a target that goes meanwhile must not look like a policy.
    """
    if not connect(host, CONTROL):
        return None
    enforced = {name: not connect(host, port) for name, port in FORBIDDEN.items()}
    return Finding(enforced) if connect(host, CONTROL) else None


class Probe(Collector):
    """Looks every so many seconds, and tells Prometheus what it found last."""

    def __init__(
        self,
        host: str,
        every: float,
        emit: Emit,
        *,
        connect: Connects = connects,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host, self._every, self._emit = host, every, emit
        self._connect, self._clock = connect, clock
        self._found: tuple[float, Finding] | None = None
        self._said: str | None = None

    def round(self) -> None:
        """Look once; what changed is said."""
        found = look(self._host, self._connect)
        if found:
            self._found = (self._clock(), found)
        said = found.text if found else f"{self._host} does not answer at {CONTROL}"
        if said != self._said:
            self._emit(said)
        self._said = said

    def work(self) -> NoReturn:
        """Look for ever."""
        while True:
            self.round()
            proc.pause(self._every)

    def serve(self, port: int) -> WSGIServer:
        """Answer scrapes in threads of their own. Raises MachineError."""
        try:
            server, _ = start_http_server(port, registry=self._registry())
        except OSError as error:
            raise MachineError(f"port {port} cannot be listened on: {error.strerror}") from error
        return server

    def text(self) -> str:
        """What a scrape gets."""
        return generate_latest(self._registry()).decode()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges; none of what was found too long ago."""
        words = "Whether a forbidden connection was stopped: 1, or 0 where policies do nothing"
        gauge = GaugeMetricFamily(f"{PREFIX}enforced", words, labels=["direction"])
        if self._found and self._clock() - self._found[0] <= FORGOTTEN * self._every:
            for direction, held in self._found[1].enforced.items():
                gauge.add_metric([direction], float(held))
        yield gauge

    def _registry(self) -> CollectorRegistry:
        registry = CollectorRegistry()
        registry.register(self)
        return registry


def answer(ports: tuple[int, ...] = PORTS) -> NoReturn:
    """Be the target: take every connection at the ports, and close it. Raises MachineError."""
    with selectors.DefaultSelector() as waiting:
        for port in ports:
            waiting.register(listen(port), selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select():
                if isinstance(key.fileobj, socket.socket):
                    key.fileobj.accept()[0].close()


def listen(port: int) -> socket.socket:
    """A socket at every address of the pod, of both families where there are both."""
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        return socket.create_server(("", port), family=family, dualstack_ipv6=both)
    except OSError as error:
        raise MachineError(f"port {port} cannot be listened on: {error.strerror}") from error
