"""A submission as the arguments of `lua/transitions/submit.lua`, and the script's reply as a result or an error."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Sequence
from typing import Any, Final

from celeriac import json_text
from celeriac.errors import (
    DuplicateTaskError,
    GroupLimitError,
    InvalidSubmissionError,
    JsonError,
    KeyFullError,
    NodeExistsError,
    NoWorkerError,
    QueueFullError,
    TaskNotFoundError,
    UnknownParentError,
    Violation,
)
from celeriac.model import (
    Debounce,
    Delivery,
    NodeOrders,
    OnConflict,
    RemoteOrders,
    Status,
    Submission,
    Submitted,
    UniqueKey,
    When,
    rfc3339,
    utc_from_ms,
)
from celeriac.settings import QueueSettings
from celeriac.store import keys
from celeriac.store.server.durability import ReplicasMissingError
from celeriac.task_fields import FIELDS

#: Attribute of a submission, its name in the store and how it is written, for all that is not an argument of its own.
_FURTHER: Final = [
    (field.name, field.names[0], field.kind.write)
    for field in FIELDS
    if field.name in Submission.__dataclass_fields__
    and field.name
    not in {
        *("task_id", "type", "payload", "group", "priority", "max_retries"),
        *("timeout_ms", "user_id", "metadata", "delivery", "maker", "celery_message"),
    }
]

#: The place of the idempotency key in a kind.
_KEY_OF_KIND: Final = 11
#: What a further call of an id leaves as it is.
_OF_THE_RECORD: Final = frozenset({"replacement", "workflow_id", "node"})


def submit_arguments(s: Submission, queues: QueueSettings, nonce: str) -> tuple[str, str, str, str]:
    """Return the arguments of one submission for `lua/transitions/submit.lua`; raises as `submission_arguments`."""
    return s.task_id, s.payload, nonce, _written(_kind_of(s, queues))


class SubmissionKind:
    """What most submissions of a task type have in common, as `lua/transitions/submit.lua` reads it (JSON)."""

    __slots__ = ("_after", "_before", "_user_id", "text")

    def __init__(self, s: Submission, queues: QueueSettings) -> None:
        """Raises as `submission_arguments`."""
        texts = _kind_of(s, queues)
        #: The kind of `s` itself.
        self.text = _written(texts)
        self._before = f"{_written(texts[:_KEY_OF_KIND])[:-1]},"
        self._after = f",{_written(texts[_KEY_OF_KIND + 1 :])[1:]}"
        self._user_id = s.user_id or ""

    def with_key(self, idempotency_key: str) -> str:
        """Return the kind of the same submission with this idempotency key."""
        return f"{self._before}{json_text.write(keys.idempotency(self._user_id, idempotency_key))}{self._after}"


def _kind_of(s: Submission, queues: QueueSettings) -> list[str]:
    _, task_type, group, _, *most, _, maker, message = submission_arguments(s, queues, "")
    return [str(value) for value in (task_type, group, *most, maker, message)]


def _written(texts: list[str]) -> str:
    try:
        return json_text.write(texts)
    except JsonError:
        # Half a surrogate pair (in a file name, for example) must not fail a submission.
        return json_text.write([text.encode(errors="replace").decode() for text in texts])


def submission_arguments(s: Submission, queues: QueueSettings, nonce: str) -> list[Any]:
    """Return the 20 values of one submission, as plans hold them (see `lua/transitions/submit.lua`).

    Raises `InvalidSubmissionError` if the id or the group would use the key of something else.
    """
    _check_names(s)
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
        s.celery_message or "",
    ]


def replacement_arguments(s: Submission, nonce: str) -> list[Any]:
    """Return the arguments of `lua/transitions/replace.lua`; raises `InvalidSubmissionError` as a submission does."""
    task_id, *call = further_call_arguments(s, nonce)
    return [task_id, s.replacement or 0, *call]


def further_call_arguments(s: Submission, nonce: str) -> list[Any]:
    """Return the arguments of `lua/transitions/again.lua`; raises `InvalidSubmissionError` as a submission does."""
    _check_names(s)
    # Its record stays the node that it is.
    fields = {name: text for name, text in _written_fields(s).items() if name not in _OF_THE_RECORD}
    fields |= {"type": s.type, "payload": s.payload}
    for name, value in (("priority", s.priority), ("delivery", s.delivery.value), ("timeout_ms", s.timeout_ms)):
        if value:
            fields[name] = str(value)
    return [
        s.task_id,
        nonce,
        s.group,
        s.max_retries,
        *map(_or_empty, (s.delay_ms, s.run_at_ms, s.expires_in_ms, s.expires_at_ms)),
        json_text.write(fields),
        s.celery_message or "",
    ]


def maker_argument(maker: str | None, group: str, queues: QueueSettings) -> str:
    """Return who makes a group if it is a new one, "" if it needs no room among the known groups."""
    return "" if maker is None or queues.is_configured(group) else maker


async def submitted_for_good(submission: Submission, answer: Awaitable[Any]) -> Submitted:
    """Return what comes of a call of `submit.lua` when it is kept as `durability` says; raises as `submitted`.

    Raises `NotReplicatedError` with the id of the task too.
    """
    try:
        reply = await answer
    except ReplicasMissingError as exc:
        reply = exc
    return heard_for_good(submission, reply)


def heard_for_good(submission: Submission, reply: str | Sequence[Any] | BaseException) -> Submitted:
    """Return what a reply to `submit`, or its error, means; raises as `submitted_for_good` does, and the error."""
    if isinstance(reply, ReplicasMissingError):
        raise reply.of(task_id=submitted(submission, reply.answer).task_id) from reply
    if isinstance(reply, BaseException):
        raise reply
    return submitted(submission, reply)


def submitted(submission: Submission, reply: str | Sequence[Any]) -> Submitted:
    """Return what `lua/transitions/submit.lua` answered.

    Raises `DuplicateTaskError`, `QueueFullError`, `GroupLimitError`, `NoWorkerError` or `InvalidSubmissionError`.
    """
    if isinstance(reply, str):
        return Submitted(submission.task_id, Status[reply], created=True)
    outcome = reply[0]
    if outcome == "no_worker":
        raise NoWorkerError(submission.group)
    if outcome == "no_queue":
        message = f"a group cannot be named {submission.group!r}: the store holds something else under this key"
        raise InvalidSubmissionError([Violation("queue", message)])
    if outcome == "no_record":
        message = f"{submission.task_id!r} cannot be an id: the store holds something else under this key"
        raise InvalidSubmissionError([Violation("task_id", message)])
    if outcome == "no_parent":
        place = int(reply[1])
        raise UnknownParentError(place, submission.depends_on[place].task_id)
    if outcome == "key_full":
        raise key_full(reply)
    if outcome == "queue_full":
        raise QueueFullError(submission.group, int(reply[1]))
    if outcome == "schedule_full":
        raise QueueFullError("(scheduled)" if not submission.depends_on else "(waiting)", int(reply[1]))
    if outcome == "no_spawner":
        raise TaskNotFoundError(reply[1])
    if outcome == "workflow_full":
        raise workflow_full(int(reply[1]))
    if outcome == "node_exists":
        raise NodeExistsError(reply[1])
    if outcome == "groups_full":
        raise GroupLimitError(submission.group, int(reply[1]), own=reply[2] == "caller")
    if outcome == "duplicate":
        raise DuplicateTaskError(reply[1])
    return Submitted(
        task_id=reply[1],
        status=Status(reply[2]),
        created=outcome == "created",
        deduplicated=outcome == "deduplicated",
        debounced=outcome == "debounced",
    )


def key_full(reply: Sequence[Any]) -> KeyFullError:
    """Return the refusal that a script answered with `key_full`."""
    _, rule, limit, key, retry_after_s = reply
    return KeyFullError(key, rule=rule, limit=int(limit), retry_after_s=int(retry_after_s))


def workflow_full(limit: int) -> InvalidSubmissionError:
    """Return the refusal of a node that would be one too many."""
    message = f"the workflow has as many nodes as it may, {limit} (setting workflows.max_nodes)"
    return InvalidSubmissionError([Violation("nodes", message)])


def _check_names(s: Submission) -> None:
    if keys.record_of_nobody(s.task_id):
        raise InvalidSubmissionError([Violation("task_id", f"{s.task_id!r} is reserved")])
    if keys.reserved(s.group):
        raise InvalidSubmissionError([Violation("queue", f"a group cannot be named {s.group!r}: the name is reserved")])


def _further_fields(s: Submission) -> str:
    """Return the fields that few records have, and the orders, as a JSON object of texts; "" for none."""
    fields = _written_fields(s)
    if s.trigger == "schedule" and s.scheduled_at_ms is not None:
        fields["slot_ms"] = str(s.scheduled_at_ms)
    if s.depends_on and s.parents_of is not None:
        fields["parents_of"] = s.parents_of
    if s.reply_to is not None:
        fields["reply_to"] = s.reply_to
    if s.remote is not None:
        fields.update(_orders(s.remote))
    if s.as_node is not None:
        fields.update(_node_orders(s.as_node))
    if s.once is not None:
        fields.update(_once_orders(s.once, s.type))
    if s.debounce is not None:
        fields.update(_debounce_orders(s.debounce, s.type))
    return json_text.write(fields) if fields else ""


def _written_fields(s: Submission) -> dict[str, str]:
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
    return fields


def _key_name(user_id: str | None, task_type: str, key: str) -> str:
    """Return the name of a key in the store: each type of each user has keys of its own."""
    # With the lengths, two names with colons cannot produce the same key.
    return ":".join((str(len(user_id or "")), user_id or "", str(len(task_type)), task_type, key))


def _once_orders(once: UniqueKey, task_type: str) -> Iterator[tuple[str, str]]:
    yield "once", f"{once.until.value} {_key_name(once.user_id, task_type, once.key)}"
    if once.on_conflict is not OnConflict.RETURN:
        yield "on_conflict", once.on_conflict.value
    if once.for_ms is not None:
        yield "once_ms", str(max(once.for_ms, 1))


def _debounce_orders(debounce: Debounce, task_type: str) -> Iterator[tuple[str, str]]:
    yield "debounce", _key_name(debounce.user_id, task_type, debounce.key)
    yield "debounce_ms", str(debounce.delay_ms)
    if debounce.max_delay_ms is not None:
        yield "max_delay_ms", str(debounce.max_delay_ms)
    if debounce.keeps_first:
        yield "debounce_first", "1"


def _orders(orders: RemoteOrders) -> Iterator[tuple[str, str]]:
    if orders.deadline_in_ms is not None:
        yield "deadline_in_ms", str(orders.deadline_in_ms)
    if orders.needs_worker:
        yield "needs_worker", "1"
    if orders.quiet:
        yield "quiet", "1"
    if orders.reply_to is not None:
        yield "reply_to", orders.reply_to


def _node_orders(orders: NodeOrders) -> Iterator[tuple[str, str]]:
    if orders.spawned_by is not None:
        yield "spawned_by", orders.spawned_by
    if orders.numbered:
        yield "numbered", "1"
    if orders.after is not None:
        yield "after", json_text.write([[one.node, one.when.value] for one in orders.after])
    if orders.unmet is not None:
        yield "unmet_by", orders.unmet[0]
        yield "unmet_status", orders.unmet[1].stored
    if orders.optional:
        yield "optional", "1"
    if orders.follows is not None and orders.when is not When.COMPLETED:
        yield "when", orders.when.value
    for name in ("workflow_name", "follows", "in_group", "after_group"):
        if (value := getattr(orders, name)) is not None:
            yield name, value
    if orders.held:
        yield "held", str(orders.held)


def _or_empty(value: int | None) -> int | str:
    return "" if value is None else value
