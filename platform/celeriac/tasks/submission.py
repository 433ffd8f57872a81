"""From what a caller wrote to what the life cycle takes: the checks that every front door shares.

Pure: nothing here talks to a server. A front door reads the caller's document with `read_request`,
looks the type up in what it knows (`KnownTypes`), and hands the result of `build_submission` to the store.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Protocol, Self, TypeVar

import orjson
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from celeriac.errors import InvalidSubmissionError, PayloadTooLargeError, Violation
from celeriac.model import Delivery, Submission, ms_from_utc
from celeriac.settings import GROUP_NAME, Settings, parse_duration_s
from celeriac.tasks.registry import Registry, TaskType
from celeriac.tasks.retry import RetryPolicy
from celeriac.tasks.types.remote import REMOTE
from celeriac.violations import outer_violations

#: Visible ASCII, as an HTTP header can carry it.
IDEMPOTENCY_KEY: Final = re.compile(r"[!-~]{1,255}")
MAX_RETRIES: Final = 1000
MAX_METADATA_BYTES: Final = 16 * 1024
MAX_USER_ID_LENGTH: Final = 256
MAX_TAGS: Final = 20
MAX_TAG_LENGTH: Final = 64
#: Ten years: beyond it a delay is a mistake, and milliseconds stay exact in every store.
MAX_DELAY_S: Final = 10 * 366 * 86400.0

#: The two bits of a UUID that say what kind it is, over a random digit.
_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}

_DURATION_TEXT = "a number of seconds, or 500ms, 30s, 10m, 1h, 7d"
_DURATION_SCHEMA = {
    "anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}, {"type": "null"}],
    "examples": ["30s"],
}
_MOMENT_SCHEMA = {
    "anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}],
    "examples": ["2030-01-31T08:00:00Z"],
}
_EXPIRY_SCHEMA = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "string", "format": "date-time"},
        {"type": "string"},
        {"type": "null"},
    ],
    "examples": ["1h", "2030-01-31T08:00:00Z"],
}


def _group_name(value: str) -> str:
    if GROUP_NAME.fullmatch(value) is None:
        raise ValueError("is no name for a group: use 1 to 128 letters, digits and _ . : - after a letter or digit")
    return value


def _as_text(value: Any) -> Any:
    # User ids are whole numbers in many a database, and so in what it is asked to send.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _user_id(value: str) -> str:
    # isprintable is false for control characters, NUL and lone surrogates, which no log or store should meet.
    if not value.isprintable():
        raise ValueError("must hold printable characters only")
    return value


def _tags(values: list[str]) -> list[str]:
    for value in values:
        if not value.isprintable() or "," in value:
            raise ValueError(f"{value[:MAX_TAG_LENGTH]!r} is no tag: use printable characters without commas")
    return list(dict.fromkeys(values))


def _moment(value: Any) -> Any:
    # Without this, Pydantic would also read bare numbers and dates without a time of day.
    if isinstance(value, datetime) or (isinstance(value, str) and "T" in value.upper()):
        return value
    raise ValueError("must be an RFC 3339 moment with a time zone, e.g. 2030-01-31T08:00:00Z")


def _expiry(value: Any) -> float | datetime:
    if isinstance(value, str) and "T" in value.upper():
        try:
            value = _MOMENT.validate_python(value)
        except ValidationError:
            raise ValueError("must be a duration or an RFC 3339 moment with a time zone") from None
    if isinstance(value, datetime):
        return value
    seconds = parse_duration_s(value)
    if not isinstance(seconds, int | float) or not 0 < seconds <= MAX_DELAY_S:
        raise ValueError(f"must be above zero and at most ten years: {_DURATION_TEXT}, or an RFC 3339 moment")
    return float(seconds)


_MOMENT: Final[TypeAdapter[datetime]] = TypeAdapter(AwareDatetime)
_DurationField = Annotated[float, BeforeValidator(parse_duration_s), Field(ge=0, le=MAX_DELAY_S)]


class SubmitRequest(BaseModel):
    """A task to run, as a caller writes it."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "type": "grpc_task",
                    "payload": {"service": "demo", "method": "count", "data": {"seconds": 5}},
                }
            ]
        },
    )

    type: Annotated[str, Field(min_length=1, max_length=200, description="A registered task type.")]
    payload: Annotated[dict[str, Any], Field(description="What the task works on; its shape depends on the type.")]
    queue: Annotated[
        Annotated[str, AfterValidator(_group_name)] | None,
        Field(description="The worker group that takes it; left out, the type's own, else `default`."),
    ] = None
    max_retries: Annotated[
        int | None,
        Field(
            strict=True,
            ge=0,
            le=MAX_RETRIES,
            description="Attempts after the first; overrides the service's or type's.",
        ),
    ] = None
    priority: Annotated[
        int | None, Field(strict=True, ge=0, le=9, description="0 (the default) to 9; higher runs sooner.")
    ] = None
    delay: Annotated[
        _DurationField | None,
        Field(description=f"Run it this much later: {_DURATION_TEXT}."),
        WithJsonSchema(_DURATION_SCHEMA),
    ] = None
    run_at: Annotated[
        Annotated[AwareDatetime, BeforeValidator(_moment)] | None,
        Field(description="Run it not before this moment; one in the past means now."),
        WithJsonSchema(_MOMENT_SCHEMA),
    ] = None
    expires: Annotated[
        Annotated[float | datetime, PlainValidator(_expiry)] | None,
        Field(description=f"Do not start it any more after this: {_DURATION_TEXT}, or an RFC 3339 moment."),
        WithJsonSchema(_EXPIRY_SCHEMA),
    ] = None
    user_id: Annotated[
        Annotated[
            str,
            Field(min_length=1, max_length=MAX_USER_ID_LENGTH),
            BeforeValidator(_as_text),
            AfterValidator(_user_id),
        ]
        | None,
        Field(description="On whose behalf it runs; a whole number is taken as text."),
    ] = None
    metadata: Annotated[
        dict[str, Any] | None,
        Field(description=f"Whatever you want to find again on the task; at most {MAX_METADATA_BYTES} bytes."),
    ] = None
    tags: Annotated[
        Annotated[
            list[Annotated[str, Field(min_length=1, max_length=MAX_TAG_LENGTH)]],
            Field(max_length=MAX_TAGS),
            AfterValidator(_tags),
        ]
        | None,
        Field(description=f"Words to find the task by: up to {MAX_TAGS}, each up to {MAX_TAG_LENGTH} characters."),
    ] = None
    timeout: Annotated[
        Annotated[_DurationField, Field(gt=0)] | None,
        Field(description=f"Longest run of one attempt: {_DURATION_TEXT}; overrides the type's."),
        WithJsonSchema(_DURATION_SCHEMA),
    ] = None

    @model_validator(mode="after")
    def _times_fit(self) -> Self:
        if self.delay is not None and self.run_at is not None:
            raise ValueError("delay and run_at exclude each other: give one of them")
        if isinstance(self.expires, float) and self.delay is not None and self.expires <= self.delay:
            raise ValueError("expires comes before the task is due: it would never run")
        if isinstance(self.expires, datetime) and self.run_at is not None and self.expires <= self.run_at:
            raise ValueError("expires comes before the task is due: it would never run")
        return self


R = TypeVar("R", bound=SubmitRequest)


class TypeLookup(Protocol):
    """Where task types are found: a `Registry`, or `KnownTypes`."""

    def get(self, name: str, /) -> TaskType | None:
        """Return the type of this name, or None."""
        ...

    def __iter__(self) -> Iterator[TaskType]:
        """Iterate over all types, by name."""
        ...


class KnownTypes:
    """The types of this process, joined with those that running workers announce.

    A type that only workers know is taken with any object as payload: the worker checks it.
    `announced` maps a name to what `TaskStore.task_types` says of it.
    """

    def __init__(self, local: Registry, announced: Mapping[str, Mapping[str, Any]]) -> None:
        self._local = local
        self._about = announced
        self._announced = {name: announced_type(name, about) for name, about in announced.items() if name not in local}

    def get(self, name: str, /) -> TaskType | None:
        """Return the type of this name, or None; one of this process comes first."""
        return self._local.get(name) or self._announced.get(name)

    def payload_schema(self, known: TaskType) -> dict[str, Any]:
        """Return the JSON schema of a type's payload: its own, or the one that workers announced."""
        if known.name in self._local:
            return known.json_schema()
        schema = self._about.get(known.name, {}).get("schema")
        return schema if isinstance(schema, dict) else {"type": "object"}

    def __iter__(self) -> Iterator[TaskType]:
        return iter(sorted([*self._local, *self._announced.values()], key=lambda known: known.name))


_ANY_OBJECT: Final[TypeAdapter[Any]] = TypeAdapter(dict[str, Any])


def announced_type(name: str, about: Mapping[str, Any]) -> TaskType:
    """Return a type that only workers have, as far as their announcement describes it.

    Values of a wrong type are ignored: a worker of another version must not break submissions.
    """
    group, retries, timeout_s = about.get("group"), about.get("max_retries"), about.get("timeout_s")
    retention_s = about.get("retention_s")
    plain = RetryPolicy()
    return TaskType(
        name=name,
        payload=_ANY_OBJECT,
        group=group if isinstance(group, str) and GROUP_NAME.fullmatch(group) else "default",
        retry=RetryPolicy(
            max_retries=retries if type(retries) is int and 0 <= retries <= MAX_RETRIES else plain.max_retries
        ),
        timeout_s=float(timeout_s) if isinstance(timeout_s, int | float) and timeout_s > 0 else None,
        retention_s=float(retention_s) if isinstance(retention_s, int | float) and retention_s >= 0 else None,
        description=str(about.get("description") or ""),
        announced_schema=schema if isinstance(schema := about.get("schema"), dict) else {"type": "object"},
    )


class BatchItem(SubmitRequest):
    """One task of a batch. All of them share one request, so each one's idempotency key is a field."""

    idempotency_key: Annotated[
        Annotated[str, Field(pattern=f"^{IDEMPOTENCY_KEY.pattern}$")] | None,
        Field(description="A repeated key (per user) answers the first task instead of making another."),
    ] = None


def read_request(document: object) -> SubmitRequest:
    """Check the shape of a submission; raises `InvalidSubmissionError` that names the fields."""
    return _read(document, SubmitRequest)


def read_batch_item(document: object) -> BatchItem:
    """Check the shape of one task of a batch; raises `InvalidSubmissionError` that names the fields."""
    return _read(document, BatchItem)


def _read(document: object, model: type[R]) -> R:
    if not isinstance(document, dict | Mapping):
        raise InvalidSubmissionError([Violation("", "a submission is a JSON object")])
    try:
        return model.model_validate(document)
    except ValidationError as exc:
        raise InvalidSubmissionError(outer_violations(exc, model)) from exc


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
    retention_s = settings.retention_of(task_type.name, own_retention_s)
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


def check_idempotency_key(key: str) -> None:
    """Raise `InvalidSubmissionError` unless `key` is 1 to 255 visible ASCII characters."""
    if IDEMPOTENCY_KEY.fullmatch(key) is None:
        message = "must be 1 to 255 visible ASCII characters without spaces"
        raise InvalidSubmissionError([Violation("idempotency_key", message)])


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
