"""The message `task_status` for users, made from a record or from an event (docs/notifications.md)."""

from __future__ import annotations

from typing import Any, Final

from celeriac import json_text
from celeriac.errors import JsonError
from celeriac.model import rfc3339, utc_from_ms
from celeriac.store.watching.user_feeds import FeedMessage, TaskState
from celeriac.task_fields import AWAITED

#: Stored status → the status that users see.
_SHOWN: Final = {
    "WAITING": "pending",
    "SCHEDULED": "pending",
    "PENDING": "pending",
    "RETRYING": "pending",
    "PROCESSING": "running",
    "COMPLETED": "completed",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
}
#: The `message` of a task that has none of its own.
_MESSAGES: Final = {
    "WAITING": "Task waits for other tasks",
    "SCHEDULED": "Task is scheduled",
    "PENDING": "Task is waiting",
    "RETRYING": "Task failed and will be tried again",
    "PROCESSING": "Task is running",
    "COMPLETED": "Task completed",
    "FAILED": "Task failed",
    "CANCELLED": "Task was cancelled",
}


def status_fields(state: TaskState) -> dict[str, Any]:
    """Return the fields of `task_status` for the present state of a task."""
    status = state.status if state.status in _SHOWN else "PROCESSING"
    shown = _SHOWN[status]
    if status == "PROCESSING" and state.reported:
        shown = "progress"
    message = state.message if shown == "progress" else _MESSAGES[status]
    if status == "CANCELLED" and state.error_message:
        message = state.error_message
    fields = _fields(state.task_id, shown, _percentage(state, status), message, state.stage, state.updated_at)
    if status == "WAITING":
        fields |= _waiting(AWAITED.to_json(state.waiting_for))
    return fields | _outcome(state, status)


def message_text(message: FeedMessage) -> str | None:
    """Return a feed's message as it goes over the wire, or None if users do not get it."""
    if message.rendered is None:
        document = _of_event(message)
        message.rendered = "" if document is None else json_text.encode(document).decode()
    return message.rendered or None


def _of_event(message: FeedMessage) -> dict[str, Any] | None:
    fields, timestamp = message.fields, rfc3339(utc_from_ms(message.place[0]))
    head = {"type": "task_status", "id": message.id}
    if message.kind == "progress":
        percentage = _number(fields.get("percentage", ""))
        text, stage = fields.get("message", ""), fields.get("stage", "")
        return head | _fields(message.task_id, "progress", percentage, text, stage, timestamp)
    status = fields.get("status", "")
    if message.kind != "status" or status not in _SHOWN:
        return None
    state = message.state if message.state is not None and message.state.status == status else None
    percentage = 0.0 if state is None else _percentage(state, status)
    text = fields.get("message", "") if status == "CANCELLED" else ""
    shown = head | _fields(
        message.task_id,
        _SHOWN[status],
        100.0 if status == "COMPLETED" else percentage,
        text or _MESSAGES[status],
        "" if state is None else state.stage,
        timestamp,
    )
    if status == "WAITING":
        shown |= _waiting(_items(fields.get("waiting_for")))
    elif status == "COMPLETED" and state is not None:
        shown |= _outcome(state, status)
    elif status == "FAILED":
        shown |= {"error": fields.get("message", ""), "error_type": fields.get("code", "failed")}
    return shown


def _fields(task_id: str, status: str, percentage: float, message: str, step: str, timestamp: str) -> dict[str, Any]:
    whole = int(percentage) if percentage.is_integer() else percentage
    return {
        "task_id": task_id,
        "status": status,
        "progress": whole,
        "message": message,
        "step": step,
        "timestamp": timestamp,
        "result": None,
        "error": None,
    }


def _waiting(items: list[Any]) -> dict[str, Any]:
    """Return what a waiting task adds: what it waits for, and a message about it."""
    if any("signal" in item for item in items):
        return {"message": "Task waits for an answer", "waiting_for": items}
    if items and all("until" in item for item in items):
        return {"message": "Task sleeps", "waiting_for": items}
    return {"waiting_for": items} if items else {}


def _items(text: str | None) -> list[Any]:
    try:
        items = json_text.read(text or "[]")
    except JsonError:
        return []
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _outcome(state: TaskState, status: str) -> dict[str, Any]:
    if status == "FAILED":
        return {"error": state.error_message, "error_type": state.error_code or "failed"}
    if status != "COMPLETED":
        return {}
    if state.result_left_out:
        return {"result": None, "result_left_out": True}
    return {"result": _json(state.result)}


def _json(text: str | None) -> Any:
    """Return JSON to be written unchanged, or None if a foreign program wrote something else."""
    if text is None:
        return None
    try:
        json_text.read(text)
    except JsonError:
        return None
    return json_text.written(text)


def _percentage(state: TaskState, status: str) -> float:
    if status == "COMPLETED":
        return 100.0
    return state.percentage if status in ("PROCESSING", "FAILED", "CANCELLED") else 0.0


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
