"""Converts `google.protobuf.Struct` from and to JSON values.

A Struct has one kind of number, the double. Integers are exact up to 2^53; a larger integer is sent as the nearest
double. On the way back, a whole double within that range becomes an integer again (the sender's `2.0` and `2` are
the same message). NaN and the infinities stay what they are; a result that has one is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.struct_pb2 import Struct, Value

#: Up to this number, every integer has an exact double.
MAX_EXACT_INTEGER: Final = 2**53


def struct_from(data: Mapping[str, Any]) -> Struct:
    """Return `data` as a Struct; raises `ValueError` if a Struct cannot hold a value."""
    struct = Struct()
    try:
        struct.update(data)
    except (OverflowError, TypeError) as exc:
        raise ValueError(str(exc)) from exc
    return struct


def struct_to(struct: Struct) -> dict[str, Any]:
    """Return `struct` as JSON values."""
    return {key: _json(value) for key, value in struct.fields.items()}


def whole(number: float) -> float:
    """Return a whole double in the exact range as an integer, and any other number unchanged."""
    return int(number) if abs(number) <= MAX_EXACT_INTEGER and number.is_integer() else number


def _json(value: Value) -> Any:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            return whole(value.number_value)
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return struct_to(value.struct_value)
        case "list_value":
            return [_json(item) for item in value.list_value.values]
        case _:
            return None
