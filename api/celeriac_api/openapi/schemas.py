"""The answers, for OpenAPI. They are written directly from the records of the core."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from celeriac.tasks.request import BatchItem
from celeriac_api.openapi.problem_examples import FILE_ID
from celeriac_api.openapi.problem_examples import TASK_ID as _ID

_THEN = "2030-01-31T08:00:00.000Z"
_THEN_MS = 1896076800000

WireStatus = Literal["waiting", "scheduled", "pending", "processing", "retrying", "completed", "failed", "cancelled"]


def _examples(*examples: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": list(examples)})


_WAIT: dict[str, Any] = {
    "task_id": _ID,
    "type": "refund",
    "signal": "approval",
    "title": "Refund 120 €",
    "schema": {"type": "boolean"},
    "since": _THEN,
    "expires_at": None,
}
_STEP: dict[str, Any] = {"name": "charge", "started_at": _THEN, "finished_at": _THEN, "size": 4, "result": 4711}


class WaitReason(BaseModel):
    """One thing that a task waits for, with the facts that belong to its code."""

    model_config = ConfigDict(extra="allow")

    code: Annotated[
        str,
        Field(
            description="`scheduled`, `retry` and `sleeping` with `until`; `position` with `group`, `position` (1 is "
            "next) and `ahead`; `limit` with `rule`, `key`, and `running` and `max_running`, or `rate` and `until`; "
            "`paused` with `group`, `note` and `since`; `no_worker` with `group` and `type`; `dependency` with "
            "`task`, `node` and `status`; `signal` with `signal`, `title`, `since`, `expires_at` and `users`. "
            "There will be more."
        ),
    ]
    text: Annotated[str, Field(description="The same, for people.")]


class TaskStatus(BaseModel):
    """A task and its status."""

    model_config = _examples({"task_id": _ID, "status": "pending"})

    task_id: str
    status: WireStatus


#: What is said of a task that no worker takes, in the form of a reason why it waits.
Warnings = Annotated[
    list[WaitReason] | None,
    Field(description="Only there if no living worker takes such tasks, as it is now: `no_worker`."),
]


class AcceptedTask(TaskStatus):
    """A task that was submitted, and its status."""

    warnings: Warnings = None


class TaskError(BaseModel):
    """Why a task, or its last attempt, failed."""

    code: Annotated[str, Field(description="A stable lower-case name.")]
    message: str
    retryable: bool


DEDUPLICATED = Field(description="True if no task was made, because this one holds the key of `once`; else absent.")
DEBOUNCED = Field(description="True if no task was made, because the call moved this one; else absent.")


class KnownTask(AcceptedTask):
    """A task that was there before the submission that is answered with it."""

    model_config = _examples({"task_id": _ID, "status": "pending", "deduplicated": True})

    deduplicated: Annotated[bool | None, DEDUPLICATED] = None
    debounced: Annotated[bool | None, DEBOUNCED] = None
    result: Annotated[Any, Field(description="With `wait`: what the task returned; else absent.")] = None
    error: Annotated[TaskError | None, Field(description="With `wait`: why it failed; else absent.")] = None


class TaskOutcome(TaskStatus):
    """What a task has come to."""

    model_config = _examples({"task_id": _ID, "status": "completed", "result": {"counted": 5}, "error": None})

    result: Annotated[Any, Field(description="What the task returned; `null` until the task is completed.")]
    error: TaskError | None


class AwaitedTask(TaskOutcome):
    """A task that was submitted, and what it has come to."""

    warnings: Warnings = None


class ProgressInfo(BaseModel):
    """The progress of a task."""

    percentage: Annotated[float, Field(ge=0, le=100)]
    stage: str
    message: str
    timestamp_ms: Annotated[int, Field(description="Milliseconds since the epoch.")]


class DependencyInfo(BaseModel):
    """A task that another one waits for, and the end of it that is waited for."""

    task: str
    when: Literal["completed", "failed", "ended"]


class AwaitedSignal(BaseModel):
    """A signal that a task waits for."""

    signal: str
    title: Annotated[str | None, Field(description="What is asked, for people.")]
    schema_: Annotated[
        dict[str, Any] | bool | None, Field(alias="schema", description="The JSON Schema that its value has to fit.")
    ]
    expires_at: Annotated[str | None, Field(description="When the task goes on without it.")]


class AwaitedTime(BaseModel):
    """A moment that a task waits for."""

    until: str


_RUNNING: dict[str, Any] = {
    "task_id": _ID,
    "type": "grpc_task",
    "queue": "default",
    "status": "processing",
    "progress": {"percentage": 40, "stage": "counting", "message": "2 of 5", "timestamp_ms": _THEN_MS},
    "error": None,
    "attempt": 1,
    "max_retries": 3,
    "user_id": None,
    "worker": "worker-1@host",
    "created_at": _THEN,
    "started_at": _THEN,
    "finished_at": None,
    "updated_at": _THEN,
    "priority": 0,
    "tags": ["nightly"],
    "run_at": None,
    "expires_at": None,
    "cancel_requested": False,
    "workflow_id": None,
    "node": None,
    "key": None,
    "waiting_for": None,
    "title": "service demo · method count",
}
_RECORD: dict[str, Any] = {
    **_RUNNING,
    "payload": {"service": "demo", "method": "count", "data": {"seconds": 5}},
    "result": None,
    "metadata": {},
    "depends_on": None,
}


class RunningTask(BaseModel):
    """A task's record without payload, result, metadata and `depends_on`."""

    model_config = _examples(_RUNNING)

    task_id: str
    type: str
    queue: str
    status: WireStatus
    progress: ProgressInfo
    error: TaskError | None
    attempt: Annotated[int, Field(description="0 until the first attempt began.")]
    max_retries: int
    user_id: str | None
    worker: str | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    updated_at: str
    priority: int
    tags: list[str]
    run_at: str | None
    expires_at: str | None
    cancel_requested: bool
    workflow_id: Annotated[str | None, Field(description="The workflow that it is a part of.")]
    node: Annotated[str | None, Field(description="Its name in the workflow.")]
    key: Annotated[str | None, Field(description="The customer, tenant or resource that it is for.")]
    waiting_for: Annotated[
        list[DependencyInfo | AwaitedSignal | AwaitedTime] | None,
        Field(description="What a `waiting` task still waits for; `null` for any other."),
    ]
    title: Annotated[
        str | None,
        Field(description="What lists call it, made of its payload; `null` if that has nothing short, or is long."),
    ]
    damaged: Annotated[
        str | None,
        Field(description="Only of a record that cannot be read as a whole: why. Such a field has its default."),
    ] = None


class TaskRecord(RunningTask):
    """A task's record."""

    model_config = _examples(_RECORD)

    payload: Annotated[Any, Field(description="The input of the task; its shape depends on the type.")]
    result: Annotated[Any, Field(description="What the task returned; `null` until the task is completed.")]
    metadata: dict[str, Any]
    depends_on: Annotated[
        list[DependencyInfo] | None,
        Field(description="The tasks that it was to start after, whether they have ended or not; `null` without any."),
    ]


class TaskWhy(BaseModel):
    """Why a task waits."""

    model_config = _examples(
        {
            "status": "pending",
            "reasons": [
                {
                    "code": "position",
                    "text": "it is the next one in the group default",
                    "group": "default",
                    "position": 1,
                    "ahead": 0,
                }
            ],
        }
    )

    status: str
    reasons: Annotated[list[WaitReason], Field(description="What holds it up first; empty if it runs or has ended.")]
    warnings: Warnings = None


class ListedTask(TaskRecord):
    """A task's record in a list."""

    model_config = _examples({**_RECORD, "omitted": []})

    omitted: Annotated[list[str], Field(description="Which of `payload` and `result` is left out because of its size.")]


class RunningTasks(BaseModel):
    """The running tasks, the last started first."""

    model_config = _examples({"tasks": [_RUNNING], "left_out": 0})

    tasks: list[RunningTask]
    left_out: Annotated[
        int, Field(description="How many tasks within `limit` are not listed because the answer would be too long.")
    ]


class TaskPage(BaseModel):
    """A page of tasks."""

    model_config = _examples({"items": [{**_RECORD, "omitted": []}], "next_cursor": None, "behind_ms": 120})

    items: list[ListedTask]
    next_cursor: Annotated[str | None, Field(description="The cursor of the next page; `null` at the end.")]
    behind_ms: Annotated[
        int | None,
        Field(description="On a first page: how old the oldest event is that the history does not have yet."),
    ] = None


_EVENT: dict[str, Any] = {
    "id": f"{_THEN_MS}-0",
    "kind": "status",
    "at": _THEN,
    "task_id": _ID,
    "status": "processing",
    "attempt": 1,
    "worker": "worker-1@host",
    "error": None,
    "timestamp_ms": _THEN_MS,
}


class TaskEvent(BaseModel):
    """Something that happened to a task. `kind` decides which other fields there are."""

    model_config = _examples(_EVENT)

    id: Annotated[str, Field(description="The id of the event, also in the stream.")]
    kind: Literal["status", "progress", "deduplicated"]
    at: str
    task_id: str
    timestamp_ms: int
    status: WireStatus | None = None
    attempt: int | None = None
    worker: str | None = None
    replaced_by: Annotated[
        str | None,
        Field(description="What took the place of a plain Celery task: a type, or a canvas such as a chain."),
    ] = None
    error: TaskError | None = None
    on_conflict: Annotated[
        str | None, Field(description="What the conflict did to another submission, in a `deduplicated` event.")
    ] = None
    next: Annotated[str | None, Field(description="The task that the other submission made, if it made one.")] = None
    percentage: float | None = None
    stage: str | None = None
    message: str | None = None


class TaskEvents(BaseModel):
    """A page of events of a task, in order."""

    model_config = _examples({"items": [_EVENT], "next_cursor": None})

    items: list[TaskEvent]
    next_cursor: str | None


_LINE: dict[str, Any] = {
    "id": f"{_THEN_MS}-0",
    "at": _THEN,
    "attempt": 1,
    "level": "info",
    "message": "page written",
    "data": {"page": 3},
}


class TaskLogLine(BaseModel):
    """A line of a task's log."""

    model_config = _examples(_LINE)

    id: Annotated[str, Field(description="Orders all lines of the task; the line has the same id in the stream.")]
    at: Annotated[str, Field(description="When it was written, by the worker's clock.")]
    attempt: int
    level: str
    message: str
    data: Annotated[
        dict[str, Any], Field(description="Further values of the line; `traceback` belongs to an exception.")
    ]


class TaskLog(BaseModel):
    """A page of lines of a task's log, in order."""

    model_config = _examples({"items": [_LINE], "next_cursor": None})

    items: list[TaskLogLine]
    next_cursor: str | None


class SignalReceived(BaseModel):
    """A signal that a task has received."""

    model_config = _examples({"task_id": _ID, "signal": "approval", "received_at": _THEN})

    task_id: str
    signal: str
    received_at: str


class WaitRecord(BaseModel):
    """A signal that a task waits for."""

    model_config = _examples(_WAIT)

    task_id: str
    type: str
    signal: str
    title: Annotated[str | None, Field(description="The question, in words.")]
    schema_: Annotated[
        dict[str, Any] | bool | None,
        Field(alias="schema", description="The JSON schema that the value has to fit; `null`: any value fits."),
    ]
    since: str
    expires_at: Annotated[str | None, Field(description="When the task stops to wait; `null`: never.")]


class WaitPage(BaseModel):
    """A page of waits, the oldest first."""

    model_config = _examples({"items": [_WAIT], "next_cursor": None})

    items: list[WaitRecord]
    next_cursor: str | None


class StepRecord(BaseModel):
    """A step whose result is stored."""

    model_config = _examples(_STEP)

    name: str
    started_at: str
    finished_at: str
    size: Annotated[int, Field(description="Bytes of the result as JSON.")]
    result: Any


class StepPage(BaseModel):
    """A page of the steps of a task, in the order in which they ended."""

    model_config = _examples({"items": [_STEP], "next_cursor": None})

    items: list[StepRecord]
    next_cursor: str | None


class DurationStats(BaseModel):
    """The distribution of durations, in milliseconds."""

    avg_ms: float
    p50_ms: float
    p95_ms: float
    max_ms: float


class Counts(BaseModel):
    """The counts and durations of a span of time."""

    submitted: int
    completed: int
    failed: int
    cancelled: int
    run: Annotated[
        DurationStats | None, Field(description="The durations of the last attempts of the tasks that ended.")
    ]
    wait: Annotated[DurationStats | None, Field(description="From the time at which a task could start until it did.")]


class ChartBucket(Counts):
    """One bucket."""

    at: str


class ChartPart(BaseModel):
    """The tasks of one type or group that ended."""

    name: str
    completed: int
    failed: int
    cancelled: int
    run: DurationStats | None
    wait: DurationStats | None
    counts: Annotated[list[int], Field(description="How many ended in each bucket.")]


class SlowTaskInfo(BaseModel):
    """A task that ended, and how long its last attempt ran."""

    task_id: str
    type: str
    status: str
    run_ms: int
    finished_at: str


_COUNTS: dict[str, Any] = {
    "submitted": 120,
    "completed": 117,
    "failed": 2,
    "cancelled": 1,
    "run": {"avg_ms": 812.5, "p50_ms": 640.0, "p95_ms": 2100.0, "max_ms": 5230.0},
    "wait": {"avg_ms": 14.0, "p50_ms": 9.1, "p95_ms": 44.0, "max_ms": 310.0},
}


class Chart(BaseModel):
    """Counts and durations over time, with a bucket for each span, also if nothing happened in it."""

    model_config = _examples(
        {
            "from": "2030-01-31T08:00:00.000Z",
            "to": "2030-01-31T09:00:00.000Z",
            "bucket": "1h",
            "total": _COUNTS,
            "buckets": [{"at": "2030-01-31T08:00:00.000Z", **_COUNTS}],
        }
    )

    start: Annotated[str, Field(alias="from")]
    to: str
    bucket: str
    total: Counts
    buckets: list[ChartBucket]
    by: Annotated[
        dict[str, list[ChartPart]] | None, Field(description="With `by`: by `type` or `queue`, the largest first.")
    ] = None
    slowest: Annotated[list[SlowTaskInfo] | None, Field(description="With `slowest`: the longest first.")] = None


class TaskCounts(BaseModel):
    """How many tasks match, by status."""

    model_config = _examples(
        {
            "counts": {
                "pending": 12,
                "scheduled": 0,
                "waiting": 1,
                "processing": 4,
                "retrying": 0,
                "completed": 20000,
                "failed": 17,
                "cancelled": 0,
            },
            "total": 20034,
            "more": ["completed"],
            "behind_ms": 0,
        }
    )

    counts: dict[str, int]
    total: Annotated[int, Field(description="Their sum.")]
    more: Annotated[
        list[str], Field(description="The statuses with more tasks than were counted (setting `pages.counted_tasks`).")
    ]
    behind_ms: Annotated[
        int | None, Field(description="How old the oldest event is that the history does not have yet.")
    ] = None


class HistogramBucket(BaseModel):
    """One bucket."""

    at: Annotated[str, Field(description="Its beginning.")]
    counts: Annotated[dict[str, int], Field(description="The tasks that were created in it, by their status now.")]


class TaskHistogram(BaseModel):
    """When the tasks that match were created."""

    model_config = _examples(
        {
            "from": "2030-01-31T08:00:00.000Z",
            "to": "2030-01-31T08:10:00.000Z",
            "bucket_ms": 300000,
            "buckets": [
                {"at": "2030-01-31T08:00:00.000Z", "counts": {"completed": 117, "failed": 2}},
                {"at": "2030-01-31T08:05:00.000Z", "counts": {}},
            ],
            "more": False,
        }
    )

    start: Annotated[str, Field(alias="from")]
    to: str
    bucket_ms: int
    buckets: list[HistogramBucket]
    more: Annotated[
        bool,
        Field(description="Whether only the newest tasks were counted (setting `pages.counted_tasks`); see `from`."),
    ]


class ErrorTotal(BaseModel):
    """All groups that match, also those of other pages."""

    groups: int
    failures: int
    dead: int


class ErrorGroupInfo(BaseModel):
    """Failures that are alike: one type, one code, one message apart from the values that it names."""

    error_group: str
    type: str
    code: str
    message: Annotated[str, Field(description="With `<n>`, `<id>`, `<value>`, … in place of values.")]
    failures: Annotated[int, Field(description="Tasks whose last failure for good was in the span of time.")]
    dead: Annotated[int, Field(description="How many of them are failed now. The others were retried.")]
    first_seen: Annotated[str, Field(description="The first failure that is known, also before the span of time.")]
    last_seen: str
    last_task_id: Annotated[str | None, Field(description="An example: the task that failed last, and still is.")]
    counts: Annotated[list[int], Field(description="Failures in each bucket from `from` on.")]


class ErrorGroups(BaseModel):
    """Failures for good, grouped."""

    model_config = _examples(
        {
            "from": "2030-01-31T08:00:00.000Z",
            "to": "2030-01-31T11:00:00.000Z",
            "bucket": "1h",
            "total": {"groups": 1, "failures": 42, "dead": 40},
            "items": [
                {
                    "error_group": "5f2c9a01d4e7b386",
                    "type": "thumbnail",
                    "code": "handler_error",
                    "message": "cannot identify image file <path>",
                    "failures": 42,
                    "dead": 40,
                    "first_seen": "2030-01-29T17:02:11.120Z",
                    "last_seen": "2030-01-31T10:58:03.402Z",
                    "last_task_id": "8d5e8b0c-4f0e-4b1e-9d0c-0f7a4f1f2a3b",
                    "counts": [2, 30, 10],
                }
            ],
            "next_cursor": None,
        }
    )

    start: Annotated[str, Field(alias="from")]
    to: str
    bucket: str
    total: ErrorTotal
    items: list[ErrorGroupInfo]
    next_cursor: str | None


class BulkMatched(BaseModel):
    """How many tasks a bulk operation would change."""

    model_config = _examples({"matched": 42})

    matched: int


class TaskProgress(ProgressInfo):
    """The latest progress of a task, with its status."""

    model_config = _examples(
        {
            "task_id": _ID,
            "percentage": 40,
            "stage": "counting",
            "message": "2 of 5",
            "timestamp_ms": _THEN_MS,
            "status": "processing",
        }
    )

    task_id: str
    status: WireStatus


class GroupPause(BaseModel):
    """Since when a group is paused, and the note of the operator."""

    at: str
    note: str


class GroupLimits(BaseModel):
    """The limits of a group across all its workers, and since when it has them."""

    max_running: Annotated[int | None, Field(description="Tasks that run at once; `null` means any number.")]
    rate: Annotated[
        str | None,
        Field(
            description="Most starts within any second (`5/s`), minute (`100/m`), hour (`10/h`) or day (`1/d`), spread"
            " over it; `null` means any number."
        ),
    ]
    at: str
    note: str


_GROUP: dict[str, Any] = {
    "name": "default",
    "waiting": 12,
    "running": 4,
    "workers": 1,
    "unserved": 0,
    "max_queue_length": 100000,
    "paused": None,
    "limits": {"max_running": 5, "rate": "100/m", "at": _THEN, "note": "as agreed with the bank"},
}


class Group(BaseModel):
    """The present state of a worker group."""

    model_config = _examples(_GROUP)

    name: str
    waiting: Annotated[int, Field(description="Tasks that wait for a worker.")]
    running: int
    workers: Annotated[int, Field(description="Worker processes that serve the group.")]
    unserved: Annotated[int, Field(description="Waiting tasks whose type none of these workers knows.")]
    max_queue_length: Annotated[int, Field(description="With more waiting tasks than this, a submission is refused.")]
    paused: Annotated[GroupPause | None, Field(description="`null` if the group is not paused.")] = None
    limits: Annotated[GroupLimits | None, Field(description="`null` if the group has none.")] = None


class Groups(BaseModel):
    """All groups, by name."""

    model_config = _examples({"groups": [_GROUP]})

    groups: list[Group]
    left_out: Annotated[int, Field(description="Groups that the list does not show, if there are very many.")] = 0


_WORKER: dict[str, Any] = {
    "worker_id": "celery@host",
    "kind": "celery",
    "host": "host",
    "pid": 4711,
    "groups": ["default"],
    "concurrency": 100,
    "running": 1,
    "started_at": _THEN,
    "seen_at": _THEN,
    "name": "",
    "address": "",
    "models": [],
    "running_tasks": [_ID],
    "drainable": True,
    "drained": False,
    "ended_per_minute": 42.0,
    "memory_bytes": 152_043_520,
}


class Worker(BaseModel):
    """A worker process that reported recently."""

    model_config = _examples(_WORKER)

    worker_id: str
    kind: str
    host: str
    pid: int
    groups: list[str]
    concurrency: int
    running: int
    started_at: str
    seen_at: str
    #: Only remote workers have the following fields: name, address, models, and the tasks that they run.
    name: str
    address: str
    models: list[str]
    running_tasks: list[str]
    drainable: Annotated[bool, Field(description="Whether it can be told to take no more tasks.")]
    drained: Annotated[bool, Field(description="It takes no more tasks, because an operator says so.")]
    ended_per_minute: Annotated[
        float | None, Field(description="How many attempts ended per minute lately; `null` if unknown.")
    ]
    memory_bytes: Annotated[
        int | None, Field(description="Resident memory of its process and its children; `null` if unknown.")
    ]


class Workers(BaseModel):
    """All workers, by id."""

    model_config = _examples({"workers": [_WORKER]})

    workers: list[Worker]


_TASK_TYPE: dict[str, Any] = {
    "name": "thumbnail",
    "description": "Make a thumbnail of an image.",
    "queue": "media",
    "max_retries": 3,
    "timeout_s": 30,
    "payload_schema": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
}


class TaskTypeInfo(BaseModel):
    """A task type and the JSON schema of its payload."""

    model_config = _examples(_TASK_TYPE)

    name: str
    description: str
    queue: str
    max_retries: int
    timeout_s: float | None
    payload_schema: dict[str, Any]


class TaskTypes(BaseModel):
    """All task types, by name."""

    model_config = _examples({"task_types": [_TASK_TYPE]})

    task_types: list[TaskTypeInfo]


class TaskIds(BaseModel):
    """Ids of tasks, in order."""

    model_config = _examples({"task_ids": [_ID]})

    task_ids: list[str]


class Alive(BaseModel):
    """The process answers."""

    model_config = _examples({"alive": True, "version": "0.1.0"})

    alive: bool
    version: str


class Part(BaseModel):
    """One part of the installation."""

    ok: bool
    detail: str
    behind_events: Annotated[int | None, Field(description="For the ledger: events that are not recorded yet.")] = None
    behind_s: Annotated[
        float | None,
        Field(description="For the ledger: the age of the oldest event that is not recorded yet (seconds)."),
    ] = None


class Ready(BaseModel):
    """Whether all parts answer."""

    model_config = _examples({"ready": True, "parts": {"store": {"ok": True, "detail": "answered in 0.3 ms"}}})

    ready: bool
    parts: dict[str, Part]


class FieldProblem(BaseModel):
    """An invalid field."""

    field: Annotated[str, Field(description="A dotted path; empty for the whole document.")]
    message: str


class Problem(BaseModel):
    """An error (RFC 9457)."""

    model_config = _examples(
        {
            "type": "urn:celeriac:problem:task_not_found",
            "title": "Task not found",
            "status": 404,
            "detail": f"no task has the id '{_ID}', or its record has expired",
            "instance": f"/api/v1/tasks/{_ID}",
            "code": "task_not_found",
        }
    )

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: Annotated[str, Field(description="A stable name to program against.")]
    errors: Annotated[list[FieldProblem] | None, Field(description="The invalid fields, if there are any.")] = None


class BatchRequest(BaseModel):
    """Many tasks."""

    model_config = ConfigDict(extra="forbid")

    tasks: Annotated[list[BatchItem], Field(max_length=1000, description="At most `max_batch` (setting) tasks.")]
    then: Annotated[
        BatchItem | None,
        Field(description="Starts when all accepted tasks have ended, whatever their end. It has no `depends_on`."),
    ] = None


class BatchResult(BaseModel):
    """The outcome of one task of a batch."""

    status: Annotated[int, Field(description="The HTTP status that a single submission of this task would have.")]
    task_id: str | None = None
    task_status: WireStatus | None = None
    deduplicated: Annotated[bool | None, DEDUPLICATED] = None
    debounced: Annotated[bool | None, DEBOUNCED] = None
    error: Annotated[Problem | None, Field(description="Why the task was refused. Nothing of it was stored.")] = None


class BatchResults(BaseModel):
    """The outcomes of the tasks of a batch, in the same order."""

    model_config = _examples(
        {
            "results": [
                {"status": 202, "task_id": _ID, "task_status": "pending"},
                {
                    "status": 422,
                    "error": {
                        "type": "urn:celeriac:problem:invalid_submission",
                        "title": "Invalid submission",
                        "status": 422,
                        "detail": "payload.method: is required",
                        "instance": "/api/v1/tasks/batch#/tasks/1",
                        "code": "invalid_submission",
                        "errors": [{"field": "payload.method", "message": "is required"}],
                    },
                },
            ]
        }
    )

    results: list[BatchResult]
    then: Annotated[
        BatchResult | None,
        Field(description="The outcome of `then`, if the batch has it; `null` if no task was accepted."),
    ] = None
    warnings: Warnings = None


_FILE: dict[str, Any] = {
    "file_id": FILE_ID,
    "path": f"/srv/celeriac/uploads/{FILE_ID}.mp4",
    "size": 1048576,
    "sha256": "30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58",
}


class UploadedFile(BaseModel):
    """A stored file."""

    model_config = _examples(_FILE)

    file_id: str
    path: Annotated[str, Field(description="The path of the file on the server, until a task takes it over.")]
    size: Annotated[int, Field(description="Bytes.")]
    sha256: Annotated[str, Field(description="Lower-case hexadecimal.")]


class FileFacts(UploadedFile):
    """The facts of an upload."""

    model_config = _examples({**_FILE, "filename": "clip.mp4", "media_type": "video/mp4", "created_at": _THEN})

    filename: str
    media_type: str
    created_at: str


_USERS_TASK: dict[str, Any] = {
    "task_id": "interview_123",
    "status": "progress",
    "progress": 30,
    "message": "third question",
    "step": "Step 3/10",
    "timestamp": "2030-02-11T09:20:00.000Z",
    "result": None,
    "error": None,
}


class UsersTask(BaseModel):
    """A task as its user sees it."""

    task_id: str
    status: Literal["pending", "running", "progress", "completed", "failed", "cancelled"]
    progress: Annotated[float, Field(ge=0, le=100)]
    message: str
    step: str
    timestamp: str
    result: Annotated[Any, Field(description="Only of a completed task.")]
    error: Annotated[str | None, Field(description="Only of a failed task.")]
    error_type: Annotated[str | None, Field(description="Only of a failed task: a stable lower-case name.")] = None
    result_left_out: Annotated[bool, Field(description="`true`: the result is too large for a list.")] = False


class UsersTaskAnswer(BaseModel):
    """One task of a user."""

    model_config = _examples({"data": _USERS_TASK})

    data: UsersTask


class UsersTasks(BaseModel):
    """A user's tasks."""

    model_config = _examples({"data": [_USERS_TASK], "count": 1})

    data: list[UsersTask]
    count: Annotated[int, Field(description="The number of all tasks, also of those that are not listed.")]
