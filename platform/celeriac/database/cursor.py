"""The end of a page of a list: an opaque text for clients, made of the last row's sort value and id."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from enum import StrEnum

from celeriac import json_text


class BadCursorError(ValueError):
    """The text is not a cursor, or belongs to a list with another sort order."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The place after one row of a list."""

    sort: StrEnum
    at_ms: int
    task_id: str

    def encoded(self) -> str:
        """Return the text for clients; it has letters, digits, `-` and `_`."""
        packed = json_text.write_bytes([self.sort.value, self.at_ms, self.task_id])
        return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()

    @classmethod
    def decode(cls, text: str, sort: StrEnum) -> Cursor:
        """Read a cursor of a list sorted by `sort`; raises `BadCursorError`."""
        try:
            name, at_ms, task_id = json_text.read(base64.urlsafe_b64decode(text.encode() + b"=" * (-len(text) % 4)))
        except (binascii.Error, ValueError, TypeError) as exc:
            raise BadCursorError("is not a cursor; use the `next_cursor` of a page unchanged") from exc
        if not isinstance(at_ms, int) or not isinstance(task_id, str) or abs(at_ms) >= 2**63 or "\x00" in task_id:
            raise BadCursorError("is not a cursor; use the `next_cursor` of a page unchanged")
        if name != sort.value:
            raise BadCursorError(f"belongs to a list sorted by {name}, this one is sorted by {sort.value}")
        return cls(sort, at_ms, task_id)
