"""`celeriac definitions`: make, show and change definitions, which run tasks on a schedule."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer

from celeriac import json_text
from celeriac.cli.commands.tasks import read_json
from celeriac.cli.completing import definition_ids
from celeriac.cli.filters import read_moment
from celeriac.cli.ids import whole_definition_id
from celeriac.cli.options import Json, anywhere, group_of
from celeriac.cli.output import indented, print_error, print_json, print_line, printable
from celeriac.cli.reach.destination import Destination
from celeriac.cli.reach.platform import AnyPlatform, Move, Record
from celeriac.cli.tables import print_table
from celeriac.cli.times import ago, local
from celeriac.errors import InvalidSubmissionError, JsonError, Violation
from celeriac.schedules.definition import DefinitionStatus

T = TypeVar("T")

#: What `show` shows of a definition's fields.
_SHOWN: Final = (
    *("task_def_id", "name", "user_id", "status", "note", "source", "content", "task"),
    *("group", "overlap", "misfire"),
)

DefinitionId = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="The definition's id, or its beginning: six characters or more.",
        show_default=False,
        autocompletion=definition_ids,
    ),
]
Note = Annotated[str | None, typer.Option("--note", metavar="TEXT", help="The reason, which others can see.")]
Count = Annotated[int, typer.Option("--count", "-n", metavar="N", min=1, max=1000, help="How many.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    group = group_of(definitions)
    group.command("list")(anywhere(list_definitions))
    for command in (show, create, edit, pause, resume, trigger, cancel, preview, backfill):
        group.command()(anywhere(command))
    app.add_typer(group, name="definitions", rich_help_panel="Tasks")


def definitions(there: Destination, as_json: Json = False) -> None:
    """List the definitions: tasks that run on a schedule, or once at a given time. Make, show and change them."""
    list_definitions(there, as_json=as_json)


def list_definitions(
    there: Destination,
    user_id: Annotated[
        str | None, typer.Option("--user-id", metavar="ID", help="Only definitions of this user.")
    ] = None,
    status: Annotated[
        DefinitionStatus | None,
        typer.Option("--status", "-s", case_sensitive=False, help="Only definitions with this status."),
    ] = None,
    group: Annotated[
        str | None, typer.Option("--group", metavar="GROUP", help="Only definitions of this worker group.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, max=500, help="How many at most.")] = 50,
    as_json: Json = False,
) -> None:
    """List definitions, the newest first. With --json: one record per line."""
    wanted = None if status is None else status.value

    async def work(platform: AnyPlatform) -> list[Record]:
        return await platform.definitions.listed(limit, user_id=user_id, status=wanted, group=group)

    found = there.run(work)
    if as_json:
        _print_records(found)
        return
    print_table(
        ("ID", "NAME", "RUNS", "STATUS", "TRIGGER", "NEXT", "FIRED", "USER"),
        [
            (
                d["task_def_id"],
                d["name"],
                d["content"] if d["task"] is None else d["task"].get("type"),
                d["status"].lower(),
                _trigger(d),
                ago(d["next_run_at"]),
                d["counters"]["fired"],
                d["user_id"],
            )
            for d in found
        ],
        empty="there are no definitions: create one with `celeriac definitions create`",
    )


def show(there: Destination, definition_id: DefinitionId, as_json: Json = False) -> None:
    """Show a definition, its next ten firings, its last ten instances and its last ten changes."""
    found = _on(there, definition_id, lambda platform, whole: platform.definitions.get(whole))
    if as_json:
        print_json(found)
        return
    for name in _SHOWN:
        if found[name] not in (None, "", "api"):
            print_line(f"{name:12} {indented(found[name])}")
    for warning in found.get("warnings", ()):
        print_line(f"{'warning':12} {printable(warning['text'])}")
    print_line(f"{'trigger':12} {_trigger(found)}")
    print_line(f"{'counters':12} " + ", ".join(f"{n} {name}" for name, n in found["counters"].items() if n))
    print_line("")
    print_table(
        ("NEXT",), [(local(run["due_at"]),) for run in found["next_runs"]], empty="there are no further firings"
    )
    print_line("")
    print_table(
        ("TASK", "SLOT", "HOW", "STATUS", "ERROR"),
        [
            (r["task_id"], ago(r["scheduled_at"]), r["trigger"], r["status"], r["error"] and r["error"]["message"])
            for r in found["last_runs"]
        ],
        empty="it has not run yet",
    )


def create(
    there: Destination,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name, which lists show.", show_default=False)],
    type_: Annotated[str | None, typer.Option("--type", "-t", metavar="TYPE", help="The task type that runs.")] = None,
    payload: Annotated[
        str | None,
        typer.Option("--payload", "-p", metavar="JSON", help="Its payload: JSON, @FILE, or - for standard input."),
    ] = None,
    every: Annotated[
        str | None, typer.Option("--every", metavar="DURATION", help="Run at this interval: 30s, 10m, 1h30m.")
    ] = None,
    cron: Annotated[str | None, typer.Option("--cron", metavar="EXPRESSION", help="Run by a cron expression.")] = None,
    run_at: Annotated[
        str | None, typer.Option("--at", metavar="MOMENT", help="Run once, at this time: 2030-01-31T08:00Z.")
    ] = None,
    timezone: Annotated[
        str | None,
        typer.Option("--timezone", metavar="ZONE", help="The time zone of --cron and --at, such as Europe/Berlin."),
    ] = None,
    group: Annotated[
        str | None, typer.Option("--group", help="The worker group that runs it.", show_default="the type's")
    ] = None,
    content: Annotated[
        str | None, typer.Option("--content", metavar="TEXT", help="Instead of --type: a text for remote workers.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option("--task", metavar="JSON", help="Instead of --type: a submission, type, payload, … (or @FILE)."),
    ] = None,
    options: Annotated[
        str | None, typer.Option("--options", metavar="JSON", help='Further fields, such as \'{"overlap": "skip"}\'.')
    ] = None,
    user_id: Annotated[str, typer.Option("--user-id", metavar="ID", help="The user that it belongs to.")] = "local",
    as_json: Json = False,
) -> None:
    """Create a definition and print its id. Without --every, --cron or --at it runs once, now.

    For example:  celeriac definitions create nightly --type report --payload '{"customer": 7}' --cron "0 3 * * *"
    """
    document = {
        "name": name,
        "user_id": user_id,
        **_when(every, cron, run_at, timezone),
        **_what(type_, payload, content, task, group),
        **({} if options is None else _object("options", options)),
    }

    async def work(platform: AnyPlatform) -> Record:
        with _named_by_options():
            return await platform.definitions.create(document)

    made = there.run(work)
    if as_json:
        print_json(made)
    else:
        print_line(made["task_def_id"])
        for warning in made.get("warnings", ()):
            print_error(f"warning: {printable(warning['text'])}")


def _when(every: str | None, cron: str | None, run_at: str | None, timezone: str | None) -> dict[str, Any]:
    chosen = {"interval": every, "cron": cron, "run_at": run_at}
    given: dict[str, Any] = {name: value for name, value in chosen.items() if value is not None}
    if len(given) > 1:
        raise InvalidSubmissionError([Violation("", "--every, --cron and --at exclude each other: give one of them")])
    if timezone is not None:
        if cron is None and run_at is None:
            raise InvalidSubmissionError([Violation("--timezone", "has no meaning without --cron or --at")])
        given["timezone"] = timezone
    kind = "IMMEDIATE" if not given else "SCHEDULED" if run_at is not None else "LOOP"
    return {"trigger_type": kind, "trigger_args": given}


def _what(
    type_: str | None, payload: str | None, content: str | None, task: str | None, group: str | None
) -> dict[str, Any]:
    given = [name for name, value in (("--type", type_), ("--content", content), ("--task", task)) if value is not None]
    if len(given) != 1:
        wrong = f"{' and '.join(given)} exclude each other" if given else "it is missing what runs"
        advice = "give --type TYPE (with --payload), --task JSON, or --content TEXT for remote workers"
        raise InvalidSubmissionError([Violation("", f"{wrong}: {advice}")])
    if payload is not None and type_ is None:
        raise InvalidSubmissionError([Violation("--payload", "belongs to a --type")])
    if content is not None:
        return {"content": content, **({} if group is None else {"group": group})}
    chosen: dict[str, Any] = {"type": type_} if task is None else _object("task", task)
    if payload is not None:
        chosen["payload"] = read_json("--payload", payload)
    if group is not None:
        chosen["queue"] = group
    return {"task": chosen}


#: The options of `create`, by the fields that they set.
_OPTION_OF: Final = {
    "trigger_args.interval": "--every",
    "trigger_args.cron": "--cron",
    "trigger_args.run_at": "--at",
    "trigger_args.timezone": "--timezone",
    "task.type": "--type",
    "task.payload": "--payload",
    "task.queue": "--group",
}


@contextlib.contextmanager
def _named_by_options() -> Iterator[None]:
    """Have errors name options instead of fields."""
    try:
        yield
    except InvalidSubmissionError as exc:
        raise InvalidSubmissionError([Violation(_option(v.field), v.message) for v in exc.violations]) from exc


def _option(field: str) -> str:
    for known, option in _OPTION_OF.items():
        if field == known or field.startswith(f"{known}."):
            return option + field.removeprefix(known)
    return field


def edit(
    there: Destination,
    definition_id: DefinitionId,
    fields: Annotated[str, typer.Argument(metavar="JSON", help="The fields to change (or @FILE).", show_default=False)],
    as_json: Json = False,
) -> None:
    """Change fields of a definition; the others stay as they are. null sets a field to its default."""
    document = _object("fields", fields)
    edited = _on(there, definition_id, lambda platform, whole: platform.definitions.edit(whole, document))
    _print_changed(edited, as_json=as_json)


def pause(there: Destination, definition_id: DefinitionId, note: Note = None, as_json: Json = False) -> None:
    """Pause a definition. Its running instances continue."""
    _move(there, definition_id, "pause", note, as_json=as_json)


def resume(there: Destination, definition_id: DefinitionId, note: Note = None, as_json: Json = False) -> None:
    """Resume a paused definition, from its next slot on."""
    _move(there, definition_id, "resume", note, as_json=as_json)


def cancel(there: Destination, definition_id: DefinitionId, note: Note = None, as_json: Json = False) -> None:
    """End a definition for good. Its instances are cancelled too."""
    _move(there, definition_id, "cancel", note, as_json=as_json)


def trigger(there: Destination, definition_id: DefinitionId, as_json: Json = False) -> None:
    """Run one instance now, regardless of the schedule, and print its task's id."""
    firing = _on(there, definition_id, lambda platform, whole: platform.definitions.trigger(whole))
    if as_json:
        print_json(firing)
    else:
        print_line(firing["task_id"])


def preview(there: Destination, definition_id: DefinitionId, count: Count = 10, as_json: Json = False) -> None:
    """Show the next firings of a definition. With --json: one per line."""
    items = _on(there, definition_id, lambda platform, whole: platform.definitions.preview(whole, count))
    if as_json:
        _print_records(items)
        return
    print_table(
        ("SLOT", "DUE"),
        [(local(i["scheduled_at"]), local(i["due_at"])) for i in items],
        empty="there are no further firings",
    )


def backfill(
    there: Destination,
    definition_id: DefinitionId,
    start: Annotated[
        str,
        typer.Option(
            "--from", metavar="WHEN", help="The begin, included: 2030-01-31T08:00:00Z, or 2h for two hours ago."
        ),
    ],
    end: Annotated[
        str | None, typer.Option("--to", metavar="WHEN", help="The end, included.", show_default="now")
    ] = None,
    one_by_one: Annotated[
        bool, typer.Option("--one-by-one", help="Run each instance after the previous one has ended.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run the slots of a past range of time again."""
    now = datetime.now(UTC)
    first, last = read_moment("from", start, now), now if end is None else read_moment("to", end, now)
    firings = _on(
        there,
        definition_id,
        lambda platform, whole: platform.definitions.backfill(whole, first, last, one_by_one=one_by_one),
    )
    if as_json:
        _print_records(firings)
    else:
        print_line(f"{len(firings)} slots run again")


def _on(there: Destination, definition_id: str, work: Callable[[AnyPlatform, str], Awaitable[T]]) -> T:
    """Do `work` on the platform and the whole id of a definition."""

    async def on(platform: AnyPlatform) -> T:
        return await work(platform, await whole_definition_id(platform, definition_id))

    return there.run(on)


def _move(there: Destination, definition_id: str, move: Move, note: str | None, *, as_json: bool) -> None:
    moved = _on(there, definition_id, lambda platform, whole: platform.definitions.move(whole, move, note))
    _print_changed(moved, as_json=as_json)


def _print_changed(record: Record, *, as_json: bool) -> None:
    if as_json:
        print_json(record)
    else:
        print_line(f"{record['task_def_id']} is {record['status'].lower()}")


def _print_records(records: list[Record]) -> None:
    for record in records:
        print_json(record, one_line=True)


def _trigger(record: dict[str, Any]) -> str:
    args = record["trigger_args"]
    if record["trigger_type"] == "IMMEDIATE":
        return "once"
    if record["trigger_type"] == "SCHEDULED":
        return f"at {args.get('run_at') or args.get('run_date')}"
    if "rules" in args:
        return f"{len(args['rules'])} rules"
    text = f"every {args['interval']:g} s" if "interval" in args else str(args.get("cron") or args["cron_expression"])
    return f"{text} {args['timezone']}" if "timezone" in args else text


def _object(name: str, text: str) -> dict[str, Any]:
    try:
        found = json_text.read(Path(text[1:]).read_bytes() if text.startswith("@") else text, "the text")
    except (OSError, JsonError) as exc:
        raise InvalidSubmissionError([Violation(name, f"cannot be read: {exc}")]) from exc
    if not isinstance(found, dict):
        raise InvalidSubmissionError([Violation(name, "must be a JSON object")])
    return found
