"""Addresses of executors: the forms that gRPC accepts (doc/naming.md of gRPC), each with its port."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

_WANTED: Final = "write host:port, e.g. executor.internal:50061, [::1]:50061, dns:///host:50061 or unix:/path"

#: The longest path of a Unix socket on every system: `sun_path` has 108 bytes on Linux and 104 on macOS, with its end.
_MAX_SOCKET_BYTES: Final = 107 if sys.platform == "linux" else 103

_HOST: Final = re.compile(r"[^\s/@:\[\]?#,]+")
_PORT: Final = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class ExecutorAddress:
    """The parts of an address that Celeriac itself uses; both are empty for a form that only gRPC can read."""

    #: The hosts and their ports. One name may stand for many machines.
    hosts: tuple[tuple[str, int], ...] = ()
    #: The path of a Unix socket; such an address has no hosts.
    path: Path | None = None


def read_address(text: str) -> ExecutorAddress:
    """Return the parts of an address.

    Raises `ValueError`, which names the expected form. It never quotes the text, which may hold a password.
    """
    scheme, _, rest = text.partition(":")
    if rest.startswith("//") and scheme in ("ipv4", "ipv6", "unix", "dns"):
        # `//AUTHORITY/NAME`; only `dns` may have an authority, the name server to ask.
        authority, slash, rest = rest[2:].partition("/")
        if not slash or (authority and scheme != "dns"):
            raise ValueError(f"has something between // and /: {_WANTED}")
        rest = f"/{rest}" if scheme == "unix" and rest else rest
    match scheme:
        case "unix":
            if not rest:
                raise ValueError(f"has no path: {_WANTED}")
            if len(os.fsencode(rest)) > _MAX_SOCKET_BYTES:
                raise ValueError(f"has a path of more than {_MAX_SOCKET_BYTES} bytes, which no socket may have")
            return ExecutorAddress(path=Path(rest))
        case "unix-abstract" | "vsock" | "xds" if rest:
            return ExecutorAddress()
        case "dns":
            return ExecutorAddress(hosts=(_host_and_port(rest),))
        case "ipv4" | "ipv6":
            hosts = tuple(map(_host_and_port, rest.split(",")))
            for host, _ in hosts:
                _check_ip(scheme, host)
            return ExecutorAddress(hosts=hosts)
    if "://" in text:
        raise ValueError(f"is a URL: {_WANTED}, without {scheme}:// (for TLS, write tls: {{}} beside it)")
    return ExecutorAddress(hosts=(_host_and_port(text),))


def check_address(text: str) -> str:
    """Return the address unchanged; raises `ValueError` if gRPC could not call it."""
    read_address(text)
    return text


def _host_and_port(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if text.endswith("]") or not colon or not port:
        raise ValueError(f"has no port: {_WANTED}")
    if not host:
        raise ValueError(f"has no host: {_WANTED}")
    if not _PORT.fullmatch(port) or not 1 <= int(port) <= 65535:
        raise ValueError(f"has a port that is not a number from 1 to 65535: {_WANTED}")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        _check_ip("ipv6", host)
    elif not _HOST.fullmatch(host):
        # Several colons are an IPv6 address without its brackets: its port cannot be told from the rest.
        raise ValueError(f"has a host that is neither a name nor an IP address: {_WANTED}")
    return host, int(port)


def _check_ip(scheme: str, host: str) -> None:
    try:
        IPv4Address(host) if scheme == "ipv4" else IPv6Address(host)
    except ValueError:
        raise ValueError(
            f"has a host that is not an {'IPv4' if scheme == 'ipv4' else 'IPv6'} address: {_WANTED}"
        ) from None
