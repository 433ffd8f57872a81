"""The messages between gateway and remote worker (docs/remote-workers.md), and the close codes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import orjson

from celeriac.model import Claim
from celeriac_api.http.responses import encode

#: Close codes, and what a worker should do then.
GOING_AWAY: Final = 1012  #: the process restarts: reconnect soon
TRY_LATER: Final = 1013  #: no room, or no store: reconnect later
POLICY: Final = 1008  #: bad token or bad group: do not reconnect
NOT_RESPONDING: Final = 4000  #: it did not answer, or kept a task for too long: reconnect

PING: Final = '{"type":"ping"}'
PONG: Final = '{"type":"pong"}'


class MalformedMessageError(ValueError):
    """A message of a worker cannot be read; the text says what to send instead."""


def read_message(text: str) -> dict[str, Any]:
    """Return a worker's message; raises `MalformedMessageError`."""
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            # Integers and nesting may go beyond the bounds of orjson.
            message = json.loads(text, parse_constant=_refuse)
        except (ValueError, RecursionError) as exc:
            raise MalformedMessageError(f"a message is a JSON object: {exc}") from None
    if not isinstance(message, dict):
        raise MalformedMessageError('a message is a JSON object with a "type"')
    if not isinstance(message.get("type"), str):
        raise MalformedMessageError('a message has a "type", e.g. {"type":"ready"}')
    return message


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not valid JSON")


def connected(worker_id: str) -> str:
    """Greet a worker."""
    return f'{{"type":"connected","workerId":"{worker_id}","message":"Connected to Task Dispatcher"}}'


def task(claim: Claim, timeout_ms: int | None) -> str:
    """Give a task to a worker; its payload is sent as it is stored."""
    payload = claim.payload
    if not payload.startswith('{"model":'):
        payload = encode({"model": "default", **orjson.loads(payload)}).decode()
    further = ""
    if timeout_ms is not None:
        further = f',"timeoutMs":{timeout_ms}'
    if claim.user_id:
        further += f',"userId":{_text(claim.user_id)}'
    return f'{{"type":"task","taskId":{_text(claim.task_id)},"payload":{payload},"attempt":{claim.attempt}{further}}}'


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
    return _json(document)


def _json(document: Mapping[str, Any]) -> str:
    try:
        return orjson.dumps(document).decode()
    except TypeError:
        # The text quotes half of a surrogate pair.
        return json.dumps(document)


def _text(value: str) -> str:
    return orjson.dumps(value).decode()
