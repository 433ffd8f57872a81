"""Where a request carries its credential: header, WebSocket subprotocol, query, or cookie."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from starlette.types import Scope

from celeriac.access.authenticator import bearer

#: The cookie that the sign-in page sets. It holds the credential itself, so the server keeps no sessions.
COOKIE: Final = "celeriac_session"
#: The cookie with the language that a reader chose.
LANGUAGE_COOKIE: Final = "celeriac_language"
_COOKIE_VALUE: Final = re.compile(r"[A-Za-z0-9._~-]{1,8192}")
#: A WebSocket client that cannot set headers offers the subprotocols `celeriac` and `bearer.TOKEN`.
SUBPROTOCOL: Final = "celeriac"
_OFFERED_BEARER: Final = "bearer."
#: The query parameter, accepted for streams and WebSockets only. It is removed before anything is logged.
_QUERY: Final = "token"


@dataclass(slots=True)
class Head:
    """The headers of a request that the guard needs, read in one pass."""

    host: str = ""
    origin: str | None = None
    authorization: str | None = None
    api_key: str | None = None
    cookie: str | None = None
    fetch_site: str | None = None
    preflight: bool = False
    #: There is a `Content-Encoding`. The request may still have no body.
    encoded: bool = False


def read_head(scope: Scope) -> Head:
    """Read the headers of a request."""
    head = Head()
    for name, value in scope["headers"]:
        if name == b"host":
            head.host = value.decode("latin-1")
        elif name == b"origin":
            head.origin = value.decode("latin-1")
        elif name == b"authorization":
            head.authorization = value.decode("latin-1")
        elif name == b"x-api-key":
            head.api_key = value.decode("latin-1").strip()
        elif name == b"cookie":
            head.cookie = value.decode("latin-1")
        elif name == b"sec-fetch-site":
            head.fetch_site = value.decode("latin-1")
        elif name == b"access-control-request-method":
            head.preflight = True
        elif name == b"content-encoding":
            head.encoded = True
    return head


def credential_of(scope: Scope, head: Head, *, stream: bool) -> tuple[str | None, bool]:
    """Return the credential of a request, and whether a browser added it by itself (a cookie).

    Raises `AuthenticationError` if the `Authorization` header has another scheme than `Bearer`.
    """
    in_query = _taken_from_query(scope) if stream else None
    if head.authorization is not None:
        return bearer(head.authorization), False
    if head.api_key:
        return head.api_key, False
    if scope["type"] == "websocket":
        for offered in scope.get("subprotocols", ()):
            if offered.startswith(_OFFERED_BEARER):
                return offered.removeprefix(_OFFERED_BEARER), False
    if in_query:
        return in_query, False
    return (session_of(head.cookie), True) if head.cookie is not None else (None, False)


def session_of(cookie: str) -> str | None:
    """Return the credential in a `Cookie` header, or None."""
    return _value_of(COOKIE, cookie)


def keep_own_cookies(scope: Scope) -> None:
    """Leave only our cookies in the headers of a request: a credential, a language.

    Frameworks parse all cookies for every route, in Python releases with a quadratic decoder (CVE-2024-7592).
    """
    own: dict[str, str] = {}
    headers = []
    for name, value in scope["headers"]:
        if name != b"cookie":
            headers.append((name, value))
            continue
        for ours in (COOKIE, LANGUAGE_COOKIE):
            if ours not in own and (found := _value_of(ours, value.decode("latin-1"))) is not None:
                own[ours] = found
    if own:
        headers.append((b"cookie", "; ".join(f"{name}={value}" for name, value in own.items()).encode("latin-1")))
    scope["headers"] = headers


def _value_of(name: str, header: str) -> str | None:
    """Return the value of a cookie; a value that cannot be ours is passed over. The most specific cookie is first."""
    for pair in header.split(";"):
        found, _, value = pair.partition("=")
        if found.strip() == name and fits_cookie(value := value.strip()):
            return value
    return None


def fits_cookie(credential: str) -> bool:
    """Return whether a credential can be kept in a cookie: only characters that need no quotes, and not too many."""
    return _COOKIE_VALUE.fullmatch(credential) is not None


def _taken_from_query(scope: Scope) -> str | None:
    query: bytes = scope.get("query_string", b"")
    if not query:
        return None
    # Decoded as the routes decode it, so that no spelling of the name passes by.
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    found = next((value for name, value in pairs if name == _QUERY), None)
    if found is not None:
        # In place, because the server logs from the same scope.
        rest: Any = urlencode([pair for pair in pairs if pair[0] != _QUERY])
        scope["query_string"] = rest.encode("latin-1")
    return found
