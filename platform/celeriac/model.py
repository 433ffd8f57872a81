"""The nouns of Celeriac as immutable data: what a task is, what happened to it, who runs it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

from celeriac.limits.rules import Limits


class Status(StrEnum):
    """Where a task is in its life cycle; equal to the text on the wire (`task.status == "completed"`).

    ``SCHEDULED → PENDING → PROCESSING → COMPLETED | FAILED | CANCELLED``, with ``RETRYING`` between
    a failed attempt and the next. The last three are final. A task that depends on others is ``WAITING`` before that,
    and so is one whose attempt is suspended until a signal, a time or the end of other tasks.
    """

    WAITING = "waiting"
    SCHEDULED = "scheduled"
    PENDING = "pending"
    PROCESSING = "processing"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether the task has ended: it stays so unless a user retries it."""
        return self in _FINAL

    @property
    def wire(self) -> str:
        """The spelling of the v1 API."""
        return self.value

    @property
    def stored(self) -> str:
        """The spelling of records and events in the store and in the history."""
        return self.name

    @classmethod
    def _missing_(cls, value: object) -> Status | None:
        return cls.__members__.get(value.upper()) if isinstance(value, str) else None


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


class When(StrEnum):
    """Which end of a task another one waits for. Expiry counts as a failure."""

    COMPLETED = "completed"
    FAILED = "failed"
    ENDED = "ended"


class OnUnmet(StrEnum):
    """What happens to a task when one that it depends on has ended otherwise than it was to."""

    CANCEL = "cancel"  #: it is cancelled
    FAIL = "fail"  #: it fails
    RUN = "run"  #: it starts all the same


class Until(StrEnum):
    """How long a task holds its key of `once`."""

    ENDED = "ended"  #: until it has ended
    STARTED = "started"  #: until its first attempt has started
    TIME = "time"  #: for a time from its submission, also after its end


class OnConflict(StrEnum):
    """What happens to a submission whose key of `once` another task holds."""

    RETURN = "return"  #: it is answered with that task
    REJECT = "reject"  #: it is refused
    REPLACE = "replace"  #: that task is cancelled, and this one starts after it has stopped
    LATEST = "latest"  #: it replaces the payload of that task, or of the one that waits for its end


@dataclass(frozen=True, slots=True)
class UniqueKey:
    """A key that one task of its type holds at a time; `user_id` is None if all users share the key."""

    key: str
    until: Until = Until.ENDED
    #: How long, with `Until.TIME` (milliseconds).
    for_ms: int | None = None
    on_conflict: OnConflict = OnConflict.RETURN
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class Debounce:
    """A key under which calls move one task of a type, until it has started; `user_id` as in `Once`."""

    key: str
    #: How long after each call it is due, and how long after the first at most (milliseconds).
    delay_ms: int
    max_delay_ms: int | None = None
    #: Whether the payload of the first call stays.
    keeps_first: bool = False
    user_id: str | None = None


class Dependency(NamedTuple):
    """A task that another one depends on (its parent), and the end that is waited for."""

    task_id: str
    when: When = When.COMPLETED


class NodeDependency(NamedTuple):
    """A node of a workflow that another one comes after, and the end that is waited for."""

    node: str
    when: When = When.COMPLETED


class AwaitedSignal(NamedTuple):
    """A signal that a task waits for, until `expires_at` if that is set. `schema` is a JSON Schema."""

    signal: str
    title: str | None = None
    schema: Mapping[str, Any] | bool | None = None
    expires_at: datetime | None = None


class AwaitedTime(NamedTuple):
    """A moment that a task waits for."""

    until: datetime


#: What a WAITING task waits for.
Awaited = Dependency | AwaitedSignal | AwaitedTime


class WaitForSignal(NamedTuple):
    """Wait until a signal of this name comes."""

    signal: str
    #: The name of this wait among those of the task, under which it is kept that its time was over. "" keeps nothing.
    wait: str = ""
    #: How long to wait from now on; None means for as long as it takes.
    timeout_ms: int | None = None
    title: str | None = None
    #: A JSON Schema that the value has to fit, as JSON.
    schema: str | None = None
    #: Who may signal besides the task's owner and admins.
    users: Sequence[str] = ()
    #: The number of a received value that does not fit: it is dropped.
    dropped: int | None = None

    def item(self) -> dict[str, Any]:
        """Return it as the scripts read it."""
        item = {**self._asdict(), "users": list(self.users)}
        return {name: value for name, value in item.items() if value not in (None, "", [])}


class WaitUntil(NamedTuple):
    """Wait until this moment (ms since the epoch)."""

    sleep: str
    until_ms: int

    def item(self) -> dict[str, Any]:
        """Return it as the scripts read it."""
        return self._asdict()


class WaitForTask(NamedTuple):
    """Wait until this task has ended, whatever its end. A task that is not in the store has ended."""

    task: str

    def item(self) -> dict[str, Any]:
        """Return it as the scripts read it."""
        return self._asdict()


Wait = WaitForSignal | WaitUntil | WaitForTask


class Noted(NamedTuple):
    """Something that a task keeps. `number` counts what it keeps; times are milliseconds since the epoch."""

    number: int
    began_ms: int
    noted_ms: int
    #: The result of a step and the value of a signal as JSON, the id of a child, when a sleep is over (ms), or "".
    value: str


class Kept(NamedTuple):
    """All that a task keeps, read at one moment of the store's clock."""

    #: By kind and name: `step:NAME`, `sleep:NAME`, `child:NAME`, `wait:NAME` (one whose time was over).
    steps: Mapping[str, Noted]
    #: By name.
    signals: Mapping[str, Noted]
    now_ms: int


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


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOrders:
    """How a submission becomes a node of a workflow, beyond `workflow_id` and `node`.

    A workflow that the store does not have begins with its first node.
    """

    #: The task that spawns it; `workflow_id` is None then. It belongs to the workflow of that task, and its node is
    #: called `PARENT/NODE`, PARENT being the node of that task. If that task is alone, a workflow begins with it, which
    #: has the id of the task; the task's node is its type then.
    spawned_by: str | None = None
    #: A name that is taken gets `#2`, `#3` and so on; otherwise it is refused (`NodeExistsError`).
    numbered: bool = False
    #: The nodes that it comes after, for people. None means: the nodes of `depends_on`.
    after: Sequence[NodeDependency] | None = None
    #: The name of a workflow that begins with it; None means: its type.
    workflow_name: str | None = None
    #: Whether it is stored without being a node if it cannot be one; otherwise it is refused.
    optional: bool = False
    #: The task at whose end it is published; `workflow_id` is None then. It belongs to the workflow of that task, and
    #: comes after it. If that task is alone, it is not a node.
    follows: str | None = None
    #: Which end of that task it comes after.
    when: When = When.COMPLETED
    #: The group of Celery's that it belongs to, and the one whose members it comes after too.
    in_group: str | None = None
    after_group: str | None = None
    #: It cannot come after this task any more, which has ended with this status: it ends at once (`dependency_failed`).
    unmet: tuple[str, Status] | None = None
    #: How many nodes that are accepted with it depend on it.
    held: int = 0


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
    #: The workflow that it is a part of, and its name there. `node` means nothing without `workflow_id`.
    workflow_id: str | None = None
    node: str | None = None
    as_node: NodeOrders | None = None
    #: It starts after these; `on_unmet` is None where that is `cancel`, the default.
    depends_on: Sequence[Dependency] = ()
    on_unmet: OnUnmet | None = None
    #: The user whose tasks it may depend on; None may depend on all.
    parents_of: str | None = None
    #: How long the record stays in the store after the task's end; None is the settings' time.
    retention_ms: int | None = None
    idempotency_key: str | None = None
    delivery: Delivery = Delivery.CELERY
    #: Only for remote tasks.
    remote: RemoteOrders | None = None
    #: Channel to which the end is published, for a caller that waits.
    reply_to: str | None = None
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
    #: What the task waits for in the place of an attempt, if it needs no worker: an item of `store/suspension.py`, or
    #: {sleep, for_ms}. It completes when that is there, with the value of the signal. When the time of a signal is
    #: over, it completes with `default` (JSON as text), or fails with `wait_timeout` if there is none.
    awaits: Mapping[str, Any] | None = None
    #: The customer, tenant or resource that it is for: rules may count by it.
    key: str | None = None
    #: What a start takes from a rate; None is 1.
    cost: int | None = None
    once: UniqueKey | None = None
    debounce: Debounce | None = None
    #: How many calls had this id before (Celery's `replace()`): a call with a higher number takes the task's place.
    #: None means that it is the first one.
    replacement: int | None = None


@dataclass(frozen=True, slots=True)
class Amendment:
    """What a running attempt changes for the attempts after it (Celery's `retry()`).

    `call` is the task as a new submission would describe it; its id, type and owner do not change.
    """

    call: Submission
    attempts_allowed: int


@dataclass(frozen=True, slots=True)
class Reason:
    """One thing that a task waits for, or a warning of one. `facts` are JSON-ready; each code has its own."""

    code: str
    text: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Submitted:
    """The answer to a submission; `created` is false if the idempotency key or the id was known already.

    It is false too if the submission made no task because another one holds its key (`deduplicated`), or because it
    moved one that is still to start (`debounced`).
    """

    task_id: str
    status: Status
    created: bool
    deduplicated: bool = False
    debounced: bool = False
    #: Why it may wait for long: no worker takes it, as it is now.
    warnings: tuple[Reason, ...] = ()

    @property
    def known_as(self) -> dict[str, bool]:
        """What answers say of it if it made no task because of its key; empty for any other."""
        if self.deduplicated:
            return {"deduplicated": True}
        return {"debounced": True} if self.debounced else {}


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
    depends_on: tuple[Dependency, ...] = ()
    on_unmet: OnUnmet | None = None
    definition_id: str | None = None
    workflow_id: str | None = None
    node: str | None = None
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
    replacement: int | None = None
    #: What has taken the place of the task and will end in it; None while it does not wait for that.
    replaced_by: str | None = None
    #: What a task that needs no worker waits for; see `Submission`.
    awaits: Mapping[str, Any] | None = None
    key: str | None = None
    cost: int | None = None
    #: The key that it holds, as the store writes it (`lua/shared/once.lua`).
    once_key: str | None = None
    #: What a WAITING task still waits for; None where that has not been read.
    waiting_for: tuple[Awaited, ...] | None = None
    #: What lists call it, made of its payload (`tasks/titles.py`); None where that has not been read.
    title: str | None = None
    #: What of the record cannot be read, in words for people; None for a whole one. Such a field has its default.
    damage: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a task has come to, or how far it is if it has not ended: the part of its record that a caller waits for."""

    task_id: str
    status: Status
    #: Decoded JSON; None unless it has completed.
    result: Any = None
    error: Failure | None = None

    @classmethod
    def of(cls, task: Task) -> Outcome:
        """Return that part of a record."""
        return cls(task.task_id, task.status, task.result, task.error)


@dataclass(frozen=True, slots=True)
class Parent:
    """A task that another one depends on, as that one may read it. `result` is None unless it completed."""

    status: Status
    result: Any = None
    error: Failure | None = None
    #: The workflow that it is a part of, and its name there.
    workflow_id: str | None = None
    node: str | None = None


class Parents(Mapping[str, Parent]):
    """The tasks that another one depends on, by id. In a workflow, the names of their nodes are found, too."""

    def __init__(self, by_id: Mapping[str, Parent], workflow_id: str | None = None) -> None:
        self._by_id = by_id
        #: Those that are nodes of the workflow `workflow_id`, by name.
        self.by_node = {
            parent.node: parent
            for parent in by_id.values()
            if workflow_id is not None and parent.workflow_id == workflow_id and parent.node is not None
        }

    def __getitem__(self, name: str) -> Parent:
        found = self._by_id.get(name)
        return self.by_node[name] if found is None else found

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_id)

    def __len__(self) -> int:
        return len(self._by_id)


class WorkflowStatus(StrEnum):
    """How a workflow is. It has failed if a node failed or was cancelled on its own, and no node is open any more."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def stored(self) -> str:
        """The spelling in the store and in the history."""
        return self.name

    @property
    def wire(self) -> str:
        """The spelling of the v1 API."""
        return self.value


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a workflow, and how its task is."""

    name: str
    task_id: str
    type: str
    after: tuple[NodeDependency, ...]
    #: In which order the nodes came (count).
    place: int = 0
    #: Whether the workflow was submitted with it. The API does not say that to clients.
    first: bool = False
    status: Status = Status.WAITING
    #: When the last attempt started.
    started_at: datetime | None = None
    finished_at: datetime | None = None
    #: Its message may be shortened.
    error: Failure | None = None


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow as it was at one moment."""

    workflow_id: str
    name: str
    status: WorkflowStatus
    user_id: str | None
    metadata: dict[str, Any]
    created_at: datetime
    finished_at: datetime | None
    #: How many nodes have which status; none is zero.
    counts: Mapping[Status, int]
    #: By name, in the order in which they came; None in lists.
    nodes: Mapping[str, Node] | None
    #: The stream id of its last event.
    last_event: str = "0-0"
    #: How often its record had changed.
    rev: int = 0


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
    depends_on: tuple[Dependency, ...] = ()
    #: Whether the attempt before was lost with its worker or given back, so that this one may repeat it.
    redelivered: bool = False
    #: How many attempts earlier calls with the task's id had.
    attempts_before: int = 0
    #: The workflow that the task is a part of, and its name there.
    workflow_id: str | None = None
    node: str | None = None
    key: str | None = None
    #: Whether the task has kept steps or received signals, and for how long this attempt ran before it was suspended.
    has_kept: bool = False
    ran_ms: int = 0

    @property
    def retries(self) -> int:
        """Attempts before this one since the last grant; a retry by hand grants all attempts again."""
        return self.max_retries - (self.attempts_allowed - self.attempt)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a claim was refused.

    `reason` is a status, `unknown`, `expired`, `paused`, `limited`, `remote` or `replaced`.
    """

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
    #: The name of its Celery app; "" for a remote worker.
    app: str = ""
    #: Which version of the code it runs (see `store/code.py`), and since when by the store's clock (ms). "": unknown.
    code: str = ""
    code_ms: int = 0
    #: Whether it can be drained, and whether it is: it takes no more tasks, because an operator says so.
    drains: bool = False
    drained: bool = False
    #: How many attempts ended per minute lately, and the memory of its processes (bytes). None: unknown.
    ended_per_minute: float | None = None
    memory_bytes: int | None = None


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
