"""Waiting tasks in the shapes of `celery inspect` (`celery/worker/request.py`, `Request.info`)."""

from __future__ import annotations

from typing import Any

from celeriac import json_text
from celeriac.errors import JsonError
from celeriac.model import Status
from celeriac.store.watching.waiting_tasks import WaitingTask

#: The priority that Celery's timer gives to tasks with an ETA.
_TIMER_PRIORITY = 6


def request_of(task: WaitingTask, hostname: str) -> dict[str, Any]:
    """Return what Celery says of a request that a worker holds and has not started."""
    args, kwargs = arguments_of(task)
    return {
        "id": task.task_id,
        "name": task.type,
        "args": args,
        "kwargs": kwargs,
        "type": task.type,
        "hostname": hostname,
        "time_start": None,
        "acknowledged": False,
        "delivery_info": {
            "exchange": "",
            "routing_key": task.group,
            # In Celery's lists on Redis, 0 is served first.
            "priority": task.priority if task.delivery == "broker" else 9 - task.priority,
            "redelivered": task.attempt > 0,
        },
        "worker_pid": None,
    }


def timed_request_of(task: WaitingTask, hostname: str) -> dict[str, Any]:
    """Return what Celery says of a request that waits for its ETA."""
    eta = None if task.due is None else task.due.isoformat()
    return {"eta": eta, "priority": _TIMER_PRIORITY, "request": request_of(task, hostname)}


def state_of(task: WaitingTask) -> str | None:
    """Return Celery's word for how a task waits, None for a task that does not wait."""
    match task.status:
        case Status.PENDING:
            return "reserved"
        case Status.WAITING | Status.SCHEDULED | Status.RETRYING:
            return "scheduled"
    return None


def arguments_of(task: WaitingTask) -> tuple[Any, Any]:
    """Return args and kwargs of a call. A payload that is too long to be shown is a text, as its beginning."""
    if task.cut:
        return [], f"{task.payload}…"
    try:
        payload = json_text.read(task.payload) if task.payload else {}
    except JsonError:
        return [], task.payload
    if isinstance(payload, dict) and payload.keys() == {"args", "kwargs"}:
        return payload["args"], payload["kwargs"]
    return [], payload
