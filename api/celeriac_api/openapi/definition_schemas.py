"""The answers of task control, for OpenAPI. `celeriac.schedules.record` writes the answers."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from celeriac.schedules.definition import DefinitionStatus, FiringState, Overlap, TaskTriggerType
from celeriac.schedules.times.backlog import Misfire
from celeriac_api.openapi.problem_examples import DEFINITION_ID, TASK_ID
from celeriac_api.openapi.schemas import TaskError, Warnings, WireStatus

_SLOT: Final = "2030-01-31T07:00:00.000Z"
_ENDED: Final = "2030-01-31T07:00:02.120Z"
_MADE: Final = "2030-01-01T12:00:00.000Z"

Trigger = Literal["schedule", "manual", "backfill"]


def _examples(*examples: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": list(examples)})


class LastOutcome(BaseModel):
    """The end of the instance that ended last."""

    task_id: str
    status: Annotated[str, Field(description="`completed`, `failed` or `cancelled`; `missed` if it was refused.")]
    finished_at: str | None
    error: str | None


class DefinitionCounters(BaseModel):
    """Counts of what happened to a definition's slots since its creation."""

    fired: int
    skipped: Annotated[int, Field(description="Skipped because of `overlap`.")]
    missed: Annotated[int, Field(description="Skipped because of `misfire`, or refused.")]
    buffered: Annotated[int, Field(description="Delayed because of `overlap`.")]
    triggered: Annotated[int, Field(description="By hand.")]
    backfilled: int
    succeeded: int
    failed: int
    cancelled: int
    failures_in_row: int


_DEFINITION: Final[dict[str, Any]] = {
    "task_def_id": DEFINITION_ID,
    "name": None,
    "user_id": 7,
    "content": "send the report",
    "status": "ACTIVE",
    "trigger_type": "LOOP",
    "trigger_args": {"cron": "0 8 * * *", "timezone": "Europe/Berlin"},
    "group": "default",
    "task": None,
    "next_run_at": "2030-02-01T07:00:00.000Z",
    "last_run_at": _SLOT,
    "last_task_id": TASK_ID,
    "last_outcome": {"task_id": TASK_ID, "status": "completed", "finished_at": _ENDED, "error": None},
    "misfire": "fire_once",
    "misfire_grace": 60,
    "catchup_window": 86400,
    "overlap": "allow",
    "start_at": None,
    "end_at": None,
    "max_runs": None,
    "jitter": 0,
    "pause_on_failure": None,
    "note": None,
    "metadata": {},
    "counters": {
        "fired": 30,
        "skipped": 0,
        "missed": 0,
        "buffered": 0,
        "triggered": 1,
        "backfilled": 0,
        "succeeded": 30,
        "failed": 1,
        "cancelled": 0,
        "failures_in_row": 0,
    },
    "source": "api",
    "read_only": False,
    "rev": 32,
    "created_at": _MADE,
    "updated_at": _SLOT,
    "ended_at": None,
}
_INSTANCE: Final[dict[str, Any]] = {
    "task_id": TASK_ID,
    "task_def_id": DEFINITION_ID,
    "status": "completed",
    "trigger": "schedule",
    "scheduled_at": _SLOT,
    "created_at": _SLOT,
    "started_at": "2030-01-31T07:00:00.018Z",
    "finished_at": _ENDED,
    "attempt": 1,
    "result": {"sent": True},
    "error": None,
}
_COMING: Final = {"scheduled_at": "2030-02-01T07:00:00.000Z", "due_at": "2030-02-01T07:00:00.000Z"}


class DefinitionRecord(BaseModel):
    """The present state of a definition."""

    model_config = _examples(_DEFINITION)

    task_def_id: str
    name: str | None
    user_id: Annotated[int | str | None, Field(description="In the form in which it was sent: a number or a text.")]
    content: str
    status: DefinitionStatus
    trigger_type: TaskTriggerType
    trigger_args: dict[str, Any]
    group: str
    task: Annotated[
        dict[str, Any] | None,
        Field(description="The task that runs; `null` means that a worker of the group takes the content."),
    ]
    next_run_at: Annotated[str | None, Field(description="The next firing, with its jitter; `null` while paused.")]
    last_run_at: Annotated[str | None, Field(description="The last slot that fired.")]
    last_task_id: str | None
    last_outcome: LastOutcome | None
    misfire: Misfire
    misfire_grace: Annotated[float, Field(description="Seconds.")]
    catchup_window: Annotated[float, Field(description="Seconds.")]
    overlap: Overlap
    start_at: str | None
    end_at: str | None
    max_runs: int | None
    jitter: Annotated[float, Field(description="Seconds.")]
    pause_on_failure: int | None
    note: str | None
    metadata: dict[str, Any]
    counters: DefinitionCounters
    source: Annotated[
        str,
        Field(
            description="`api`, `code` for `@task(schedule=...)`, `celery` for an entry of `beat_schedule`, or where "
            "it was imported from."
        ),
    ]
    read_only: Annotated[bool, Field(description="`true`: edit it in the code, or in Celery's configuration.")]
    rev: Annotated[int, Field(description="The number of its changes; see `PATCH`.")]
    created_at: str
    updated_at: str
    ended_at: str | None
    warnings: Warnings = None


class ComingFiring(BaseModel):
    """A future firing."""

    model_config = _examples(_COMING)

    scheduled_at: Annotated[str, Field(description="The slot.")]
    due_at: Annotated[str, Field(description="When it fires, with its jitter.")]


class Instance(BaseModel):
    """One run of a definition."""

    model_config = _examples(_INSTANCE)

    task_id: str
    task_def_id: str
    status: WireStatus
    trigger: Trigger
    scheduled_at: Annotated[str | None, Field(description="Its slot.")]
    created_at: str
    started_at: str | None
    finished_at: str | None
    attempt: int
    result: Any
    error: TaskError | None


class DefinitionDetail(DefinitionRecord):
    """A definition with its next firings and its last instances."""

    model_config = _examples({**_DEFINITION, "next_runs": [_COMING], "last_runs": [_INSTANCE]})

    next_runs: Annotated[
        list[ComingFiring], Field(description="The next ten firings; none while the definition is paused.")
    ]
    last_runs: Annotated[list[Instance], Field(description="The last ten instances.")]


class LastRun(BaseModel):
    """A run of a definition, in short."""

    task_id: str
    status: WireStatus
    created_at: str
    started_at: str | None
    finished_at: str | None


class ListedDefinition(DefinitionRecord):
    """A definition in a list, with the runs that the list was asked for."""

    next_runs: Annotated[
        list[ComingFiring] | None, Field(description="With `next_runs`: its next firings; none while it is paused.")
    ] = None
    last_runs: Annotated[
        list[LastRun] | None,
        Field(description="With `last_runs`: its last instances that the history has, the newest first."),
    ] = None


class DefinitionPage(BaseModel):
    """A page of definitions, the newest first."""

    model_config = _examples({"items": [_DEFINITION], "next_cursor": None})

    items: list[ListedDefinition]
    next_cursor: Annotated[str | None, Field(description="The cursor of the next page; `null` at the end.")]


class InstancePage(BaseModel):
    """A page of instances, the newest first."""

    model_config = _examples({"items": [_INSTANCE], "next_cursor": None})

    items: list[Instance]
    next_cursor: Annotated[str | None, Field(description="The cursor of the next page; `null` at the end.")]


class Preview(BaseModel):
    """The next firings."""

    model_config = _examples({"items": [_COMING]})

    items: list[ComingFiring]


class DefinitionChange(BaseModel):
    """Who did what to a definition."""

    at: str
    action: str
    actor: str
    note: str | None
    changed: Annotated[dict[str, Any], Field(description="For an edit: field → [before, after].")]


class DefinitionChanges(BaseModel):
    """A page of changes, the newest first."""

    model_config = _examples(
        {
            "items": [
                {
                    "at": _SLOT,
                    "action": "edit",
                    "actor": "user:7",
                    "note": None,
                    "changed": {"overlap": ["allow", "skip"]},
                }
            ],
            "next_cursor": None,
        }
    )

    items: list[DefinitionChange]
    next_cursor: Annotated[str | None, Field(description="The cursor of the next page; `null` at the end.")]


_FIRING: Final[dict[str, Any]] = {
    "task_id": TASK_ID,
    "task_def_id": DEFINITION_ID,
    "status": "pending",
    "trigger": "manual",
    "scheduled_at": _SLOT,
}


class TriggeredInstance(BaseModel):
    """An instance that was just created; its task has more."""

    model_config = _examples(_FIRING)

    task_id: str
    task_def_id: str
    status: Literal["pending"]
    trigger: Trigger
    scheduled_at: str


class BackfilledInstance(BaseModel):
    """An instance of a past slot."""

    task_id: str
    task_def_id: str
    status: Annotated[FiringState, Field(description="`buffered` waits for an earlier instance; `open` was submitted.")]
    trigger: Trigger
    scheduled_at: str


class Backfill(BaseModel):
    """The instances of a backfill, in the order of their slots."""

    model_config = _examples({"items": [{**_FIRING, "status": "planned", "trigger": "backfill"}]})

    items: list[BackfilledInstance]
