"""Celery messages as the platform reads them: whether a message has a record, and what the record keeps of it.

Protocol: docs.celeryq.dev, "Message Protocol", version 2. Envelope: kombu's virtual transports.
`celeriac/store/lua/shared/messages.lua` builds the messages that the platform itself writes.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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
from celeriac.tasks.key_source import KeySource, read_key
from celeriac.tasks.submission import CeleryCall, accepting
from celeriac_tasks.engine.attempts.replacing import replacement_of
from celeriac_tasks.engine.calls.call_keys import cost_in, key_in
from celeriac_tasks.engine.calls.payloads import SHOWN, plain_payload, registered_payload
from celeriac_tasks.engine.calls.published_call import JSON, PublishedCall

#: A header of every message whose task has a record.
HEADER: Final = "celeriac"
#: Values of the header. BUILT: the platform built the message, and only the record has the payload.
#: KEPT: Celery built the message, and the record keeps it.
#: UNRECORDED: the call has no record, and runs as in stock Celery.
BUILT, KEPT, UNRECORDED = 1, 2, 3
#: Headers of a call on its way to its record: the caller's `countdown` and relative `expires` (seconds). Celery turns
#: both into moments by the clock of the caller's host, which may be wrong; the record counts from the store's now.
COUNTDOWN, EXPIRES_IN = "celeriac-countdown", "celeriac-expires-in"
_RELATIVE: Final = (COUNTDOWN, EXPIRES_IN)
#: A header of a kept message: `eta` and `expires` as the caller gave them, which count in the record alone.
TIMES: Final = "celeriac-times"
#: A header of a kept message that another one of the same id has taken the place of: which one it is, counted from 0.
EDITION: Final = "celeriac-edition"
#: What a request has, inside a worker, whose body has run on the direct path already (see `engine/direct/plain.py`).
RAN: Final = "celeriac-ran"
#: All headers that no task is to see.
PRIVATE: Final = frozenset({HEADER, SHOWN, TIMES, EDITION, RAN, *_RELATIVE})
#: The `max_retries` of a record that means "retry without a limit".
UNLIMITED_RETRIES: Final = 1_000_000

#: Properties of a message that belong to one delivery, not to the call.
_OF_DELIVERY: Final = frozenset(
    {
        "application_headers",
        "body_encoding",
        "content_encoding",
        "content_type",
        "delivery_info",
        "expiration",
        "redelivered",
    }
)
#: Types that any JSON writer writes alike.
_PLAIN: Final = (str, int, float, bool, list, dict, tuple, type(None))
_TOP_PRIORITY: Final = 9
#: How much later than at the time limit a process of a pool is killed (seconds): before that the task is stopped.
_KILL_LATER_S: Final = STOP_GRACE_S + 2


def has_record(headers: Mapping[str, Any] | None) -> bool:
    """Whether it is decided whether the task of the message with these headers has a record."""
    return HEADER in (headers or {})


def leave_unread(message: Any) -> None:
    """Keep Celery's consumer from reading the body of a message with a record, as it would to tell its protocol.

    The process or thread that runs the task reads it. It may be long: the rest of a chain is in it.
    """
    if message.content_type == JSON and (message.accept is None or JSON in message.accept):
        message._decoded_cache = ()


def runs_unrecorded(headers: Mapping[str, Any]) -> bool:
    """Whether the call with these headers has no record, so that nothing is to be claimed for it."""
    return headers.get(HEADER) == UNRECORDED


def built_here(headers: Mapping[str, Any]) -> bool:
    """Whether the platform built the message, so that it holds nothing for Celery to do."""
    return headers.get(HEADER) == BUILT


def edition_of(headers: Mapping[str, Any]) -> int | None:
    """Return which message of its task the one with these headers is, None if it has nothing of its own to run."""
    number = headers.get(EDITION, 0)
    return number if headers.get(HEADER) == KEPT and isinstance(number, int) else None


def time_limits(header: Sequence[Any] | None) -> tuple[Any, Any]:
    """Return the hard and the soft time limit of a call (seconds, None for none) by its header `timelimit`."""
    hard_s, soft_s = header or (None, None)
    return hard_s, soft_s


def limit_shown(timeout_ms: int | None) -> float | None:
    """Return a hard time limit in seconds as Celery shows it: a whole number as such."""
    if timeout_ms is None:
        return None
    seconds, rest = divmod(timeout_ms, 1000)
    return timeout_ms / 1000 if rest else seconds


def relative_times(countdown: Any, expires: Any) -> dict[str, float]:
    """Return the headers for the times of a call that count from now."""
    numbers = {COUNTDOWN: countdown or None, EXPIRES_IN: expires}
    return {name: value for name, value in numbers.items() if isinstance(value, int | float)}


def call_of_envelope(message: Mapping[str, Any]) -> PublishedCall:
    """Return the call in a message, in the form in which kombu's virtual transports store it."""
    properties, body = message["properties"], message["body"]
    in_base64 = properties.get("body_encoding") == "base64"
    return PublishedCall(
        message["headers"],
        _inflated(message["headers"], base64.b64decode(body) if in_base64 else str(body).encode()),
        message["content-type"],
        message["content-encoding"],
        properties,
        body if in_base64 else None,
    )


def call_of_published(
    headers: Mapping[str, Any], body: str | bytes, content_type: str, encoding: str, properties: Mapping[str, Any]
) -> PublishedCall:
    """Return the call that a producer publishes, from a body that is serialized and perhaps compressed."""
    raw = body if isinstance(body, bytes) else body.encode()
    encoded = base64.b64encode(raw).decode()
    return PublishedCall(headers, _inflated(headers, raw), content_type, encoding, properties, encoded)


def _inflated(headers: Mapping[str, Any], body: bytes) -> bytes:
    compression = headers.get("compression")
    return decompress(body, compression) if compression else body


def call_of_message(message: Any, decoded: Any) -> PublishedCall:
    """Return the call in a `kombu.Message`; `decoded` is its payload if the message uses protocol 1."""
    # When it was published is unknown here, so only its moments count.
    left_out = {"compression", TIMES, *_RELATIVE}
    headers = {name: value for name, value in (message.headers or {}).items() if name not in left_out}
    if decoded is None and "args" not in message.payload:
        body = message.body if isinstance(message.body, bytes) else str(message.body).encode()
        return PublishedCall(headers, body, message.content_type, message.content_encoding, message.properties)
    older = message.payload if decoded is None else decoded
    convert = hybrid_to_proto2 if decoded is None else proto1_to_proto2
    arguments, headers, _, _ = convert(message, older)
    named = {name: value for name, value in headers.items() if name not in ("args", "kwargs", "headers")}
    # In the serializer of the message, which its reader accepts.
    serializer = serialization.registry.type_to_name.get(message.content_type, "json")
    content_type, encoding, raw = serialization.dumps(arguments, serializer)
    body = raw if isinstance(raw, bytes) else raw.encode()
    return PublishedCall(named, body, content_type, encoding, message.properties)


def celery_call(
    call: PublishedCall,
    *,
    group: str,
    delivery: Delivery,
    max_retries: int | None,
    registered: bool,
    accept: Collection[str],
    time_limit_s: float | None = None,
    key_source: KeySource | None = None,
    inherited_key: str | None = None,
    is_accepted: bool = False,
) -> CeleryCall:
    """Return how a published call asks to be run; `max_retries` and `time_limit_s` are those of its task.

    The record takes over its ETA and expiry, so no worker holds the call in memory until it is due. The record
    does not keep the message if the call is of a registered type and does not belong to a canvas. `key_source`
    is that of a plain Celery task. `is_accepted`: no fault of a key or a cost may refuse the call any more.
    """
    task_id = call.headers["id"]
    if not isinstance(task_id, str) or not task_id:
        raise InvalidSubmissionError([Violation("id", f"is {task_id!r:.100}: it must be a text")])
    args, kwargs = call.arguments(accept)
    hard_s, soft_s = time_limits(call.headers.get("timelimit"))
    # A registered type has one limit. In a plain task the soft one is an exception that it may catch.
    limit_s = hard_s or (soft_s if registered else time_limit_s)
    with _refusing("time_limit"):
        timeout_ms = None if limit_s is None else duration_ms(limit_s, what="time_limit")
    follows = bool(call.headers.get("parent_id"))
    is_accepted, key, cost = is_accepted or follows, None, None
    with accepting(call.headers["task"], is_accepted):
        cost = cost_in(call.headers)
    with accepting(call.headers["task"], is_accepted):
        key = key_in(call.headers)
        if key is None and key_source is not None:
            key = read_key(key_source, {"args": args, "kwargs": kwargs}, None)
    needed = not registered or call.in_canvas(accept)
    run_at_ms, delay_ms = _moment(call.headers, "eta", COUNTDOWN)
    expires_at_ms, expires_in_ms = _moment(call.headers, "expires", EXPIRES_IN)
    return CeleryCall(
        task_id=task_id,
        name=call.headers["task"],
        payload=registered_payload(args, kwargs) if registered else plain_payload(args, kwargs, call.headers),
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
        follows=follows,
        replacement=replacement_of(call.headers),
        key=key,
        inherited_key=inherited_key,
        cost=cost,
        is_accepted=is_accepted,
    )


def _kept(call: PublishedCall, queue: str, limit_s: float | None, soft_s: float | None) -> str:
    """Return the envelope to send whenever the task is due; the scripts in `store/lua` fill in the retry count.

    Its hard time limit, after which Celery's prefork pool kills a process, is later than the record's.
    """
    limits = [None if limit_s is None else limit_s + _KILL_LATER_S, soft_s]
    headers = {name: value for name, value in call.headers.items() if name not in PRIVATE}
    given = {name: value for name, value in call.properties.items() if name not in _OF_DELIVERY and value is not None}
    times = [headers.get("eta"), headers.get("expires")]
    headers = {"retries": 0, **headers, "timelimit": limits, "eta": None, "expires": None, HEADER: KEPT}
    if any(times):
        headers[TIMES] = times
    properties = {
        "priority": 0,
        "reply_to": "",
        "correlation_id": call.headers["id"],
        **given,
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": queue},
        "body_encoding": "base64",
        "delivery_tag": str(uuid4()),
    }
    envelope = {
        # First, because the scripts look for `retries` in them, and the body may be long.
        "headers": headers,
        "body": call.encoded or base64.b64encode(call.body).decode(),
        "content-encoding": call.content_encoding,
        "content-type": call.content_type,
        "properties": properties,
    }
    if all(isinstance(value, _PLAIN) for values in (headers, given) for value in values.values()):
        with suppress(JsonError):
            return json_text.write(envelope)
    # Celery's own JSON gives types such as dates back, and takes texts and numbers that standard JSON does not have.
    return str(dumps(envelope, default=str))


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
