"""`celeriac log`: the log of a task, and why its attempts failed."""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated

import typer

from celeriac.cli.ids import whole_task_id
from celeriac.cli.options import Json, TaskId, anywhere
from celeriac.cli.output import print_error, print_json, print_line, printable
from celeriac.cli.reach.destination import Destination
from celeriac.cli.reach.platform import AnyPlatform, Record
from celeriac.cli.times import clock
from celeriac.model import LogLevel


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(rich_help_panel="Tasks")(anywhere(log))


def log(
    there: Destination,
    task_id: TaskId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue until the task has ended.")] = False,
    level: Annotated[LogLevel, typer.Option("--level", help="The least severe lines to show.")] = LogLevel.DEBUG,
    as_json: Json = False,
) -> None:
    """Show what a task's handler wrote with `ctx.log`, and why attempts failed, with tracebacks; #2 is attempt 2.

    Once the task is gone from the store, history has the last lines if it failed. With --json: one object per line.
    """
    shown = 0

    async def work(platform: AnyPlatform) -> None:
        nonlocal shown
        read = platform.tasks.follow_log if follow else platform.tasks.log
        async with aclosing(read(await whole_task_id(platform, task_id), level.value)) as lines:
            async for line in lines:
                shown += 1
                _print(line, as_json=as_json)

    there.run(work)
    if not shown and not as_json and level is LogLevel.DEBUG:
        print_error(
            "the log is empty (handlers write to it with ctx.log; the setting task_log.level says which lines are kept)"
        )


def _print(line: Record, *, as_json: bool) -> None:
    if as_json:
        print_json(line, one_line=True)
        return
    data = dict(line["data"])
    trace = str(data.pop("traceback", ""))
    said = " ".join([printable(line["message"]), *(printable(f"{name}={value}") for name, value in data.items())])
    print_line(f"{clock(line['at'])} #{line['attempt']} {line['level']:<8} {said}")
    for row in trace.splitlines():
        print_line(f"    {printable(row)}" if row else "")
