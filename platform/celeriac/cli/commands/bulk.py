"""Cancel or retry many tasks by filter: a worker does it, in a task of the type `celeriac.bulk`."""

from __future__ import annotations

from typing import Annotated

import typer

from celeriac.cli.commands.watch import watch_task
from celeriac.cli.completing import task_ids
from celeriac.cli.output import print_json, print_line
from celeriac.cli.reach.destination import Destination
from celeriac.cli.reach.platform import AnyPlatform, BulkAction
from celeriac.errors import InvalidSubmissionError, Violation
from celeriac.task_filter import TaskFilter

DryRun = Annotated[bool, typer.Option("--dry-run", help="With a filter: only count the tasks that match.")]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="With a filter: do not watch the bulk task.")]
OneTask = Annotated[
    str | None,
    typer.Argument(
        metavar="[ID]",
        help="The id of one task, or its beginning. Without it, all that match.",
        show_default=False,
        autocompletion=task_ids,
    ),
]


def act_on_many(
    action: BulkAction, chosen: TaskFilter, there: Destination, *, dry_run: bool, detach: bool, as_json: bool
) -> int:
    """Do `action` to all chosen tasks, or count them; returns the exit code.

    Raises `InvalidSubmissionError` if no filter is given, or one that is not valid.
    """
    wanted = chosen.model_dump(mode="json", exclude_defaults=True)
    if not wanted:
        message = "give the id of a task, or a filter (--status, --type, --tag, …)"
        raise InvalidSubmissionError([Violation("", message)])
    if dry_run:
        _print_count(there.run(lambda platform: platform.tasks.count(action, wanted)), as_json=as_json)
        return 0

    async def work(platform: AnyPlatform) -> int:
        answer = await platform.tasks.bulk(action, wanted)
        if as_json:
            print_json(answer if detach else {"event": "submitted", **answer}, one_line=not detach)
        else:
            print_line(answer["task_id"])
        return 0 if detach else await watch_task(platform, answer["task_id"], as_json=as_json)

    return there.run(work)


def _print_count(matched: int, *, as_json: bool) -> None:
    if as_json:
        print_json({"matched": matched})
    else:
        print_line(f"{matched} task matches" if matched == 1 else f"{matched} tasks match")
