"""JSON answers."""

from __future__ import annotations

import json
from typing import Any, Final

import orjson
from starlette.responses import Response
from starlette.types import Scope

#: On every answer: it is valid only now, and it is not HTML whatever it looks like.
HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

#: The key in a request's scope for a HEAD that is answered as the GET of the same path.
HEAD_OF_GET: Final = "celeriac.head_of_get"


def as_asked(scope: Scope) -> Scope:
    """Return the scope with the original method, for answers whose body costs much and is not wanted."""
    return {**scope, "method": "HEAD"} if scope.get(HEAD_OF_GET) else scope


def encode(document: Any) -> bytes:
    """Write JSON; what a worker stored may go beyond orjson's bounds (integers, nesting), never beyond json's."""
    try:
        return orjson.dumps(document)
    except TypeError:
        return json.dumps(document, separators=(",", ":")).encode()


def json_response(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return `document` as an answer."""
    return Response(encode(document), status, {**HEADERS, **(headers or {})}, media_type="application/json")
