"""Protects users of browsers: from pages of other sites that send requests, names that point here, and frames."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import Message, Scope, Send

from celeriac.settings import AccessSettings
from celeriac_api.access.credentials import SUBPROTOCOL, Head
from celeriac_api.http.problems import RequestError

#: On every answer, unless the route sets the header itself.
HEADERS: Final = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"x-frame-options": b"DENY",
    b"cross-origin-resource-policy": b"same-origin",
    b"content-security-policy": b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}
_HSTS: Final = (b"strict-transport-security", b"max-age=31536000")
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
#: A `Host` header: a name or an IPv4 address, or an IPv6 address in brackets; and a port.
_HOST: Final = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]{2,45})\]|(?P<name>[A-Za-z0-9._-]{1,253}))(?::[0-9]{0,5})?")
#: Host names that one process remembers as allowed.
_REMEMBERED: Final = 1000
_EXPOSED: Final = (
    "ETag, Location, Retry-After, Tus-Resumable, Tus-Version, Tus-Extension, Tus-Max-Size, Upload-Offset, "
    "Upload-Length, Upload-Expires, Upload-Metadata"
)
_ASKED: Final = (
    "Authorization, Content-Type, Idempotency-Key, Last-Event-ID, Range, X-API-Key, X-Checksum-Sha256, Content-Digest, "
    "Repr-Digest, Tus-Resumable, Upload-Length, Upload-Metadata, Upload-Offset, Upload-Checksum, X-HTTP-Method-Override"
)


class Browsers:
    """The checks of one application."""

    def __init__(self, access: AccessSettings, *, host: str) -> None:
        self._origins = frozenset(access.cors_origins)
        self._hsts = access.tls is not None
        # If callers must show a credential, a page gains nothing from a name that points here. Otherwise a browser in
        # the same network is enough, whatever address the server listens on.
        self._check_hosts = not access.on
        self._own_names = {name.lower().rstrip(".") for name in (*access.allowed_hosts, host)}
        self._good_hosts: set[str] = set()

    @property
    def adds_only_fixed_headers(self) -> bool:
        """Whether the headers of `HEADERS` are all that `dressed` adds."""
        return not self._hsts and not self._origins

    def check_host(self, head: Head) -> None:
        """Raise `RequestError` if the host name is not one of this server (DNS rebinding)."""
        if not self._check_hosts or head.host in self._good_hosts:
            return
        if not self._ours(head.host):
            name = head.host[:200]
            raise RequestError(
                "host_not_allowed",
                f"this server is not called {name!r}: use localhost or an IP address, or name it in the setting"
                " access.allowed_hosts (CELERIAC_ACCESS__ALLOWED_HOSTS), or turn authentication on",
            )
        if len(self._good_hosts) < _REMEMBERED:
            self._good_hosts.add(head.host)

    def _ours(self, host: str) -> bool:
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = (found["name"] or found["address"]).lower().rstrip(".")
        if name in self._own_names or name == "localhost" or name.endswith(".localhost"):
            return True
        try:
            # A stranger can point a name here, but not an address.
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def check_origin(self, scope: Scope, head: Head) -> None:
        """Raise `RequestError` if a page of another site makes a browser change something here.

        This is for requests that need no credential, or whose credential the browser adds by itself.
        """
        changes = scope["type"] == "websocket" or scope["method"] not in _SAFE_METHODS
        if not changes:
            return
        if head.origin is not None and head.origin in self._origins:
            return
        if head.fetch_site is not None:
            # A page cannot forge this header.
            foreign = head.fetch_site not in ("same-origin", "none")
        else:
            foreign = head.origin is not None and _netloc(head.origin) != head.host.lower()
        if foreign:
            raise RequestError(
                "origin_not_allowed",
                f"pages of {(head.origin or 'another site')[:200]} may not do this; the setting access.cors_origins"
                " names those that may",
            )

    def preflight(self, scope: Scope, head: Head) -> Response | None:
        """Return the answer to a browser that asks whether a page may send a request; None if it does not ask."""
        if head.origin is None or not head.preflight or scope["type"] != "http" or scope["method"] != "OPTIONS":
            return None
        if head.origin not in self._origins:
            # An answer without the permission headers is the refusal.
            return Response(status_code=403 if self._origins else 404, headers={"Vary": "Origin"})
        return Response(
            status_code=204,
            headers={
                "Access-Control-Allow-Origin": head.origin,
                "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
                "Access-Control-Allow-Headers": _ASKED,
                "Access-Control-Max-Age": "600",
                "Vary": "Origin",
            },
        )

    def dressed(self, send: Send, head: Head, scope: Scope) -> Send:
        """Return a `send` that adds the security headers, and the permission headers if the origin is allowed.

        A WebSocket that offers our subprotocol gets it, because browsers close the connection otherwise.
        """
        allowed = head.origin if head.origin in self._origins else None
        offered = SUBPROTOCOL in scope.get("subprotocols", ())

        async def send_dressed(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = message["headers"] = list(message.get("headers", ()))
                there = {name.lower() for name, _ in headers}
                headers += [item for item in HEADERS.items() if item[0] not in there]
                if self._hsts:
                    headers.append(_HSTS)
                if self._origins and b"vary" not in there:
                    headers.append((b"vary", b"Origin"))
                if allowed is not None and b"access-control-allow-origin" not in there:
                    headers.append((b"access-control-allow-origin", allowed.encode("latin-1")))
                    headers.append((b"access-control-expose-headers", _EXPOSED.encode()))
            elif message["type"] == "websocket.accept" and offered and not message.get("subprotocol"):
                message = {**message, "subprotocol": SUBPROTOCOL}
            await send(message)

        return send_dressed


def _netloc(origin: str) -> str:
    """Return the host and port of an `Origin` header; an empty text for one that is not a URL."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
