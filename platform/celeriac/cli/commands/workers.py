"""`celeriac workers`: list the workers; drain and resume one."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

import typer

from celeriac.cli import completing
from celeriac.cli.options import Json, anywhere, group_of
from celeriac.cli.output import NOT_NOW, print_json, print_line
from celeriac.cli.reach.destination import Destination
from celeriac.cli.reach.platform import AnyPlatform, Record
from celeriac.cli.tables import print_table
from celeriac.cli.times import ago
from celeriac.durations import parse_duration_s
from celeriac.errors import InvalidSubmissionError, Violation, WorkerNotFoundError

#: Pause between two looks at a worker that is drained (seconds).
_LOOK_S: Final = 0.5
#: An error names this many workers.
_NAMED: Final = 50


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    several = group_of(workers)
    several.command("list")(anywhere(list_workers))
    for command in (drain, resume):
        several.command()(anywhere(command))
    app.add_typer(several, name="workers", rich_help_panel="Platform")


def workers(there: Destination, as_json: Json = False) -> None:
    """List the running workers: where they are, what they serve, how busy they are; drain and resume one."""
    list_workers(there, as_json)


def list_workers(there: Destination, as_json: Json = False) -> None:
    """List the running workers: where they are, which groups they serve, how busy they are, and their memory.

    PER MIN is how many attempts ended in the last minute. With --json: one per line.
    """

    async def work(platform: AnyPlatform) -> list[Record]:
        return await platform.operators.workers()

    found = there.run(work)
    if as_json:
        for worker in found:
            print_json(worker, one_line=True)
        return
    headings: tuple[str, ...] = ("WORKER", "KIND", "HOST", "PID", "GROUPS", "RUNNING", "PER MIN", "MEMORY", "SINCE")
    rows = [_worker_row(worker) for worker in found]
    if any(worker.get("drained") for worker in found):
        headings = (*headings, "DRAINED")
        rows = [(*row, "yes" if worker.get("drained") else "") for row, worker in zip(rows, found, strict=True)]
    print_table(headings, rows, empty="no worker is running: start one with `celeriac worker`")


_Id = Annotated[
    str,
    typer.Argument(metavar="WORKER", help="The worker's id.", show_default=False, autocompletion=completing.worker_ids),
]


def drain(
    there: Destination,
    worker_id: _Id,
    wait: Annotated[
        str | None,
        typer.Option(help="Wait so long at most until its running tasks have ended.", metavar="DURATION"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Have a worker take no more tasks. What it has taken runs to its end.

    It takes tasks again after `celeriac workers resume`, or once it is started again. Exit code 3: with --wait, some
    tasks still run then.
    """
    try:
        patience_s = None if wait is None else float(parse_duration_s(wait))
    except ValueError as exc:
        raise InvalidSubmissionError([Violation("wait", str(exc))]) from exc

    async def work(platform: AnyPlatform) -> tuple[Record, bool]:
        found = await _turned(platform, worker_id, drained=True)
        return (found, False) if patience_s is None else await _idle(platform, found, patience_s)

    found, idle = there.run(work)
    if as_json:
        print_json(found)
    else:
        running = "runs nothing" if idle else f"{found['running']} still running"
        print_line(f"{worker_id} takes no more tasks, {running}; `celeriac workers resume {worker_id}` resumes it")
    if wait is not None and not idle:
        raise typer.Exit(NOT_NOW)


async def _idle(platform: AnyPlatform, drained: Record, patience_s: float) -> tuple[Record, bool]:
    """Wait until a drained worker runs nothing; returns it, and whether that is so. One that has ended runs nothing."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + patience_s
    found: Record = drained
    # What it said before it heard of this does not count.
    while found["running"] or found["seen_at"] == drained["seen_at"]:
        if loop.time() >= give_up_at:
            return found, False
        await asyncio.sleep(_LOOK_S)
        living = {worker["worker_id"]: worker for worker in await platform.operators.workers()}
        found = living.get(drained["worker_id"], {**found, "running": 0, "seen_at": None})
    return found, True


def resume(there: Destination, worker_id: _Id, as_json: Json = False) -> None:
    """Have a drained worker take tasks again."""

    async def work(platform: AnyPlatform) -> Record:
        return await _turned(platform, worker_id, drained=False)

    worker = there.run(work)
    if as_json:
        print_json(worker)
    else:
        print_line(f"{worker_id} takes tasks")


async def _turned(platform: AnyPlatform, worker_id: str, *, drained: bool) -> Record:
    """Drain or resume a worker. The error for an unknown one lists those that run: it is most likely a typing error."""
    try:
        return await platform.operators.drain_worker(worker_id, drained=drained)
    except WorkerNotFoundError as exc:
        names = ", ".join(worker["worker_id"] for worker in (await platform.operators.workers())[:_NAMED])
        known = f"running are: {names}" if names else "none runs"
        raise InvalidSubmissionError([Violation("worker", f"there is no worker {worker_id!r}; {known}")]) from exc


def _worker_row(worker: Record) -> tuple[Any, ...]:
    busy = f"{worker['running']}/{worker['concurrency']}"
    groups = ",".join(worker["groups"])
    # A remote worker is known by its address only.
    pid = worker["pid"] or ""
    rate = worker.get("ended_per_minute")
    per_minute = None if rate is None else f"{rate:g}"
    where = (worker["worker_id"], worker["kind"], worker["host"], pid, groups)
    return *where, busy, per_minute, _memory(worker.get("memory_bytes")), ago(worker["started_at"])


def _memory(size: int | None) -> str | None:
    return None if size is None else f"{round(size / 2**20)} MiB"
