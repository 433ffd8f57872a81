"""From what a caller wrote to what the life cycle takes: the only place where a `Submission` is made.

Pure: nothing here talks to a server.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import orjson

from celeriac.errors import InvalidSubmissionError, PayloadTooLargeError, Violation
from celeriac.model import Delivery, Submission, ms_from_utc
from celeriac.settings import Settings
from celeriac.tasks.catalog import TypeLookup
from celeriac.tasks.registry import TaskType
from celeriac.tasks.request import MAX_METADATA_BYTES, SubmitRequest, check_idempotency_key
from celeriac.tasks.types.remote import REMOTE

#: The two bits of a UUID that say what kind it is, over a random digit.
_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def build_submission(
    request: SubmitRequest, settings: Settings, registry: TypeLookup, *, idempotency_key: str | None = None
) -> Submission:
    """Return the submission with a new id and everything that the caller left open filled in.

    Raises `InvalidSubmissionError` for an unknown type, a payload that does not fit its type, or an
    unusable idempotency key, and `PayloadTooLargeError`.
    """
    task_type = registry.get(request.type)
    if task_type is None:
        raise InvalidSubmissionError([Violation("type", _unknown_type(request.type, registry))])
    if idempotency_key is not None:
        check_idempotency_key(idempotency_key)
    payload = _json_text("payload", request.payload, limit=settings.max_body_bytes)
    policy = task_type.retry_policy(task_type.validate(request.payload, submitted=True), settings)
    if request.metadata:
        _json_text("metadata", request.metadata, limit=MAX_METADATA_BYTES)
    group = request.queue or task_type.group
    timeout_s = task_type.timeout_s if request.timeout is None else request.timeout
    expires = request.expires
    remote = task_type.name == REMOTE
    own_retention_s = settings.dispatch.task_result_ttl_ms / 1000 if remote else task_type.retention_s
    retention_s = settings.retentions.record_of(task_type.name, own_retention_s)
    return Submission(
        task_id=new_task_id(),
        type=task_type.name,
        payload=payload,
        group=group,
        priority=request.priority or 0,
        max_retries=policy.max_retries if request.max_retries is None else request.max_retries,
        delay_ms=None if request.delay is None else round(request.delay * 1000),
        run_at_ms=None if request.run_at is None else ms_from_utc(request.run_at),
        expires_in_ms=max(1, round(expires * 1000)) if isinstance(expires, float) else None,
        expires_at_ms=ms_from_utc(expires) if isinstance(expires, datetime) else None,
        timeout_ms=None if timeout_s is None else max(1, round(timeout_s * 1000)),
        user_id=request.user_id,
        metadata=request.metadata or {},
        tags=tuple(request.tags or ()),
        retention_ms=None if retention_s == settings.retention else round(retention_s * 1000),
        idempotency_key=idempotency_key,
        delivery=Delivery.REMOTE if remote else delivery_of(group, settings),
        secret_fields=task_type.secrets,
    )


def new_task_id() -> str:
    """Return a random UUID (version 4, RFC 9562) in its usual spelling, at a third of what the module `uuid` takes."""
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"


def checked_payload(name: str, payload: Mapping[str, Any], settings: Settings, registry: TypeLookup) -> str:
    """Return another payload for a task of type `name` as JSON text.

    Raises `InvalidSubmissionError` where it does not fit, or nobody knows the type, and `PayloadTooLargeError`.
    """
    task_type = registry.get(name)
    if task_type is None:
        raise InvalidSubmissionError([Violation("type", _unknown_type(name, registry))])
    text = _json_text("payload", payload, limit=settings.max_body_bytes)
    task_type.retry_policy(task_type.validate(payload, submitted=True), settings)
    return text


def secrets_of(name: str, registry: TypeLookup) -> tuple[str, ...]:
    """Return the paths of the secrets in the payload of a type, none if nobody knows the type."""
    task_type = registry.get(name)
    return () if task_type is None else task_type.secrets


def delivery_of(group: str, settings: Settings) -> Delivery:
    """Return how the executors of `group` hear of a waiting task."""
    if settings.is_external(group):
        return Delivery.EXTERNAL
    if settings.broker_url is not None and settings.broker_url != settings.redis_url:
        return Delivery.BROKER
    return Delivery.CELERY


def _json_text(field: str, value: Mapping[str, Any], *, limit: int) -> str:
    try:
        encoded = orjson.dumps(value)
    except TypeError as exc:
        # Nesting beyond 254 levels, an integer beyond 64 bits, text that is not Unicode.
        raise InvalidSubmissionError([Violation(field, f"cannot be stored as JSON: {exc}")]) from exc
    if len(encoded) > limit:
        if field == "payload":
            raise PayloadTooLargeError("the payload", len(encoded), limit)
        raise InvalidSubmissionError([Violation(field, f"is {len(encoded)} bytes as JSON, above the limit of {limit}")])
    return encoded.decode()


def _unknown_type(name: str, registry: Iterable[TaskType]) -> str:
    known = [task_type.name for task_type in registry]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return f"there is no task type {name!r}; did you mean {' or '.join(near)}?"
    names = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
    return f"there is no task type {name!r}; known are: {names or '(none)'}"
