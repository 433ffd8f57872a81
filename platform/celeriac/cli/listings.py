"""`celeriac groups`, `workers`, `types`: what there is; `groups pause` and `resume` hold a group back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from celeriac.cli.connection import on_store
from celeriac.cli.joining import joined_settings
from celeriac.cli.options import Config, DataDir, Json
from celeriac.cli.output import print_json, print_line, printable
from celeriac.cli.tables import print_table
from celeriac.errors import InvalidSubmissionError, Violation
from celeriac.live.store import TaskStore
from celeriac.model import GroupStats, Pause, WorkerInfo, rfc3339
from celeriac.record import pause_record, worker_record


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    several = typer.Typer(invoke_without_command=True)
    several.callback()(groups)
    several.command()(pause)
    several.command()(resume)
    app.add_typer(several, name="groups", rich_help_panel="Platform")
    for command in (workers, types):
        app.command(rich_help_panel="Platform")(command)


def groups(ctx: typer.Context, as_json: Json = False, data_dir: DataDir = None, config: Config = None) -> None:
    """Show the worker groups: how many tasks wait and run, and how many workers serve each; pause and resume them."""
    if ctx.invoked_subcommand is not None:
        return
    settings, url = joined_settings(config, data_dir)

    async def work(store: TaskStore) -> list[GroupStats]:
        return await store.groups()

    found = on_store(settings, url, work)
    if as_json:
        print_json({"groups": [_group(group) for group in found]})
        return
    headings: tuple[str, ...] = ("GROUP", "WAITING", "RUNNING", "WORKERS")
    rows = [_group_row(group) for group in found]
    if any(group.pause for group in found):
        headings = (*headings, "PAUSED")
        rows = [(*row, _paused(group)) for row, group in zip(rows, found, strict=True)]
    print_table(headings, rows, empty="no group has had a task yet, and no worker serves one by name")


_Name = Annotated[str, typer.Argument(help="The group's name.")]


def pause(
    name: _Name,
    note: Annotated[str, typer.Option(help="Why, for others who wonder.")] = "",
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Hold a group back: its tasks are accepted and wait, what runs goes on."""
    settings, url = joined_settings(config, data_dir)

    async def work(store: TaskStore) -> Pause:
        await _check_group(store, name)
        return await store.pause(name, note)

    paused = on_store(settings, url, work)
    print_line(f"{name} is paused since {rfc3339(paused.at)}; `celeriac groups resume {name}` lets it go on")


def resume(name: _Name, data_dir: DataDir = None, config: Config = None) -> None:
    """Let a paused group go on."""
    settings, url = joined_settings(config, data_dir)

    async def work(store: TaskStore) -> bool:
        await _check_group(store, name)
        return await store.resume(name)

    print_line(f"{name} goes on" if on_store(settings, url, work) else f"{name} was not paused")


async def _check_group(store: TaskStore, name: str) -> None:
    """Raise `InvalidSubmissionError` for a name that is most likely a typing error."""
    known = {group.name for group in await store.groups(also=("default", *store.settings.groups))}
    if name not in known:
        raise InvalidSubmissionError(
            [Violation("name", f"there is no group {name!r}; there are {', '.join(sorted(known))}")]
        )


def _group_row(group: GroupStats) -> tuple[object, ...]:
    return group.name, group.waiting, group.running, group.workers


def _paused(group: GroupStats) -> str:
    if group.pause is None:
        return ""
    return f"since {rfc3339(group.pause.at)}" + (f": {printable(group.pause.note)}" if group.pause.note else "")


def workers(as_json: Json = False, data_dir: DataDir = None, config: Config = None) -> None:
    """Show the workers that are alive: where they are, what they serve and how busy they are."""
    settings, url = joined_settings(config, data_dir)

    async def work(store: TaskStore) -> list[WorkerInfo]:
        return await store.workers()

    found = on_store(settings, url, work)
    if as_json:
        print_json({"workers": [worker_record(worker) for worker in found]})
        return
    print_table(
        ("WORKER", "KIND", "HOST", "PID", "GROUPS", "RUNNING", "SINCE"),
        [_worker_row(worker) for worker in found],
        empty="no worker is alive: start one with `celeriac worker`",
    )


def types(as_json: Json = False, data_dir: DataDir = None, config: Config = None) -> None:
    """Show the task types that the workers run; with --json also the schema of each payload."""
    settings, url = joined_settings(config, data_dir)

    async def work(store: TaskStore) -> dict[str, dict[str, Any]]:
        return await store.task_types()

    found = on_store(settings, url, work)
    if as_json:
        print_json({"task_types": [_task_type(name, found[name]) for name in sorted(found)]})
        return
    print_table(
        ("TYPE", "QUEUE", "DESCRIPTION"),
        [
            (name, found[name].get("group", ""), str(found[name].get("description") or "").partition("\n")[0])
            for name in sorted(found)
        ],
        empty="no worker has announced a task type yet",
    )


def _group(group: GroupStats) -> dict[str, Any]:
    return {
        "name": group.name,
        "waiting": group.waiting,
        "running": group.running,
        "workers": group.workers,
        "paused": pause_record(group.pause),
    }


def _task_type(name: str, about: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "description": about.get("description", ""),
        "queue": about.get("group", "default"),
        "max_retries": about.get("max_retries"),
        "timeout_s": about.get("timeout_s"),
        "payload_schema": about.get("schema", {}),
    }


def _worker_row(worker: WorkerInfo) -> tuple[Any, ...]:
    busy = f"{worker.running}/{worker.concurrency}"
    groups = ",".join(worker.groups)
    return worker.worker_id, worker.kind, worker.host, worker.pid, groups, busy, rfc3339(worker.started_at)
