"""Between a task's record in the store (a hash of texts) and its row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final

from celeriac import json_text
from celeriac.errors import JsonError
from celeriac.history.durations import class_of
from celeriac.history.error_groups import error_group_of
from celeriac.model import Status, ms_from_utc, rfc3339, utc_from_ms
from celeriac.task_fields import (
    FIELDS,
    FLAG,
    JSON,
    LIFE_CYCLE,
    LINES,
    MOMENT,
    NUMBER,
    OBJECT,
    STATUS,
    TEXT,
    WORDS,
    Kind,
    moment_of,
    number_of,
)

#: Largest integer of a column.
_MAX_INT64: Final = 2**63 - 1
_MAX_INT32: Final = 2**31 - 1
_FAILED: Final = Status.FAILED.stored


def _columns(*kinds: Kind) -> dict[str, str]:
    """Return the fields of some kinds that have a column: column → name in the store."""
    return {field.column: field.names[0] for field in FIELDS if field.column and field.kind in kinds}


#: Column → name in the store.
_TEXTS: Final = {
    **_columns(TEXT, STATUS, JSON, OBJECT, WORDS, LINES),
    "stage": "stage",
    "progress_message": "message_text",
    "error_code": "error_code",
    "error_message": "error_message",
}
_MOMENTS: Final = _columns(MOMENT)
_NUMBERS: Final = _columns(NUMBER)
_FLAGS: Final = _columns(FLAG)
#: Columns that always hold a number.
_COUNTED: Final = {field.column for field in FIELDS if field.kind is NUMBER and field.missing == 0}
#: What is not in the column `extra`: what has its own column, and what history has no use for.
_ELSEWHERE: Final = LIFE_CYCLE.union(*(field.names for field in FIELDS if field.column or field.parts))
#: Columns of what a row is made of besides a record's fields.
_MADE: Final = ("extra", "title", "wait_ms", "run_ms", "wait_class", "run_class", "error_group", "failed_ms")


def row_of(record: Mapping[str, str]) -> dict[str, Any]:
    """Return the row of a record, every column of `task_tables.tasks` in it."""
    row = _EMPTY.copy()
    # What a column cannot hold is kept as it is, so that a reader of history sees the damage too.
    extra: dict[str, str] = {}
    # A record has a third of the fields that there are.
    for name, text in record.items():
        place = _PLACES.get(name)
        if place is None:
            if name not in _ELSEWHERE:
                extra[name] = text
            continue
        column, read = place
        if read is None:
            row[column] = text if "\x00" not in text else clean(text)
        elif text:
            try:
                row[column] = read(text)
            except ValueError:
                extra[name] = text
    row["type"] = row["type"] or ""
    row["queue"] = row["queue"] or "default"
    row["payload"] = row["payload"] or "{}"
    row["updated_ms"] = row["updated_ms"] or row["created_ms"]
    pending_ms, percentage = row.pop(_PENDING), row["percentage"]
    for column, field in _FLAGS.items():
        row[column] = field in record
    if "error_retryable" in record:
        row["error_retryable"] = record["error_retryable"] == "1"
    if "timestamp_ms" in record:
        row["percentage"], row["progress_ms"] = percentage or 0.0, row["progress_ms"] or 0
    else:
        row["percentage"] = row["progress_ms"] = None
    if extra:
        row["extra"] = clean(json_text.encode(extra).decode())
    started_ms, finished_ms = row["started_ms"], row["finished_ms"]
    if started_ms and pending_ms:
        row["wait_ms"] = wait_ms = max(started_ms - pending_ms, 0)
        row["wait_class"] = class_of(wait_ms)
    if finished_ms and started_ms:
        row["run_ms"] = run_ms = max(finished_ms - started_ms, 0)
        row["run_class"] = class_of(run_ms)
    if row["status"] == _FAILED:
        row["error_group"] = error_group_of(row["type"], row["error_code"], row["error_message"])
        row["failed_ms"] = finished_ms or row["updated_ms"]
    return row


@lru_cache(maxsize=8192)
def _ms_of(text: str) -> int:
    """Read a moment as milliseconds since the epoch; raises `ValueError`. Transitions of one batch have the same."""
    return ms_from_utc(moment_of(text))


def _int32(text: str) -> int:
    return min(int(text), _MAX_INT32)


def _int64(text: str) -> int:
    return bounded(int(text))


#: Stands among the columns for a field that only a duration is made of.
_PENDING: Final = "pending_ms"
#: Name in the store → column, and how it is read; None: it is a text, and empty ones count.
_PLACES: Final[dict[str, tuple[str, Callable[[str], Any] | None]]] = {
    **{field: (column, None) for column, field in _TEXTS.items()},
    **{field: (column, _ms_of) for column, field in _MOMENTS.items()},
    **{field: (column, _int32) for column, field in _NUMBERS.items()},
    "rev": ("rev", _int64),
    "pending_ms": (_PENDING, int),
    "percentage": ("percentage", number_of),
    "timestamp_ms": ("progress_ms", _int64),
}
#: The row of a record without fields, and what the fields are read into.
_EMPTY: Final[dict[str, Any]] = {
    **dict.fromkeys((*_TEXTS, *_MOMENTS, *_NUMBERS, *_FLAGS, *_MADE, "error_retryable", "percentage", "progress_ms")),
    **dict.fromkeys(_COUNTED, 0),
    "created_ms": 0,
    "rev": 0,
    _PENDING: 0,
}


def record_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the record that a row was made of, without what was passing: the inverse of `row_of`.

    Further fields that cannot be read are left out; `damage_of` says so.
    """
    record: dict[str, str] = {}
    for column, field in _TEXTS.items():
        if row[column] is not None:
            record[field] = row[column]
    for column, field in _MOMENTS.items():
        if row[column] is not None:
            record[field] = rfc3339(utc_from_ms(row[column]))
    for column, field in _NUMBERS.items():
        if row[column] is not None:
            record[field] = str(row[column])
    for column, field in _FLAGS.items():
        if row[column]:
            record[field] = "1"
    record["rev"] = str(row["rev"])
    if row["cancel_requested"]:
        record["cancel_requested"] = record["updated_at"]
    if row["error_retryable"] is not None:
        record["error_retryable"] = "1" if row["error_retryable"] else "0"
    if row["progress_ms"] is not None:
        percentage = float(row["percentage"] or 0)
        record["percentage"] = str(int(percentage)) if percentage.is_integer() else repr(percentage)
        record["timestamp_ms"] = str(row["progress_ms"])
    with suppress(JsonError):
        record.update(_further_fields(row))
    return record


def damage_of(row: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the row itself, in words for people; the record that it holds is another matter."""
    try:
        _further_fields(row)
    except JsonError as exc:
        return str(exc)
    return None


def _further_fields(row: Mapping[str, Any]) -> dict[str, str]:
    fields = json_text.read(row["extra"], "extra") if row["extra"] is not None else {}
    if not isinstance(fields, dict):
        raise JsonError("extra", f"is of the wrong type ({type(fields).__name__})")
    return {name: str(value) for name, value in fields.items()}


def clean(text: str | None) -> str | None:
    """Return `text` without what PostgreSQL has no place for: NUL."""
    return text.replace("\x00", "\ufffd") if text is not None and "\x00" in text else text


def bounded(value: int) -> int:
    """Return `value` within what a column can hold."""
    return max(min(value, _MAX_INT64), -_MAX_INT64)
