"""`celeriac limits`: list the rules that limit tasks; set, show and delete them."""

from __future__ import annotations

from shlex import quote
from typing import Annotated, Final

import typer

from celeriac.cli import completing
from celeriac.cli.options import Json, anywhere, group_of
from celeriac.cli.output import print_error, print_json, print_line, printable
from celeriac.cli.reach.destination import Destination
from celeriac.cli.reach.platform import AnyPlatform, Record
from celeriac.cli.tables import print_table
from celeriac.cli.times import local
from celeriac.errors import ApiError, InvalidSubmissionError, Violation
from celeriac.limits.rules import By, LimitRule, SortKeys, StartRate, check_rule

#: What an API answers a credential that may not see the keys of a rule.
_FORBIDDEN: Final = "forbidden"


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    several = group_of(limits)
    several.command("list")(anywhere(list_limits))
    several.command("set")(anywhere(set_limit))
    several.command("show")(anywhere(show))
    several.command("delete")(anywhere(delete))
    app.add_typer(several, name="limits", rich_help_panel="Platform")


def limits(there: Destination, as_json: Json = False) -> None:
    """List the limits: how many tasks of a group, type, key or user may run or start. Set, show and delete them."""
    list_limits(there, as_json)


def list_limits(there: Destination, as_json: Json = False) -> None:
    """List the limits, and how many of the tasks that each covers wait and run. With --json: one per line."""

    async def work(platform: AnyPlatform) -> list[Record]:
        return await platform.limits.listed()

    found = there.run(work)
    if as_json:
        for limit in found:
            print_json(limit, one_line=True)
        return
    headings = ("NAME", "COVERS", "BY", "LIMITS", "WAITING", "RUNNING", "HELD BACK")
    rows = [
        (
            limit["name"],
            _covers(limit),
            limit["by"],
            _limits(limit) + (f": {limit['note']}" if limit["note"] else ""),
            limit["waiting"],
            limit["running"],
            limit["parked"],
        )
        for limit in found
    ]
    print_table(headings, rows, empty="there are no limits")


_Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The limit's name.", show_default=False, autocompletion=completing.limits)
]


def set_limit(
    there: Destination,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The name of a new limit, or of one to replace.", show_default=False)
    ],
    group: Annotated[
        str | None,
        typer.Option(metavar="GROUP", help="The group whose tasks it covers.", autocompletion=completing.groups),
    ] = None,
    type_: Annotated[
        str | None,
        typer.Option(
            "--type",
            metavar="TYPE",
            help="The type that it covers; with --group, in that group.",
            autocompletion=completing.task_types,
        ),
    ] = None,
    by: Annotated[By, typer.Option(metavar="all|key|user", help="What it counts separately; `all`: nothing.")] = By.ALL,
    max_running: Annotated[int | None, typer.Option(metavar="N", help="How many tasks may run at once.")] = None,
    rate: Annotated[
        str | None, typer.Option(metavar="RATE", help="How many may start per time: 5/s, 100/m, 10/h or 1/d.")
    ] = None,
    fair: Annotated[bool, typer.Option("--fair", help="Keys (or users) take turns; needs --group.")] = False,
    ordered: Annotated[
        bool, typer.Option("--ordered", help="One task of a key (or user) at a time, in the order of submission.")
    ] = False,
    max_waiting: Annotated[
        int | None, typer.Option(metavar="N", help="How many tasks of a key (or user) may wait.")
    ] = None,
    note: Annotated[str, typer.Option(metavar="TEXT", help="The reason, which others can see.")] = "",
    as_json: Json = False,
) -> None:
    """Set a limit, in place of the one of its name: what is left out is not limited. Running tasks go on.

    For example:  celeriac limits set customers --group mail --by key --max-running 2 --fair
    """
    try:
        per_time = None if rate is None else StartRate.parse(rate)
    except ValueError as exc:
        raise InvalidSubmissionError([Violation("rate", f"{rate!r} {exc}")]) from exc
    rule = LimitRule(
        name,
        group=group,
        type=type_,
        by=by,
        max_running=max_running,
        rate=per_time,
        fair=fair,
        ordered=ordered,
        max_waiting=max_waiting,
        note=note,
    )
    check_rule(rule)

    async def work(platform: AnyPlatform) -> Record:
        return await platform.limits.set(rule)

    limit = there.run(work)
    if as_json:
        print_json(limit)
    else:
        print_line(f"{name} is set for {_sentence(limit)}; `celeriac limits delete {quote(name)}` deletes it")


def show(
    there: Destination,
    name: _Name,
    sort: Annotated[
        SortKeys, typer.Option(metavar="waiting|running", help="What the keys have most of.")
    ] = SortKeys.WAITING,
    limit: Annotated[int, typer.Option(metavar="N", help="Most keys to show.", min=1, max=1000)] = 10,
    as_json: Json = False,
) -> None:
    """Show a limit, and the keys (or users) of which most tasks wait or run under it."""

    async def work(platform: AnyPlatform) -> tuple[Record, list[Record] | None]:
        found = await platform.limits.get(name)
        try:
            return found, await platform.limits.keys(name, sort=sort.value, limit=limit)
        except ApiError as exc:
            if exc.code != _FORBIDDEN:
                raise
            return found, None

    found, keys = there.run(work)
    if as_json:
        print_json(found if keys is None else {**found, "keys": keys})
    else:
        _print_limit(found)
        if keys and found["by"] != By.ALL:
            print_line("")
            print_table(
                (found["by"].upper(), "WAITING", "RUNNING"),
                [(one["key"], one["waiting"], one["running"]) for one in keys],
                empty="",
            )
    if keys is None:
        print_error("only an admin sees the keys")


def delete(there: Destination, name: _Name) -> None:
    """Delete a limit. What it held goes on, as far as other limits have room."""

    async def work(platform: AnyPlatform) -> None:
        await platform.limits.delete(name)

    there.run(work)
    print_line(f"{name} is deleted")


def _print_limit(limit: Record) -> None:
    print_line(f"covers   {_sentence(limit)}")
    print_line(f"since    {local(limit['at'])}")
    if limit["note"]:
        print_line(f"note     {printable(limit['note'])}")
    print_line(f"waiting  {limit['waiting']}, {limit['parked']} of them held back")
    print_line(f"running  {limit['running']}")


def _sentence(limit: Record) -> str:
    each = "" if limit["by"] == By.ALL else f", each {limit['by']}"
    return f"{printable(_covers(limit))}{each}: {_limits(limit)}"


def _covers(limit: Record) -> str:
    named = [f"{kind} {limit[kind]}" for kind in ("group", "type") if limit[kind]]
    return ", ".join(named)


def _limits(limit: Record) -> str:
    parts = [] if limit["max_running"] is None else [f"{limit['max_running']} running"]
    parts += [] if limit["rate"] is None else [f"{limit['rate']} starting"]
    parts += [] if limit["max_waiting"] is None else [f"{limit['max_waiting']} waiting"]
    return ", ".join([*parts, *(name for name in ("fair", "ordered") if limit[name])])
