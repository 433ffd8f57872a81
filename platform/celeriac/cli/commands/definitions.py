"""`celeriac definitions`: make, show and change definitions, which run tasks on a schedule."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from celeriac import json_text
from celeriac.cli.auditing import note as note_action
from celeriac.cli.filters import read_moment
from celeriac.cli.options import Config, DataDir, Json
from celeriac.cli.output import indented, print_json, print_line
from celeriac.cli.tables import print_table
from celeriac.errors import InvalidSubmissionError, JsonError, Violation
from celeriac.installation.discovery import import_from_here, joined_settings
from celeriac.schedules.definition import DefinitionStatus

if TYPE_CHECKING:
    from celeriac.schedules.service import CurrentDefinition, Schedules

T = TypeVar("T")

_ACTOR: Final = "command line"

DefinitionId = Annotated[str, typer.Argument(metavar="ID", help="The definition's id.", show_default=False)]
Note = Annotated[str | None, typer.Option("--note", help="The reason, which others can see.")]
Count = Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="How many.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    group = typer.Typer(
        help="Definitions: tasks that run on a schedule, or once at a given time.", no_args_is_help=True
    )
    group.command("list")(list_definitions)
    for command in (show, create, edit, pause, resume, trigger, cancel, preview, backfill):
        group.command()(command)
    app.add_typer(group, name="definitions", rich_help_panel="Tasks")


def list_definitions(
    user_id: Annotated[
        str | None, typer.Option("--user-id", metavar="ID", help="Only definitions of this user.")
    ] = None,
    status: Annotated[DefinitionStatus | None, typer.Option("--status", "-s", case_sensitive=False)] = None,
    group: Annotated[str | None, typer.Option("--group", help="Only definitions of this worker group.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=500)] = 50,
    as_json: Json = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """List definitions, the newest first."""

    async def work(schedules: Schedules) -> list[dict[str, Any]]:
        statuses = () if status is None else (status,)
        found: list[CurrentDefinition] = []
        cursor: str | None = None
        while len(found) < limit:
            more, cursor = await schedules.find(
                statuses=statuses, limit=limit - len(found), cursor=cursor, user_id=user_id, group=group
            )
            found += more
            if cursor is None:
                break
        return [_record(seen) for seen in found]

    found = _on_schedules(config, data_dir, work)
    if as_json:
        print_json({"items": found})
        return
    print_table(
        ("ID", "USER", "STATUS", "TRIGGER", "NEXT", "FIRED", "DESCRIPTION"),
        [
            (
                d["task_def_id"],
                d["user_id"],
                d["status"].lower(),
                _trigger(d),
                d["next_run_at"],
                d["counters"]["fired"],
                d["name"] or d["content"],
            )
            for d in found
        ],
        empty="there are no definitions: create one with `celeriac definitions create`",
    )


def show(definition_id: DefinitionId, as_json: Json = False, data_dir: DataDir = None, config: Config = None) -> None:
    """Show a definition, its next ten firings, its last ten instances and its last ten changes."""
    from celeriac.schedules.record import change_record, instance_record, preview_records

    async def work(schedules: Schedules) -> dict[str, Any]:
        seen = await schedules.get(definition_id)
        table, slots = await schedules.preview(definition_id, 10)
        tasks, _ = await schedules.instances(definition_id, limit=10)
        trail, _ = await schedules.definitions.changes(definition_id, limit=10)
        return {
            **_record(seen),
            "next_runs": [] if seen.status is DefinitionStatus.PAUSED else preview_records(table, slots),
            "last_runs": [instance_record(task, definition_id) for task in tasks],
            "changes": [change_record(change) for change in trail],
        }

    found = _on_schedules(config, data_dir, work)
    if as_json:
        print_json(found)
        return
    for name in ("task_def_id", "name", "user_id", "status", "note", "content", "group", "overlap", "misfire"):
        if found[name] is not None:
            print_line(f"{name:12} {indented(found[name])}")
    print_line(f"{'trigger':12} {_trigger(found)}")
    print_line(f"{'counters':12} " + ", ".join(f"{n} {name}" for name, n in found["counters"].items() if n))
    print_line("")
    print_table(("NEXT",), [(run["due_at"],) for run in found["next_runs"]], empty="there are no further firings")
    print_line("")
    print_table(
        ("TASK", "SLOT", "HOW", "STATUS", "ERROR"),
        [
            (r["task_id"], r["scheduled_at"], r["trigger"], r["status"], r["error"] and r["error"]["message"])
            for r in found["last_runs"]
        ],
        empty="it has not run yet",
    )


def create(
    content: Annotated[
        str | None, typer.Argument(help="Text for the program that runs it.", show_default=False)
    ] = None,
    user_id: Annotated[str, typer.Option("--user-id", metavar="ID", help="The user that it belongs to.")] = "local",
    every: Annotated[float | None, typer.Option("--every", metavar="SECONDS", help="Run at this interval.")] = None,
    cron: Annotated[str | None, typer.Option("--cron", metavar="EXPRESSION", help="Run by a cron expression.")] = None,
    run_at: Annotated[
        str | None, typer.Option("--at", metavar="MOMENT", help="Run once, at this time: 2030-01-31T08:00Z.")
    ] = None,
    timezone: Annotated[
        str | None,
        typer.Option("--timezone", metavar="ZONE", help="The time zone of --cron and --at, such as Europe/Berlin."),
    ] = None,
    group: Annotated[str | None, typer.Option("--group", help="The worker group that runs it.")] = None,
    task: Annotated[
        str | None, typer.Option("--task", metavar="JSON", help="The task to run: type, payload, … (or @FILE).")
    ] = None,
    options: Annotated[
        str | None, typer.Option("--options", metavar="JSON", help='Further fields, such as \'{"overlap": "skip"}\'.')
    ] = None,
    as_json: Json = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Create a definition and print its id. Without --every, --cron or --at it runs once, now.

    For example:  celeriac definitions create "send the report" --cron "0 8 * * 1-5" --timezone Europe/Berlin
    """
    chosen = {"interval": every, "cron": cron, "run_at": run_at}
    given = {name: value for name, value in chosen.items() if value is not None}
    if len(given) > 1:
        raise InvalidSubmissionError([Violation("", "--every, --cron and --at exclude each other: give one of them")])
    kind = "IMMEDIATE" if not given else "SCHEDULED" if run_at is not None else "LOOP"
    if timezone is not None:
        given["timezone"] = timezone
    document = {
        "user_id": user_id,
        "content": content,
        "trigger_type": kind,
        "trigger_args": given,
        **({} if group is None else {"group": group}),
        **({} if task is None else {"task": _object("task", task)}),
        **({} if options is None else _object("options", options)),
    }

    async def work(schedules: Schedules) -> dict[str, Any]:
        seen, _ = await schedules.create(document, actor=_ACTOR)
        return _record(seen)

    made = _on_schedules(config, data_dir, work, lambda made: ("definition.create", made["task_def_id"]))
    if as_json:
        print_json(made)
    else:
        print_line(made["task_def_id"])


def edit(
    definition_id: DefinitionId,
    fields: Annotated[str, typer.Argument(metavar="JSON", help="The fields to change (or @FILE).", show_default=False)],
    as_json: Json = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Change fields of a definition; the others stay as they are. null sets a field to its default."""
    document = _object("fields", fields)
    _move("edit", lambda schedules: schedules.edit(definition_id, document, actor=_ACTOR), as_json, config, data_dir)


def pause(
    definition_id: DefinitionId,
    note: Note = None,
    as_json: Json = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Pause a definition. Its running instances continue."""
    _move("pause", lambda schedules: schedules.pause(definition_id, actor=_ACTOR, note=note), as_json, config, data_dir)


def resume(
    definition_id: DefinitionId,
    note: Note = None,
    as_json: Json = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Resume a paused definition, from its next slot on."""
    _move(
        "resume", lambda schedules: schedules.resume(definition_id, actor=_ACTOR, note=note), as_json, config, data_dir
    )


def cancel(
    definition_id: DefinitionId,
    note: Note = None,
    as_json: Json = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """End a definition for good. Its instances are cancelled too."""
    _move(
        "cancel", lambda schedules: schedules.cancel(definition_id, actor=_ACTOR, note=note), as_json, config, data_dir
    )


def trigger(
    definition_id: DefinitionId, as_json: Json = False, data_dir: DataDir = None, config: Config = None
) -> None:
    """Run one instance now, regardless of the schedule, and print its task's id."""
    from celeriac.schedules.record import firing_record

    firing = _on_schedules(
        config,
        data_dir,
        lambda schedules: schedules.trigger(definition_id, actor=_ACTOR),
        lambda _: ("definition.trigger", definition_id),
    )
    if as_json:
        print_json(firing_record(firing, "pending"))
    else:
        print_line(firing.task_id)


def preview(
    definition_id: DefinitionId,
    count: Count = 10,
    as_json: Json = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Show the next firings of a definition."""
    from celeriac.schedules.record import preview_records

    table, slots = _on_schedules(config, data_dir, lambda schedules: schedules.preview(definition_id, count))
    items = preview_records(table, slots)
    if as_json:
        print_json({"items": items})
    else:
        print_table(
            ("SLOT", "DUE"), [(i["scheduled_at"], i["due_at"]) for i in items], empty="there are no further firings"
        )


def backfill(
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
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Run the slots of a past range of time again."""
    from celeriac.schedules.record import firing_record

    now = datetime.now(UTC)
    first, last = read_moment("from", start, now), now if end is None else read_moment("to", end, now)
    firings = _on_schedules(
        config,
        data_dir,
        lambda schedules: schedules.backfill(definition_id, first, last, actor=_ACTOR, one_by_one=one_by_one),
        lambda _: ("definition.backfill", definition_id),
    )
    if as_json:
        print_json({"items": [firing_record(firing, firing.state.value) for firing in firings]})
    else:
        print_line(f"{len(firings)} slots run again")


def _on_schedules(
    config: Path | None,
    data_dir: Path | None,
    work: Callable[[Schedules], Awaitable[T]],
    audited: Callable[[T], tuple[str, str]] | None = None,
) -> T:
    """Do `work`; `audited` says of its outcome which action it was, and on which definition."""
    # Imported here, so that other commands do not import SQLAlchemy, which takes longer than they run.
    from celeriac.schedules.connection import connected_schedules

    settings, url = joined_settings(config, data_dir)
    import_from_here()

    async def run() -> T:
        async with connected_schedules(settings, url) as schedules:
            found = await work(schedules)
            if audited is not None:
                await note_action(schedules.store, *audited(found))
            return found

    return asyncio.run(run())


def _move(
    action: str,
    work: Callable[[Schedules], Awaitable[CurrentDefinition]],
    as_json: bool,
    config: Path | None,
    data_dir: Path | None,
) -> None:
    def audited(seen: CurrentDefinition) -> tuple[str, str]:
        return f"definition.{action}", seen.definition.definition_id

    record = _record(_on_schedules(config, data_dir, work, audited))
    if as_json:
        print_json(record)
    else:
        print_line(f"{record['task_def_id']} is {record['status'].lower()}")


def _record(seen: Any) -> dict[str, Any]:
    from celeriac.schedules.record import definition_record

    return definition_record(seen.definition, seen.status)


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
