"""`celeriac submit`, `status`, `cancel` and `retry`, directly on the store and the history."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from celeriac import json_text
from celeriac.cli.auditing import note
from celeriac.cli.commands.bulk import Detach, DryRun, OneTask, act_on_many
from celeriac.cli.commands.watch import watch_task
from celeriac.cli.connection import local_types, on_tasks
from celeriac.cli.filters import filtered
from celeriac.cli.options import Config, DataDir, Json, TaskId
from celeriac.cli.output import indented, print_error, print_json, print_line, printable
from celeriac.errors import (
    InvalidSubmissionError,
    Violation,
)
from celeriac.installation.discovery import joined_settings
from celeriac.model import Status, Submitted, Task
from celeriac.task_filter import TaskFilter
from celeriac.tasks.record import task_record
from celeriac.tasks.request import read_request
from celeriac.tasks.service import Tasks


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (submit, status, filtered(cancel), filtered(retry)):
        app.command(rich_help_panel="Tasks")(command)


def submit(
    type_: Annotated[str, typer.Argument(metavar="TYPE", help="The task type; `celeriac types` lists them.")],
    payload: Annotated[
        str, typer.Option("--payload", "-p", metavar="JSON", help="A JSON object, @FILE, or - for standard input.")
    ] = "{}",
    queue: Annotated[
        str | None, typer.Option(metavar="GROUP", help="The worker group.", show_default="the type's own")
    ] = None,
    max_retries: Annotated[
        int | None,
        typer.Option(metavar="N", help="How many attempts may follow the first.", show_default="the type's own"),
    ] = None,
    priority: Annotated[int | None, typer.Option(metavar="0..9", help="Higher runs sooner.", show_default="0")] = None,
    delay: Annotated[str | None, typer.Option(metavar="DURATION", help="Run it later: 30s, 10m, 2h.")] = None,
    run_at: Annotated[
        str | None, typer.Option(metavar="MOMENT", help="Do not run it before this moment: 2030-01-31T08:00:00Z.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Do not start it after this time, a duration or a moment.")
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="How long one attempt may run.", show_default="the type's own"),
    ] = None,
    user_id: Annotated[str | None, typer.Option(metavar="ID", help="The user that it belongs to.")] = None,
    metadata: Annotated[
        str | None, typer.Option(metavar="JSON", help="A JSON object (or @FILE) that is stored with the task.")
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Another submission with the same key returns the first task.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Follow the task to its end, as `celeriac watch` does.")
    ] = False,
    as_json: Json = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Submit a task and print its id.

    For example:  celeriac submit grpc_task --payload '{"service": "demo", "method": "echo"}' --watch
    """
    written = {
        "type": type_,
        "payload": read_json("payload", payload),
        "queue": queue,
        "max_retries": max_retries,
        "priority": priority,
        "delay": delay,
        "run_at": run_at,
        "expires": expires,
        "timeout": timeout,
        "user_id": user_id,
        "metadata": None if metadata is None else read_json("metadata", metadata),
    }
    request = read_request({name: value for name, value in written.items() if value is not None})
    settings, url = joined_settings(config, data_dir)

    async def work(tasks: Tasks) -> int:
        submitted = await tasks.submit(request, idempotency_key=idempotency_key)
        _print_submitted(submitted, as_json=as_json, one_line=watch)
        return await watch_task(tasks, submitted.task_id, as_json=as_json) if watch else 0

    raise typer.Exit(on_tasks(settings, url, work, types=local_types(settings)))


def status(task_id: TaskId, as_json: Json = False, data_dir: DataDir = None, config: Config = None) -> None:
    """Show a task's record, from the history if it is no longer in the store."""
    settings, url = joined_settings(config, data_dir)

    async def work(tasks: Tasks) -> tuple[Task, int | None]:
        task = await tasks.find(task_id)
        return task, await tasks.store.position(task) if task.status is Status.PENDING else None

    task, position = on_tasks(settings, url, work)
    if as_json:
        print_json(task_record(task))
    else:
        for line in record_lines(task, position):
            print_line(line)


def cancel(
    chosen: TaskFilter,
    task_id: OneTask = None,
    dry_run: DryRun = False,
    detach: Detach = False,
    as_json: Json = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Cancel a task, or all that match. A waiting task is cancelled at once, a running one as soon as it can stop.

    For example:  celeriac cancel --queue media --created-before 1h --dry-run
    """
    settings, url = joined_settings(config, data_dir)
    if task_id is None:
        options = {"dry_run": dry_run, "detach": detach, "as_json": as_json}
        raise typer.Exit(act_on_many("cancel", chosen, settings, url, **options))
    _one_or_many(chosen, dry_run=dry_run)

    async def work(tasks: Tasks) -> Status:
        reached = await tasks.cancel(task_id)
        await note(tasks.store, "task.cancel", task_id)
        return reached

    reached = on_tasks(settings, url, work)
    if as_json:
        print_json({"task_id": task_id, "status": reached.wire})
    elif reached is Status.CANCELLED:
        print_line(f"{task_id} is cancelled")
    else:
        print_line(f"{task_id} was asked to stop and is still {reached.wire}")


def retry(
    chosen: TaskFilter,
    task_id: OneTask = None,
    payload: Annotated[
        str | None,
        typer.Option(
            "--payload",
            "-p",
            metavar="JSON",
            help="With an id: a new payload, as JSON, @FILE, or - for standard input.",
        ),
    ] = None,
    dry_run: DryRun = False,
    detach: Detach = False,
    as_json: Json = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Run a failed or cancelled task again, or all failed tasks that match, with all attempts.

    It works for as long as the history has the task.

    For example:  celeriac retry --type resize --finished-after 2h --dry-run
    """
    settings, url = joined_settings(config, data_dir)
    if task_id is None:
        if payload is not None:
            raise InvalidSubmissionError([Violation("payload", "needs the id of one task: a filter has no payload")])
        options = {"dry_run": dry_run, "detach": detach, "as_json": as_json}
        raise typer.Exit(act_on_many("retry", chosen, settings, url, **options))
    _one_or_many(chosen, dry_run=dry_run)
    document = None if payload is None else read_json("payload", payload)

    async def work(tasks: Tasks) -> Status:
        reached = await tasks.retry(task_id, payload=document)
        await note(tasks.store, "task.retry", task_id)
        return reached

    reached = on_tasks(settings, url, work, types=local_types(settings))
    if as_json:
        print_json({"task_id": task_id, "status": reached.wire})
    else:
        print_line(f"{task_id} is {reached.wire}")


def _one_or_many(chosen: TaskFilter, *, dry_run: bool) -> None:
    if chosen != TaskFilter() or dry_run:
        raise InvalidSubmissionError(
            [Violation("", "give either the id of one task or a filter; --dry-run needs a filter")]
        )


def read_json(name: str, text: str) -> Any:
    """Read an option that is JSON, `@FILE`, or `-` for standard input; raises `InvalidSubmissionError`."""
    source = name
    try:
        if text == "-":
            source = "standard input"
            text = sys.stdin.read()
        elif text.startswith("@"):
            source = text[1:]
            text = Path(source).read_text(encoding="utf-8")
        return json_text.read(text, source)
    except OSError as exc:
        raise InvalidSubmissionError([Violation(name, f"cannot read {source}: {exc.strerror}")]) from exc
    except ValueError as exc:  # of the text or its encoding
        raise InvalidSubmissionError([Violation(name, str(exc))]) from exc


def record_lines(task: Task, position: int | None = None) -> list[str]:
    """Return a record as lines for people. Empty values are left out, the result comes last."""
    record = task_record(task)
    progress = record.pop("progress")
    result, payload, error = record.pop("result"), record.pop("payload"), record.pop("error")
    if task.progress.timestamp_ms:
        record["progress"] = f"{progress['percentage']}% {progress['stage']} {progress['message']}".rstrip()
    if position is not None:
        record["status"] += f" (number {position} in its queue)"
    if task.cancel_requested and not task.status.final:
        record["status"] += " (asked to stop)"
    record["attempt"] = f"{task.attempt} of up to {task.max_retries + 1}"
    record["metadata"] = json_text.encode(task.metadata).decode() if task.metadata else None
    for name in ("max_retries", "cancel_requested"):
        record.pop(name)
    if error is not None:
        record["error"] = f"{error['code']}: {error['message']}"
    lines = [f"{name:<12} {printable(str(value))}" for name, value in record.items() if value is not None]
    lines.append(f"payload      {indented(payload)}")
    if task.status is Status.COMPLETED:
        lines.append(f"result       {indented(result)}")
    return lines


def _print_submitted(submitted: Submitted, *, as_json: bool, one_line: bool) -> None:
    if as_json:
        answer = {"task_id": submitted.task_id, "status": submitted.status.wire, "created": submitted.created}
        print_json({"event": "submitted", **answer} if one_line else answer, one_line=one_line)
        return
    print_line(submitted.task_id)
    if not submitted.created:
        print_error("nothing was submitted: this is the first task with that idempotency key")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")
