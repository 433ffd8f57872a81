"""From what a caller wrote to what the life cycle takes: the only place where a `Submission` is made.

Pure: nothing here talks to a server. `build_submission` serves callers who write a request, `submission_of_call`
Celery calls (`.delay()`), `remote_submission` the dispatch API, and `instance_of` the definitions.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, NamedTuple

from celeriac import json_text
from celeriac.errors import InvalidSubmissionError, JsonError, PayloadTooLargeError, Violation
from celeriac.model import (
    Debounce,
    Delivery,
    Dependency,
    OnConflict,
    RemoteOrders,
    Submission,
    UniqueKey,
    Until,
    ms_from_utc,
)
from celeriac.settings import Settings
from celeriac.tasks.catalog import TypeLookup
from celeriac.tasks.key_source import NOT_VALIDATED, read_key
from celeriac.tasks.references import check_references, may_have_references
from celeriac.tasks.request import MAX_METADATA_BYTES, SubmitRequest, check_idempotency_key
from celeriac.tasks.retry import RetryPolicy
from celeriac.tasks.task_type import TaskType, TypeHooks
from celeriac.tasks.types.remote import REMOTE_TASK
from celeriac.violations import suggested

log = logging.getLogger(__name__)

#: The two bits of a UUID that say what kind it is, over a random digit.
_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
#: Random digits for ids that nobody has yet, and for how many ids they are made at once.
_RANDOM: Final[deque[str]] = deque()
_RANDOM_AT_ONCE: Final = 64
# A child process must not make the ids that its parent makes.
os.register_at_fork(after_in_child=_RANDOM.clear)
#: The record of a task whose id was chosen before stays at least this long (ms): as long as it is there, its id cannot
#: run again.
_LEAST_RETENTION_MS: Final = 3_600_000
#: Stands in the Celery message of a template where an instance has its task's id.
INSTANCE_ID: Final = "celeriac-instance-id"
#: Deliveries that the settings decide at each firing; any other one is the task type's own.
_BY_SETTINGS: Final = {Delivery.CELERY.value, Delivery.BROKER.value, Delivery.EXTERNAL.value}


class _OfType(NamedTuple):
    """What a task's type and the settings say for its submission, whatever its caller wrote."""

    delivery: Delivery
    #: None means as the settings say.
    retention_ms: int | None
    secret_fields: tuple[str, ...]


class _Validated(NamedTuple):
    """A payload as its type makes it, and the policy for it."""

    payload: Any
    policy: RetryPolicy
    #: Whether it is valid; it is as it was otherwise, because it has references to results that are not there yet.
    is_valid: bool


def known_type(name: str, types: TypeLookup) -> TaskType:
    """Return the type of this name; raises `InvalidSubmissionError` that names similar ones."""
    task_type = types.get(name)
    if task_type is None:
        raise InvalidSubmissionError([Violation("type", _unknown_type(name, types))])
    return task_type


def build_submission(
    request: SubmitRequest,
    settings: Settings,
    types: TypeLookup,
    *,
    idempotency_key: str | None = None,
    repeatable: bool = False,
    maker: str | None = None,
    parents_of: str | None = None,
    aliases: Collection[str] = (),
    part: bool = False,
    inherited_key: str | None = None,
) -> Submission:
    """Return the submission with a new id and everything that the caller left open filled in.

    `repeatable`: it becomes the template of a definition's instances. `maker`: who counts as having made its group,
    None for a caller who may make any number. `parents_of`: the user whose tasks it may depend on, None for any.
    `aliases`: other names of parents, to whose results the payload may refer. `part`: it is a part of a workflow, which
    decides what runs: it has no `once` and no `debounce`, and that of its type does not count.
    `inherited_key`: the key if neither the caller nor the type gives one.
    Raises `InvalidSubmissionError` for an unknown type, a payload that does not fit its type, or an
    unusable idempotency key, and `PayloadTooLargeError`.
    """
    task_type = known_type(request.type, types)
    if idempotency_key is not None:
        check_idempotency_key(idempotency_key)
    text = _json_text("payload", request.payload, limit=settings.max_body_bytes)
    depends_on = _dependencies(request, repeatable=repeatable)
    payload, policy, is_valid = _validated(task_type, text, request.payload, depends_on, settings, aliases)
    key, value = request.key, payload if is_valid else NOT_VALIDATED
    if key is None and task_type.key is not None:
        key = read_key(task_type.key, request.payload, value)
    if request.metadata:
        _json_text("metadata", request.metadata, limit=MAX_METADATA_BYTES)
    group = request.queue or task_type.group
    timeout_s = task_type.timeout_s if request.timeout is None else request.timeout
    expires = request.expires
    of_type = _of_type(task_type, group, settings)
    if repeatable:
        task_type.hooks.check_without_intake(payload, of_type.delivery)
    awaits = task_type.hooks.awaits(payload)
    once = _once(request, task_type, value, settings, part=part)
    debounce = _debounce(request, settings, part=part)
    if debounce is not None and repeatable:
        message = "is not for the tasks of a definition: its schedule says when they run"
        raise InvalidSubmissionError([Violation("debounce", message)])
    _check_changeable(once, debounce, task_type, depends_on, awaits=awaits is not None)
    delay_ms = None if request.delay is None else round(request.delay * 1000)
    return Submission(
        task_id=new_task_id(),
        type=task_type.name,
        payload=text,
        group=group,
        priority=request.priority or 0,
        max_retries=policy.max_retries if request.max_retries is None else request.max_retries,
        delay_ms=delay_ms if debounce is None else debounce.delay_ms,
        run_at_ms=None if request.run_at is None else ms_from_utc(request.run_at),
        expires_in_ms=max(1, round(expires * 1000)) if isinstance(expires, float) else None,
        expires_at_ms=ms_from_utc(expires) if isinstance(expires, datetime) else None,
        timeout_ms=_timeout_ms(timeout_s),
        user_id=request.user_id,
        key=inherited_key if key is None else key,
        cost=request.cost,
        metadata=request.metadata or {},
        tags=tuple(request.tags or ()),
        depends_on=depends_on,
        on_unmet=request.on_unmet,
        parents_of=parents_of,
        retention_ms=of_type.retention_ms,
        idempotency_key=idempotency_key,
        delivery=of_type.delivery,
        secret_fields=of_type.secret_fields,
        maker=None if group == task_type.group else maker,
        awaits=awaits,
        once=once,
        debounce=debounce,
    )


def named(task_id: str, submission: Submission, settings: Settings) -> Submission:
    """Return a submission under an id that was chosen before it; raises `InvalidSubmissionError` if that means nothing.

    With a key of its own the store may answer with another task.
    """
    if submission.once is not None or submission.debounce is not None:
        field = "once" if submission.once is not None else "debounce"
        message = f"is not for a task whose id is known before: {submission.type} may lead to another task"
        raise InvalidSubmissionError([Violation(field, message)])
    retention_ms = round(settings.retention * 1000) if submission.retention_ms is None else submission.retention_ms
    return replace(submission, task_id=task_id, retention_ms=max(retention_ms, _LEAST_RETENTION_MS))


def plain_submission(task_type: TaskType, settings: Settings) -> Submission | None:
    """Return what submissions have in common whose callers wrote this type and a payload, and nothing else.

    Only the id and the payload are each one's own. Returns None if something of the type depends on the payload.
    """
    hooks = task_type.hooks
    depends = task_type.policy is not None or task_type.key is not None or task_type.once is not None
    if depends or hooks.intake or hooks.gives_way or type(hooks).awaits is not TypeHooks.awaits:
        return None
    of_type = _of_type(task_type, task_type.group, settings)
    return Submission(
        task_id="",
        type=task_type.name,
        group=task_type.group,
        max_retries=task_type.retry.max_retries,
        timeout_ms=_timeout_ms(task_type.timeout_s),
        retention_ms=of_type.retention_ms,
        delivery=of_type.delivery,
        secret_fields=of_type.secret_fields,
    )


def _once(
    request: SubmitRequest, task_type: TaskType, value: Any, settings: Settings, *, part: bool
) -> UniqueKey | None:
    if part and request.once is not None:
        raise _of_a_part("once")
    asked = request.once
    if asked is None and task_type.once is not None and not part:
        asked = task_type.once.request(request.payload, value)
    if asked is None:
        return None
    until = asked.until
    return UniqueKey(
        key=asked.key,
        until=until if isinstance(until, Until) else Until.TIME,
        for_ms=None if isinstance(until, Until) else max(1, round(until * 1000)),
        on_conflict=asked.on_conflict,
        user_id=_owner_of_keys(request.user_id, settings),
    )


def _debounce(request: SubmitRequest, settings: Settings, *, part: bool) -> Debounce | None:
    asked = request.debounce
    if asked is None:
        return None
    if part:
        raise _of_a_part("debounce")
    return Debounce(
        key=asked.key,
        delay_ms=max(1, round(asked.delay * 1000)),
        max_delay_ms=None if asked.max_delay is None else max(1, round(asked.max_delay * 1000)),
        keeps_first=asked.payload == "first",
        user_id=_owner_of_keys(request.user_id, settings),
    )


def _owner_of_keys(user_id: str | None, settings: Settings) -> str | None:
    """Return whose keys of `once` and `debounce` these are: with authentication, nobody learns of another's task."""
    return user_id if settings.access.on else None


def _of_a_part(field: str) -> InvalidSubmissionError:
    message = (
        "is not for a part of a workflow, which decides itself what runs: submit the task alone, or limit its key "
        "with a rule (max_running or ordered)"
    )
    return InvalidSubmissionError([Violation(field, message)])


def _check_changeable(
    once: UniqueKey | None,
    debounce: Debounce | None,
    task_type: TaskType,
    depends_on: Sequence[Dependency],
    *,
    awaits: bool,
) -> None:
    """Raise `InvalidSubmissionError` if a task would get another payload while it waits, and cannot."""
    for field, changes in (
        ("debounce", debounce is not None),
        ("once.on_conflict", once is not None and once.on_conflict is OnConflict.LATEST),
    ):
        if changes and (awaits or task_type.hooks.intake):
            message = f"a {task_type.name} keeps what it was submitted with: its payload cannot be replaced"
            raise InvalidSubmissionError([Violation(field, message)])
        if changes and depends_on:
            message = "excludes depends_on: a waiting task would get the payload, but not what that depends on"
            raise InvalidSubmissionError([Violation(field, message)])


def _dependencies(request: SubmitRequest, *, repeatable: bool) -> tuple[Dependency, ...]:
    if request.on_unmet is not None and not request.depends_on:
        raise InvalidSubmissionError([Violation("on_unmet", "means nothing without depends_on")])
    if repeatable and request.depends_on:
        message = "the tasks of a definition cannot depend on others: each firing makes a new task"
        raise InvalidSubmissionError([Violation("depends_on", message)])
    return tuple(Dependency(one.task, one.when) for one in request.depends_on or ())


def _validated(
    task_type: TaskType,
    text: str,
    payload: Mapping[str, Any],
    parents: Sequence[Dependency],
    settings: Settings,
    aliases: Collection[str] = (),
) -> _Validated:
    """Return a payload, which `text` is in JSON, as its type validates it, and the policy for it.

    One with references is validated when the results are there: until then it may be returned as it is, and the policy
    is that of the type. Raises `InvalidSubmissionError`.
    """
    refers = may_have_references(text) and check_references(payload, {*aliases, *(one.task_id for one in parents)})
    if refers and task_type.hooks.whole_payload:
        message = f"cannot have results of other tasks in it: all of it is checked when a {task_type.name} is submitted"
        raise InvalidSubmissionError([Violation("payload", message)])
    try:
        validated = task_type.validate(payload, submitted=True)
        return _Validated(validated, task_type.retry_policy(validated, settings), True)
    except InvalidSubmissionError:
        if not refers:
            raise
        return _Validated(payload, task_type.retry, False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CeleryCall:
    """A published call of a Celery task, as far as it says how to run it. Moments are milliseconds since the epoch."""

    task_id: str
    name: str
    group: str
    priority: int
    #: The arguments: a JSON object as text.
    payload: str
    #: What the Celery task says.
    max_retries: int
    run_at_ms: int | None = None
    expires_at_ms: int | None = None
    #: The same, counted from the store's now (milliseconds).
    delay_ms: int | None = None
    expires_in_ms: int | None = None
    timeout_ms: int | None = None
    #: The message as it was published, where the record alone does not say all (JSON, in kombu's envelope).
    message: str | None = None
    #: Whether a task published it (a link of a chain, a callback, a call in a handler), which must not fail for it.
    follows: bool = False
    #: How many calls had this id before.
    replacement: int = 0
    #: The key that it has itself, and the one of the task that publishes it.
    key: str | None = None
    inherited_key: str | None = None
    cost: int | None = None
    #: Whether no fault of a key may refuse it.
    is_accepted: bool = False


def submission_of_call(call: CeleryCall, settings: Settings, task_type: TaskType | None) -> Submission:
    """Return the submission that a published call amounts to; `task_type` is None for a plain Celery task.

    Arguments that do not fit a registered type fail the task when it runs, as in Celery. Raises
    `InvalidSubmissionError` for a file that only the API can hand over, unless the call follows another task.
    """
    max_retries, timeout_ms, key = call.max_retries, call.timeout_ms, call.key
    of_type, awaits = _OfType(delivery_of(call.group, settings), None, ()), None
    if task_type is not None:
        of_type = _of_type(task_type, call.group, settings)
        policy, awaits, type_key = _of_call(call, task_type, of_type.delivery, settings)
        key = type_key if key is None else key
        max_retries = policy.max_retries
        timeout_ms = _timeout_ms(task_type.timeout_s) if timeout_ms is None else timeout_ms
    return Submission(
        task_id=call.task_id,
        type=call.name,
        payload=call.payload,
        group=call.group,
        priority=call.priority,
        max_retries=max_retries,
        run_at_ms=call.run_at_ms,
        delay_ms=call.delay_ms,
        expires_at_ms=call.expires_at_ms,
        expires_in_ms=call.expires_in_ms,
        timeout_ms=timeout_ms,
        retention_ms=of_type.retention_ms,
        delivery=of_type.delivery,
        secret_fields=of_type.secret_fields,
        celery_message=call.message,
        replacement=call.replacement or None,
        awaits=awaits,
        key=call.inherited_key if key is None else key,
        cost=call.cost,
    )


def submission_of_unreached(
    task_id: str, type_name: str, *, payload: str, group: str, settings: Settings
) -> Submission:
    """Return the submission of a published call that never comes: a node of its workflow that is cancelled at once."""
    return Submission(
        task_id=task_id,
        type=type_name,
        payload=payload,
        group=group,
        max_retries=0,
        delivery=delivery_of(group, settings),
        node=type_name,
    )


def _of_call(
    call: CeleryCall, task_type: TaskType, delivery: Delivery, settings: Settings
) -> tuple[RetryPolicy, Mapping[str, Any] | None, str | None]:
    """Return the policy for a call, what its task waits for instead of a worker, and the key that its type gives it."""
    document = json_text.read(call.payload)
    try:
        payload = task_type.validate(document, submitted=True)
        policy = task_type.retry_policy(payload, settings)
    except InvalidSubmissionError:
        # As in Celery, a call with arguments that do not fit is published, and fails when it runs.
        return task_type.retry, None, None
    if not call.follows:
        task_type.hooks.check_without_intake(payload, delivery)
    key = None
    if call.key is None:
        with accepting(call.name, call.is_accepted):
            key = read_key(task_type.key, document, payload)
    return policy, task_type.hooks.awaits(payload), key


@contextmanager
def accepting(name: str, is_accepted: bool) -> Iterator[None]:
    """Let a task of type `name` have no key if its key is not one, where nothing may refuse the task any more."""
    try:
        yield
    except InvalidSubmissionError as exc:
        if not is_accepted:
            raise
        log.warning("a task of the type %s has no key: %s", name, exc)


def remote_submission(
    settings: Settings,
    *,
    group: str,
    orders: RemoteOrders,
    priority: int = 0,
    max_retries: int = 0,
    user_id: str | None = None,
    key: str | None = None,
    cost: int | None = None,
) -> Submission:
    """Return what calls for remote workers have in common; only the id and the payload are each one's own."""
    of_type = _of_type(REMOTE_TASK, group, settings)
    return Submission(
        task_id="",
        type=REMOTE_TASK.name,
        group=group,
        priority=priority,
        max_retries=max_retries,
        user_id=user_id,
        key=key,
        cost=cost,
        retention_ms=of_type.retention_ms,
        delivery=of_type.delivery,
        remote=orders,
    )


def template_of(submission: Submission) -> dict[str, Any]:
    """Return what all instances of a definition have in common, JSON-ready. Firing needs no task types then."""
    return {
        "type": submission.type,
        "payload": submission.payload,
        "group": submission.group,
        "priority": submission.priority,
        "max_retries": submission.max_retries,
        "expires_in_ms": submission.expires_in_ms,
        "timeout_ms": submission.timeout_ms,
        "metadata": dict(submission.metadata),
        "tags": list(submission.tags),
        "retention_ms": submission.retention_ms,
        "delivery": submission.delivery.value,
        "secret_fields": list(submission.secret_fields),
        **({} if submission.once is None else {"once": _once_in_template(submission.once)}),
        **({} if submission.key is None else {"key": submission.key}),
        **({} if submission.cost is None else {"cost": submission.cost}),
        **({} if submission.maker is None else {"maker": submission.maker}),
        **({} if submission.awaits is None else {"awaits": dict(submission.awaits)}),
        **({} if submission.celery_message is None else {"celery_message": submission.celery_message}),
    }


def _once_in_template(once: UniqueKey) -> dict[str, Any]:
    return {"key": once.key, "until": once.until.value, "for_ms": once.for_ms, "on_conflict": once.on_conflict.value}


def _once_of_template(template: Mapping[str, Any], user_id: str | None, settings: Settings) -> UniqueKey | None:
    if (kept := template.get("once")) is None:
        return None
    return UniqueKey(
        key=kept["key"],
        until=Until(kept["until"]),
        for_ms=kept["for_ms"],
        on_conflict=OnConflict(kept["on_conflict"]),
        user_id=_owner_of_keys(user_id, settings),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """What one instance has of its own. `scheduled_at_ms` is its slot (milliseconds since the epoch)."""

    task_id: str
    definition_id: str
    user_id: str | None
    trigger: str
    scheduled_at_ms: int
    #: What its metadata say of its definition, under `schedule`.
    facts: Mapping[str, Any]
    #: A payload of its own (JSON); None means that of the template.
    payload: str | None = None


def instance_of(template: Mapping[str, Any], instance: Instance, settings: Settings) -> Submission:
    """Return the submission of an instance; raises `KeyError` or `ValueError` for a template of a later version."""
    retention_ms = template["retention_ms"]
    if retention_ms is None:
        retention_ms = round(settings.retention * 1000)
    # Templates of earlier versions have the message in `extra`.
    message = template.get("celery_message") or template.get("extra", {}).get("message")
    by_settings = template["delivery"] in _BY_SETTINGS
    return Submission(
        task_id=instance.task_id,
        type=template["type"],
        payload=template["payload"] if instance.payload is None else instance.payload,
        group=template["group"],
        priority=template["priority"],
        max_retries=template["max_retries"],
        expires_in_ms=template["expires_in_ms"],
        timeout_ms=template["timeout_ms"],
        user_id=instance.user_id,
        key=template.get("key"),
        cost=template.get("cost"),
        once=_once_of_template(template, instance.user_id, settings),
        metadata={**template["metadata"], "schedule": instance.facts},
        tags=template["tags"],
        definition_id=instance.definition_id,
        retention_ms=max(retention_ms, _LEAST_RETENTION_MS),
        delivery=delivery_of(template["group"], settings) if by_settings else Delivery(template["delivery"]),
        secret_fields=template.get("secret_fields", ()),
        celery_message=None if message is None else message.replace(INSTANCE_ID, instance.task_id),
        trigger=instance.trigger,
        scheduled_at_ms=instance.scheduled_at_ms,
        maker=template.get("maker"),
        awaits=template.get("awaits"),
    )


class NewPayload(NamedTuple):
    """Another payload for a task that is retried: JSON, and the paths of the secrets in it."""

    text: str
    secret_fields: tuple[str, ...]
    #: As its type validated it; as it is if it has references to results that do not fit the type.
    value: Any


def checked_payload(
    task_type: TaskType,
    payload: Mapping[str, Any],
    settings: Settings,
    parents: Sequence[Dependency],
    aliases: Collection[str] = (),
) -> NewPayload:
    """Return another payload for a task that depends on `parents`, to whose results it may refer, also by `aliases`.

    Raises `InvalidSubmissionError` or `PayloadTooLargeError`.
    """
    text = _json_text("payload", payload, limit=settings.max_body_bytes)
    value, _, _ = _validated(task_type, text, payload, parents, settings, aliases)
    return NewPayload(text, task_type.secrets, value)


def new_task_id() -> str:
    """Return a random UUID (version 4, RFC 9562) in its usual spelling, at a fraction of what `uuid` takes."""
    try:
        digits = _RANDOM.pop()
    except IndexError:
        # One call of the system for many ids.
        taken = os.urandom(16 * _RANDOM_AT_ONCE).hex()
        _RANDOM.extend(taken[place : place + 32] for place in range(32, len(taken), 32))
        digits = taken[:32]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"


def delivery_of(group: str, settings: Settings) -> Delivery:
    """Return how the executors of `group` hear of a waiting task."""
    if settings.queues.is_external(group):
        return Delivery.EXTERNAL
    if settings.other_broker:
        return Delivery.BROKER
    return Delivery.CELERY


def _of_type(task_type: TaskType, group: str, settings: Settings) -> _OfType:
    own_s = task_type.hooks.retention_s(settings)
    retention_s = settings.retentions.record_of(task_type.name, task_type.retention_s if own_s is None else own_s)
    return _OfType(
        delivery_of(group, settings) if task_type.hooks.delivery is None else task_type.hooks.delivery,
        None if retention_s == settings.retention else round(retention_s * 1000),
        task_type.secrets,
    )


def _timeout_ms(timeout_s: float | None) -> int | None:
    return None if timeout_s is None else max(1, round(timeout_s * 1000))


def _json_text(field: str, value: Mapping[str, Any], *, limit: int) -> str:
    try:
        encoded = json_text.write_bytes(value, field)
    except JsonError as exc:
        raise InvalidSubmissionError([Violation(exc.place, exc.problem)]) from exc
    if len(encoded) > limit:
        if field == "payload":
            raise PayloadTooLargeError("the payload", len(encoded), limit)
        raise InvalidSubmissionError([Violation(field, f"is {len(encoded)} bytes as JSON, above the limit of {limit}")])
    return encoded.decode()


def _unknown_type(name: str, types: Iterable[TaskType]) -> str:
    known = [task_type.name for task_type in types]
    if near := suggested(name, known, most=3):
        return f"there is no task type {name!r}; did you mean {' or '.join(near)}?"
    names = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
    return f"there is no task type {name!r}; known are: {names or '(none)'}"
