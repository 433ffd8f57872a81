"""`celeriac list` and `stats`: tasks and figures from the history."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from celeriac.cli.connection import on_history
from celeriac.cli.filters import filtered, read_moment
from celeriac.cli.options import Config, DataDir, Json
from celeriac.cli.output import print_error, print_json, print_line
from celeriac.cli.tables import print_table, spark
from celeriac.installation.discovery import joined_settings
from celeriac.model import KeptTask, Status, Task, rfc3339
from celeriac.settings import Settings
from celeriac.task_filter import Sort, TaskFilter
from celeriac.tasks.record import task_record

if TYPE_CHECKING:
    from celeriac.history.history import History

#: Bars that fit beside a number on a terminal.
_BARS: Final = 60
_COUNTED: Final = ("submitted", *(status.wire for status in Status if status.final))
_TIMED: Final = {"run": "running", "wait": "waiting"}
#: How many tasks a listing shows by default.
SHOWN: Final = 50
_PAGE: Final = 500

Limit = Annotated[
    int, typer.Option("--limit", "-n", metavar="N", min=0, help="How many tasks to show at most; 0 shows all.")
]
SortedBy = Annotated[
    Sort,
    typer.Option(
        "--sort", metavar="FIELD", help="created_at, finished_at or updated_at; with - in front, the newest first."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("list", rich_help_panel="Tasks")(filtered(list_tasks))
    app.command(rich_help_panel="Platform")(stats)


def list_tasks(
    chosen: TaskFilter,
    limit: Limit = SHOWN,
    sort: SortedBy = Sort.CREATED_DOWN,
    as_json: Json = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """List tasks, also those that are no longer in the store. With --json: one record per line.

    For example:  celeriac list --status failed --created-after 2h --search timeout
    """
    settings, _ = joined_settings(config, data_dir)
    show_tasks(settings, chosen, sort=sort, limit=limit, as_json=as_json)


def show_tasks(settings: Settings, chosen: TaskFilter, *, sort: Sort, limit: int, as_json: bool) -> None:
    """Print up to `limit` (0: all) tasks of the history, as a table or as lines of JSON."""

    async def work(history: History) -> tuple[list[Task], bool]:
        tasks: list[Task] = []
        async for kept in walk(history, chosen, sort=sort, limit=limit + 1 if limit else 0):
            if limit and len(tasks) == limit:
                return tasks, True
            if as_json:
                print_json(_line(kept), one_line=True)
            tasks.append(kept.task)
        return tasks, False

    tasks, more = on_history(settings, work)
    if not as_json:
        header = ("ID", "TYPE", "QUEUE", "STATUS", "ATTEMPT", "CREATED", "TOOK", "ERROR")
        print_table(header, [_row(task) for task in tasks], empty="no task matches")
    if more:
        print_error(f"these are the first {limit}; there are more (see --limit)")


async def walk(history: History, chosen: TaskFilter, *, sort: Sort, limit: int) -> AsyncIterator[KeptTask]:
    """Yield up to `limit` (0: all) tasks of the history, read page by page."""
    cursor: str | None = None
    seen = 0
    while True:
        page = await history.find(chosen, sort=sort, limit=min(_PAGE, limit - seen) if limit else _PAGE, cursor=cursor)
        for kept in page.tasks:
            yield kept
        seen += len(page.tasks)
        cursor = page.next_cursor
        if cursor is None or (limit and seen >= limit):
            return


def stats(
    since: Annotated[str, typer.Option(metavar="WHEN", help="The begin: a moment, or a duration before now.")] = "24h",
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="The end.", show_default="now")] = None,
    bucket: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="The time that one bar covers: 1m, 5m, 15m, 1h, 6h, 1d.", show_default="to fit"
        ),
    ] = None,
    type_: Annotated[str | None, typer.Option("--type", "-t", help="Only tasks of this type.")] = None,
    queue: Annotated[str | None, typer.Option(metavar="GROUP", help="Only tasks of this group.")] = None,
    as_json: Json = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Show how many tasks were submitted and ended over time, and how long they waited and ran."""
    from celeriac.history.chart_record import chart_record, span_of

    now = datetime.now(UTC)
    start, end = read_moment("since", since, now), now if until is None else read_moment("until", until, now)
    span = span_of(start, end, bucket, most=_BARS)
    settings, _ = joined_settings(config, data_dir)

    async def work(history: History) -> dict[str, Any]:
        chart = await history.stats(span.start_ms, span.end_ms, span.bucket_ms, task_type=type_, queue=queue)
        return chart_record(span, chart)

    record = on_history(settings, work)
    if as_json:
        print_json(record)
        return
    print_line(f"{record['from']} to {record['to']}, a bar covers {record['bucket']}")
    print_table(("TASKS", "NUMBER", "OVER TIME"), [_counted(name, record) for name in _COUNTED], empty="")
    print_line("")
    header = ("TIME", "AVERAGE", "MEDIAN", "95 %", "LONGEST", "95 % OVER TIME")
    print_table(header, [_timed(name, record) for name in _TIMED], empty="")


def _counted(name: str, record: dict[str, Any]) -> tuple[Any, ...]:
    return name, record["total"][name], spark([bucket[name] for bucket in record["buckets"]])


def _timed(name: str, record: dict[str, Any]) -> tuple[Any, ...]:
    total = record["total"][name] or {}
    bars = [0 if bucket[name] is None else bucket[name]["p95_ms"] for bucket in record["buckets"]]
    return _TIMED[name], *(_duration(total.get(f"{key}_ms")) for key in ("avg", "p50", "p95", "max")), spark(bars)


def _line(kept: KeptTask) -> dict[str, Any]:
    return {**task_record(kept.task), "omitted": list(kept.omitted)}


def _row(task: Task) -> tuple[Any, ...]:
    took = None
    if task.started_at is not None and task.finished_at is not None:
        took = _duration((task.finished_at - task.started_at).total_seconds() * 1000)
    error = "" if task.error is None else f"{task.error.code}: {task.error.message}"
    if task.damage is not None:
        error = f"damaged: {task.damage}"
    status = task.status.wire
    return task.task_id, task.type, task.group, status, task.attempt, rfc3339(task.created_at), took, error


def _duration(ms: float | None) -> str | None:
    """Return a duration in the unit that shows its size at once: 7ms, 1.25s, 3m20s, 2h05m."""
    if ms is None:
        return None
    if ms < 1000:
        return f"{ms:.0f}ms"
    seconds = ms / 1000
    if seconds < 60:
        return f"{seconds:.2f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"
