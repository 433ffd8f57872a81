"""`celeriac workers` and `types`: list the workers and the task types."""

from __future__ import annotations

from typing import Any

import typer

from celeriac.cli.options import Json, anywhere
from celeriac.cli.output import print_json
from celeriac.cli.reach.destination import Destination
from celeriac.cli.reach.platform import AnyPlatform, Record
from celeriac.cli.tables import print_table
from celeriac.cli.times import ago


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (workers, types):
        app.command(rich_help_panel="Platform")(anywhere(command))


def workers(there: Destination, as_json: Json = False) -> None:
    """List the running workers: where they are, which groups they serve and how busy they are."""

    async def work(platform: AnyPlatform) -> list[Record]:
        return await platform.operators.workers()

    found = there.run(work)
    if as_json:
        for worker in found:
            print_json(worker, one_line=True)
        return
    print_table(
        ("WORKER", "KIND", "HOST", "PID", "GROUPS", "RUNNING", "SINCE"),
        [_worker_row(worker) for worker in found],
        empty="no worker is running: start one with `celeriac worker`",
    )


def types(there: Destination, as_json: Json = False) -> None:
    """List the task types: those of the platform and those that workers run.

    With --json: one per line, with the schema of its payload.
    """

    async def work(platform: AnyPlatform) -> list[Record]:
        return await platform.operators.types()

    found = there.run(work)
    if as_json:
        for known in found:
            print_json(known, one_line=True)
        return
    print_table(
        ("TYPE", "GROUP", "DESCRIPTION"),
        [(known["name"], known["queue"], known["description"].partition("\n")[0]) for known in found],
        empty="there are no task types",
    )


def _worker_row(worker: Record) -> tuple[Any, ...]:
    busy = f"{worker['running']}/{worker['concurrency']}"
    groups = ",".join(worker["groups"])
    # A remote worker is known by its address only.
    pid = worker["pid"] or ""
    return worker["worker_id"], worker["kind"], worker["host"], pid, groups, busy, ago(worker["started_at"])
