"""TCP ports on this machine: find out which are free, and choose one that is still free after a restart."""

from __future__ import annotations

import errno
import ipaddress
import random
import socket
from pathlib import Path

from celeriac.errors import SettingsError

_LOWEST, _HIGHEST = 20_000, 32_767
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def in_url(host: str) -> str:
    """Return `host` as URLs and the `Host` header have it: an IPv6 address in brackets, its zone after `%25`."""
    if ":" not in host:
        return host
    address, percent, zone = host.strip("[]").partition("%")
    return f"[{address}{'%25' if percent else ''}{zone}]"


def with_port(host: str, port: int) -> str:
    """Return `host:port` as people and addresses of sockets have it: an IPv6 address in brackets."""
    return f"[{host.strip('[]')}]:{port}" if ":" in host else f"{host}:{port}"


def host_of(place: str) -> str:
    """Return the host of `host:port`, or of an address without a port."""
    if place.startswith("["):
        return place[1:].partition("]")[0]
    return place if place.count(":") > 1 else place.partition(":")[0]


def reachable(host: str) -> str:
    """Return the host by which this machine reaches a server that listens on `host`."""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - it is replaced


def is_loopback(host: str) -> bool:
    """Return whether `host` (an address or `localhost`) can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def refuse_open_address(host: str, *, insecure: bool, authenticated: bool = False) -> None:
    """Raise `SettingsError` if other machines can reach `host` without authentication, unless `insecure`."""
    if not insecure and not authenticated and not is_loopback(host):
        raise SettingsError(
            f"other machines can reach --host {host}, and no authentication is configured: anybody there could run"
            " tasks. Set JWT_SECRET (32 random characters or more) or JWKS_URL, use --host 127.0.0.1, or add"
            " --insecure if the network itself keeps strangers out"
        )


def is_free(host: str, port: int) -> bool:
    """Return whether a server could listen on `host:port` now.

    Raises `OSError` if it could not for another reason than a port in use (no such address, a reserved port).
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except UnicodeError as exc:  # a label of the name is too long, or empty
        raise OSError(errno.EINVAL, "this is not the name of a host") from exc
    with socket.socket(family, kind, protocol) as probe:
        # As servers do: connections of an earlier run in TIME_WAIT do not matter, a listener does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError as exc:
            if exc.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def pick_port(host: str = "127.0.0.1", *, but_not: int = 0) -> int:
    """Return a random free port below the ephemeral range, other than `but_not`.

    From that range the kernel could give the port to an outgoing connection while the server restarts. A client that
    reconnects in a loop could even connect to itself.
    """
    highest = min(_HIGHEST, _first_ephemeral() - 1)
    candidates = range(_LOWEST, highest + 1) if highest > _LOWEST + 1000 else range(1024 + 1, 65_536)
    for port in random.sample(candidates, k=200):
        if port != but_not and is_free(host, port):
            return port
    raise OSError(errno.EADDRINUSE, f"there is no free port on {host}")


def _first_ephemeral() -> int:
    try:
        return int(_EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 49_152
