"""What a task comes to, as JSON."""

from __future__ import annotations

from typing import Any

from pydantic_core import to_jsonable_python

from celeriac import json_text
from celeriac.errors import JsonError
from celeriac.model import Failure


def text_of(exc: BaseException) -> str:
    """Return the text of an exception, "" if that fails."""
    try:
        return str(exc)
    except Exception:
        return ""


def result_text(value: Any, limit: int) -> tuple[str, Failure | None]:
    """Return a result as JSON text, or `null` and why it cannot be kept; `limit` in bytes."""
    try:
        encoded = encode_result(value)
    except JsonError as exc:
        return "null", Failure("bad_result", f"the result cannot be written as JSON: {exc}", False)
    if len(encoded) > limit:
        message = f"the result is {len(encoded)} bytes, above the limit of {limit} (max_result_bytes): put it in a file"
        return "null", Failure("result_too_large", message, False)
    return encoded.decode(), None


def encode_result(value: Any) -> bytes:
    """Write a result as JSON, models, dataclasses, dates and the like as Pydantic writes them; raises `JsonError`."""
    return json_text.write_bytes(value, "result", default=_jsonable, any_keys=True)


def _jsonable(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        raise JsonError("result", "is bytes, which cannot be written as JSON: return a string, in base64 for example")
    return to_jsonable_python(value, inf_nan_mode="constants")
