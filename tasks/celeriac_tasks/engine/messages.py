"""Celery messages as the platform reads them: whether a message has a record, and what the record keeps of it.

Protocol: docs.celeryq.dev, "Message Protocol", version 2. Envelope: kombu's virtual transports.
`celeriac/store/lua/shared/messages.lua` builds the messages that the platform itself writes.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from celery.worker.strategy import hybrid_to_proto2, proto1_to_proto2
from kombu import serialization
from kombu.compression import decompress
from kombu.utils.json import dumps

from celeriac import json_text
from celeriac.errors import InvalidSubmissionError, JsonError, Violation
from celeriac.execution.attempt import STOP_GRACE_S
from celeriac.model import Delivery
from celeriac.moments import bounded_ms, duration_ms
from celeriac.tasks.submission import CeleryCall

#: A header of every message whose task has a record.
HEADER: Final = "celeriac"
#: Values of the header. BUILT: the platform built the message, and only the record has the payload.
#: KEPT: Celery built the message, and the record keeps it.
BUILT, KEPT = 1, 2
#: Headers of a call on its way to its record: the caller's `countdown` and relative `expires` (seconds). Celery turns
#: both into moments by the clock of the caller's host, which may be wrong; the record counts from the store's now.
COUNTDOWN, EXPIRES_IN = "celeriac-countdown", "celeriac-expires-in"
_RELATIVE: Final = (COUNTDOWN, EXPIRES_IN)
#: The `max_retries` of a record that means "retry without a limit".
UNLIMITED_RETRIES: Final = 1_000_000

_JSON: Final = "application/json"
_TOP_PRIORITY: Final = 9
#: How much later than at the time limit a process of a pool is killed (seconds): before that the task is stopped.
_KILL_LATER_S: Final = STOP_GRACE_S + 2


@dataclass(frozen=True, slots=True)
class PublishedCall:
    """A published call of a Celery task, with its `body` decompressed."""

    headers: Mapping[str, Any]
    body: bytes
    content_type: str
    content_encoding: str
    properties: Mapping[str, Any]

    def arguments(self) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
        """Return (args, kwargs, embed); raises kombu's `ContentDisallowed` if it is not JSON, or `DecodeError`."""
        args, kwargs, embed = serialization.loads(self.body, self.content_type, self.content_encoding, accept={_JSON})
        return list(args), dict(kwargs), dict(embed or {})


def has_record(headers: Mapping[str, Any] | None) -> bool:
    """Whether the task of the message with these headers has already been submitted."""
    return HEADER in (headers or {})


def built_here(headers: Mapping[str, Any]) -> bool:
    """Whether the platform built the message, so that it holds nothing for Celery to do."""
    return headers.get(HEADER) == BUILT


def time_limits(header: Sequence[Any] | None) -> tuple[Any, Any]:
    """Return the hard and the soft time limit of a call (seconds, None for none) by its header `timelimit`."""
    hard_s, soft_s = header or (None, None)
    return hard_s, soft_s


def relative_times(countdown: Any, expires: Any) -> dict[str, float]:
    """Return the headers for the times of a call that count from now."""
    numbers = {COUNTDOWN: countdown or None, EXPIRES_IN: expires}
    return {name: value for name, value in numbers.items() if isinstance(value, int | float)}


def call_of_envelope(message: Mapping[str, Any]) -> PublishedCall:
    """Return the call in a message, in the form in which kombu's virtual transports store it."""
    headers, properties = dict(message["headers"]), message["properties"]
    body = message["body"]
    raw = base64.b64decode(body) if properties.get("body_encoding") == "base64" else str(body).encode()
    compression = headers.pop("compression", None)
    return PublishedCall(
        headers,
        decompress(raw, compression) if compression else raw,
        message["content-type"],
        message["content-encoding"],
        properties,
    )


def call_of_message(message: Any, decoded: Any) -> PublishedCall:
    """Return the call in a `kombu.Message`; `decoded` is its payload if the message uses protocol 1."""
    # When it was published is unknown here, so only its moments count.
    left_out = ("compression", *_RELATIVE)
    headers = {name: value for name, value in (message.headers or {}).items() if name not in left_out}
    if decoded is None and "args" not in message.payload:
        body = message.body if isinstance(message.body, bytes) else str(message.body).encode()
        return PublishedCall(headers, body, message.content_type, message.content_encoding, message.properties)
    older = message.payload if decoded is None else decoded
    convert = hybrid_to_proto2 if decoded is None else proto1_to_proto2
    arguments, headers, _, _ = convert(message, older)
    named = {name: value for name, value in headers.items() if name not in ("args", "kwargs", "headers")}
    return PublishedCall(named, dumps(arguments).encode(), _JSON, "utf-8", message.properties)


def plain_payload(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return the payload (JSON object) of a call of a plain Celery task; raises `InvalidSubmissionError`."""
    return _written({"args": list(args), "kwargs": dict(kwargs)})


def registered_payload(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return the payload of a registered type called as a Celery task: its keywords, or one mapping and keywords.

    Raises `InvalidSubmissionError`.
    """
    if len(args) == 1 and isinstance(args[0], Mapping):
        return _written({**args[0], **kwargs}, "payload", _text_of)
    return _written({"args": list(args), **kwargs} if args else dict(kwargs), "payload", _text_of)


def _written(document: Mapping[str, Any], what: str = "", default: json_text.Default = str) -> str:
    """Write JSON; dates, decimals and the like, of which kombu made messages, become texts."""
    try:
        return json_text.write(document, what, default=default)
    except JsonError as exc:
        raise InvalidSubmissionError([Violation(exc.place, exc.problem)]) from exc


def _text_of(value: Any) -> str:
    # The handler of a registered type gets the payload, and would get `b'...'` for bytes.
    if isinstance(value, bytes | bytearray | memoryview):
        raise JsonError("the value", "is bytes, which cannot be written as JSON: send a string, in base64 for example")
    return str(value)


def celery_call(
    call: PublishedCall,
    *,
    group: str,
    delivery: Delivery,
    max_retries: int | None,
    registered: bool,
    time_limit_s: float | None = None,
) -> CeleryCall:
    """Return how a published call asks to be run; `max_retries` and `time_limit_s` are those of its task.

    The record takes over its ETA and expiry, so no worker holds the call in memory until it is due. The record
    does not keep the message if the call is of a registered type and does not belong to a canvas.
    """
    task_id = call.headers["id"]
    if not isinstance(task_id, str) or not task_id:
        raise InvalidSubmissionError([Violation("id", f"is {task_id!r:.100}: it must be a text")])
    args, kwargs, embed = call.arguments()
    hard_s, soft_s = time_limits(call.headers.get("timelimit"))
    # A registered type has one limit. In a plain task the soft one is an exception that it may catch.
    limit_s = hard_s or (soft_s if registered else time_limit_s)
    with _refusing("time_limit"):
        timeout_ms = None if limit_s is None else duration_ms(limit_s, what="time_limit")
    needed = not registered or any(embed.values())
    run_at_ms, delay_ms = _moment(call.headers, "eta", COUNTDOWN)
    expires_at_ms, expires_in_ms = _moment(call.headers, "expires", EXPIRES_IN)
    return CeleryCall(
        task_id=task_id,
        name=call.headers["task"],
        payload=(registered_payload if registered else plain_payload)(args, kwargs),
        group=group,
        priority=_priority(call.properties.get("priority"), delivery),
        max_retries=UNLIMITED_RETRIES if max_retries is None else max_retries,
        run_at_ms=run_at_ms,
        delay_ms=delay_ms,
        expires_at_ms=expires_at_ms,
        # Zero would mean that it has expired before its record exists.
        expires_in_ms=None if expires_in_ms is None else max(1, expires_in_ms),
        timeout_ms=timeout_ms,
        message=_kept(call, group, limit_s, soft_s) if needed else None,
        follows=bool(call.headers.get("parent_id")),
    )


def _kept(call: PublishedCall, queue: str, limit_s: float | None, soft_s: float | None) -> str:
    """Return the envelope to send whenever the task is due; the scripts in `store/lua` fill in the retry count.

    Its hard time limit, after which Celery's prefork pool kills a process, is later than the record's.
    """
    priority = call.properties.get("priority")
    limits = [None if limit_s is None else limit_s + _KILL_LATER_S, soft_s]
    headers = {name: value for name, value in call.headers.items() if name not in _RELATIVE}
    return _written(
        {
            "body": base64.b64encode(call.body).decode(),
            "content-encoding": call.content_encoding,
            "content-type": call.content_type,
            "headers": {"retries": 0, **headers, "timelimit": limits, "eta": None, "expires": None, HEADER: KEPT},
            "properties": {
                "correlation_id": call.headers["id"],
                "reply_to": call.properties.get("reply_to") or "",
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "priority": 0 if priority is None else priority,
                "body_encoding": "base64",
                "delivery_tag": str(uuid4()),
            },
        },
        "message",
    )


def _priority(priority: Any, delivery: Delivery) -> int:
    """Return the task's priority (9 is served first). In Celery's lists on Redis, 0 is served first."""
    served = min(max(int(priority or 0), 0), _TOP_PRIORITY)
    return served if delivery is Delivery.BROKER else _TOP_PRIORITY - served


def _moment(headers: Mapping[str, Any], name: str, relative: str) -> tuple[int | None, int | None]:
    """Return when something is to happen: as a moment, or in how many milliseconds if the caller said that."""
    moment_ms, seconds = _ms(name, headers.get(name)), headers.get(relative)
    return (moment_ms, None) if seconds is None else (None, max(0, round(seconds * 1000)))


def _ms(name: str, text: str | None) -> int | None:
    if not text:
        return None
    with _refusing(name):
        moment = datetime.fromisoformat(text)
        return bounded_ms(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    """Turn the `ValueError` of a value that a caller gave into an `InvalidSubmissionError` about `name`."""
    try:
        yield
    except ValueError as exc:
        raise InvalidSubmissionError([Violation(name, str(exc))]) from exc
