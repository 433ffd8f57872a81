"""`celeriac dead`: the tasks that failed for good."""

from __future__ import annotations

import typer

from celeriac.cli.commands.history import SHOWN, Limit, SortedBy, show_tasks
from celeriac.cli.commands.tasks import record_lines, retry
from celeriac.cli.commands.watch import MAX_EVENTS, event_facts, event_line
from celeriac.cli.connection import on_tasks
from celeriac.cli.filters import filtered
from celeriac.cli.options import Config, DataDir, Json, TaskId
from celeriac.cli.output import print_json, print_line
from celeriac.cli.tables import print_table
from celeriac.installation.discovery import joined_settings
from celeriac.model import Event, Status, Task, rfc3339, utc_from_ms
from celeriac.store.watching.feed import TIMELINE
from celeriac.task_filter import Sort, TaskFilter
from celeriac.tasks.record import task_record
from celeriac.tasks.service import Tasks


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    dead = typer.Typer(help="The dead letters: tasks that failed for good.", no_args_is_help=True)
    dead.command("list")(filtered(list_dead))
    dead.command("show")(show)
    dead.command("retry")(filtered(retry))
    app.add_typer(dead, name="dead", rich_help_panel="Tasks")


def list_dead(
    chosen: TaskFilter,
    limit: Limit = SHOWN,
    sort: SortedBy = Sort.FINISHED_DOWN,
    as_json: Json = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """List the tasks that failed for good, the latest first. With --json: one record per line."""
    settings, _ = joined_settings(config, data_dir)
    failed = chosen.model_copy(update={"status": (Status.FAILED,)})
    show_tasks(settings, failed, sort=sort, limit=limit, as_json=as_json)


def show(task_id: TaskId, as_json: Json = False, data_dir: DataDir = None, config: Config = None) -> None:
    """Show a task with all its events."""
    settings, url = joined_settings(config, data_dir)

    async def work(tasks: Tasks) -> tuple[Task, list[Event]]:
        return await tasks.find(task_id), await tasks.events(task_id, count=MAX_EVENTS, kinds=TIMELINE)

    task, events = on_tasks(settings, url, work)
    if as_json:
        happened = [{"id": event.id, "kind": event.kind, **event_facts(event)} for event in events]
        print_json({**task_record(task), "events": happened})
        return
    for line in record_lines(task):
        print_line(line)
    print_line("")
    print_table(
        ("AT", "WHAT"), [(_moment(event), event_line(event)) for event in events], empty="it has no events any more"
    )


def _moment(event: Event) -> str:
    return rfc3339(utc_from_ms(int(event.id.partition("-")[0])))
