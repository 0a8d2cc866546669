"""A port that somebody else has is refused in one line."""

import socket

import pytest

from xwiki_stack import portforward
from xwiki_stack.errors import MachineError


def test_a_taken_port_is_refused_with_the_way_out() -> None:
    with socket.socket() as other:
        other.bind((portforward.ADDRESS, 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(MachineError, match=rf"port {port} .* taken .*PORT="):
            portforward.refuse_taken(port)


def test_a_free_port_is_not_refused() -> None:
    with socket.socket() as other:
        other.bind((portforward.ADDRESS, 0))
        port = other.getsockname()[1]
    portforward.refuse_taken(port)
