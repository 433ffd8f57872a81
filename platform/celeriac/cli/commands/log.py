"""`celeriac log`: the log of a task, and why its attempts failed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Annotated

import typer

from celeriac.cli.connection import on_tasks
from celeriac.cli.options import Config, DataDir, Json, TaskId
from celeriac.cli.output import print_error, print_json, print_line, printable
from celeriac.installation.discovery import joined_settings
from celeriac.model import LogLevel, LogLine, rfc3339, severity, stream_position, utc_from_ms
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.hub import LiveHub
from celeriac.tasks.record import log_line_record
from celeriac.tasks.service import Tasks
from celeriac.tasks.timeline import START

_PAGE = 500


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(rich_help_panel="Tasks")(log)


def log(
    task_id: TaskId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue until the task has ended.")] = False,
    level: Annotated[LogLevel, typer.Option("--level", help="The least severe lines to show.")] = LogLevel.DEBUG,
    as_json: Json = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Show what a task's handler wrote with `ctx.log`, and why attempts failed, with tracebacks; #2 is attempt 2.

    Once the task is gone from the store, history has the last lines if it failed. With --json: one object per line.
    """
    settings, url = joined_settings(config, data_dir)
    shown = 0

    def show(line: LogLine) -> None:
        nonlocal shown
        if severity(line.level) >= severity(level):
            shown += 1
            _print(line, as_json=as_json)

    async def work(tasks: Tasks) -> None:
        if follow:
            await tasks.store.get(task_id)
            await _follow(tasks.store, task_id, show)
            return
        after = START
        while page := await tasks.log(task_id, after=after, count=_PAGE, least=severity(level)):
            for line in page:
                show(line)
            after = stream_position(page[-1].id) or after

    on_tasks(settings, url, work)
    if not shown and not as_json and level is LogLevel.DEBUG:
        print_error(
            "the log is empty (handlers write to it with ctx.log; the setting task_log.level says which lines are kept)"
        )


async def _follow(store: TaskStore, task_id: str, show: Callable[[LogLine], None]) -> None:
    hub = LiveHub(store=store)
    await hub.start()
    try:
        async with aclosing(hub.follow_log(task_id)) as items:
            async for item in items:
                if isinstance(item, LogLine):
                    show(item)
    finally:
        await hub.stop()


def _print(line: LogLine, *, as_json: bool) -> None:
    if as_json:
        print_json(log_line_record(line), one_line=True)
        return
    data = dict(line.data)
    trace = str(data.pop("traceback", ""))
    said = " ".join([printable(line.message), *(printable(f"{name}={value}") for name, value in data.items())])
    print_line(f"{rfc3339(utc_from_ms(line.timestamp_ms))} #{line.attempt} {line.level:<8} {said}")
    for row in trace.splitlines():
        print_line(f"    {printable(row)}" if row else "")
