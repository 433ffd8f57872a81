"""`celeriac groups`: list the worker groups; pause, resume, drain and limit them."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import typer

from celeriac.cli.auditing import note as note_action
from celeriac.cli.connection import on_groups
from celeriac.cli.options import Config, DataDir, Json
from celeriac.cli.output import NOT_NOW, print_json, print_line, printable
from celeriac.cli.tables import print_table
from celeriac.errors import InvalidSubmissionError, Violation
from celeriac.groups.record import group_record
from celeriac.groups.service import Groups
from celeriac.installation.discovery import joined_settings
from celeriac.limits.rules import Limits, StartRate
from celeriac.model import GroupStats, Pause, rfc3339
from celeriac.settings import parse_duration_s

#: Pause between two looks at a group that is drained (seconds).
_LOOK_S: Final = 0.5


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    several = typer.Typer(invoke_without_command=True)
    several.callback()(groups)
    for command in (pause, resume, drain, limit, unlimit):
        several.command()(command)
    app.add_typer(several, name="groups", rich_help_panel="Platform")


def groups(ctx: typer.Context, as_json: Json = False, data_dir: DataDir = None, config: Config = None) -> None:
    """List the worker groups, with their waiting tasks, running tasks and workers; pause and limit them."""
    if ctx.invoked_subcommand is not None:
        return
    settings, url = joined_settings(config, data_dir)

    async def work(groups: Groups) -> list[GroupStats]:
        return await groups.all()

    found = on_groups(settings, url, work)
    if as_json:
        print_json({"groups": [group_record(group, settings.queues) for group in found]})
        return
    headings: tuple[str, ...] = ("GROUP", "WAITING", "RUNNING", "WORKERS")
    rows = [_group_row(group) for group in found]
    if any(group.pause for group in found):
        headings = (*headings, "PAUSED")
        rows = [(*row, _paused(group)) for row, group in zip(rows, found, strict=True)]
    if any(group.limits for group in found):
        headings = (*headings, "LIMITS")
        rows = [(*row, _limits(group.limits)) for row, group in zip(rows, found, strict=True)]
    print_table(headings, rows, empty="there are no groups")


_Name = Annotated[str, typer.Argument(help="The group's name.")]


def pause(
    name: _Name,
    note: Annotated[str, typer.Option(help="The reason, which others can see.")] = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Pause a group. New tasks are accepted and wait; running tasks continue."""
    settings, url = joined_settings(config, data_dir)

    async def work(groups: Groups) -> Pause:
        paused = await groups.pause(name, note)
        await note_action(groups.store, "group.pause", name)
        return paused

    paused = on_groups(settings, url, work)
    print_line(f"{name} is paused since {rfc3339(paused.at)}; `celeriac groups resume {name}` resumes it")


def resume(name: _Name, data_dir: DataDir = None, config: Config = None) -> None:
    """Resume a paused group."""
    settings, url = joined_settings(config, data_dir)

    async def work(groups: Groups) -> bool:
        resumed = await groups.resume(name)
        await note_action(groups.store, "group.resume", name)
        return resumed

    print_line(f"{name} is resumed" if on_groups(settings, url, work) else f"{name} was not paused")


def drain(
    name: _Name,
    note: Annotated[str, typer.Option(help="The reason, which others can see.")] = "",
    timeout: Annotated[str, typer.Option(help="How long to wait for running tasks.", metavar="DURATION")] = "10m",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Pause a group and wait until its running tasks have ended. Exit code 3: some still run; it stays paused."""
    try:
        patience_s = float(parse_duration_s(timeout))
    except ValueError as exc:
        raise InvalidSubmissionError([Violation("timeout", str(exc))]) from exc
    settings, url = joined_settings(config, data_dir)

    async def work(groups: Groups) -> GroupStats:
        await groups.pause(name, note)
        await note_action(groups.store, "group.drain", name)
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + patience_s
        told = -1
        while (found := await groups.get(name)).running and loop.time() < give_up_at:
            if found.running != told:
                told = found.running
                print_line(f"{name}: {told} still running")
            await asyncio.sleep(_LOOK_S)
        return found

    found = on_groups(settings, url, work)
    if found.running:
        print_line(f"{name}: {found.running} still running after {timeout}; the group stays paused")
        raise typer.Exit(NOT_NOW)
    print_line(f"{name} is paused and runs nothing; {found.waiting} wait. `celeriac groups resume {name}` resumes it")


def limit(
    name: _Name,
    max_running: Annotated[
        int | None, typer.Option(help="How many tasks may run at once, across all workers.", metavar="N")
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(help="How many may start per time, across all workers: 5/s, 100/m, 10/h or 1/d.", metavar="RATE"),
    ] = None,
    note: Annotated[str, typer.Option(help="The reason, which others can see.")] = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Limit how many tasks of a group run at once and how many start per time. Replaces its earlier limits."""
    try:
        wanted = None if rate is None else StartRate.parse(rate)
    except ValueError as exc:
        raise InvalidSubmissionError([Violation("rate", f"{rate!r} {exc}")]) from exc
    settings, url = joined_settings(config, data_dir)

    async def work(groups: Groups) -> Limits:
        limits = await groups.limit(name, max_running=max_running, rate=wanted, note=note)
        await note_action(groups.store, "group.limit", name)
        return limits

    told = _limits(on_groups(settings, url, work), noted=False)
    print_line(f"{name} is limited to {told}; `celeriac groups unlimit {name}` removes the limits")


def unlimit(name: _Name, data_dir: DataDir = None, config: Config = None) -> None:
    """Remove the limits of a group."""
    settings, url = joined_settings(config, data_dir)

    async def work(groups: Groups) -> bool:
        unlimited = await groups.unlimit(name)
        await note_action(groups.store, "group.unlimit", name)
        return unlimited

    print_line(f"{name} has no limits now" if on_groups(settings, url, work) else f"{name} had no limits")


def _group_row(group: GroupStats) -> tuple[object, ...]:
    return group.name, group.waiting, group.running, group.workers


def _paused(group: GroupStats) -> str:
    if group.pause is None:
        return ""
    return f"since {rfc3339(group.pause.at)}" + (f": {printable(group.pause.note)}" if group.pause.note else "")


def _limits(limits: Limits | None, *, noted: bool = True) -> str:
    if limits is None:
        return ""
    parts = [] if limits.max_running is None else [f"{limits.max_running} running"]
    parts += [] if limits.rate is None else [f"{limits.rate} starting"]
    return ", ".join(parts) + (f": {printable(limits.note)}" if noted and limits.note else "")
