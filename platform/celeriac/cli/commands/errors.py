"""`celeriac errors`: failures for good, those that are alike as one line."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from celeriac.cli.completing import groups, task_types
from celeriac.cli.filters import read_moment
from celeriac.cli.options import Json, anywhere
from celeriac.cli.output import print_error, print_json
from celeriac.cli.reach.destination import Destination
from celeriac.cli.reach.platform import AnyPlatform, Record
from celeriac.cli.tables import print_table, spark
from celeriac.cli.times import ago
from celeriac.error_filter import DEFAULT_ERRORS, ErrorFilter, ErrorSort


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(rich_help_panel="Tasks")(anywhere(errors))


def errors(
    there: Destination,
    since: Annotated[str, typer.Option(metavar="WHEN", help="The begin: a moment, or a duration before now.")] = "24h",
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="The end.", show_default="now")] = None,
    type: Annotated[
        str | None, typer.Option("--type", "-t", help="Only tasks of this type.", autocompletion=task_types)
    ] = None,
    queue: Annotated[
        str | None,
        typer.Option(
            "--group", "-g", "--queue", metavar="GROUP", help="Only tasks of this group.", autocompletion=groups
        ),
    ] = None,
    user_id: Annotated[str | None, typer.Option(metavar="ID", help="Only tasks of this user.")] = None,
    key: Annotated[str | None, typer.Option(metavar="KEY", help="Only tasks with this key.")] = None,
    error_group: Annotated[str | None, typer.Option(metavar="ID", help="Only this group of errors.")] = None,
    q: Annotated[
        str | None, typer.Option("--search", "-q", metavar="TEXT", help="A part of the code or of the message.")
    ] = None,
    sort: Annotated[
        ErrorSort, typer.Option(metavar="FIELD", help="-last_seen: the latest first; -failures: the most frequent.")
    ] = ErrorSort.LAST,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=0, help="How many to show at most; 0 shows all.")
    ] = DEFAULT_ERRORS,
    as_json: Json = False,
) -> None:
    """Group the tasks that failed for good by type, code and message, whatever values the message names.

    DEAD says how many of them are failed now: `celeriac retry --error-group ID` runs these again. With --json: one
    group per line.

    For example:  celeriac errors --since 7d --type resize
    """
    now = datetime.now(UTC)
    start, end = read_moment("since", since, now), now if until is None else read_moment("until", until, now)
    wanted = ErrorFilter(type=type, queue=queue, user_id=user_id, key=key, error_group=error_group, q=q)

    async def work(platform: AnyPlatform) -> tuple[list[Record], bool]:
        found: list[Record] = []
        listed = platform.tasks.errors(start, end, asdict(wanted), sort=sort, limit=limit + 1 if limit else 0)
        async with aclosing(listed) as items:
            async for item in items:
                if limit and len(found) == limit:
                    return found, True
                if as_json:
                    print_json(item, one_line=True)
                found.append(item)
        return found, False

    found, more = there.run(work)
    if not as_json:
        header = ("ID", "TYPE", "FAILED", "DEAD", "FIRST", "LAST", "OVER TIME", "ERROR")
        print_table(header, [_row(item) for item in found], empty="nothing failed in this time")
    if more:
        print_error(f"these are the first {limit}; there are more (see --limit)")


def _row(item: Record) -> tuple[Any, ...]:
    error = ": ".join(part for part in (item["code"], item["message"]) if part)
    times = ago(item["first_seen"]), ago(item["last_seen"])
    return item["error_group"], item["type"], item["failures"], item["dead"], *times, spark(item["counts"]), error
