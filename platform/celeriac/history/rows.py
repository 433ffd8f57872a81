"""Between a task's record in the store (a hash of texts) and its row."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import orjson

from celeriac.history.durations import class_of
from celeriac.model import ms_from_utc, rfc3339, utc_from_ms
from celeriac.task_fields import FIELDS, FLAG, JSON, LIFE_CYCLE, LINES, MOMENT, NUMBER, STATUS, TEXT, WORDS, Kind

#: Largest integer of a column.
_MAX_INT64: Final = 2**63 - 1
_MAX_INT32: Final = 2**31 - 1


def _columns(*kinds: Kind) -> dict[str, str]:
    """Return the fields of some kinds that have a column: column → name in the store."""
    return {field.column: field.names[0] for field in FIELDS if field.column and field.kind in kinds}


#: Column → name in the store.
_TEXTS: Final = {
    **_columns(TEXT, STATUS, JSON, WORDS, LINES),
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
    row: dict[str, Any] = {column: clean(get(field)) for column, field in _TEXTS.items()}
    for column, field in _MOMENTS.items():
        text = get(field)
        row[column] = ms_from_utc(datetime.fromisoformat(text)) if text else None
    for column, field in _NUMBERS.items():
        text = get(field) or ("0" if column in _COUNTED else None)
        row[column] = min(int(text), _MAX_INT32) if text else None
    for column, field in _FLAGS.items():
        row[column] = field in record
    row["type"] = row["type"] or ""
    row["queue"] = row["queue"] or "default"
    row["payload"] = row["payload"] or "{}"
    row["created_ms"] = row["created_ms"] or 0
    row["updated_ms"] = row["updated_ms"] or row["created_ms"]
    row["rev"] = int(get("rev") or 0)
    row["error_retryable"] = get("error_retryable") == "1" if "error_retryable" in record else None
    reported = "timestamp_ms" in record
    row["percentage"] = float(get("percentage") or 0) if reported else None
    row["progress_ms"] = bounded(int(record["timestamp_ms"] or 0)) if reported else None
    extra = {name: value for name, value in record.items() if name not in _ELSEWHERE}
    row["extra"] = clean(orjson.dumps(extra).decode()) if extra else None

    started_ms, finished_ms, pending_ms = row["started_ms"], row["finished_ms"], get("pending_ms")
    wait_ms = max(started_ms - int(pending_ms), 0) if started_ms and pending_ms else None
    run_ms = max(finished_ms - started_ms, 0) if finished_ms and started_ms else None
    row["wait_ms"], row["run_ms"] = wait_ms, run_ms
    row["wait_class"] = None if wait_ms is None else class_of(wait_ms)
    row["run_class"] = None if run_ms is None else class_of(run_ms)
    return row


def record_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the record that a row was made of, without what was passing: the inverse of `row_of`."""
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
    if row["extra"] is not None:
        record.update(orjson.loads(row["extra"]))
    return record


def clean(text: str | None) -> str | None:
    """Return `text` without what PostgreSQL has no place for: NUL."""
    return text.replace("\x00", "\ufffd") if text is not None and "\x00" in text else text


def bounded(value: int) -> int:
    """Return `value` within what a column can hold."""
    return max(min(value, _MAX_INT64), -_MAX_INT64)
