"""`celeriac workflows`: submit graphs of tasks, list and show them, follow, cancel and retry them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from celeriac.cli.commands.tasks import read_json
from celeriac.cli.completing import workflow_ids
from celeriac.cli.ids import whole_workflow_id
from celeriac.cli.options import Json, anywhere, group_of
from celeriac.cli.output import print_error, print_json, print_line, printable
from celeriac.cli.reach.destination import Destination
from celeriac.cli.reach.platform import AnyPlatform, Record
from celeriac.cli.tables import print_table
from celeriac.cli.times import ago, local
from celeriac.errors import InvalidSubmissionError, Violation

#: Names of files that are YAML; all others are JSON.
_YAML: Final = (".yaml", ".yml")
_STATUSES: Final = ("running", "completed", "failed", "cancelled")

WorkflowId = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="The workflow's id, or its beginning: six characters or more.",
        show_default=False,
        autocompletion=workflow_ids,
    ),
]


def _statuses(incomplete: str) -> list[str]:
    return [one for one in _STATUSES if one.startswith(incomplete)]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    group = group_of(workflows)
    group.command("list")(anywhere(list_workflows))
    for command in (submit, show, watch, cancel, retry):
        group.command()(anywhere(command))
    app.add_typer(group, name="workflows", rich_help_panel="Tasks")


def workflows(there: Destination, as_json: Json = False) -> None:
    """List the workflows: graphs of tasks that come after each other. Submit, show, follow and change them."""
    list_workflows(there, as_json=as_json)


def list_workflows(
    there: Destination,
    status: Annotated[
        str | None,
        typer.Option("--status", "-s", help="Only workflows with this status.", autocompletion=_statuses),
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Only workflows of this name.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, max=500, help="How many at most.")] = 50,
    as_json: Json = False,
) -> None:
    """List workflows, the newest first. With --json: one record per line."""
    if status is not None and status not in _STATUSES:
        message = f"a workflow has no status {status!r}; known are: {', '.join(_STATUSES)}"
        raise InvalidSubmissionError([Violation("status", message)])

    async def work(platform: AnyPlatform) -> list[Record]:
        async with aclosing(platform.workflows.listed(limit, status=status, name=name)) as items:
            return [item async for item in items]

    found = there.run(work)
    if as_json:
        for one in found:
            print_json(one, one_line=True)
        return
    print_table(
        ("ID", "NAME", "STATUS", "NODES", "CREATED", "TOOK", "USER"),
        [
            (
                one["workflow_id"],
                one["name"],
                one["status"],
                _counts(one["counts"]),
                ago(one["created_at"]),
                _took(one["created_at"], one["finished_at"]),
                one["user_id"],
            )
            for one in found
        ],
        empty="there are no workflows: submit one with `celeriac workflows submit`",
    )


def submit(
    there: Destination,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="The graph: JSON, or YAML if its name ends with .yaml; - for JSON from standard input.",
            show_default=False,
        ),
    ],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its name.", show_default="the one in the file")
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Another submission with the same key returns the first workflow.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Follow it to its end, as `celeriac workflows watch` does.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Submit a graph of tasks, all of it or nothing, and print its id.

    For example:  celeriac workflows submit report.yaml --watch
    """
    document = _read(file)
    if name is not None and isinstance(document, dict):
        document = {**document, "name": name}

    async def work(platform: AnyPlatform) -> int:
        submitted = await platform.workflows.submit(document, idempotency_key=idempotency_key)
        if as_json:
            print_json({"event": "submitted", **submitted} if watch else submitted, one_line=watch)
        else:
            print_line(submitted["workflow_id"])
            if not submitted["created"]:
                print_error("nothing was submitted: this is the first workflow with that idempotency key")
        return await _watched(platform, submitted["workflow_id"], as_json=as_json) if watch else 0

    raise typer.Exit(there.run(work))


def show(there: Destination, workflow_id: WorkflowId, as_json: Json = False) -> None:
    """Show a workflow and its nodes, each with what it comes after; from the history if the store has let it go."""

    async def work(platform: AnyPlatform) -> Record:
        return await platform.workflows.get(await whole_workflow_id(platform, workflow_id))

    found = there.run(work)
    if as_json:
        print_json(found)
        return
    for field in ("workflow_id", "name", "status", "user_id", "created_at", "finished_at", "metadata"):
        value = found[field]
        if value not in (None, {}):
            print_line(f"{field:12} {printable(str(local(value) if field.endswith('_at') else value))}")
    print_line(f"{'nodes':12} {_counts(found['counts'])}")
    print_line("")
    print_table(
        ("NODE", "TYPE", "STATUS", "AFTER", "TOOK", "TASK", "ERROR"),
        [
            (
                node,
                one["type"],
                one["status"],
                ", ".join(_condition(before) for before in one["after"]),
                _took(one["started_at"], one["finished_at"]),
                one["task_id"],
                None if one["error"] is None else one["error"]["message"],
            )
            for node, one in found["nodes"].items()
        ],
        empty="it has no nodes",
    )


def watch(there: Destination, workflow_id: WorkflowId, as_json: Json = False) -> None:
    """Follow a workflow to its end, from the first change of a node. With --json: one event per line.

    Exit code 1: it failed or was cancelled.
    """

    async def work(platform: AnyPlatform) -> int:
        return await _watched(platform, await whole_workflow_id(platform, workflow_id), as_json=as_json)

    raise typer.Exit(there.run(work))


def cancel(there: Destination, workflow_id: WorkflowId, as_json: Json = False) -> None:
    """Cancel a workflow as a whole: its waiting nodes at once, its running ones as soon as they can stop."""

    async def work(platform: AnyPlatform) -> Record:
        return await platform.workflows.cancel(await whole_workflow_id(platform, workflow_id))

    reached = there.run(work)
    if as_json:
        print_json(reached)
    elif reached["status"] == "cancelled":
        print_line(f"{reached['workflow_id']} is cancelled")
    else:
        print_line(f"{reached['workflow_id']} was asked to stop and is still {reached['status']}")


def retry(there: Destination, workflow_id: WorkflowId, as_json: Json = False) -> None:
    """Run the failed nodes of a workflow again, and those that were cancelled because of them."""

    async def work(platform: AnyPlatform) -> Record:
        return await platform.workflows.retry(await whole_workflow_id(platform, workflow_id))

    reached = there.run(work)
    if as_json:
        print_json(reached)
    else:
        print_line(f"{reached['workflow_id']} is {reached['status']}")


async def _watched(platform: AnyPlatform, workflow_id: str, *, as_json: bool) -> int:
    """Show the changes of a workflow until its end; returns the exit code."""
    events: AsyncGenerator[Record] = platform.workflows.watch(workflow_id)
    async with aclosing(events) as changes:
        async for event in changes:
            if as_json:
                print_json(event, one_line=True)
            elif event["event"] == "node":
                error = event.get("error")
                why = "" if error is None else f"  {error['code']}: {error['message']}"
                print_line(printable(f"{event['status']:>10}  {event['node']}{why}"))
            if event["event"] == "done":
                if not as_json:
                    print_line(f"{event['status']}: {_counts(event['counts'])}")
                return 0 if event["status"] == "completed" else 1
    return 1


def _read(file: str) -> Any:
    """Return the document in a file; raises `InvalidSubmissionError`."""
    if not file.endswith(_YAML):
        return read_json("FILE", file if file == "-" else f"@{file}")
    import yaml

    try:
        return yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except OSError as exc:
        raise InvalidSubmissionError([Violation("FILE", f"cannot read {file}: {exc.strerror}")]) from exc
    except (ValueError, yaml.YAMLError) as exc:
        raise InvalidSubmissionError([Violation("FILE", f"{file} is not YAML: {' '.join(str(exc).split())}")]) from exc


def _counts(counts: Record) -> str:
    return ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "none"


def _condition(before: Record) -> str:
    return str(before["node"]) if before["when"] == "completed" else f"{before['node']}:{before['when']}"


def _took(start: str | None, end: str | None) -> str | None:
    if start is None or end is None:
        return None
    seconds = (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
