"""JSON answers."""

from __future__ import annotations

import json
from typing import Any, Final

import orjson
from starlette.responses import Response

#: On every answer: it is true only now, and it is no HTML whatever it looks like.
HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def encode(document: Any) -> bytes:
    """Write JSON; what a worker stored may go beyond orjson's bounds (integers, nesting), never beyond json's."""
    try:
        return orjson.dumps(document)
    except TypeError:
        return json.dumps(document, separators=(",", ":")).encode()


def json_response(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return `document` as an answer."""
    return Response(encode(document), status, {**HEADERS, **(headers or {})}, media_type="application/json")
