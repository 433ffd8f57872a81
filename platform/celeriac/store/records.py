"""Redis hashes, and what a claim is answered, as the core's data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from celeriac.limits.rules import Limits, StartRate
from celeriac.model import Claim, Failure, LogLine, Pause, Progress, Status, Task, WorkerInfo, utc_from_ms

#: Fields that the core knows; what else a record holds is `Task.extra`.
_KNOWN = frozenset(
    {
        *("task_id", "type", "queue", "status", "payload", "result", "attempt", "max_retries", "priority"),
        *("user_id", "metadata", "tags", "definition_id", "owner", "cancel_requested"),
        *("percentage", "stage", "message_text", "timestamp_ms"),
        *("error_code", "error_message", "error_retryable"),
        *("created_at", "updated_at", "started_at", "finished_at", "run_at", "expires_at"),
        # The life cycle's own, of no use to readers.
        *("nonce", "fence", "attempts_allowed", "expires_ms", "hinted_ms", "hints", "progress_seq", "message"),
        *("rev", "log_seq", "pending_ms", "retention_ms", "reply_to", "deadline_ms", "delta_seq", "delta_bytes"),
    }
)


def _moment(text: str | None) -> datetime | None:
    """Read RFC 3339; what a foreign program wrote otherwise is no moment, and without a zone it is UTC."""
    try:
        moment = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def status_of(text: str) -> Status:
    """Read a status; an unknown one, which only a foreign program can have written, counts as under way."""
    try:
        return Status(text.upper())
    except ValueError:
        return Status.PROCESSING


def task_from_hash(record: Mapping[str, str]) -> Task:
    """Return the task of the hash `task:{id}`; fields that a foreign writer left out have their defaults."""
    get = record.get
    message = get("error_message", "")
    failed = bool(get("error_code") or message)
    created = _moment(get("created_at")) or utc_from_ms(0)
    return Task(
        task_id=record["task_id"],
        type=get("type", ""),
        group=get("queue", "default"),
        status=status_of(record["status"]),
        payload=orjson.loads(get("payload") or "{}"),
        progress=Progress(
            percentage=float(get("percentage") or 0),
            stage=get("stage", ""),
            message=get("message_text", ""),
            timestamp_ms=int(get("timestamp_ms") or 0),
        ),
        result=orjson.loads(record["result"]) if "result" in record else None,
        error=Failure(get("error_code") or "failed", message, get("error_retryable") == "1") if failed else None,
        attempt=int(get("attempt") or 0),
        max_retries=int(get("max_retries") or 0),
        priority=int(get("priority") or 0),
        user_id=get("user_id"),
        metadata=orjson.loads(get("metadata") or "{}"),
        worker=get("owner"),
        created_at=created,
        updated_at=_moment(get("updated_at")) or created,
        started_at=_moment(get("started_at")),
        finished_at=_moment(get("finished_at")),
        run_at=_moment(get("run_at")),
        expires_at=_moment(get("expires_at")),
        cancel_requested="cancel_requested" in record,
        extra={name: value for name, value in record.items() if name not in _KNOWN},
        tags=tuple(orjson.loads(record["tags"])) if "tags" in record else (),
    )


def worker_from_hash(worker_id: str, fields: Mapping[str, str]) -> WorkerInfo:
    """Return the worker of the hash `celeriac:worker:{id}`."""
    return WorkerInfo(
        worker_id=worker_id,
        kind=fields.get("kind", ""),
        host=fields.get("host", ""),
        pid=int(fields.get("pid") or 0),
        groups=tuple(name for name in fields.get("groups", "").split(",") if name),
        concurrency=int(fields.get("concurrency") or 0),
        running=int(fields.get("running") or 0),
        started_at=utc_from_ms(float(fields.get("started_ms") or 0)),
        seen_at=utc_from_ms(float(fields.get("seen_ms") or 0)),
        name=fields.get("name", ""),
        address=fields.get("address", ""),
        models=tuple(orjson.loads(fields.get("models") or "[]")),
        tasks=tuple(orjson.loads(fields.get("tasks") or "[]")),
    )


def limits_from_json(text: str) -> Limits:
    """Return the limits that `lua/transitions/limit.lua` noted."""
    noted = orjson.loads(text)
    return Limits(
        max_running=noted.get("max_running"),
        rate=StartRate(noted["rate"], noted["per_ms"]) if "rate" in noted else None,
        at=utc_from_ms(float(noted["since_ms"])),
        note=str(noted.get("note", "")),
    )


def pause_from_json(text: str) -> Pause:
    """Return the pause that `lua/transitions/pause.lua` noted."""
    noted = orjson.loads(text)
    return Pause(utc_from_ms(float(noted["paused_ms"])), str(noted.get("note", "")))


def claim_from_reply(task_id: str, fence: str, fields: Sequence[Any]) -> Claim:
    """Return the claim that `lua/transitions/claim.lua` granted, from what it answers after `go`."""
    type_, group, payload, attempt, max_retries, allowed, user_id, metadata, timeout_ms, delivery, original = fields
    extra = {"delivery": delivery, "original_file_path": original}
    return Claim(
        task_id=task_id,
        fence=fence,
        type=type_,
        group=group,
        payload=payload,
        attempt=int(attempt),
        max_retries=int(max_retries),
        attempts_allowed=int(allowed),
        user_id=user_id,
        metadata=orjson.loads(metadata) if metadata else {},
        timeout_ms=int(timeout_ms) if timeout_ms else None,
        extra={name: value for name, value in extra.items() if value},
    )


def log_line_from_entry(entry_id: str, fields: Mapping[str, str]) -> LogLine:
    """Return a line from its entry in the stream of a task's log."""
    return LogLine(
        level=fields.get("level", "info"),
        message=fields.get("message", ""),
        data=orjson.loads(fields.get("data") or "{}"),
        timestamp_ms=int(fields.get("timestamp_ms") or 0),
        attempt=int(fields.get("attempt") or 0),
        id=entry_id,
    )
