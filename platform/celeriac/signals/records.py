"""Waits and steps as callers see them: immutable data, and their JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from celeriac.model import rfc3339


@dataclass(frozen=True, slots=True)
class Wait:
    """A task that waits for a signal which the caller may send. `schema` is a JSON schema, None for any value."""

    task_id: str
    type: str
    signal: str
    title: str | None
    schema: Any
    since: datetime
    #: When the task stops to wait; None means never.
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class TaskStep:
    """A step whose result is stored: later runs of the handler get that instead of running it again.

    `size` is that of the result as JSON (bytes).
    """

    name: str
    started_at: datetime
    finished_at: datetime
    size: int
    result: Any


def wait_record(wait: Wait) -> dict[str, Any]:
    """Return a wait as every front door writes it."""
    return {
        "task_id": wait.task_id,
        "type": wait.type,
        "signal": wait.signal,
        "title": wait.title,
        "schema": wait.schema,
        "since": rfc3339(wait.since),
        "expires_at": None if wait.expires_at is None else rfc3339(wait.expires_at),
    }


def wait_from_record(record: Mapping[str, Any]) -> Wait:
    """Read what `wait_record` wrote; raises `ValueError` for anything else."""
    try:
        expires = record["expires_at"]
        return Wait(
            record["task_id"],
            record["type"],
            record["signal"],
            record["title"],
            record["schema"],
            datetime.fromisoformat(record["since"]),
            None if expires is None else datetime.fromisoformat(expires),
        )
    except (KeyError, TypeError) as exc:
        raise ValueError(f"this is not a wait: {exc!r}") from exc


def step_record(step: TaskStep) -> dict[str, Any]:
    """Return a step as every front door writes it."""
    return {
        "name": step.name,
        "started_at": rfc3339(step.started_at),
        "finished_at": rfc3339(step.finished_at),
        "size": step.size,
        "result": step.result,
    }


def step_from_record(record: Mapping[str, Any]) -> TaskStep:
    """Read what `step_record` wrote; raises `ValueError` for anything else."""
    try:
        began, ended = (datetime.fromisoformat(record[name]) for name in ("started_at", "finished_at"))
        return TaskStep(record["name"], began, ended, record["size"], record["result"])
    except (KeyError, TypeError) as exc:
        raise ValueError(f"this is not a step: {exc!r}") from exc
