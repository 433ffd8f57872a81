"""A submission as the arguments of `lua/transitions/submit.lua`, and the script's reply as a result or an error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from celeriac.errors import InvalidSubmissionError, NoWorkerError, QueueFullError, Violation
from celeriac.model import Delivery, RemoteOrders, Status, Submission, Submitted, rfc3339, utc_from_ms
from celeriac.settings import QueueSettings
from celeriac.store import keys


def submission_arguments(s: Submission, queues: QueueSettings, nonce: str) -> list[Any]:
    """Return the 18 arguments of one submission (see `lua/transitions/submit.lua`).

    Raises `InvalidSubmissionError` if the id or the group would use the key of something else.
    """
    if keys.record_of_nobody(s.task_id):
        raise InvalidSubmissionError([Violation("task_id", f"{s.task_id!r} is reserved")])
    if keys.reserved(s.group):
        raise InvalidSubmissionError([Violation("queue", f"a group cannot be named {s.group!r}: the name is reserved")])
    return [
        s.task_id,
        s.type,
        s.group,
        s.payload,
        s.priority,
        s.max_retries,
        _or_empty(s.delay_ms),
        _or_empty(s.run_at_ms),
        _or_empty(s.expires_in_ms),
        _or_empty(s.expires_at_ms),
        _or_empty(s.timeout_ms),
        s.user_id or "",
        orjson.dumps(s.metadata).decode() if s.metadata else "",
        keys.idempotency(s.user_id or "", s.idempotency_key) if s.idempotency_key else "",
        queues.limit_of(s.group, remote=s.delivery is Delivery.REMOTE),
        s.delivery.value,
        _further_fields(s),
        nonce,
    ]


def submitted(submission: Submission, reply: Sequence[Any]) -> Submitted:
    """Return what `lua/transitions/submit.lua` answered.

    Raises `QueueFullError`, `NoWorkerError` or `InvalidSubmissionError`.
    """
    outcome = reply[0]
    if outcome == "no_worker":
        raise NoWorkerError(submission.group)
    if outcome == "no_queue":
        message = f"a group cannot be named {submission.group!r}: the store holds something else under this key"
        raise InvalidSubmissionError([Violation("queue", message)])
    if outcome == "queue_full":
        raise QueueFullError(submission.group, int(reply[1]))
    if outcome == "schedule_full":
        raise QueueFullError("(scheduled)", int(reply[1]))
    return Submitted(task_id=reply[1], status=Status(reply[2]), created=outcome == "created")


def _further_fields(s: Submission) -> str:
    """Return the optional fields of the record as a JSON object of texts, or an empty text."""
    fields: dict[str, str | None] = {
        "definition_id": s.definition_id,
        "trigger": s.trigger,
        "message": s.celery_message,
        "original_file_path": s.original_file_path,
        "original_file_name": s.original_file_name,
    }
    if s.tags:
        fields["tags"] = orjson.dumps(list(s.tags)).decode()
    if s.secret_fields:
        fields["secret_fields"] = "\n".join(s.secret_fields)
    if s.scheduled_at_ms is not None:
        fields["scheduled_at"] = rfc3339(utc_from_ms(s.scheduled_at_ms))
    if s.trigger == "schedule" and s.scheduled_at_ms is not None:
        fields["slot_ms"] = str(s.scheduled_at_ms)
    if s.retention_ms is not None:
        # Zero would remove the record before the caller could read the result.
        fields["retention_ms"] = str(max(s.retention_ms, 1))
    if s.remote is not None:
        fields.update(_orders(s.remote))
    given = {name: value for name, value in fields.items() if value is not None}
    return orjson.dumps(given).decode() if given else ""


def _orders(orders: RemoteOrders) -> Iterator[tuple[str, str]]:
    if orders.deadline_in_ms is not None:
        yield "deadline_in_ms", str(orders.deadline_in_ms)
    if orders.needs_worker:
        yield "needs_worker", "1"
    if orders.quiet:
        yield "quiet", "1"
    if orders.reply_to is not None:
        yield "reply_to", orders.reply_to


def _or_empty(value: int | None) -> int | str:
    return "" if value is None else value
