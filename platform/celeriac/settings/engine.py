"""Settings of what runs: groups, types, workers, the recorder, and what `celeriac up` starts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from celeriac.settings.values import GROUP_NAME, OR_COMMAS, Duration, Section, Size


def _group_list(value: str) -> str:
    names = [name.strip() for name in value.split(",") if name.strip()]
    if names != ["*"] and (not names or any(GROUP_NAME.fullmatch(name) is None for name in names)):
        raise ValueError(
            f"{value[:200]!r} is not a list of groups: write names separated by commas, or * alone; a name has up to"
            " 128 letters, digits and _ . : - and begins with a letter or digit"
        )
    return value


class GroupSettings(Section):
    """One worker group."""

    max_queue_length: int | None = Field(
        None,
        ge=1,
        description=(
            "How many tasks may wait in this group before further submissions are answered 429. Not set: "
            "`max_queue_length`, and `dispatch.max_queue_length` for remote tasks."
        ),
    )
    processor: Literal["celery", "external"] = Field(
        "celery",
        description=(
            "Who runs the tasks of this group. `celery`: Celeriac's workers. `external`: a program of yours that takes "
            "them from the Redis list `task:pending`."
        ),
    )


class WorkerSettings(Section):
    """A Celery worker process."""

    groups: Annotated[str, AfterValidator(_group_list)] = Field(
        "*",
        description=(
            "Groups that the worker serves: names separated by commas, or `*` for all groups, those that appear later "
            "included."
        ),
    )
    concurrency: int = Field(
        1000,
        ge=1,
        le=100_000,
        description=(
            "How many tasks the worker runs at once. Async handlers and gRPC streams share one event loop and cost "
            "little, so this may be large."
        ),
    )
    threads: int = Field(
        32,
        ge=1,
        le=10_000,
        description=(
            "How many of the worker's tasks may be plain functions, each of which needs a thread. Raise it if such "
            "tasks mostly wait for something else."
        ),
    )
    shutdown_grace: Duration = Field(
        8.0,
        description=(
            "On a warm shutdown of a worker, how long its running tasks may go on. Then they are given back to their "
            "groups and start again elsewhere."
        ),
    )
    follow_interval: Duration = Field(
        1.0, description="How often a worker that serves all groups (`*`) looks for new ones."
    )
    progress_buffer: int = Field(
        1000,
        ge=1,
        description=(
            "How many progress reports of one task may be on their way to the store. Beyond it, `ctx.progress` waits "
            "in a plain function, and raises in an async handler that does not await its reports."
        ),
    )
    suspend_after: Duration = Field(
        10.0,
        ge=0,
        description=(
            "A `ctx.sleep` that is shorter than this keeps the handler running. For a longer one the task waits in the "
            "store and occupies no worker."
        ),
    )
    inspected: int = Field(
        500,
        ge=1,
        le=100_000,
        description=(
            "How many waiting tasks one worker lists for `celery inspect reserved`, and how many for `scheduled`: the "
            "next ones first."
        ),
    )
    send_events: bool = Field(
        True, description="Whether workers send Celery's task events, which Flower and `celery events` need."
    )


class StepSettings(Section):
    """What tasks keep of their work so far, and the signals that they receive."""

    most: int = Field(
        1000,
        ge=1,
        le=5000,
        description=(
            "How many steps one task may keep; sleeps, children and waits that timed out count too. A task that needs "
            "more fails with `step_limit`."
        ),
    )
    max_result_bytes: Size = Field(
        256 * 1024,
        description="The largest result of a step, as JSON. A task with a larger one fails with `step_limit`.",
    )
    max_task_bytes: Size = Field(
        8 * 1024**2,
        description="How many bytes all steps of one task may keep. A task that needs more fails with `step_limit`.",
    )
    max_sleep: Duration = Field(
        365 * 86_400.0, gt=0, description="The longest `ctx.sleep`. A longer one fails the task with `step_limit`."
    )
    max_signals: int = Field(
        100, ge=1, le=1000, description="How many signals one task may receive. Further ones are answered 422."
    )
    max_signal_bytes: Size = Field(
        64 * 1024,
        description=(
            "The largest value of a signal, as JSON, and the largest schema of a wait. A larger value is answered 422."
        ),
    )


class BlockedLoopSettings(Section):
    """Event loops of workers and API processes that a coroutine blocks."""

    warning: Duration = Field(
        2.0,
        ge=0.2,
        description=(
            "After this time a warning says who blocks the event loop, with the stack. Meanwhile the worker takes no "
            "new tasks, and the leases of all its tasks are renewed."
        ),
    )
    limit: Duration = Field(
        300.0,
        ge=1,
        description=(
            "After this time the process counts as dead: it renews no more leases, and other workers get its tasks."
        ),
    )


class TaskLogSettings(Section):
    """The log of each task: what its handler writes with `ctx.log`, and why attempts failed."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least severe lines that a task's log keeps, whatever `log_level` is."
    )
    tracebacks: bool = Field(
        True,
        description=(
            "Whether a task's log shows exceptions with their tracebacks. Everybody who may see the task can read its "
            "log, its user included."
        ),
    )
    lines: int = Field(
        1000,
        ge=0,
        le=100_000,
        description="How many lines of each task's log are kept; older ones are deleted. 0 keeps no logs.",
    )
    buffer: int = Field(
        1000,
        ge=1,
        description=(
            "How many log lines of one task may be on their way to the store. Lines beyond it are left out, and a line "
            "in the log tells how many."
        ),
    )


class TypeSettings(Section):
    """One task type."""

    retention: Duration | None = Field(
        None,
        description=(
            "How long the record and events of a finished task of this type stay in Redis. Not set: what the type "
            "itself declares, else `retention`."
        ),
    )
    ledger_retention: Duration | None = Field(
        None, description="How long history keeps a finished task of this type. Not set: `ledger_retention`."
    )


class LedgerSettings(Section):
    """How the history of tasks is recorded in the SQL database."""

    progress: Literal["none", "last", "all"] = Field(
        "last",
        description=(
            "Which progress reports of a task history keeps: none, the last one of each attempt, or all. Redis has all "
            "of them, up to `max_task_events`, until the record's retention is over."
        ),
    )
    log: Literal["none", "failed", "all"] = Field(
        "failed",
        description=(
            "Which tasks' logs history keeps, for as long as the task itself: none, those of failed tasks, or all."
        ),
    )
    log_lines: int = Field(
        200, ge=1, le=10_000, description="How many lines of a task's log history keeps, the last ones."
    )
    search: Annotated[list[Literal["payload", "result", "error", "progress", "log"]], OR_COMMAS] = Field(
        ["payload", "result", "error", "progress", "log"],
        description=(
            "In which parts of a task the search finds words, besides its type, key and tags. An empty list turns the "
            "index off: words are then looked for in ids and errors only. Secrets are never in the index. After a "
            "change, the tasks that are there are indexed again in the background."
        ),
    )
    search_chars: int = Field(
        4000,
        ge=100,
        le=100_000,
        description="How many characters of a task the search finds words in, the first ones.",
    )
    interval: Duration = Field(
        0.5,
        ge=0.01,
        description=(
            "Pause between two reads of the event stream. A longer pause makes history later and cheaper: more changes "
            "of one task are written as one."
        ),
    )
    batch: int = Field(
        2000, ge=1, le=10_000, description="How many events the recorder reads and writes to history at once."
    )
    nice: int = Field(
        10,
        ge=0,
        le=19,
        description=(
            "The `nice` value of `celeriac beat`: how far it yields to other processes if CPU time is short. Nothing "
            "is lost by that: its other duties run in every worker too, and history is only recorded later."
        ),
    )
    in_workers: bool = Field(
        False,
        description="Whether worker processes record history too. Set it if no `celeriac beat` runs.",
    )
    statement_timeout: Duration = Field(
        30.0, ge=0.1, description="How long PostgreSQL may run one statement before it is cancelled and fails."
    )


class UpSettings(Section):
    """What `celeriac up` starts."""

    workers: int = Field(1, ge=0, le=64, description="How many worker processes `celeriac up` starts.")
    processes: dict[str, str] = Field(
        default_factory=dict,
        description=(
            "Your own programs, which `celeriac up` runs and restarts: a name and a command line for each. "
            "`{grpc_services.NAME.port}` in a command line stands for the port of that service's address."
        ),
    )
    flower: bool = Field(
        False,
        description=(
            "Whether `celeriac up` starts Flower too, on the loopback address (also the option `--flower`). It needs "
            "the extra `flower`."
        ),
    )
    flower_port: int = Field(5555, ge=1, le=65535, description="Port that Flower listens on.")
    stuck_after: Duration = Field(
        30.0,
        ge=0,
        le=3600,
        description=(
            "An API or beat process whose event loop does nothing for this long is killed and started again. Time in "
            "which the machine slept, or gave the process no processor, does not count. 0 means never."
        ),
    )
    reload_grace: Duration = Field(
        1.0,
        ge=0,
        description=(
            "How long running tasks may go on when their code has changed (`--reload`). Then they are given back, "
            "which costs no attempt, and run with the new code."
        ),
    )
    stop_timeout: Duration = Field(
        15.0,
        description=(
            "How long after Ctrl-C the child processes may take to end before they are killed. Your own programs are "
            "asked to stop after the platform's."
        ),
    )
