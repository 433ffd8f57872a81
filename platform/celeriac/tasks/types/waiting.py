"""The built-in task types `wait` and `sleep`, which need no worker: the store itself ends their tasks.

`wait` waits for a signal, whose value is its result. `sleep` waits for a time, and its result is null. Mostly they are
nodes of workflows. They begin to wait when what they depend on has ended.

A project's own type of one of these names takes its place.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, WithJsonSchema, model_validator

from celeriac import json_text
from celeriac.errors import InvalidSubmissionError, Violation
from celeriac.model import Task, ms_from_utc
from celeriac.moments import MAX_DELAY_S, Moment
from celeriac.settings import parse_duration_s
from celeriac.signals.links import SIGNAL_NAME
from celeriac.signals.schemas import misfits, schema_problem
from celeriac.tasks.registry import registry
from celeriac.tasks.request import MAX_USER_ID_LENGTH
from celeriac.tasks.retry import RetryPolicy
from celeriac.tasks.task_type import TaskType, TypeHooks

#: The longest `title` (characters), the most `users`, and the largest `default` (bytes of JSON).
MAX_TITLE: Final = 500
MAX_USERS: Final = 100
MAX_DEFAULT_BYTES: Final = 64 * 1024

_DURATION_TEXT: Final = "a number of seconds, or 30s, 10m, 1h, 3d"
_Duration = Annotated[
    float,
    BeforeValidator(parse_duration_s),
    Field(gt=0, le=MAX_DELAY_S),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}], "examples": ["3d"]}),
]
_UserId = Annotated[str, Field(min_length=1, max_length=MAX_USER_ID_LENGTH)]


def _usable_schema(value: Any) -> Any:
    if value is not None and (problem := schema_problem(value)):
        raise ValueError(problem)
    return value


class WaitPayload(BaseModel):
    """Which signal to wait for, and who may send it."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        json_schema_extra={
            "examples": [
                {"signal": "approval", "title": "Refund 120 €", "schema": {"type": "boolean"}, "timeout": "3d"}
            ]
        },
    )

    signal: Annotated[str, Field(pattern=f"^{SIGNAL_NAME.pattern}$", description="The name of the signal.")]
    value_schema: Annotated[
        dict[str, Any] | bool | None,
        BeforeValidator(_usable_schema),
        Field(alias="schema", description="A JSON schema that the value has to fit; left out, any value fits."),
    ] = None
    title: Annotated[
        str | None, Field(max_length=MAX_TITLE, description="What those who answer are asked, in words.")
    ] = None
    users: Annotated[
        list[_UserId], Field(max_length=MAX_USERS, description="Who may send it besides the task's owner and admins.")
    ] = Field(default_factory=list)
    timeout: Annotated[
        _Duration | None, Field(description=f"How long to wait at most: {_DURATION_TEXT}; left out, without a limit.")
    ] = None
    default: Annotated[
        Any,
        Field(description="The result if the time is over; without it the task fails then, with `wait_timeout`."),
    ] = None

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if "default" in self.model_fields_set:
            if self.timeout is None:
                raise ValueError("default: means nothing without a timeout")
            size = len(json_text.write_bytes(self.default, "default"))
            if size > MAX_DEFAULT_BYTES:
                raise ValueError(f"default: is {size} bytes as JSON, above the limit of {MAX_DEFAULT_BYTES}")
            if self.default is not None and self.value_schema is not None:
                for violation in misfits(self.default, self.value_schema):
                    place = f"{violation.field} " if violation.field else ""
                    raise ValueError(f"default: does not fit the schema: {place}{violation.message}")
        return self


class SleepPayload(BaseModel):
    """How long to wait, or until when."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, json_schema_extra={"examples": [{"for": "10m"}]}
    )

    duration: Annotated[_Duration | None, Field(alias="for", description=f"For how long: {_DURATION_TEXT}.")] = None
    until: Annotated[
        Moment | None,
        Field(description="Until this moment; one in the past means now."),
        WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2030-01-31T08:00:00Z"]}),
    ] = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.duration is None) is (self.until is None):
            raise ValueError("give either for or until")
        return self


class _WithoutWorker(TypeHooks):
    """The store begins to wait when a task is submitted, and ends the task by itself."""

    whole_payload = True
    gives_way = True

    def check_retry(self, task: Task, payload: Any) -> None:
        """Raise `InvalidSubmissionError`: what the task waits for stays what was submitted."""
        message = f"a task of type {task.type} keeps its payload: submit another one instead"
        raise InvalidSubmissionError([Violation("payload", message)])


class _WaitHooks(_WithoutWorker):
    """Its tasks end when the signal is there, or when the time is over."""

    def awaits(self, payload: Any) -> dict[str, Any]:
        """Return what its task waits for (see `store/lua/shared/suspension.lua`)."""
        item: dict[str, Any] = {"signal": payload.signal}
        if payload.timeout is not None:
            item["timeout_ms"] = max(1, round(payload.timeout * 1000))
        if payload.title is not None:
            item["title"] = payload.title
        if payload.value_schema is not None:
            item["schema"] = json_text.write(payload.value_schema)
        if payload.users:
            item["users"] = list(dict.fromkeys(payload.users))
        if "default" in payload.model_fields_set:
            item["default"] = json_text.write(payload.default)
        return item


class _SleepHooks(_WithoutWorker):
    """Its tasks end when the time is over."""

    def awaits(self, payload: Any) -> dict[str, Any]:
        """Return what its task waits for (see `store/lua/shared/suspension.lua`)."""
        if payload.until is not None:
            return {"sleep": "sleep", "until_ms": ms_from_utc(payload.until)}
        return {"sleep": "sleep", "for_ms": max(1, round(payload.duration * 1000))}


for _type in (
    TaskType(
        name="wait",
        payload=TypeAdapter(WaitPayload),
        description="Wait for a signal; its value is the result. Needs no worker.",
        retry=RetryPolicy(max_retries=0),
        hooks=_WaitHooks(),
    ),
    TaskType(
        name="sleep",
        payload=TypeAdapter(SleepPayload),
        description="Wait for a time. Needs no worker.",
        retry=RetryPolicy(max_retries=0),
        hooks=_SleepHooks(),
    ),
):
    # A project may have had a type of this name before there were these.
    if _type.name not in registry:
        registry.add(_type)
