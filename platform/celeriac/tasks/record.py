"""A task's record as every front door writes it and clients read it: the v1 names of `GET /api/v1/tasks/{id}`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from celeriac.model import (
    Failure,
    LogLine,
    Progress,
    Status,
    Task,
    WorkerInfo,
    ms_from_utc,
    rfc3339,
    utc_from_ms,
)
from celeriac.tasks import secret_fields


def task_record(task: Task) -> dict[str, Any]:
    """Return `task` as the v1 record: JSON-ready, keys in the order they are documented in.

    Status is lower case, times are RFC 3339 in UTC with milliseconds, `error` is None or
    `{code, message, retryable}`. `progress` is always an object: see `progress_record`.
    """
    return {
        "task_id": task.task_id,
        "type": task.type,
        "queue": task.group,
        "status": task.status.wire,
        "payload": _shown(task),
        "progress": progress_record(task.progress, created_at=task.created_at),
        "result": task.result,
        "error": error_record(task.error),
        "attempt": task.attempt,
        "max_retries": task.max_retries,
        "user_id": task.user_id,
        "worker": task.worker,
        "created_at": rfc3339(task.created_at),
        "started_at": _moment(task.started_at),
        "finished_at": _moment(task.finished_at),
        "updated_at": rfc3339(task.updated_at),
        "priority": task.priority,
        "metadata": task.metadata,
        "tags": list(task.tags),
        "run_at": _moment(task.run_at),
        "expires_at": _moment(task.expires_at),
        "cancel_requested": task.cancel_requested,
    }


def _shown(task: Task) -> Any:
    """Return the payload without its secrets."""
    paths = task.extra.get(secret_fields.FIELD)
    return secret_fields.masked(task.payload, paths.split("\n")) if paths else task.payload


def task_from_record(record: Mapping[str, Any]) -> Task:
    """Read a v1 record, the inverse of `task_record`; raises `ValueError` for anything else.

    Unknown names, from a later version, are ignored.
    """
    try:
        return Task(
            task_id=record["task_id"],
            type=record["type"],
            group=record["queue"],
            status=Status(record["status"].upper()),
            payload=record["payload"],
            progress=progress_from_record(record["progress"]),
            result=record["result"],
            error=error_from_record(record["error"]),
            attempt=record["attempt"],
            max_retries=record["max_retries"],
            priority=record["priority"],
            user_id=record["user_id"],
            metadata=record["metadata"],
            worker=record["worker"],
            created_at=datetime.fromisoformat(record["created_at"]),
            updated_at=datetime.fromisoformat(record["updated_at"]),
            started_at=_read_moment(record["started_at"]),
            finished_at=_read_moment(record["finished_at"]),
            run_at=_read_moment(record["run_at"]),
            expires_at=_read_moment(record["expires_at"]),
            cancel_requested=record["cancel_requested"],
            extra={},
            tags=tuple(record.get("tags", ())),
        )
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
