"""The probe tells a policy that works from one that does nothing, and from a target that is gone.

Over real sockets of this machine; a policy is stood in for by a port where nobody listens.
"""

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from functools import partial

import pytest
from tests.e2e.patience import eventually

from xwiki_stack import cli, enforcement
from xwiki_stack.enforcement import CONTROL, FORBIDDEN, Probe, connects, look
from xwiki_stack.errors import MachineError

HOST = "127.0.0.1"


def reached(*ports: int) -> enforcement.Connects:
    """A network in which only these ports can be reached."""
    return lambda _host, port: port in ports


@pytest.mark.parametrize(
    ("open_ports", "enforced"),
    [
        ((CONTROL,), {"egress": True, "ingress": True}),
        ((CONTROL, *FORBIDDEN.values()), {"egress": False, "ingress": False}),
        ((CONTROL, FORBIDDEN["egress"]), {"egress": False, "ingress": True}),
        ((CONTROL, FORBIDDEN["ingress"]), {"egress": True, "ingress": False}),
    ],
)
def test_what_connects_although_it_is_forbidden_is_not_enforced(
    open_ports: tuple[int, ...], enforced: dict[str, bool]
) -> None:
    found = look(HOST, reached(*open_ports))
    assert found
    assert found.enforced == enforced
    assert ("is NOT enforced" in found.text or "is NOT," in found.text) == (
        False in enforced.values()
    )


@pytest.mark.parametrize("open_ports", [(), (FORBIDDEN["egress"],), tuple(FORBIDDEN.values())])
def test_a_target_that_does_not_answer_proves_nothing(open_ports: tuple[int, ...]) -> None:
    assert look(HOST, reached(*open_ports)) is None


def test_a_target_that_goes_meanwhile_is_no_policy() -> None:
    asked: list[int] = []

    def connect(_host: str, port: int) -> bool:
        asked.append(port)
        return len(asked) == 1

    assert look(HOST, connect) is None
    assert asked == [CONTROL, *FORBIDDEN.values(), CONTROL]


# What Prometheus hears


def series(probe: Probe) -> dict[str, float]:
    """Direction to value, as a scrape gets them."""
    found = re.findall(
        r'^xwiki_stack_netpol_enforced\{direction="(\w+)"\} (\S+)$', probe.text(), re.M
    )
    return {direction: float(value) for direction, value in found}


def test_a_scrape_tells_the_last_round_until_it_is_too_old() -> None:
    said: list[str] = []
    there, now = {CONTROL}, [0.0]
    probe = Probe(
        HOST, 10, said.append, connect=lambda _h, port: port in there, clock=lambda: now[0]
    )
    assert series(probe) == {}
    probe.round()
    assert series(probe) == {"egress": 1, "ingress": 1}
    there.add(FORBIDDEN["ingress"])
    probe.round()
    assert series(probe) == {"egress": 1, "ingress": 0}
    there.clear()
    now[0] = 30
    probe.round()
    assert series(probe) == {"egress": 1, "ingress": 0}
    now[0] = 31
    assert series(probe) == {}
    assert said == [
        "egress is, ingress is enforced",
        "egress is, ingress is NOT enforced",
        f"{HOST} does not answer at {CONTROL}",
    ]


def test_what_stays_as_it_was_is_said_once() -> None:
    said: list[str] = []
    probe = Probe(HOST, 10, said.append, connect=reached(CONTROL))
    probe.round()
    probe.round()
    assert len(said) == 1


# Over sockets


@pytest.fixture
def free() -> Iterator[tuple[int, ...]]:
    """Three ports that are free."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(3)]
        ports = tuple(item.getsockname()[1] for item in sockets)
    yield ports


def test_the_target_answers_at_each_of_its_ports_again_and_again(free: tuple[int, ...]) -> None:
    threading.Thread(target=enforcement.answer, args=(free,), daemon=True).start()
    for port in free * 3:
        # A refusal takes no time, and the thread may still be waiting for its turn.
        eventually(partial(connects, HOST, port), seconds=20, pause=0.05)


def test_a_port_where_nobody_listens_is_not_reached(free: tuple[int, ...]) -> None:
    assert not connects(HOST, free[0])


def test_a_packet_that_is_dropped_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener whose queue is full drops what comes, as a policy does."""
    monkeypatch.setattr(enforcement, "PATIENCE", 0.2)
    with socket.create_server((HOST, 0), backlog=0) as server, contextlib.ExitStack() as stack:
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        assert not connects(HOST, server.getsockname()[1])


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(MachineError, match=f"port {port} cannot be listened on"):
            enforcement.answer((port,))
        with pytest.raises(MachineError, match=f"port {port} cannot be listened on"):
            Probe(HOST, 1, print).serve(port)


def test_one_round_is_asked_for_by_hand(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(enforcement, "PATIENCE", 0.2)
    assert cli.main(["enforcement", "probe", "--target", HOST, "--once"]) == 0
    assert f"{HOST} does not answer at {CONTROL}" in capsys.readouterr().out
    assert cli.main(["enforcement", "probe"]) == 2
    assert "name its address with --target" in capsys.readouterr().err
