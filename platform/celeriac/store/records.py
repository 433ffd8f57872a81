"""Redis hashes, and what a claim is answered, as the core's data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from celeriac.limits.rules import Limits, StartRate
from celeriac.model import Claim, Failure, LogLine, Pause, Progress, Task, WorkerInfo, utc_from_ms
from celeriac.task_fields import DEFAULTS, FIELDS, STORED

#: Name in the store → attribute of `Task`, and how it is read.
_READERS: Final = {field.names[0]: (field.name, field.kind.read) for field in FIELDS if not field.parts}
#: What stands for a field that the record does not have, as far as `Task` does not say it.
_MISSING: Final = {field.name: field.missing for field in FIELDS if not field.parts and field.name not in DEFAULTS}


def task_from_hash(record: Mapping[str, str]) -> Task:
    """Return the task of the hash `task:{id}`; fields that a foreign writer left out have their defaults."""
    values: dict[str, Any] = {**_MISSING, "payload": {}, "metadata": {}}
    extra: dict[str, str] = {}
    for stored, text in record.items():
        if stored in _READERS:
            if text:
                name, read = _READERS[stored]
                values[name] = read(text)
        elif stored not in STORED:
            extra[stored] = text
    values["created_at"] = created = values["created_at"] or utc_from_ms(0)
    values["updated_at"] = values["updated_at"] or created
    get = record.get
    return Task(
        progress=Progress(
            percentage=float(get("percentage") or 0),
            stage=get("stage", ""),
            message=get("message_text", ""),
            timestamp_ms=int(get("timestamp_ms") or 0),
        ),
        error=_failure(get("error_code"), get("error_message"), get("error_retryable")),
        extra=extra,
        **values,
    )


def _failure(code: str | None, message: str | None, retryable: str | None) -> Failure | None:
    return Failure(code or "failed", message or "", retryable == "1") if code or message else None


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
    type_, group, payload, attempt, max_retries, allowed, user_id, metadata, timeout_ms, original_file_path = fields
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
        original_file_path=original_file_path,
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
