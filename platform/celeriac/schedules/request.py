"""Checks what a caller wrote and makes a definition of it, for all front doors. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    field_validator,
)

from celeriac import json_text
from celeriac.errors import InvalidSubmissionError, JsonError, Violation
from celeriac.model import ms_from_utc
from celeriac.moments import MAX_DELAY_S, Moment
from celeriac.schedules.celery_calls import edited_template, is_celery_call
from celeriac.schedules.definition import Overlap, Spec, TaskTriggerType, content_of, timetable_of
from celeriac.schedules.times.backlog import Misfire
from celeriac.schedules.times.budget import ComputeLimits
from celeriac.schedules.times.trigger_args import checked_args, in_seconds
from celeriac.settings import GROUP_NAME, ScheduleSettings, Settings, parse_duration_s
from celeriac.tasks.catalog import TypeLookup
from celeriac.tasks.registry import registry
from celeriac.tasks.request import MAX_USER_ID_LENGTH, read_request
from celeriac.tasks.submission import build_submission, template_of
from celeriac.violations import check_field_count, outer_violations

MAX_CONTENT_BYTES: Final = 256 * 1024
MAX_NOTE: Final = 2000
#: Most runs, and most failures in a row, that a definition may name.
MAX_COUNT: Final = 1_000_000_000

_DURATION_SCHEMA: Final = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}], "examples": ["30s"]}
_Duration = Annotated[
    Annotated[float, BeforeValidator(parse_duration_s), Field(ge=0, le=MAX_DELAY_S)], WithJsonSchema(_DURATION_SCHEMA)
]


def _user_id(value: Any) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("must be a text or a whole number")
    text = str(value)
    if not 1 <= len(text) <= MAX_USER_ID_LENGTH or not text.isprintable():
        raise ValueError(f"must be 1 to {MAX_USER_ID_LENGTH} printable characters")
    return value


def _group(value: str) -> str:
    if GROUP_NAME.fullmatch(value) is None:
        raise ValueError(
            "is not a group name; use 1 to 128 letters, digits and _ . : -, beginning with a letter or digit"
        )
    return value


def _content(value: str) -> str:
    if len(value.encode("utf-8", "surrogatepass")) > MAX_CONTENT_BYTES:
        raise ValueError(f"is above the limit of {MAX_CONTENT_BYTES} bytes")
    return value


def _failures(value: Any) -> Any:
    return {True: 1, False: None}[value] if isinstance(value, bool) else value


class TriggerFields(BaseModel):
    """When something fires: the part of a definition that a preview needs."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [{"trigger_type": "LOOP", "trigger_args": {"cron": "0 8 * * 1-5", "timezone": "Europe/Berlin"}}]
        },
    )

    trigger_type: Annotated[TaskTriggerType, Field(description="`IMMEDIATE`, `SCHEDULED` or `LOOP`.")]
    trigger_args: Annotated[
        dict[str, Any] | None,
        Field(
            description="`SCHEDULED`: `run_at`. `LOOP`: `interval` (seconds, or `30s`, `1h30m`) or `cron`, or `rules` "
            "(several of them), with `timezone` and `exclude` (a list of `{cron}`, `{date}` or `{from, to}`)."
        ),
    ] = None
    start_at: Annotated[Moment | None, Field(description="No slot before; an interval counts from it.")] = None
    end_at: Annotated[Moment | None, Field(description="No slot after.")] = None
    jitter: Annotated[_Duration, Field(description="Each slot fires up to this much later.")] = 0

    @field_validator("trigger_args")
    @classmethod
    def _in_seconds(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        return None if value is None else in_seconds(value)

    @field_validator("trigger_type", mode="before")
    @classmethod
    def _any_case(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value


class DefinitionRequest(TriggerFields):
    """A definition as a caller writes it."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "user_id": 7,
                    "content": "send the report",
                    "trigger_type": "LOOP",
                    "trigger_args": {"cron": "0 8 * * *", "timezone": "Europe/Berlin"},
                }
            ]
        },
    )

    user_id: Annotated[
        Annotated[int | str, BeforeValidator(_user_id)] | None, Field(description="Whose definition it is.")
    ] = None
    content: Annotated[
        Annotated[str, AfterValidator(_content)] | None, Field(description="Free text for the executor.")
    ] = None
    name: Annotated[str | None, Field(min_length=1, max_length=200, description="A name for people.")] = None
    group: Annotated[
        Annotated[str, AfterValidator(_group)],
        Field(description="The group whose workers get the content if no `task` is given."),
    ] = "default"
    task: Annotated[
        dict[str, Any] | None,
        Field(description="What runs: a submission (`type`, `payload`, `queue`, …) without times."),
    ] = None
    misfire: Annotated[Misfire, Field(description="What happens to slots that fell due while no beat ran.")] = (
        Misfire.FIRE_ONCE
    )
    misfire_grace: Annotated[
        _Duration | None, Field(description="How late the first due slot may be and still count as on time.")
    ] = None
    catchup_window: Annotated[_Duration | None, Field(description="How far back `fire_all` goes.")] = None
    overlap: Annotated[
        Overlap, Field(description="What happens to a slot while an earlier instance has not ended.")
    ] = Overlap.ALLOW
    max_runs: Annotated[
        int | None,
        Field(strict=True, ge=1, le=MAX_COUNT, description="It is complete after this many scheduled firings."),
    ] = None
    pause_on_failure: Annotated[
        Annotated[int, Field(ge=1, le=MAX_COUNT)] | None,
        BeforeValidator(_failures),
        Field(description="Pause after this many failed instances in a row; `true` means 1."),
    ] = None
    paused: Annotated[bool, Field(description="Create it paused.")] = False
    note: Annotated[str | None, Field(max_length=MAX_NOTE, description="A reason, for people.")] = None
    metadata: Annotated[dict[str, Any] | None, Field(description="Copied to each instance.")] = None


class MoveRequest(BaseModel):
    """A reason for a change of a definition."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"note": "holidays"}]})

    note: Annotated[str | None, Field(max_length=MAX_NOTE, description="The reason, for people.")] = None


class BackfillRequest(BaseModel):
    """Which past slots to run."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"start": "2030-01-01T00:00:00Z", "end": "2030-01-31T23:59:59Z"}]},
    )

    start: Annotated[Moment, Field(description="Slots from here on, this one included.")]
    end: Annotated[Moment, Field(description="Slots up to here, this one included; future slots are left out.")]
    one_by_one: Annotated[bool, Field(description="Start each instance after the one before has ended.")] = False


_T = TypeVar("_T", bound=TriggerFields)

#: The fields that can be edited.
EDITABLE: Final = frozenset(DefinitionRequest.model_fields) - {"user_id", "paused"}


def read_trigger(document: object) -> TriggerFields:
    """Check the shape of a trigger; raises `InvalidSubmissionError` that names the fields."""
    return _read(document, TriggerFields)


def read_definition(document: object) -> DefinitionRequest:
    """Check the shape of a definition; raises `InvalidSubmissionError` that names the fields."""
    request = _read(document, DefinitionRequest)
    if request.user_id is None:
        raise InvalidSubmissionError([Violation("user_id", "is required")])
    if request.content is None and request.task is None:
        raise InvalidSubmissionError([Violation("content", "is required if no `task` is given")])
    return request


def _read(document: object, model: type[_T]) -> _T:
    if not isinstance(document, dict):
        raise InvalidSubmissionError([Violation("", "must be a JSON object")])
    check_field_count(document, model.model_fields)
    try:
        return model.model_validate(document)
    except ValidationError as exc:
        raise InvalidSubmissionError(outer_violations(exc, model)) from exc


def limits_of(own: ScheduleSettings) -> ComputeLimits:
    """Return what a question about a timetable may cost by the settings."""
    return ComputeLimits(own.max_steps, own.max_compute)


def check_timetable(trigger: TriggerFields, spec: Spec, now_ms: int, limits: ComputeLimits) -> None:
    """Raise `InvalidSubmissionError` for a schedule that will never fire, or whose next moment is too hard to find."""
    if trigger.start_at is not None and trigger.end_at is not None and trigger.start_at > trigger.end_at:
        raise InvalidSubmissionError([Violation("end_at", "must not be before start_at")])
    if trigger.trigger_type is TaskTriggerType.IMMEDIATE:
        return
    if timetable_of(trigger.trigger_type, spec, "", limits.budget()).after(now_ms) is None:
        field = "end_at" if trigger.end_at is not None else "trigger_args"
        raise InvalidSubmissionError([Violation(field, "leaves no moment at which this could run")])


def build_spec(
    request: DefinitionRequest,
    settings: Settings,
    types: TypeLookup,
    *,
    now_ms: int,
    anchor_ms: int | None = None,
    future: bool = True,
    maker: str | None = None,
    before: Mapping[str, Any] | None = None,
) -> Spec:
    """Return the checked spec; raises `InvalidSubmissionError` that names the fields.

    `anchor_ms` keeps the phase of an interval that is edited; `future` is false where the moment of a
    SCHEDULED one was checked before. `before` is the template of a definition that is edited.
    """
    own = settings.schedule
    args = checked_args(
        request.trigger_type,
        request.trigger_args,
        own=own,
        now_ms=now_ms if future else None,
    )
    grace = own.misfire_grace if request.misfire_grace is None else request.misfire_grace
    window = own.catchup_window if request.catchup_window is None else request.catchup_window
    try:
        for name, value in (("metadata", request.metadata), ("content", request.content), ("trigger_args", args)):
            json_text.write_bytes(value, name)
    except JsonError as exc:
        raise InvalidSubmissionError([Violation(exc.place, exc.problem)]) from exc
    spec = Spec(
        user_id=request.user_id,
        content=request.content or "",
        trigger_args=args,
        anchor_ms=now_ms if anchor_ms is None else anchor_ms,
        task=request.task,
        run=_template(request, settings, types, maker, before),
        misfire=request.misfire,
        misfire_grace_ms=round(grace * 1000),
        catchup_window_ms=round(window * 1000),
        overlap=request.overlap,
        start_ms=None if request.start_at is None else ms_from_utc(request.start_at),
        end_ms=None if request.end_at is None else ms_from_utc(request.end_at),
        max_runs=request.max_runs,
        jitter_ms=round(request.jitter * 1000),
        pause_on_failure=request.pause_on_failure,
        metadata=request.metadata or {},
    )
    if future:
        check_timetable(request, spec, now_ms, limits_of(own))
    return spec


def _is_registered(name: str, types: TypeLookup) -> bool:
    """Return whether a type is more than a plain Celery task."""
    known = types.get(name)
    return known is not None and not known.hooks.celery_call


def _template(
    request: DefinitionRequest,
    settings: Settings,
    types: TypeLookup,
    maker: str | None,
    before: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return what all instances have in common."""
    user_id = None if request.user_id is None else str(request.user_id)
    if request.task is None:
        document: dict[str, Any] = {
            "type": settings.schedule.content_type,
            "payload": registry.hooks_of(settings.schedule.content_type).content_payload(
                content_of(request.content, request.user_id, {})
            ),
            "queue": request.group,
        }
        field = "content"
    else:
        document = {"payload": {}, **request.task}
        field = "task"
        for name in ("delay", "run_at", "user_id", "idempotency_key"):
            if name in document:
                raise InvalidSubmissionError([Violation(f"task.{name}", "is not possible in the task of a definition")])
    document["metadata"] = {**(request.metadata or {}), **(document.get("metadata") or {})} or None
    if user_id is not None:
        document["user_id"] = user_id
    try:
        built = read_request(document)
        if before is not None and is_celery_call(before, request.task) and not _is_registered(built.type, types):
            known = types.get(built.type)
            return edited_template(before, built, settings, None if known is None else known.key)
        if isinstance(built.expires, datetime):
            raise InvalidSubmissionError([Violation("expires", "must be a duration: it counts from each slot's start")])
        return template_of(build_submission(built, settings, types, repeatable=True, maker=maker))
    except InvalidSubmissionError as exc:
        raise InvalidSubmissionError(
            [Violation(f"{field}.{v.field}" if v.field else field, v.message) for v in exc.violations]
        ) from exc
