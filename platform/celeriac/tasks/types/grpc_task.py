"""The task type `grpc_task` as every process knows it: the shape of its payload and its policy.

A gRPC service of the user executes it; `grpc_services` has its address by name. The handler, and
with it gRPC, is in `celeriac_tasks.grpc_task`; a front door needs neither to check a submission.
"""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    TypeAdapter,
    ValidationInfo,
    model_validator,
)

from celeriac.errors import InvalidSubmissionError, Violation
from celeriac.settings import GrpcServices, Settings
from celeriac.settings.grpc_services import MAX_TIMEOUT_S
from celeriac.tasks.registry import registry
from celeriac.tasks.retry import RetryPolicy
from celeriac.tasks.task_type import TaskType
from celeriac.violations import nearest, shown

#: Message levels that protobuf parsers of most languages accept (C++, Python, Java: 100).
MAX_MESSAGE_LEVELS: Final = 100
#: Longest deadline that a payload may ask for, as in the settings of a service.
MAX_TIMEOUT_MS: Final = round(MAX_TIMEOUT_S * 1000)
#: How many unknown keys of a payload are compared with its fields.
_COMPARED: Final = 20


def _fits_struct(data: dict[str, Any]) -> dict[str, Any]:
    """Refuse what `google.protobuf.Struct` cannot carry, so that it fails at submission and not in a worker.

    An object costs three message levels (entry, value, struct), an array two. Numbers are doubles:
    integers beyond 2^53 lose precision (documented, not refused). One beyond 64 bits must be exact as a double.
    """
    # A list of its own instead of recursion: JSON may be nested deeper than Python's stack.
    open_values: list[tuple[Any, int]] = [(data, 1)]
    while open_values:
        value, level = open_values.pop()
        if level > MAX_MESSAGE_LEVELS:
            raise ValueError("is nested too deeply: about 30 objects, or 48 arrays, fit into each other")
        if isinstance(value, dict):
            open_values += [(inner, level + (3 if isinstance(inner, dict | list) else 2)) for inner in value.values()]
        elif isinstance(value, list):
            open_values += [(inner, level + (2 if isinstance(inner, dict | list) else 1)) for inner in value]
        elif isinstance(value, int) and not -(2**63) <= value < 2**64 and not _exact_as_double(value):
            raise ValueError(
                "holds an integer beyond 64 bits, which travels as a double and would change: send a string"
            )
    return data


def _exact_as_double(value: int) -> bool:
    try:
        return float(value) == value
    except OverflowError:
        return False


def _absent_as_empty(value: Any) -> Any:
    """Read `null` as left out: clients of several languages write it for an unset field."""
    return {} if value is None else value


def _absent_as_true(value: Any) -> Any:
    return True if value is None else value


class GrpcTaskOptions(BaseModel):
    """How one `grpc_task` is called. An unknown option is an error: it would be silently without effect."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    timeout_ms: StrictInt | None = Field(
        None,
        gt=0,
        le=MAX_TIMEOUT_MS,
        description="Deadline of the call; the service's `timeout` where left out. The task's own `timeout` wins"
        " where it is shorter.",
    )
    enable_progress: Annotated[StrictBool, BeforeValidator(_absent_as_true)] = Field(
        True, description="Whether the service is asked for progress."
    )
    progress_interval_ms: StrictInt | None = Field(
        None,
        ge=0,
        le=MAX_TIMEOUT_MS,
        description="At most one published progress event per interval; the last one is never dropped.",
    )


class GrpcTaskPayload(BaseModel):
    """The payload of a `grpc_task`; keys that it does not know, and that look like none of its own, do nothing."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    service: str = Field(min_length=1, description="A name under `grpc_services.services` of the configuration.")
    method: str = Field(min_length=1, description="What the service is to do: `ExecuteTaskRequest.task_type`.")
    data: Annotated[dict[str, Any], BeforeValidator(_absent_as_empty), AfterValidator(_fits_struct)] = Field(
        default_factory=dict,
        description="Its input, `ExecuteTaskRequest.payload`. Numbers travel as doubles: exact up to 2^53.",
    )
    options: Annotated[GrpcTaskOptions, BeforeValidator(_absent_as_empty)] = GrpcTaskOptions()

    @model_validator(mode="before")
    @classmethod
    def _no_misspelt_field(cls, payload: Any, info: ValidationInfo) -> Any:
        """Refuse an unknown key that looks like a field which is not there: `dta` would silently send no data."""
        if isinstance(payload, dict) and (info.context or {}).get("submitted"):
            absent = [name for name in cls.model_fields if name not in payload]
            unknown = (str(key) for key in payload if key not in cls.model_fields)
            for key in islice(unknown, _COMPARED):
                if meant := nearest(key, absent, cutoff=0.8):
                    raise ValueError(f"there is no such field as {shown(key)!r}; did you mean {meant}?")
        return payload


def service_problem(name: str, services: GrpcServices) -> tuple[str, str] | None:
    """Return why no task can be sent to the service `name`, as (code, text for people), or None."""
    if not services.enabled:
        return "grpc_disabled", "gRPC tasks are switched off: grpc_services.enabled is false"
    if name not in services.services:
        known = ", ".join(sorted(services.services)) or "none is configured under grpc_services.services"
        return "unknown_service", f"there is no gRPC service {name!r}; known are: {known}"
    return None


def grpc_policy(payload: GrpcTaskPayload, settings: Settings) -> RetryPolicy:
    """Return the policy of the payload's service; raises `InvalidSubmissionError` if it cannot be called."""
    problem = service_problem(payload.service, settings.grpc_services)
    service = settings.grpc_services.resolve(payload.service)
    if problem is not None or service is None:
        raise InvalidSubmissionError([Violation("payload.service", problem[1] if problem else "is not configured")])
    return RetryPolicy(max_retries=service.max_retries, delay_s=service.retry_delay)


#: The type without a handler: enough to check a submission. Workers add theirs.
GRPC_TASK: Final = registry.add(
    TaskType(
        name="grpc_task",
        payload=TypeAdapter(GrpcTaskPayload),
        description="Run a method of a configured gRPC service, relay its progress, keep its result.",
        policy=grpc_policy,
    )
)
