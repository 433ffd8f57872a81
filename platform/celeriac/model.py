"""The nouns of Celeriac as immutable data: what a task is, what happened to it, who runs it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from celeriac.limits.rules import Limits


class Status(StrEnum):
    """Where a task is in its life cycle; stored as written here.

    ``SCHEDULED → PENDING → PROCESSING → COMPLETED | FAILED | CANCELLED``, with ``RETRYING`` between
    a failed attempt and the next. The last three are final.
    """

    SCHEDULED = "SCHEDULED"
    PENDING = "PENDING"
    PROCESSING = "PROCESSING"
    RETRYING = "RETRYING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def final(self) -> bool:
        """Whether the task has ended: it stays so unless a user retries it."""
        return self in _FINAL

    @property
    def wire(self) -> str:
        """The lower-case spelling of the v1 API."""
        return self.value.lower()


#: The first and the last moment that anything may have (milliseconds since the epoch): from 1970 to the end of 2999.
FIRST_MS: Final = 0
LAST_MS: Final = 32_503_679_999_999
#: The id of an entry of a stream.
_STREAM_ID: Final = re.compile(r"([0-9]{1,20})-([0-9]{1,20})")
_FINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})


class Delivery(StrEnum):
    """How a group's executors hear of a waiting task."""

    CELERY = ""  #: a Celery message in the Redis list of the group, written with the record
    BROKER = "broker"  #: a Celery message through another broker, published after the record
    EXTERNAL = "external"  #: the id in the list `task:pending`, for a foreign program
    REMOTE = "remote"  #: no message: gateways claim for remote workers, from an index of the group's own


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an attempt is. `percentage` is 0 to 100, `timestamp_ms` milliseconds since the epoch."""

    percentage: float = 0.0
    stage: str = ""
    message: str = ""
    timestamp_ms: int = 0


def percentage_of(value: float) -> float:
    """Return a percentage within 0 and 100; NaN is 0."""
    return float(min(max(0.0, value), 100.0))


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed. `code` is a stable lower-case name, `message` is for people."""

    code: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class RemoteOrders:
    """How a caller that waits wants its remote task handled."""

    #: It fails as timed out when it has not ended by then, waiting included; counts from the server's now.
    deadline_in_ms: int | None = None
    #: Refuse it where no worker is connected to its group.
    needs_worker: bool = False
    #: Wake no gateway: the submitting process claims in the same breath.
    quiet: bool = False
    #: Channel to which parts of the result and the end are published.
    reply_to: str | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """What a front door hands to the life cycle, already validated.

    `payload` is a JSON object as text. Times: `delay_ms` and `expires_in_ms` count from the server's now, `run_at_ms`
    and `expires_at_ms` are milliseconds since the epoch; a relative and an absolute one exclude each other.
    """

    task_id: str
    type: str
    payload: str = "{}"
    group: str = "default"
    priority: int = 0
    max_retries: int = 3
    delay_ms: int | None = None
    run_at_ms: int | None = None
    expires_in_ms: int | None = None
    expires_at_ms: int | None = None
    timeout_ms: int | None = None
    user_id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    #: Words to find the task by.
    tags: Sequence[str] = ()
    #: The definition that made it.
    definition_id: str | None = None
    #: How long the record stays in the store after the task's end; None is the settings' time.
    retention_ms: int | None = None
    idempotency_key: str | None = None
    delivery: Delivery = Delivery.CELERY
    #: Only for remote tasks.
    remote: RemoteOrders | None = None
    #: Dotted paths of the payload's secrets: only the worker is shown what lies there (see `secret_fields.py`).
    secret_fields: Sequence[str] = ()
    #: The message in which plain Celery published the task (JSON, in kombu's envelope); it is sent whenever it is due.
    celery_message: str | None = None
    #: The file that was handed over with the task, and what its owner called it.
    original_file_path: str | None = None
    original_file_name: str | None = None
    #: Only for an instance of a definition: what made it (`schedule`, `manual`, `backfill`), and the moment that it is
    #: for (milliseconds since the epoch).
    trigger: str | None = None
    scheduled_at_ms: int | None = None
    #: Who counts as the maker of the group if it is a new one; None if nobody does. The record does not keep it.
    maker: str | None = None


@dataclass(frozen=True, slots=True)
class Amendment:
    """What a running attempt changes for the attempts after it (Celery's `retry()`).

    `call` is the task as a new submission would describe it; its id, type and owner do not change.
    """

    call: Submission
    attempts_allowed: int


@dataclass(frozen=True, slots=True)
class Submitted:
    """The answer to a submission; `created` is false if the idempotency key or the id was known already."""

    task_id: str
    status: Status
    created: bool


@dataclass(frozen=True, slots=True)
class Task:
    """A task's record as it was at one moment. `payload` and `result` are decoded JSON."""

    task_id: str
    type: str
    group: str
    status: Status
    payload: Any
    progress: Progress
    result: Any
    error: Failure | None
    attempt: int
    max_retries: int
    priority: int
    user_id: str | None
    metadata: dict[str, Any]
    worker: str | None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    run_at: datetime | None
    expires_at: datetime | None
    cancel_requested: bool
    #: Fields that a foreign program added to the record.
    extra: dict[str, str] = field(default_factory=dict)
    #: All that follows is as `Submission` has it.
    tags: tuple[str, ...] = ()
    definition_id: str | None = None
    trigger: str | None = None
    #: The moment that an instance of a definition is for.
    scheduled_at: datetime | None = None
    #: One of `Delivery`, or `none` for a task that a program runs by itself.
    delivery: str = ""
    #: Whether a program runs it by itself and only reports it (see `store/notified.py`).
    notified: bool = False
    timeout_ms: int | None = None
    retention_ms: int | None = None
    secret_fields: tuple[str, ...] = ()
    celery_message: str | None = None
    original_file_path: str | None = None
    original_file_name: str | None = None
    #: Where the result is, if it is a file.
    result_file_path: str | None = None
    #: What of the record cannot be read, in words for people; None for a whole one. Such a field has its default.
    damage: str | None = None


@dataclass(frozen=True, slots=True)
class KeptTask:
    """A task from history: as readers see it, and as the record with which the store could run it again.

    `omitted` names the fields that a list leaves out because of their size (`payload`, `result`).
    """

    task: Task
    rev: int
    record: dict[str, str]
    omitted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run one attempt of a task. `fence` proves it in every later call."""

    task_id: str
    fence: str
    type: str
    group: str
    payload: str
    attempt: int
    max_retries: int
    attempts_allowed: int
    user_id: str | None
    metadata: dict[str, Any]
    timeout_ms: int | None = None
    #: The file that was handed over with the task.
    original_file_path: str | None = None

    @property
    def retries(self) -> int:
        """Attempts before this one since the last grant; a retry by hand grants all attempts again."""
        return self.max_retries - (self.attempts_allowed - self.attempt)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a claim was refused: `reason` is a status, `unknown`, `expired`, `paused`, `limited` or `remote`."""

    task_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a task's stream. `id` is the stream id (`ms-seq`), `kind` is `progress` or `status`."""

    id: str
    kind: str
    fields: dict[str, str]


class LeaseState(StrEnum):
    """What a renewal says of one running task."""

    HELD = "held"  #: renewed
    CANCEL = "cancel"  #: renewed, and a cancel was requested
    LOST = "lost"  #: no longer this claim's: stop working on it


@dataclass(frozen=True, slots=True)
class Pause:
    """Since when a group is paused, with the operator's note."""

    at: datetime
    note: str = ""


class LogLevel(StrEnum):
    """How severe a log line is, the least severe first."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


_SEVERITIES: Final = {level.value: rank for rank, level in enumerate(LogLevel)}


def severity(level: str) -> int:
    """Return a number that grows with the severity of a level; an unknown one counts as `info`."""
    return _SEVERITIES.get(level, _SEVERITIES["info"])


#: The message of the line that says why an attempt failed; also in `store/lua/shared/events.lua` and the workers' SDKs.
ATTEMPT_FAILED: Final = "attempt failed"


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a task's log. `level` is one of `LogLevel`."""

    level: str
    message: str
    #: Further values by name; a value that is not JSON is written as its text.
    data: Mapping[str, Any] = field(default_factory=dict)
    #: When it was written, by the worker's clock (milliseconds since the epoch).
    timestamp_ms: int = 0
    #: The attempt that wrote it, and its stream id (`ms-seq`), which orders all lines; once it is stored.
    attempt: int = 0
    id: str = ""


@dataclass(frozen=True, slots=True)
class GroupStats:
    """A group as it is now: waiting and running tasks, and the workers that serve it."""

    name: str
    waiting: int
    running: int
    workers: int
    #: Waiting tasks of a kind that none of its workers takes: they wait until such a worker connects.
    unserved: int = 0
    #: None while it is not paused.
    pause: Pause | None = None
    #: None if it has no limits.
    limits: Limits | None = None


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker process that renewed its presence lately."""

    worker_id: str
    kind: str
    host: str
    pid: int
    groups: tuple[str, ...]
    concurrency: int
    running: int
    started_at: datetime
    seen_at: datetime
    #: Only for remote workers: name, address, models that it serves, tasks that it runs.
    name: str = ""
    address: str = ""
    models: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    #: Whether it serves all groups. `groups` are then those that it waits for at present.
    follows: bool = False


def stream_position(stream_id: str) -> tuple[int, int] | None:
    """Return a stream id (`ms-seq`) as numbers that can be compared, or None for any other text."""
    match = _STREAM_ID.fullmatch(stream_id)
    if match is None:
        return None
    ms, seq = int(match[1]), int(match[2])
    return (ms, seq) if ms < 2**64 and seq < 2**64 else None


def utc_from_ms(ms: float) -> datetime:
    """Return the aware UTC moment `ms` milliseconds after the epoch, or the nearest one from 1970 to 2999.

    NaN is the first moment. This raises nothing, so that a list can show a record whatever moment it holds.
    """
    return datetime.fromtimestamp(min(max(FIRST_MS, ms), LAST_MS) / 1000, tz=UTC)


def ms_from_utc(moment: datetime) -> int:
    """Return milliseconds since the epoch; `moment` must be aware."""
    if moment.tzinfo is None:
        raise ValueError("a naive datetime has no place on the time line: give it a time zone")
    return round(moment.timestamp() * 1000)


def rfc3339(moment: datetime) -> str:
    """Write `moment` in RFC 3339 with milliseconds and `Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
