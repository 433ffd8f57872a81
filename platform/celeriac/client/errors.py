"""Failures that are alike, as `errors` returns them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from celeriac.errors import ApiError


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Tasks of one type that failed for good with the same code and the same message, whatever values it names."""

    #: Select these tasks by it: `list(error_group=…)`, `bulk("retry", error_group=…)`.
    error_group: str
    type: str
    code: str
    #: With `<n>`, `<id>`, `<value>`, … in place of values.
    message: str
    failures: int
    #: How many of them are failed now; the others were retried.
    dead: int
    first_seen: datetime
    last_seen: datetime
    #: An example.
    last_task_id: str | None
    #: Failures over time: in up to 60 spans of equal length.
    counts: tuple[int, ...]


def error_group_of(record: Mapping[str, Any]) -> ErrorGroup:
    """Read a group; raises `ApiError` if `record` does not hold one."""
    try:
        return ErrorGroup(
            **{name: record[name] for name in ("error_group", "type", "code", "message", "failures", "dead")},
            first_seen=datetime.fromisoformat(record["first_seen"]),
            last_seen=datetime.fromisoformat(record["last_seen"]),
            last_task_id=record["last_task_id"],
            counts=tuple(record["counts"]),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise ApiError(f"the answer does not describe errors: {exc!r}", status=200, code="unreadable") from exc
