"""`celeriac list` and `stats`: tasks and figures from the history."""

from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer

from celeriac.chart_buckets import bucket_of
from celeriac.cli.completing import groups, task_types
from celeriac.cli.filters import Words, filtered, narrowed, read_moment
from celeriac.cli.options import Json, anywhere
from celeriac.cli.output import print_error, print_json, print_line
from celeriac.cli.reach.destination import Destination
from celeriac.cli.reach.platform import AnyPlatform, Record
from celeriac.cli.tables import print_table, spark
from celeriac.cli.times import ago, clock, duration
from celeriac.errors import InvalidSubmissionError, Violation
from celeriac.model import Status
from celeriac.task_filter import Sort, TaskFilter, words
from celeriac.tasks.record import check_fields

Fields = Annotated[
    str | None,
    typer.Option(
        "--fields",
        metavar="NAMES",
        help="With --json: only these fields of each task, separated by commas. The id is always there.",
        show_default=False,
    ),
]
#: Bars that fit beside a number on a terminal.
_BARS: Final = 60
_COUNTED: Final = ("submitted", *(status.wire for status in Status if status.final))
_TIMED: Final = {"run": "running", "wait": "waiting"}
#: How many tasks a listing shows by default.
SHOWN: Final = 50
_SHOWN_FIELDS: Final = (
    *(
        "task_id",
        "type",
        "title",
        "queue",
        "status",
        "attempt",
        "created_at",
        "started_at",
        "finished_at",
        "error",
        "damaged",
    ),
)

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
    app.command("list", rich_help_panel="Tasks")(anywhere(filtered(list_tasks)))
    app.command(rich_help_panel="Tasks")(anywhere(stats))


def list_tasks(
    there: Destination,
    chosen: TaskFilter,
    words: Words = None,
    limit: Limit = SHOWN,
    sort: SortedBy = Sort.CREATED_DOWN,
    fields: Fields = None,
    as_json: Json = False,
) -> None:
    """List tasks, also those that are no longer in the store. With --json: one record per line.

    For example:  celeriac list "type:report status:failed after:2h timeout"
    """
    show_tasks(there, narrowed(chosen, words), sort=sort, limit=limit, fields=fields, as_json=as_json)


def show_tasks(
    there: Destination, chosen: TaskFilter, *, sort: Sort, limit: int, fields: str | None, as_json: bool
) -> None:
    """Print up to `limit` (0: all) tasks of the history, as a table or as lines of JSON with `fields`."""
    wanted = _wanted(fields, as_json=as_json)

    async def work(platform: AnyPlatform) -> tuple[list[Record], bool]:
        tasks: list[Record] = []
        async with aclosing(platform.tasks.listed(chosen, sort, limit + 1 if limit else 0, wanted)) as found:
            async for task in found:
                if limit and len(tasks) == limit:
                    return tasks, True
                if as_json:
                    print_json(task, one_line=True)
                tasks.append(_listed(task))
        return tasks, False

    tasks, more = there.run(work)
    if not as_json:
        header = ("ID", "TYPE", "TITLE", "GROUP", "STATUS", "ATTEMPT", "CREATED", "TOOK", "ERROR")
        print_table(header, [_row(task) for task in tasks], empty="no task matches")
    if more:
        print_error(f"these are the first {limit}; there are more (see --limit)")


def stats(
    there: Destination,
    since: Annotated[str, typer.Option(metavar="WHEN", help="The begin: a moment, or a duration before now.")] = "24h",
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="The end.", show_default="now")] = None,
    bucket: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="The time that one bar covers: 1m, 5m, 15m, 1h, 6h, 1d.", show_default="to fit"
        ),
    ] = None,
    type_: Annotated[
        str | None, typer.Option("--type", "-t", help="Only tasks of this type.", autocompletion=task_types)
    ] = None,
    queue: Annotated[
        str | None, typer.Option(metavar="GROUP", help="Only tasks of this group.", autocompletion=groups)
    ] = None,
    key: Annotated[str | None, typer.Option(metavar="KEY", help="Only tasks with this key.")] = None,
    as_json: Json = False,
) -> None:
    """Show how many tasks were submitted and ended over time, and how long they waited and ran.

    For example:  celeriac stats --since 7d --type resize
    """
    now = datetime.now(UTC)
    start, end = read_moment("since", since, now), now if until is None else read_moment("until", until, now)
    size = bucket_of(start, end, bucket, most=_BARS)

    async def work(platform: AnyPlatform) -> Record:
        return await platform.tasks.stats(start, end, size, task_type=type_, queue=queue, key=key)

    record = there.run(work)
    if as_json:
        print_json(record)
        return
    print_line(f"{clock(record['from'])} to {clock(record['to'])}, a bar covers {record['bucket']}")
    print_table(("TASKS", "NUMBER", "OVER TIME"), [_counted(name, record) for name in _COUNTED], empty="")
    print_line("")
    header = ("TIME", "AVERAGE", "MEDIAN", "95 %", "LONGEST", "95 % OVER TIME")
    print_table(header, [_timed(name, record) for name in _TIMED], empty="")


def _counted(name: str, record: dict[str, Any]) -> tuple[Any, ...]:
    return name, record["total"][name], spark([bucket[name] for bucket in record["buckets"]])


def _timed(name: str, record: dict[str, Any]) -> tuple[Any, ...]:
    total = record["total"][name] or {}
    bars = [0 if bucket[name] is None else bucket[name]["p95_ms"] for bucket in record["buckets"]]
    return _TIMED[name], *(duration(total.get(f"{key}_ms")) for key in ("avg", "p50", "p95", "max")), spark(bars)


def _wanted(fields: str | None, *, as_json: bool) -> tuple[str, ...]:
    """Return the fields to read; none means all. A table reads all, to say what of a record is damaged."""
    if fields is None:
        return ()
    if not as_json:
        raise InvalidSubmissionError([Violation("fields", "belongs to --json: a table has its own columns")])
    try:
        return check_fields(words(fields))
    except ValueError as exc:
        raise InvalidSubmissionError([Violation("fields", str(exc))]) from exc


def _listed(task: Record) -> Record:
    """Return what the table shows of a task: a list of many thousands must not hold their payloads."""
    return {name: task.get(name) for name in _SHOWN_FIELDS}


def _row(task: Record) -> tuple[Any, ...]:
    took = None
    if task["started_at"] is not None and task["finished_at"] is not None:
        began, ended = (datetime.fromisoformat(task[name]) for name in ("started_at", "finished_at"))
        took = duration((ended - began).total_seconds() * 1000)
    error = "" if task["error"] is None else f"{task['error']['code']}: {task['error']['message']}"
    if task["damaged"] is not None:
        error = f"damaged: {task['damaged']}"
    known = (task[name] for name in ("task_id", "type", "title", "queue", "status", "attempt"))
    return *known, ago(task["created_at"]), took, error
