"""Between a task's record in the store (a hash of texts) and its row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar

from celeriac import json_text
from celeriac.errors import JsonError
from celeriac.history.durations import class_of
from celeriac.model import ms_from_utc, rfc3339, utc_from_ms
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

T = TypeVar("T")

#: Largest integer of a column.
_MAX_INT64: Final = 2**63 - 1
_MAX_INT32: Final = 2**31 - 1


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


def row_of(record: Mapping[str, str]) -> dict[str, Any]:
    """Return the row of a record, every column of `task_tables.tasks` in it."""
    get = record.get
    reading = _Reading(record)
    row: dict[str, Any] = {column: clean(get(field)) for column, field in _TEXTS.items()}
    for column, field in _MOMENTS.items():
        row[column] = reading.read(field, _ms_of, None)
    for column, field in _NUMBERS.items():
        number = reading.read(field, int, 0 if column in _COUNTED else None)
        row[column] = None if number is None else min(number, _MAX_INT32)
    for column, field in _FLAGS.items():
        row[column] = field in record
    row["type"] = row["type"] or ""
    row["queue"] = row["queue"] or "default"
    row["payload"] = row["payload"] or "{}"
    row["created_ms"] = row["created_ms"] or 0
    row["updated_ms"] = row["updated_ms"] or row["created_ms"]
    row["rev"] = bounded(reading.read("rev", int, 0))
    row["error_retryable"] = get("error_retryable") == "1" if "error_retryable" in record else None
    reported = "timestamp_ms" in record
    percentage, progress_ms = reading.read("percentage", number_of, 0.0), bounded(reading.read("timestamp_ms", int, 0))
    row["percentage"], row["progress_ms"] = (percentage, progress_ms) if reported else (None, None)
    started_ms, finished_ms = row["started_ms"], row["finished_ms"]
    pending_ms = reading.read("pending_ms", int, 0)
    # What a column cannot hold is kept as it is, so that a reader of history sees the damage too.
    extra = {name: value for name, value in record.items() if name not in _ELSEWHERE} | reading.damaged
    row["extra"] = clean(json_text.encode(extra).decode()) if extra else None

    wait_ms = max(started_ms - pending_ms, 0) if started_ms and pending_ms else None
    run_ms = max(finished_ms - started_ms, 0) if finished_ms and started_ms else None
    row["wait_ms"], row["run_ms"] = wait_ms, run_ms
    row["wait_class"] = None if wait_ms is None else class_of(wait_ms)
    row["run_class"] = None if run_ms is None else class_of(run_ms)
    return row


class _Reading:
    """Reads fields of a record for their columns; `damaged` are those that cannot be read."""

    def __init__(self, record: Mapping[str, str]) -> None:
        self._record = record
        self.damaged: dict[str, str] = {}

    def read(self, field: str, read: Callable[[str], T], default: T) -> T:
        """Return the value of a field, or `default` for one that is absent, empty or cannot be read."""
        text = self._record.get(field)
        if not text:
            return default
        try:
            return read(text)
        except ValueError:
            self.damaged[field] = text
            return default


def _ms_of(text: str) -> int:
    return ms_from_utc(moment_of(text))


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
