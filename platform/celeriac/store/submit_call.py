"""A submission as the arguments of `lua/transitions/submit.lua`, and the script's reply as a result or an error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from celeriac import json_text
from celeriac.errors import GroupLimitError, InvalidSubmissionError, NoWorkerError, QueueFullError, Violation
from celeriac.model import Delivery, RemoteOrders, Status, Submission, Submitted, rfc3339, utc_from_ms
from celeriac.settings import QueueSettings
from celeriac.store import keys
from celeriac.task_fields import FIELDS

#: Attribute of a submission, its name in the store and how it is written, for all that is not an argument of its own.
_FURTHER: Final = [
    (field.name, field.names[0], field.kind.write)
    for field in FIELDS
    if field.name in Submission.__dataclass_fields__
    and field.name
    not in {
        *("task_id", "type", "payload", "group", "priority", "max_retries"),
        *("timeout_ms", "user_id", "metadata", "delivery", "maker"),
    }
]


def submission_arguments(s: Submission, queues: QueueSettings, nonce: str) -> list[Any]:
    """Return the 19 arguments of one submission (see `lua/transitions/submit.lua`).

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
        json_text.write(s.metadata) if s.metadata else "",
        keys.idempotency(s.user_id or "", s.idempotency_key) if s.idempotency_key else "",
        queues.limit_of(s.group, remote=s.delivery is Delivery.REMOTE),
        s.delivery.value,
        _further_fields(s),
        nonce,
        maker_argument(s.maker, s.group, queues),
    ]


def maker_argument(maker: str | None, group: str, queues: QueueSettings) -> str:
    """Return who makes a group if it is a new one, "" if it needs no room among the known groups."""
    return "" if maker is None or queues.is_configured(group) else maker


def submitted(submission: Submission, reply: Sequence[Any]) -> Submitted:
    """Return what `lua/transitions/submit.lua` answered.

    Raises `QueueFullError`, `GroupLimitError`, `NoWorkerError` or `InvalidSubmissionError`.
    """
    outcome = reply[0]
    if outcome == "no_worker":
        raise NoWorkerError(submission.group)
    if outcome == "no_queue":
        message = f"a group cannot be named {submission.group!r}: the store holds something else under this key"
        raise InvalidSubmissionError([Violation("queue", message)])
    if outcome == "no_record":
        message = f"{submission.task_id!r} cannot be an id: the store holds something else under this key"
        raise InvalidSubmissionError([Violation("task_id", message)])
    if outcome == "queue_full":
        raise QueueFullError(submission.group, int(reply[1]))
    if outcome == "schedule_full":
        raise QueueFullError("(scheduled)", int(reply[1]))
    if outcome == "groups_full":
        raise GroupLimitError(submission.group, int(reply[1]), own=reply[2] == "caller")
    return Submitted(task_id=reply[1], status=Status(reply[2]), created=outcome == "created")


def _further_fields(s: Submission) -> str:
    """Return the fields that few records have, and the orders, as a JSON object of texts; "" for none."""
    fields: dict[str, str] = {}
    for name, stored, write in _FURTHER:
        value = getattr(s, name)
        if value is not None and value is not False and not (isinstance(value, Sequence) and not value):
            fields[stored] = write(value)
    if s.retention_ms is not None:
        # Zero would remove the record before the caller could read the result.
        fields["retention_ms"] = str(max(s.retention_ms, 1))
    if s.scheduled_at_ms is not None:
        fields["scheduled_at"] = rfc3339(utc_from_ms(s.scheduled_at_ms))
    if s.trigger == "schedule" and s.scheduled_at_ms is not None:
        fields["slot_ms"] = str(s.scheduled_at_ms)
    if s.remote is not None:
        fields.update(_orders(s.remote))
    return json_text.write(fields) if fields else ""


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
