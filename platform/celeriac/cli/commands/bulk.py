"""Cancel or retry many tasks by filter: a worker does it, in a task of the type `celeriac.bulk`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from celeriac.cli.auditing import note
from celeriac.cli.commands.watch import watch_task
from celeriac.cli.connection import on_tasks
from celeriac.cli.output import print_json, print_line
from celeriac.errors import InvalidSubmissionError, Violation
from celeriac.settings import Settings
from celeriac.task_filter import TaskFilter
from celeriac.tasks.service import Tasks

DryRun = Annotated[bool, typer.Option("--dry-run", help="With a filter: only count the tasks that match.")]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="With a filter: do not watch the bulk task.")]
OneTask = Annotated[
    str | None,
    typer.Argument(metavar="[ID]", help="The id of one task. Without it, all tasks that match.", show_default=False),
]


def act_on_many(
    action: Literal["cancel", "retry"],
    chosen: TaskFilter,
    settings: Settings,
    url: str,
    *,
    dry_run: bool,
    detach: bool,
    as_json: bool,
) -> int:
    """Do `action` to all chosen tasks, or count them; returns the exit code.

    Raises `InvalidSubmissionError` if no filter is given, or one that is not valid.
    """
    payload = {"action": action, "filter": chosen.model_dump(mode="json", exclude_defaults=True)}
    if not payload["filter"]:
        message = "give the id of a task, or a filter (--status, --type, --tag, …)"
        raise InvalidSubmissionError([Violation("", message)])
    if dry_run:
        _print_count(on_tasks(settings, url, lambda tasks: tasks.count(payload)), as_json=as_json)
        return 0

    async def work(tasks: Tasks) -> int:
        submitted = await tasks.bulk(payload)
        await note(tasks.store, "task.bulk", submitted.task_id)
        answer: dict[str, Any] = {"task_id": submitted.task_id, "status": submitted.status.wire}
        if as_json:
            print_json(answer if detach else {"event": "submitted", **answer}, one_line=not detach)
        else:
            print_line(submitted.task_id)
        return 0 if detach else await watch_task(tasks, submitted.task_id, as_json=as_json)

    return on_tasks(settings, url, work)


def _print_count(matched: int, *, as_json: bool) -> None:
    if as_json:
        print_json({"matched": matched})
    else:
        print_line(f"{matched} task matches" if matched == 1 else f"{matched} tasks match")
