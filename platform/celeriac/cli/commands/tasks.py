"""`celeriac submit`, `status`, `cancel` and `retry`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from celeriac import json_text
from celeriac.cli.commands.bulk import Detach, DryRun, OneTask, act_on_many
from celeriac.cli.commands.watch import watch_task
from celeriac.cli.completing import groups, task_ids, task_types
from celeriac.cli.filters import filtered
from celeriac.cli.ids import WHOLE_ID, whole_task_id
from celeriac.cli.options import Json, TaskId, anywhere
from celeriac.cli.output import indented, print_error, print_json, print_line, printable
from celeriac.cli.reach.destination import Destination
from celeriac.cli.reach.platform import AnyPlatform, Record
from celeriac.cli.times import local
from celeriac.errors import InvalidSubmissionError, JsonError, Violation
from celeriac.model import OnConflict, OnUnmet, Until, When
from celeriac.task_filter import TaskFilter
from celeriac.tasks.request import read_request

#: Members of a record that are moments.
_MOMENTS: Final = ("created_at", "updated_at", "started_at", "finished_at", "run_at", "expires_at")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (submit, status, why, filtered(cancel), run_now, filtered(retry)):
        app.command(rich_help_panel="Tasks")(anywhere(command))


def _on_unmet(incomplete: str) -> list[str]:
    return [one.value for one in OnUnmet if one.value.startswith(incomplete)]


def submit(
    there: Destination,
    type_: Annotated[
        str,
        typer.Argument(
            metavar="TYPE",
            help="The task type; `celeriac types` lists them.",
            show_default=False,
            autocompletion=task_types,
        ),
    ],
    payload: Annotated[
        str | None,
        typer.Argument(
            metavar="PAYLOAD", help="Its payload: a JSON object, @FILE, or - for standard input.", show_default="{}"
        ),
    ] = None,
    payload_option: Annotated[
        str | None,
        typer.Option("--payload", "-p", metavar="JSON", help="The payload, as an option.", show_default=False),
    ] = None,
    queue: Annotated[
        str | None,
        typer.Option(
            "--group",
            "-g",
            "--queue",
            metavar="GROUP",
            help="Its group.",
            show_default="the type's own",
            autocompletion=groups,
        ),
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
    after: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID[:WHEN]",
            help="Start it when this task has completed; WHEN may also be failed or ended. Repeat the option to name"
            " several.",
            show_default=False,
            autocompletion=task_ids,
        ),
    ] = None,
    on_unmet: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(OnUnmet),
            help="With --after: what becomes of it if one of those tasks ends in another way.",
            show_default="cancel",
            autocompletion=_on_unmet,
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="The customer, tenant or resource that it is for, which rules may limit.",
            show_default="the type's own",
        ),
    ] = None,
    cost: Annotated[
        int | None, typer.Option(metavar="N", help="What its start takes from a rate.", show_default="1")
    ] = None,
    once_key: Annotated[
        str | None,
        typer.Option(metavar="KEY", help="Make it a unique task: one of its type for this key.", show_default=False),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="|".join((Until.ENDED, Until.STARTED, "DURATION")),
            help="With --once-key: how long it holds the key.",
            show_default="ended",
        ),
    ] = None,
    on_conflict: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(OnConflict),
            help="With --once-key: what happens while another task holds the key.",
            show_default="return",
        ),
    ] = None,
    debounce_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Start it when no further call with this key has come for --debounce-delay.",
            show_default=False,
        ),
    ] = None,
    debounce_delay: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="With --debounce-key: how long after the last call it starts."),
    ] = None,
    debounce_max: Annotated[
        str | None, typer.Option(metavar="DURATION", help="With --debounce-key: how long after the first call at most.")
    ] = None,
    debounce_first: Annotated[
        bool, typer.Option("--debounce-first", help="With --debounce-key: keep the payload of the first call.")
    ] = False,
    user_id: Annotated[str | None, typer.Option(metavar="ID", help="The user that it belongs to.")] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(metavar="TAG", help="A word by which it is found. Repeat the option to give several."),
    ] = None,
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
) -> None:
    """Submit a task and print its id.

    For example:  celeriac submit grpc_task '{"service": "demo", "method": "echo"}' --watch
    """
    if payload is not None and payload_option is not None:
        raise InvalidSubmissionError([Violation("payload", "is given twice: after the type, and with --payload")])
    written = {
        "type": type_,
        "payload": read_json("payload", next(one for one in (payload, payload_option, "{}") if one is not None)),
        "queue": queue,
        "max_retries": max_retries,
        "priority": priority,
        "delay": delay,
        "run_at": run_at,
        "expires": expires,
        "timeout": timeout,
        "depends_on": [_dependency(one) for one in after] if after else None,
        "on_unmet": on_unmet,
        "key": key,
        "cost": cost,
        "once": _group("--once-key", once_key, until=until, on_conflict=on_conflict),
        "debounce": _group(
            "--debounce-key",
            debounce_key,
            delay=debounce_delay,
            max_delay=debounce_max,
            payload="first" if debounce_first else None,
        ),
        "user_id": user_id,
        "tags": tag or None,
        "metadata": None if metadata is None else read_json("metadata", metadata),
    }
    document = {name: value for name, value in written.items() if value is not None}
    read_request(document)  # what is wrong in it is said without a connection

    async def work(platform: AnyPlatform) -> int:
        for dependency in document.get("depends_on", ()):
            dependency["task"] = await whole_task_id(platform, dependency["task"])
        submitted = await platform.tasks.submit(document, idempotency_key=idempotency_key)
        _print_submitted(submitted, as_json=as_json, one_line=watch)
        return await watch_task(platform, submitted["task_id"], as_json=as_json) if watch else 0

    raise typer.Exit(there.run(work))


def _group(option: str, key: str | None, **more: str | None) -> dict[str, str] | None:
    """Return the object that several options make; None if `option`, which has the key, is not given."""
    given = {name: text for name, text in more.items() if text is not None}
    if key is None and given:
        raise typer.BadParameter(f"the others mean nothing without it: give {option}", param_hint=option)
    return None if key is None else {"key": key, **given}


def status(there: Destination, task_id: TaskId, as_json: Json = False) -> None:
    """Show a task's record, from the history if it is no longer in the store.

    For example:  celeriac status 59d985bf
    """

    async def work(platform: AnyPlatform) -> tuple[Record, Record]:
        whole = await whole_task_id(platform, task_id)
        task = await platform.tasks.find(whole)
        return task, await platform.tasks.why(whole)

    task, reasons = there.run(work)
    if as_json:
        print_json(task)
        return
    for line in record_lines(task, reasons):
        print_line(line)


def why(there: Destination, task_id: TaskId, as_json: Json = False) -> None:
    """Say why a task waits: a pause, a limit, its place in the queue, no worker for it, …"""

    async def work(platform: AnyPlatform) -> Record:
        return await platform.tasks.why(await whole_task_id(platform, task_id))

    found = there.run(work)
    if as_json:
        print_json(found)
        return
    for reason in found["reasons"]:
        print_line(printable(reason["text"]))
    if not found["reasons"]:
        print_line(f"it does not wait: it is {found['status']}")
    for warning in found.get("warnings", ()):
        print_line(f"warning: {printable(warning['text'])}")


def cancel(
    there: Destination,
    chosen: TaskFilter,
    task_id: OneTask = None,
    dry_run: DryRun = False,
    detach: Detach = False,
    as_json: Json = False,
) -> None:
    """Cancel a task, or all that match. A waiting task is cancelled at once, a running one as soon as it can stop.

    For example:  celeriac cancel --group media --created-before 1h --dry-run
    """
    if task_id is None:
        raise typer.Exit(act_on_many("cancel", chosen, there, dry_run=dry_run, detach=detach, as_json=as_json))
    _one_or_many(chosen, dry_run=dry_run)

    async def work(platform: AnyPlatform) -> Record:
        return await platform.tasks.cancel(await whole_task_id(platform, task_id))

    reached = there.run(work)
    if as_json:
        print_json(reached)
    elif reached["status"] == "cancelled":
        print_line(f"{reached['task_id']} is cancelled")
    else:
        print_line(f"{reached['task_id']} was asked to stop and is still {reached['status']}")


def run_now(there: Destination, task_id: TaskId, as_json: Json = False) -> None:
    """Run a task now that waits for its time or for its next attempt. Limits and pauses hold as before.

    For example:  celeriac run-now 59d985bf
    """

    async def work(platform: AnyPlatform) -> Record:
        return await platform.tasks.run_now(await whole_task_id(platform, task_id))

    reached = there.run(work)
    if as_json:
        print_json(reached)
    else:
        print_line(f"{reached['task_id']} is {reached['status']}")


def retry(
    there: Destination,
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
    from_step: Annotated[
        str | None,
        typer.Option(
            metavar="STEP", help="With an id: forget this step of the task and all later ones. It may have completed."
        ),
    ] = None,
    dry_run: DryRun = False,
    detach: Detach = False,
    as_json: Json = False,
) -> None:
    """Run a failed or cancelled task again, or all failed tasks that match, with all attempts.

    It works for as long as the history has the task.

    For example:  celeriac retry --type resize --finished-after 2h --dry-run
    """
    if task_id is None:
        if payload is not None:
            raise InvalidSubmissionError([Violation("payload", "needs the id of one task: a filter has no payload")])
        if from_step is not None:
            raise InvalidSubmissionError([Violation("from_step", "needs the id of one task: a filter has no steps")])
        raise typer.Exit(act_on_many("retry", chosen, there, dry_run=dry_run, detach=detach, as_json=as_json))
    _one_or_many(chosen, dry_run=dry_run)
    document = None if payload is None else read_json("payload", payload)
    if document is not None and not isinstance(document, dict):
        raise InvalidSubmissionError([Violation("payload", "must be a JSON object")])

    async def work(platform: AnyPlatform) -> Record:
        return await platform.tasks.retry(await whole_task_id(platform, task_id), document, from_step)

    reached = there.run(work)
    if as_json:
        print_json(reached)
    else:
        print_line(f"{reached['task_id']} is {reached['status']}")


def _dependency(text: str) -> dict[str, str]:
    """Return a dependency as it is submitted from `ID` or `ID:WHEN`; an id may have colons of its own."""
    task_id, colon, when = text.rpartition(":")
    if colon and (when in {one.value for one in When} or WHOLE_ID.fullmatch(task_id)):
        return {"task": task_id, "when": when}
    return {"task": text}


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
    except JsonError as exc:
        raise InvalidSubmissionError([Violation(name, exc.problem if source == name else str(exc))]) from exc
    except ValueError as exc:  # of the encoding
        raise InvalidSubmissionError([Violation(name, f"{source} is not text in UTF-8")]) from exc


def record_lines(task: Record, why: Record | None = None) -> list[str]:
    """Return a record as lines for people. Empty values are left out, the result comes last."""
    # The v1 API calls the group `queue`.
    record = {"group" if name == "queue" else name: value for name, value in task.items()}
    record.pop("waiting_for", None)  # the reasons say it
    record["depends_on"] = _listed(record.pop("depends_on", None) or [])
    progress = record.pop("progress")
    result, payload, error = record.pop("result"), record.pop("payload"), record.pop("error")
    ended = record["status"] in ("completed", "failed", "cancelled")
    if progress["percentage"] or progress["stage"] or progress["message"]:
        record["progress"] = f"{progress['percentage']}% {progress['stage']} {progress['message']}".rstrip()
    if record.pop("cancel_requested") and not ended:
        record["status"] += " (asked to stop)"
    record["attempt"] = f"{record['attempt']} of up to {record.pop('max_retries') + 1}"
    record["metadata"] = json_text.encode(record["metadata"]).decode() if record["metadata"] else None
    for name in _MOMENTS:
        if name in record:
            record[name] = local(record[name])
    if error is not None:
        record["error"] = f"{error['code']}: {error['message']}"
    lines = [f"{name:<12} {printable(str(value))}" for name, value in record.items() if value is not None]
    waits = () if why is None or why["status"] != task["status"] else why["reasons"]
    at = next(i for i, line in enumerate(lines) if line.startswith("status ")) + 1
    warnings = () if why is None or why["status"] != task["status"] else why.get("warnings", ())
    lines[at:at] = [
        *(f"{'' if i else 'waits':<12} {printable(reason['text'])}" for i, reason in enumerate(waits)),
        *(f"{'warning':<12} {printable(warning['text'])}" for warning in warnings),
    ]
    lines.append(f"payload      {indented(payload)}")
    if record["status"] == "completed":
        lines.append(f"result       {indented(result)}")
    if error is not None and record["status"] != "cancelled":
        lines.append(f"why          celeriac log {printable(task['task_id'])} shows its log, with tracebacks")
    return lines


def _listed(dependencies: list[Record]) -> str | None:
    """Return dependencies as `--after` takes them, the first ten; None without any."""
    shown = [one["task"] if one["when"] == "completed" else f"{one['task']}:{one['when']}" for one in dependencies[:10]]
    more = [f"and {len(dependencies) - 10} more"] if len(dependencies) > 10 else []
    return ", ".join(shown + more) or None


def _print_submitted(submitted: Record, *, as_json: bool, one_line: bool) -> None:
    if as_json:
        print_json({"event": "submitted", **submitted} if one_line else submitted, one_line=one_line)
        return
    print_line(submitted["task_id"])
    if submitted.get("deduplicated"):
        print_error("nothing was submitted: this task holds the key of --once-key")
    elif submitted.get("debounced"):
        print_error("no new task: this one starts later now")
    elif not submitted["created"]:
        print_error("nothing was submitted: this is the first task with that idempotency key")
    for warning in submitted.get("warnings", ()):
        print_error(f"warning: {printable(warning['text'])}")
