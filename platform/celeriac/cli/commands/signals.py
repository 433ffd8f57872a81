"""`celeriac signal` and `waits`."""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated

import typer

from celeriac.cli.commands.history import SHOWN
from celeriac.cli.commands.tasks import read_json
from celeriac.cli.ids import whole_task_id
from celeriac.cli.options import Json, TaskId, anywhere
from celeriac.cli.output import print_json, print_line, printable
from celeriac.cli.reach.destination import Destination
from celeriac.cli.reach.platform import AnyPlatform, Record
from celeriac.cli.tables import print_table
from celeriac.cli.times import local

_Limit = Annotated[
    int, typer.Option("--limit", "-n", metavar="N", min=0, help="How many waits to show at most; 0 shows all.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (signal, waits):
        app.command(rich_help_panel="Tasks")(anywhere(command))


def signal(
    there: Destination,
    task_id: TaskId,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the signal.", show_default=False)],
    value: Annotated[
        str, typer.Argument(metavar="VALUE", help="Its value as JSON, @FILE, or - for standard input.")
    ] = "null",
    as_json: Json = False,
) -> None:
    """Send a signal to a task that waits for it, such as an approval.

    The first signal of a name counts. One that comes before the task waits for it is kept until then.

    For example:  celeriac signal 59d985bf approval '{"approve": true}'
    """
    document = read_json("value", value)

    async def work(platform: AnyPlatform) -> Record:
        return await platform.tasks.signal(await whole_task_id(platform, task_id), name, document)

    received = there.run(work)
    if as_json:
        print_json(received)
    else:
        print_line(f"{received['task_id']} has received {printable(received['signal'])}")


def waits(there: Destination, limit: _Limit = SHOWN, as_json: Json = False) -> None:
    """List the signals that tasks wait for and that you may send. With --json: one object per line."""

    async def work(platform: AnyPlatform) -> list[Record]:
        async with aclosing(platform.tasks.waits(limit)) as found:
            return [wait async for wait in found]

    found = there.run(work)
    if as_json:
        for wait in found:
            print_json(wait, one_line=True)
        return
    rows = [
        (
            wait["task_id"],
            wait["type"],
            wait["signal"],
            local(wait["since"]),
            None if wait["expires_at"] is None else local(wait["expires_at"]),
            wait["title"],
        )
        for wait in found
    ]
    print_table(("TASK", "TYPE", "SIGNAL", "SINCE", "UNTIL", "WHAT"), rows, empty="no task waits for a signal")
