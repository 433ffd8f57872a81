"""The messages between gateway and remote worker (docs/remote-workers.md), and the close codes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from celeriac import json_text
from celeriac.errors import JsonError
from celeriac.model import Claim, Parent, Parents
from celeriac.store.suspension import Kept
from celeriac.tasks.record import error_record
from celeriac.tasks.references import may_have_references, resolved

#: Close codes, and what a worker should do then.
GOING_AWAY: Final = 1012  #: the process restarts: reconnect soon
TRY_LATER: Final = 1013  #: no room, or no store: reconnect later
POLICY: Final = 1008  #: bad token or bad group: do not reconnect
NOT_RESPONDING: Final = 4000  #: it did not answer, or kept a task for too long: reconnect

#: What a worker may send: the fields of each type that mean something. Others are ignored.
FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "ready": ("concurrency", "models", "name"),
    "task_complete": ("taskId", "result", "duration"),
    "task_error": ("taskId", "error", "code", "retryable", "duration"),
    "task_wait": ("taskId", "signal", "timeout_s", "schema", "title"),
    "progress": ("taskId", "percentage", "stage", "message"),
    "delta": ("taskId", "content"),
    "log": ("taskId", "level", "message", "data"),
    "ping": (),
    "pong": (),
    "drain": (),
}

#: How the names of waits whose time was over begin among what a task keeps.
_WAIT: Final = "wait:"
PING: Final = '{"type":"ping"}'
PONG: Final = '{"type":"pong"}'


class MalformedMessageError(ValueError):
    """A message of a worker cannot be read; the text says what to send instead."""


class UnfitValueError(MalformedMessageError):
    """A message holds a value that JSON has no place for; `message` is what it says without that value."""

    def __init__(self, problem: str, message: dict[str, Any]) -> None:
        self.message = message
        super().__init__(problem)


def read_message(text: str) -> dict[str, Any]:
    """Return a worker's message; raises `MalformedMessageError`."""
    try:
        message = json_text.read(text, "the message")
    except JsonError as exc:
        try:
            salvaged = json_text.salvage(text)
        except JsonError:
            salvaged = None
        if isinstance(salvaged, dict):
            raise UnfitValueError(str(exc), salvaged) from None
        raise MalformedMessageError(str(exc)) from None
    if not isinstance(message, dict):
        raise MalformedMessageError('a message is a JSON object with a "type"')
    if not isinstance(message.get("type"), str):
        raise MalformedMessageError('a message has a "type", e.g. {"type":"ready"}')
    return message


def connected(worker_id: str) -> str:
    """Greet a worker."""
    return f'{{"type":"connected","workerId":"{worker_id}","message":"Connected to Task Dispatcher"}}'


def task(
    claim: Claim, timeout_ms: int | None, parents: Mapping[str, Parent] | None = None, kept: Kept | None = None
) -> str:
    """Give a task to a worker; its payload is sent as it is stored, with results in the place of references.

    `parents` are the tasks that it depends on, `kept` is what it has received. Raises `InvalidReferenceError`.
    """
    payload = claim.payload
    found = Parents(parents or {}, claim.workflow_id)
    if parents and may_have_references(payload):
        payload = json_text.encode(resolved(json_text.read(payload), found)).decode()
    if not payload.startswith('{"model":'):
        payload = json_text.encode({"model": "default", **json_text.read(payload)}).decode()
    further = ""
    if timeout_ms is not None:
        further = f',"timeoutMs":{timeout_ms}'
    if claim.user_id:
        further += f',"userId":{_text(claim.user_id)}'
    if parents:
        known = {name: _parent(parent) for name, parent in {**found.by_node, **parents}.items()}
        further += f',"parents":{json_text.encode(known).decode()}'
    if kept is not None and kept.signals:
        received = {name: json_text.written(one.value) for name, one in kept.signals.items()}
        further += f',"signals":{json_text.encode(received).decode()}'
    if kept is not None and (over := [name.removeprefix(_WAIT) for name in kept.steps if name.startswith(_WAIT)]):
        further += f',"timed_out":{json_text.encode(sorted(over)).decode()}'
    return f'{{"type":"task","taskId":{_text(claim.task_id)},"payload":{payload},"attempt":{claim.attempt}{further}}}'


def _parent(parent: Parent) -> dict[str, Any]:
    return {"status": parent.status.wire, "result": parent.result, "error": error_record(parent.error)}


def cancel(task_id: str, reason: str) -> str:
    """Take a task back: `reason` is `cancelled`, `timeout` or `lost`."""
    return f'{{"type":"cancel","taskId":{_text(task_id)},"reason":"{reason}"}}'


def drain() -> str:
    """Say that the process is about to restart."""
    return '{"type":"drain","message":"The server restarts: finish what runs, then connect again","reconnect":true}'


def error(message: str, task_id: str | None = None) -> str:
    """Refuse a message."""
    document = {"type": "error", "message": message}
    if task_id is not None:
        document["taskId"] = task_id
    return json_text.encode(document).decode()


def _text(value: str) -> str:
    return json_text.encode(value).decode()
