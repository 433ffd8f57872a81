"""What a caller writes to submit a task: the shape that every front door shares, checked field by field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from celeriac.errors import InvalidSubmissionError, Violation
from celeriac.limits.rules import MAX_COST, MAX_KEY, check_key
from celeriac.model import OnConflict, OnUnmet, Until, When
from celeriac.moments import MAX_DELAY_S, Moment, bounded
from celeriac.settings import GROUP_NAME, parse_duration_s
from celeriac.violations import check_field_count, outer_violations, violations_of

if TYPE_CHECKING:
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

#: Visible ASCII, as an HTTP header can carry it.
IDEMPOTENCY_KEY: Final = re.compile(r"[!-~]{1,255}")
MAX_RETRIES: Final = 1000
MAX_METADATA_BYTES: Final = 16 * 1024
MAX_USER_ID_LENGTH: Final = 256
MAX_TAGS: Final = 20
MAX_TAG_LENGTH: Final = 64
MAX_DEPENDENCIES: Final = 1000
#: Longest id of a task that a submission may name.
MAX_ID_LENGTH: Final = 255

_DURATION_TEXT = "a number of seconds, or 500ms, 30s, 10m, 1h, 7d, 1h30m"
_DURATION_SCHEMA = {
    "anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}, {"type": "null"}],
    "examples": ["30s"],
}
_MOMENT_SCHEMA = {
    "anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}],
    "examples": ["2030-01-31T08:00:00Z"],
}
_KEY_SCHEMA = {"type": "string", "minLength": 1, "maxLength": MAX_KEY}
_SOME_DURATION_SCHEMA = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}], "examples": ["30s"]}
_UNTIL_SCHEMA = {
    "anyOf": [
        {"type": "string", "enum": ["ended", "started"]},
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "string"},
    ],
    "default": "ended",
    "examples": ["30m"],
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
        raise ValueError("is not a name for a group: use 1 to 128 letters, digits and _ . : - after a letter or digit")
    return value


def _as_text(value: Any) -> Any:
    # User ids and keys are whole numbers in many a database, and so in what it is asked to send.
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _user_id(value: str) -> str:
    # isprintable is false for control characters, NUL and lone surrogates, which no log or store should meet.
    if not value.isprintable():
        raise ValueError("must hold printable characters only")
    return value


def _key(value: str) -> str:
    check_key(value)
    return value


def _tags(values: list[str]) -> list[str]:
    for value in values:
        if not value.isprintable() or "," in value:
            raise ValueError(f"{value[:MAX_TAG_LENGTH]!r} is not a valid tag: use printable characters without commas")
    return list(dict.fromkeys(values))


def _expiry(value: Any) -> float | datetime:
    if isinstance(value, str) and "T" in value.upper():
        try:
            value = _MOMENT.validate_python(value)
        except ValidationError:
            raise ValueError("must be a duration or an RFC 3339 moment with a time zone") from None
    if isinstance(value, datetime):
        return bounded(value)
    seconds = parse_duration_s(value)
    if not isinstance(seconds, int | float) or not 0 < seconds <= MAX_DELAY_S:
        raise ValueError(f"must be above zero and at most ten years: {_DURATION_TEXT}, or an RFC 3339 moment")
    return float(seconds)


_MOMENT: Final[TypeAdapter[datetime]] = TypeAdapter(AwareDatetime)
_DurationField = Annotated[float, BeforeValidator(parse_duration_s), Field(ge=0, le=MAX_DELAY_S)]


UserId = Annotated[
    str, Field(min_length=1, max_length=MAX_USER_ID_LENGTH), BeforeValidator(_as_text), AfterValidator(_user_id)
]


#: The customer, tenant or resource that a task is for.
Key = Annotated[str, BeforeValidator(_as_text), AfterValidator(_key), WithJsonSchema(_KEY_SCHEMA)]


class DependencyRequest(BaseModel):
    """A task that another one depends on, and the end of it that is waited for."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    task: Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH, description="The id of the task.")]
    when: Annotated[When, Field(description="`completed` (the default), `failed` (expiry included) or `ended`.")] = (
        When.COMPLETED
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the schema of what a caller may write: the object, or the id alone."""
        written = handler.resolve_ref_schema(handler(core))
        return {"anyOf": [written["properties"]["task"], written]}


def _dependencies(values: list[DependencyRequest]) -> list[DependencyRequest]:
    seen: set[str] = set()
    for place, one in enumerate(values):
        if one.task in seen:
            raise ValueError(f"[{place}]: the task {one.task[:MAX_ID_LENGTH]!r} is there twice")
        seen.add(one.task)
    return values


def _dependency(value: Any) -> Any:
    return {"task": value} if isinstance(value, str) else value


def _until(value: Any) -> Until | float:
    if value in (Until.ENDED, Until.STARTED):
        return Until(value)
    try:
        seconds = parse_duration_s(value)
    except ValueError:
        seconds = None
    if not isinstance(seconds, int | float) or not 0 < seconds <= MAX_DELAY_S:
        raise ValueError(f"must be ended, started, or a duration above zero and at most ten years: {_DURATION_TEXT}")
    return float(seconds)


def _inside(model: type[BaseModel]) -> BeforeValidator:
    """Return what checks an object in a field, and names the part of it that is wrong."""

    def check(value: Any) -> Any:
        if value is None or isinstance(value, model):
            return value
        try:
            return model.model_validate(value)
        except ValidationError as exc:
            first = violations_of(exc)[0]
            raise ValueError(f"{first.field}: {first.message}" if first.field else first.message) from None

    return BeforeValidator(check)


class OnceRequest(BaseModel):
    """A key that one task of its type holds at a time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: Annotated[Key, Field(description="What there is one task for at a time: 1 to 128 printable characters.")]
    until: Annotated[
        Annotated[Until | float, PlainValidator(_until)],
        Field(
            description="How long a task holds the key: until it has `ended` (the default) or `started`, or for a time "
            f"from its submission, also after its end: {_DURATION_TEXT}."
        ),
        WithJsonSchema(_UNTIL_SCHEMA),
    ] = Until.ENDED
    on_conflict: Annotated[
        OnConflict,
        Field(
            description="What happens while another task holds the key: `return` (the default) answers with that task, "
            "`reject` refuses with 409, `replace` cancels that task and starts this one after it has stopped, `latest` "
            "replaces the payload of the one that waits, so that at most one runs and one waits."
        ),
    ] = OnConflict.RETURN


class DebounceRequest(BaseModel):
    """A key under which calls move one task, until it has started."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: Annotated[Key, Field(description="Which calls belong together: 1 to 128 printable characters.")]
    delay: Annotated[
        Annotated[_DurationField, Field(gt=0)],
        Field(description=f"It starts this much after the last call: {_DURATION_TEXT}."),
        WithJsonSchema(_SOME_DURATION_SCHEMA),
    ]
    max_delay: Annotated[
        Annotated[_DurationField, Field(gt=0)] | None,
        Field(
            description=f"But not later than this after the first call, which sets it: {_DURATION_TEXT}. Left out, "
            "calls may move it for ever."
        ),
        WithJsonSchema(_DURATION_SCHEMA),
    ] = None
    payload: Annotated[
        Literal["last", "first"],
        Field(description="Whose payload it gets: that of the `last` call (the default), or of the `first`."),
    ] = "last"

    @model_validator(mode="after")
    def _delays_fit(self) -> Self:
        if self.max_delay is not None and self.max_delay < self.delay:
            raise ValueError("max_delay is shorter than delay: the task could never wait for the delay")
        return self


class SubmitRequest(BaseModel):
    """A task to run, as a caller writes it."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        # Modules of task types import this, and a program that only submits validates nothing: `service.py` builds it.
        defer_build=True,
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
    payload: Annotated[
        dict[str, Any],
        Field(description="What the task works on; its shape depends on the type. Left out, it is an empty object."),
    ] = Field(default_factory=dict)
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
        Moment | None,
        Field(description="Run it not before this moment; one in the past means now."),
        WithJsonSchema(_MOMENT_SCHEMA),
    ] = None
    expires: Annotated[
        Annotated[float | datetime, PlainValidator(_expiry)] | None,
        Field(description=f"Do not start it any more after this: {_DURATION_TEXT}, or an RFC 3339 moment."),
        WithJsonSchema(_EXPIRY_SCHEMA),
    ] = None
    depends_on: Annotated[
        Annotated[
            list[Annotated[DependencyRequest, BeforeValidator(_dependency)]],
            Field(max_length=MAX_DEPENDENCIES),
            AfterValidator(_dependencies),
        ]
        | None,
        Field(
            description=f"Start after these, at most {MAX_DEPENDENCIES}: the id of a task that is to complete, or "
            '`{"task": ID, "when": W}`.'
        ),
    ] = None
    on_unmet: Annotated[
        OnUnmet | None,
        Field(
            description="What happens when a task of `depends_on` has ended otherwise than it was to: `cancel` (the "
            "default) or `fail` this one with the code `dependency_failed`, or `run` it all the same."
        ),
    ] = None
    key: Annotated[
        Key | None,
        Field(
            description="The customer, tenant or resource that it is for: rules may limit each key. Left out, the type "
            "may compute one; a whole number is taken as text."
        ),
    ] = None
    cost: Annotated[
        int | None,
        Field(strict=True, ge=1, le=MAX_COST, description="What its start takes from a rate; left out, 1."),
    ] = None
    once: Annotated[
        OnceRequest | None,
        _inside(OnceRequest),
        Field(description="Make this a unique task: one of its type, and with authentication of its user, per key."),
    ] = None
    debounce: Annotated[
        DebounceRequest | None,
        _inside(DebounceRequest),
        Field(description="Wait until no further call with the same key has come for a while, then run once."),
    ] = None
    user_id: Annotated[
        UserId | None,
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
        if self.debounce is not None:
            for name in ("delay", "run_at"):
                if getattr(self, name) is not None:
                    raise ValueError(f"debounce and {name} exclude each other: debounce has a delay of its own")
            if isinstance(self.expires, float) and self.expires <= self.debounce.delay:
                raise ValueError("expires comes before the debounced task is due: it would never run")
        if isinstance(self.expires, float) and self.delay is not None and self.expires <= self.delay:
            raise ValueError("expires comes before the task is due: it would never run")
        if isinstance(self.expires, datetime) and self.run_at is not None and self.expires <= self.run_at:
            raise ValueError("expires comes before the task is due: it would never run")
        return self


R = TypeVar("R", bound=SubmitRequest)


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
    check_field_count(document, model.model_fields)
    try:
        return model.model_validate(document)
    except ValidationError as exc:
        raise InvalidSubmissionError(outer_violations(exc, model)) from exc


def check_idempotency_key(key: str) -> None:
    """Raise `InvalidSubmissionError` unless `key` is 1 to 255 visible ASCII characters."""
    if IDEMPOTENCY_KEY.fullmatch(key) is None:
        message = "must be 1 to 255 visible ASCII characters without spaces"
        raise InvalidSubmissionError([Violation("idempotency_key", message)])
