"""A task's record as every front door writes it and clients read it: the v1 names of `GET /api/v1/tasks/{id}`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any, Final

from celeriac import secret_fields
from celeriac.model import (
    Failure,
    KeptTask,
    LogLine,
    Outcome,
    Progress,
    Status,
    Task,
    WorkerInfo,
    ms_from_utc,
    rfc3339,
    utc_from_ms,
)
from celeriac.task_fields import AWAITED, DEFAULTS, FIELDS
from celeriac.violations import shown

_SHOWN: Final = [field for field in FIELDS if field.shown]
_NAMES: Final = [field.shown for field in _SHOWN]
_VALUES: Final = attrgetter(*(field.name for field in _SHOWN))
#: Those whose JSON is not the value itself: name in the record, and how it becomes JSON.
_WRITTEN: Final = [(field.shown, field.kind.to_json) for field in _SHOWN if field.kind.differs]
#: The fields that are left out where a record stands for what happens now.
LARGE: Final = tuple(field.shown for field in FIELDS if field.large)
#: What a record in a list has besides: which fields were left out for their size, and what is wrong with the record.
OMITTED: Final = "omitted"
DAMAGED: Final = "damaged"
#: The fields that a caller may choose for a list.
CHOOSABLE: Final = (*dict.fromkeys((*_NAMES, "waiting_for", "title")), OMITTED)
#: The columns of the history that are read only for the field of the same name: they may be long.
_LONG_COLUMNS: Final = frozenset({"payload", "result", "metadata"})


def task_record(task: Task) -> dict[str, Any]:
    """Return `task` as the v1 record: JSON-ready, keys in the order they are documented in.

    Status is lower case, times are RFC 3339 in UTC with milliseconds, `error` is None or
    `{code, message, retryable}`. `progress` is always an object: see `progress_record`. Only a record that cannot be
    read as a whole has `damaged`, which says why.
    """
    record: dict[str, Any] = dict(zip(_NAMES, _VALUES(task), strict=True))
    for name, to_json in _WRITTEN:
        value = record[name]
        record[name] = None if value is None else to_json(value)
    record["progress"] = progress_record(task.progress, created_at=task.created_at)
    record["error"] = error_record(task.error)
    record["waiting_for"] = None if task.waiting_for is None else AWAITED.to_json(task.waiting_for)
    record["title"] = task.title
    if task.secret_fields:
        record["payload"] = secret_fields.masked(task.payload, task.secret_fields)
    if task.damage is not None:
        record["damaged"] = task.damage
    return record


def listed_record(kept: KeptTask, task: Task, fields: Sequence[str] = ()) -> dict[str, Any]:
    """Return a task of a list as its record; `task` is the same one, with what it waits for.

    With `fields` only these, besides the id, and what is wrong with the record. Where the payload or the result is
    among them, so is `omitted`.
    """
    record = {**task_record(task), OMITTED: list(kept.omitted)}
    if not fields:
        return record
    wanted = {"task_id", DAMAGED, *fields}
    if kept.omitted and not wanted.isdisjoint(kept.omitted):
        wanted.add(OMITTED)
    return {name: value for name, value in record.items() if name in wanted}


def unread_columns(fields: Sequence[str]) -> frozenset[str]:
    """Return the long columns of the history that a list of these fields need not read; without fields, none."""
    return _LONG_COLUMNS.difference(fields) if fields and OMITTED not in fields else frozenset()


def check_fields(fields: Sequence[str]) -> tuple[str, ...]:
    """Return the fields of a list, each once; raises `ValueError` for one that records do not have."""
    if unknown := [name for name in fields if name not in CHOOSABLE]:
        raise ValueError(f"records have no field {shown(unknown[0])!r}; they have: {', '.join(CHOOSABLE)}")
    return tuple(dict.fromkeys(fields))


def outcome_record(outcome: Outcome) -> dict[str, Any]:
    """Return what a task has come to, in the words of its record."""
    return {
        "task_id": outcome.task_id,
        "status": outcome.status.wire,
        "result": outcome.result,
        "error": error_record(outcome.error),
    }


def outcome_from_record(record: Mapping[str, Any]) -> Outcome:
    """Read what `outcome_record` wrote, or the same part of a whole record; raises `ValueError` for anything else."""
    try:
        return Outcome(
            str(record["task_id"]), Status(record["status"]), record["result"], error_from_record(record["error"])
        )
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise ValueError(f"the answer does not say what the task has come to: {exc!r}") from exc


def task_from_record(record: Mapping[str, Any]) -> Task:
    """Read a v1 record, the inverse of `task_record`; raises `ValueError` for anything else.

    Unknown names, from a later version, are ignored.
    """
    try:
        values: dict[str, Any] = {
            field.name: None if (value := record[field.shown]) is None else field.kind.from_json(value)
            for field in _SHOWN
            if record.get(field.shown) is not None or field.name not in DEFAULTS
        }
        values["progress"] = progress_from_record(record["progress"])
        values["error"] = error_from_record(record["error"])
        waits = record.get("waiting_for")
        values["waiting_for"] = None if waits is None else AWAITED.from_json(waits)
        return Task(**values, title=record.get("title"), damage=record.get("damaged"))
    except (KeyError, TypeError, AttributeError) as exc:
        raise ValueError(f"this is not the record of a task: {exc!r}") from exc


def progress_from_record(record: Mapping[str, Any]) -> Progress:
    """Read a progress record, or the data of a `progress` event; raises `KeyError`."""
    return Progress(
        percentage=float(record["percentage"]),
        stage=record["stage"],
        message=record["message"],
        timestamp_ms=record["timestamp_ms"],
    )


def error_from_record(record: Mapping[str, Any] | None) -> Failure | None:
    """Read an error record; raises `KeyError`."""
    return None if record is None else Failure(record["code"], record["message"], record["retryable"])


def progress_record(progress: Progress, *, created_at: datetime) -> dict[str, Any]:
    """Return `progress` as `{percentage, stage, message, timestamp_ms}`.

    A task without a report so far (`timestamp_ms` 0) is at percentage 0 since `created_at`.
    """
    return {
        "percentage": plain_number(progress.percentage),
        "stage": progress.stage,
        "message": progress.message,
        "timestamp_ms": progress.timestamp_ms or ms_from_utc(created_at),
    }


def error_record(error: Failure | None) -> dict[str, Any] | None:
    """Return `error` as `{code, message, retryable}`, or None."""
    if error is None:
        return None
    return {"code": error.code, "message": error.message, "retryable": error.retryable}


def plain_number(value: float) -> int | float:
    """Return a whole number as an int, so that 40.0 is written `40`; anything else as it is."""
    return int(value) if float(value).is_integer() else value


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)


def _read_moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def worker_record(worker: WorkerInfo) -> dict[str, Any]:
    """Return a worker as every front door writes it."""
    return {
        "worker_id": worker.worker_id,
        "kind": worker.kind,
        "host": worker.host,
        "pid": worker.pid,
        "groups": list(worker.groups),
        "concurrency": worker.concurrency,
        "running": worker.running,
        "started_at": rfc3339(worker.started_at),
        "seen_at": rfc3339(worker.seen_at),
        "name": worker.name,
        "address": worker.address,
        "models": list(worker.models),
        "running_tasks": list(worker.tasks),
        "drainable": worker.drains,
        "drained": worker.drained,
        "ended_per_minute": worker.ended_per_minute,
        "memory_bytes": worker.memory_bytes,
    }


def log_line_record(line: LogLine) -> dict[str, Any]:
    """Return a line of a task's log as every front door writes it."""
    return {
        "id": line.id,
        "at": rfc3339(utc_from_ms(line.timestamp_ms)),
        "attempt": line.attempt,
        "level": line.level,
        "message": line.message,
        "data": dict(line.data),
    }


def log_line_from_record(record: Mapping[str, Any]) -> LogLine:
    """Read what `log_line_record` wrote; raises `ValueError` for anything else."""
    try:
        at_ms = ms_from_utc(datetime.fromisoformat(record["at"]))
        return LogLine(
            record["level"], record["message"], record["data"], at_ms, attempt=record["attempt"], id=record["id"]
        )
    except (KeyError, TypeError) as exc:
        raise ValueError(f"this is not a line of a log: {exc!r}") from exc
