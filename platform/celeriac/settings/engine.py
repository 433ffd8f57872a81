"""Settings of what runs: groups, types, workers, the recorder, and what `celeriac up` starts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from celeriac.settings.values import GROUP_NAME, Duration, Section


def _group_list(value: str) -> str:
    names = [name.strip() for name in value.split(",") if name.strip()]
    if names != ["*"] and (not names or any(GROUP_NAME.fullmatch(name) is None for name in names)):
        raise ValueError(
            "must be names separated by commas, or * alone: a name has up to 128 letters, digits and _ . : -"
        )
    return value


class GroupSettings(Section):
    """One worker group."""

    #: Waiting tasks above which a submission is refused; None is `max_queue_length`.
    max_queue_length: int | None = Field(None, ge=1)
    #: `celery`: our workers. `external`: a foreign program that pops `task:pending`.
    processor: Literal["celery", "external"] = "celery"


class WorkerSettings(Section):
    """A Celery worker process."""

    #: Groups it serves: names separated by commas, or `*` for all, also those that appear later.
    groups: Annotated[str, AfterValidator(_group_list)] = "*"
    #: Tasks it runs at once; async handlers and gRPC streams share one loop and cost little.
    concurrency: int = Field(1000, ge=1, le=100_000)
    #: Of those, plain functions, which take a thread each.
    threads: int = Field(32, ge=1, le=10_000)
    #: On a warm shutdown, how long running tasks may go on before they are given back.
    shutdown_grace: Duration = 8.0
    #: How often it looks for new groups when it serves `*`.
    follow_interval: Duration = 1.0
    #: Progress reports of one task that may be on their way to the store.
    progress_buffer: int = Field(1000, ge=1)
    #: Celery events, for Flower.
    send_events: bool = True


class TaskLogSettings(Section):
    """The log of each task: what its handler says by `ctx.log`, and why attempts failed."""

    #: Least severe lines that it keeps, whatever `log_level` is.
    level: Literal["debug", "info", "warning", "error"] = "info"
    #: Whether exceptions come with their tracebacks. Whoever may see a task reads its log, its user too.
    tracebacks: bool = True
    #: Lines kept of each task; the oldest go first. 0 keeps none.
    lines: int = Field(1000, ge=0, le=100_000)
    #: Lines of one task that may be on their way to the store; what comes faster is left out, which a line says.
    buffer: int = Field(1000, ge=1)


class TypeSettings(Section):
    """One task type."""

    #: How long the record and events of a finished task stay in Redis; None is the type's own, else `retention`.
    retention: Duration | None = None
    #: How long history keeps a finished task; None is `ledger_retention`.
    ledger_retention: Duration | None = None


class LedgerSettings(Section):
    """How history gets into SQL."""

    #: Of a task's progress reports, those that history keeps: the last one of each attempt, or all. Redis
    #: has them all (up to `max_task_events`) until the record's retention is over.
    progress: Literal["none", "last", "all"] = "last"
    #: Whose logs (`task_log`) history keeps, for as long as the task: those of tasks that failed, of all, or none.
    log: Literal["none", "failed", "all"] = "failed"
    #: Of such a log, how many of its last lines.
    log_lines: int = Field(200, ge=1, le=10_000)
    #: Pause between two looks at the event stream. The longer, the more changes of a task are written as one.
    interval: Duration = Field(0.5, ge=0.01)
    #: Events taken at once.
    batch: int = Field(2000, ge=1, le=10_000)
    #: How far `celeriac beat` steps back for others where the processor is short (0 to 19, as of `nice`). Its other
    #: roles run in every worker too; what it records late is not lost.
    nice: int = Field(10, ge=0, le=19)
    #: Also record in worker processes, where no `celeriac beat` runs.
    in_workers: bool = False
    #: Longest run of one statement.
    statement_timeout: Duration = Field(30.0, ge=0.1)


class UpSettings(Section):
    """What `celeriac up` starts besides its own parts."""

    #: Worker processes.
    workers: int = Field(1, ge=0, le=64)
    #: Programs of yours to run and restart along with the platform: name → command line, in which
    #: `{grpc_services.NAME.port}` stands for the port of that service's address.
    processes: dict[str, str] = Field(default_factory=dict)
    #: Flower beside it, on this machine's own address (`--flower`; needs the extra `flower`), and its port.
    flower: bool = False
    flower_port: int = Field(5555, ge=1, le=65535)
    #: Longest time from Ctrl-C until a child is killed. Your programs are told after the platform's own parts.
    stop_timeout: Duration = 15.0
