"""What a task comes to, as JSON."""

from __future__ import annotations

import json
from typing import Any

import orjson
from pydantic_core import to_jsonable_python

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
    except Exception as exc:  # also an error of the user's own serializer
        return "null", Failure("bad_result", f"the result cannot be written as JSON: {text_of(exc)}", False)
    if len(encoded) > limit:
        message = f"the result is {len(encoded)} bytes, above the limit of {limit} (max_result_bytes): put it in a file"
        return "null", Failure("result_too_large", message, False)
    return encoded.decode(), None


def encode_result(value: Any) -> bytes:
    """Write a result as JSON; models, dataclasses, dates and the like as Pydantic writes them, NaN as null."""
    try:
        return orjson.dumps(value, default=_jsonable, option=orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError as exc:
        if exc.__cause__ is not None:
            raise exc.__cause__ from None
        # Whole numbers beyond 64 bits are fine in JSON, but not for orjson.
        return json.dumps(value, default=_jsonable, allow_nan=False, ensure_ascii=False).encode()


def _jsonable(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        raise TypeError("bytes have no form in JSON: encode them as text, or put them in a file")
    return to_jsonable_python(value, inf_nan_mode="null")
