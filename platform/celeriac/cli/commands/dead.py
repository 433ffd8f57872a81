"""`celeriac dead`: the tasks that failed for good."""

from __future__ import annotations

import typer

from celeriac.cli.commands.history import SHOWN, Fields, Limit, SortedBy, show_tasks
from celeriac.cli.commands.tasks import record_lines, retry
from celeriac.cli.commands.watch import MAX_EVENTS, event_line
from celeriac.cli.filters import Words, filtered, narrowed
from celeriac.cli.ids import whole_task_id
from celeriac.cli.options import Json, TaskId, anywhere, group_of
from celeriac.cli.output import print_json, print_line
from celeriac.cli.reach.destination import Destination
from celeriac.cli.reach.platform import AnyPlatform, Record
from celeriac.cli.tables import print_table
from celeriac.cli.times import clock
from celeriac.model import Status
from celeriac.task_filter import Sort, TaskFilter


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    several = group_of(dead)
    several.command("list")(anywhere(filtered(list_dead)))
    several.command("show")(anywhere(show))
    several.command("retry")(anywhere(filtered(retry)))
    app.add_typer(several, name="dead", rich_help_panel="Tasks")


def dead(there: Destination, as_json: Json = False) -> None:
    """List the dead letters, the tasks that failed for good; show one, run them again."""
    list_dead(there, TaskFilter(), as_json=as_json)


def list_dead(
    there: Destination,
    chosen: TaskFilter,
    words: Words = None,
    limit: Limit = SHOWN,
    sort: SortedBy = Sort.FINISHED_DOWN,
    fields: Fields = None,
    as_json: Json = False,
) -> None:
    """List the tasks that failed for good, the latest first. With --json: one record per line."""
    failed = narrowed(chosen, words).model_copy(update={"status": (Status.FAILED,)})
    show_tasks(there, failed, sort=sort, limit=limit, fields=fields, as_json=as_json)


def show(there: Destination, task_id: TaskId, as_json: Json = False) -> None:
    """Show a task with all its events."""

    async def work(platform: AnyPlatform) -> tuple[Record, list[Record]]:
        whole = await whole_task_id(platform, task_id)
        return await platform.tasks.find(whole), await platform.tasks.events(whole, MAX_EVENTS)

    task, events = there.run(work)
    if as_json:
        print_json({**task, "events": events})
        return
    for line in record_lines(task):
        print_line(line)
    print_line("")
    print_table(
        ("AT", "WHAT"),
        [(clock(event["at"]), event_line(event["kind"], event)) for event in events],
        empty="it has no events any more",
    )
