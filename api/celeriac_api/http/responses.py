"""JSON answers."""

from __future__ import annotations

from typing import Any, Final

from starlette.responses import Response
from starlette.types import Scope

from celeriac import json_text

#: On every answer: it is valid only now, and it is not HTML whatever it looks like.
HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

#: The key in a request's scope for a HEAD that is answered as the GET of the same path.
HEAD_OF_GET: Final = "celeriac.head_of_get"


def as_asked(scope: Scope) -> Scope:
    """Return the scope with the original method, for answers whose body costs much and is not wanted."""
    return {**scope, "method": "HEAD"} if scope.get(HEAD_OF_GET) else scope


def json_response(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return `document` as an answer."""
    return Response(json_text.encode(document), status, {**HEADERS, **(headers or {})}, media_type="application/json")
