from __future__ import annotations

import socket

import pytest

from celeriac.errors import SettingsError
from celeriac.up.ports import is_free, is_loopback, pick_port, refuse_open_address


def test_a_port_with_a_listener_is_taken_and_free_again_afterwards() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not is_free("127.0.0.1", port)
    assert is_free("127.0.0.1", port)


def test_a_listener_that_shares_its_port_counts_as_taken() -> None:
    # gRPC servers share ports by default: two platforms would silently split the calls.
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as server:
        assert not is_free("127.0.0.1", server.getsockname()[1])


def test_an_address_of_another_machine_is_an_error_and_not_a_taken_port() -> None:
    with pytest.raises(OSError, match="assign"):
        is_free("203.0.113.7", 8000)


def test_picked_ports_lie_below_the_ephemeral_range_and_differ() -> None:
    first = pick_port()
    assert 1024 < first < 32768
    assert pick_port(but_not=first) != first


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.4", False),
        ("example.org", False),
        ("", False),
    ],
)
def test_loopback_is_recognised(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_an_open_address_is_refused_unless_it_is_meant() -> None:
    with pytest.raises(SettingsError, match=r"--host 0\.0\.0\.0.*--insecure"):
        refuse_open_address("0.0.0.0", insecure=False)
    refuse_open_address("0.0.0.0", insecure=True)
    refuse_open_address("127.0.0.1", insecure=False)
