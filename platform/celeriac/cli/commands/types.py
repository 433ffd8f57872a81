"""`celeriac types`: list the task types, and what their tasks did lately."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from celeriac.cli.filters import read_moment
from celeriac.cli.options import Json, anywhere
from celeriac.cli.output import print_json
from celeriac.cli.reach.destination import Destination
from celeriac.cli.reach.platform import AnyPlatform, Record
from celeriac.cli.tables import print_table
from celeriac.cli.times import duration


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command(rich_help_panel="Platform")(anywhere(types))


def types(
    there: Destination,
    stats: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Also what ended since then: a moment, or a duration before now (24h)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the task types: those of the platform and those that workers run.

    With --stats 24h: how many tasks ended and failed in this time, how long most waited and ran (95 %), from the
    history, which may have types that no worker runs now. With --json: one per line, with the schema of its payload.
    """
    now = datetime.now(UTC)
    since = None if stats is None else read_moment("stats", stats, now)

    async def work(platform: AnyPlatform) -> tuple[list[Record], list[Record]]:
        known = await platform.operators.types()
        return known, [] if since is None else await platform.tasks.types_of(since, now)

    known, ended = there.run(work)
    listed = known if since is None else _joined(known, ended)
    if as_json:
        for one in listed:
            print_json(one, one_line=True)
        return
    header: tuple[str, ...] = ("TYPE", "GROUP", "DESCRIPTION")
    rows = [(one["name"], one["queue"], one["description"].partition("\n")[0]) for one in listed]
    if since is not None:
        header = ("TYPE", "GROUP", "ENDED", "FAILED", "WAIT 95 %", "RUN 95 %", "DESCRIPTION")
        rows = [(*row[:2], *_figures(one["stats"]), row[2]) for row, one in zip(rows, listed, strict=True)]
    print_table(header, rows, empty="there are no task types")


def _joined(known: list[Record], ended: list[Record]) -> list[Record]:
    """Return the types with their figures, those first of which the most tasks ended, then by name."""
    figures = {part["name"]: part for part in ended}
    by_name: dict[str, Record] = {one["name"]: one for one in known}
    for name in figures.keys() - by_name.keys():
        by_name[name] = {"name": name, "queue": None, "description": ""}
    listed = [{**one, "stats": figures.get(name)} for name, one in by_name.items()]
    return sorted(listed, key=lambda one: (-_ended(one["stats"]), one["name"]))


def _ended(part: Record | None) -> int:
    return 0 if part is None else int(part["completed"] + part["failed"] + part["cancelled"])


def _figures(part: Record | None) -> tuple[Any, ...]:
    if part is None:
        return 0, "", "", ""
    failed, tried = part["failed"], part["failed"] + part["completed"]
    share = f"{failed} ({100 * failed / tried:.1f} %)" if failed else ""
    return _ended(part), share, *(duration((part[name] or {}).get("p95_ms")) for name in ("wait", "run"))
