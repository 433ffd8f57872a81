"""`celeriac groups`: list the worker groups; pause, resume, drain and limit them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

import typer

from celeriac.cli import completing
from celeriac.cli.options import Json, anywhere, group_of
from celeriac.cli.output import NOT_NOW, print_error, print_json, print_line, printable
from celeriac.cli.reach.destination import Destination
from celeriac.cli.reach.platform import AnyPlatform, Record
from celeriac.cli.tables import print_table
from celeriac.cli.times import ago, clock
from celeriac.errors import GroupNotFoundError, InvalidSubmissionError, Violation
from celeriac.limits.rules import StartRate, check_limits
from celeriac.settings import parse_duration_s

#: Pause between two looks at a group that is drained (seconds).
_LOOK_S: Final = 0.5
#: An error names this many groups.
_NAMED: Final = 50


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    several = group_of(groups)
    several.command("list")(anywhere(list_groups))
    for command in (pause, resume, drain, limit, unlimit):
        several.command()(anywhere(command))
    app.add_typer(several, name="groups", rich_help_panel="Platform")


def groups(there: Destination, as_json: Json = False) -> None:
    """List the worker groups, with their waiting tasks, running tasks and workers; pause and limit them."""
    list_groups(there, as_json)


def list_groups(there: Destination, as_json: Json = False) -> None:
    """List the worker groups, with their waiting tasks, running tasks and workers. With --json: one per line."""

    async def work(platform: AnyPlatform) -> tuple[list[Record], int]:
        return await platform.groups.listed()

    found, left_out = there.run(work)
    if as_json:
        for group in found:
            print_json(group, one_line=True)
    else:
        headings: tuple[str, ...] = ("GROUP", "WAITING", "RUNNING", "WORKERS")
        rows: list[tuple[Any, ...]] = [_group_row(group) for group in found]
        if any(group["unserved"] for group in found):
            headings = (*headings, "NO WORKER FOR")
            rows = [(*row, group["unserved"] or "") for row, group in zip(rows, found, strict=True)]
        if any(group["paused"] for group in found):
            headings = (*headings, "PAUSED")
            rows = [(*row, _paused(group)) for row, group in zip(rows, found, strict=True)]
        if any(group["limits"] for group in found):
            headings = (*headings, "LIMITS")
            rows = [(*row, _limits(group["limits"])) for row, group in zip(rows, found, strict=True)]
        print_table(headings, rows, empty="there are no groups")
    if left_out:
        print_error(f"{left_out} more groups are left out")


_Name = Annotated[
    str, typer.Argument(metavar="GROUP", help="The group's name.", show_default=False, autocompletion=completing.groups)
]


def pause(
    there: Destination,
    name: _Name,
    note: Annotated[str, typer.Option(metavar="TEXT", help="The reason, which others can see.")] = "",
    as_json: Json = False,
) -> None:
    """Pause a group. New tasks are accepted and wait; running tasks continue."""

    async def work(platform: AnyPlatform) -> Record:
        return await _known(platform, lambda: platform.groups.pause(name, note))

    group = there.run(work)
    since = clock(group["paused"]["at"])
    _print(group, f"{name} is paused since {since}; `celeriac groups resume {name}` resumes it", as_json=as_json)


def resume(there: Destination, name: _Name, as_json: Json = False) -> None:
    """Resume a paused group."""

    async def work(platform: AnyPlatform) -> tuple[Record, Record]:
        before = await _known(platform, lambda: platform.groups.get(name))
        return before, await platform.groups.resume(name)

    before, group = there.run(work)
    _print(group, f"{name} is resumed" if before["paused"] else f"{name} was not paused", as_json=as_json)


def drain(
    there: Destination,
    name: _Name,
    note: Annotated[str, typer.Option(metavar="TEXT", help="The reason, which others can see.")] = "",
    timeout: Annotated[str, typer.Option(help="How long to wait for running tasks.", metavar="DURATION")] = "10m",
) -> None:
    """Pause a group and wait until its running tasks have ended. Exit code 3: some still run; it stays paused."""
    try:
        patience_s = float(parse_duration_s(timeout))
    except ValueError as exc:
        raise InvalidSubmissionError([Violation("timeout", str(exc))]) from exc

    async def work(platform: AnyPlatform) -> Record:
        await _known(platform, lambda: platform.groups.pause(name, note, action="group.drain"))
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + patience_s
        told = -1
        while (found := await platform.groups.get(name))["running"] and loop.time() < give_up_at:
            if found["running"] != told:
                told = found["running"]
                print_line(f"{name}: {told} still running")
            await asyncio.sleep(_LOOK_S)
        return found

    found = there.run(work)
    if found["running"]:
        print_line(f"{name}: {found['running']} still running after {timeout}; the group stays paused")
        raise typer.Exit(NOT_NOW)
    waiting = found["waiting"]
    print_line(f"{name} is paused and runs nothing; {waiting} wait. `celeriac groups resume {name}` resumes it")


def limit(
    there: Destination,
    name: _Name,
    max_running: Annotated[
        int | None, typer.Option(help="How many tasks may run at once, across all workers.", metavar="N")
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(help="How many may start per time, across all workers: 5/s, 100/m, 10/h or 1/d.", metavar="RATE"),
    ] = None,
    note: Annotated[str, typer.Option(metavar="TEXT", help="The reason, which others can see.")] = "",
    as_json: Json = False,
) -> None:
    """Limit how many tasks of a group run at once and how many start per time. Replaces its earlier limits.

    For example:  celeriac groups limit mail --rate 100/m --note "as agreed"
    """
    try:
        check_limits(max_running, None if rate is None else StartRate.parse(rate))
    except InvalidSubmissionError:
        raise
    except ValueError as exc:
        raise InvalidSubmissionError([Violation("rate", f"{rate!r} {exc}")]) from exc

    async def work(platform: AnyPlatform) -> Record:
        return await _known(
            platform, lambda: platform.groups.limit(name, max_running=max_running, rate=rate, note=note)
        )

    group = there.run(work)
    told = _limits(group["limits"], noted=False)
    text = f"{name} is limited to {told}; `celeriac groups unlimit {name}` removes the limits"
    _print(group, text, as_json=as_json)


def unlimit(there: Destination, name: _Name, as_json: Json = False) -> None:
    """Remove the limits of a group."""

    async def work(platform: AnyPlatform) -> tuple[Record, Record]:
        before = await _known(platform, lambda: platform.groups.get(name))
        return before, await platform.groups.unlimit(name)

    before, group = there.run(work)
    _print(group, f"{name} has no limits now" if before["limits"] else f"{name} had no limits", as_json=as_json)


async def _known(platform: AnyPlatform, step: Callable[[], Awaitable[Record]]) -> Record:
    """Do a step on a group. The error for an unknown one lists those that exist: it is most likely a typing error."""
    try:
        return await step()
    except GroupNotFoundError as exc:
        found, _ = await platform.groups.listed()
        names = ", ".join(group["name"] for group in found[:_NAMED])
        raise InvalidSubmissionError(
            [Violation("name", f"there is no group {exc.group!r}; known are: {names}")]
        ) from exc


def _print(group: Record, text: str, *, as_json: bool) -> None:
    if as_json:
        print_json(group)
    else:
        print_line(text)


def _group_row(group: Record) -> tuple[object, ...]:
    return group["name"], group["waiting"], group["running"], group["workers"]


def _paused(group: Record) -> str:
    pause = group["paused"]
    if pause is None:
        return ""
    return f"since {ago(pause['at'])}" + (f": {printable(pause['note'])}" if pause["note"] else "")


def _limits(limits: Record | None, *, noted: bool = True) -> str:
    if limits is None:
        return ""
    parts = [] if limits["max_running"] is None else [f"{limits['max_running']} running"]
    parts += [] if limits["rate"] is None else [f"{limits['rate']} starting"]
    return ", ".join(parts) + (f": {printable(limits['note'])}" if noted and limits["note"] else "")
