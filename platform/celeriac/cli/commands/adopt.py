"""`celeriac adopt`: look at an existing Celery project, and import its schedules."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from celeriac.cli.options import Config, DataDir, Json, on_this_machine
from celeriac.cli.other_packages import ADOPTION, declared
from celeriac.cli.output import FAILED, print_json, print_line, printable
from celeriac.cli.tables import print_table
from celeriac.errors import SettingsError
from celeriac.installation.discovery import import_from_here, joined_settings
from celeriac.settings import load_settings

Project = Annotated[
    str,
    typer.Argument(
        metavar="PROJECT",
        help="The Celery app as `celery -A` takes it: proj, proj.celery or proj:app.",
        show_default=False,
    ),
]
_NEXT: Final = "write `from celeriac import adopt; adopt(app)` after the app's configuration (docs/adopt.md)"


class From(StrEnum):
    """Where a project keeps its schedules."""

    BEAT_SCHEDULE = "beat_schedule"
    DJANGO = "django-celery-beat"
    REDBEAT = "redbeat"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(rich_help_panel="Platform")(on_this_machine(adopt))


def adopt(
    project: Project,
    report: Annotated[
        bool, typer.Option("--report", help="Print what runs as it is and what does not (this is the default).")
    ] = False,
    import_schedules: Annotated[
        bool, typer.Option("--import-schedules", help="Make definitions of the project's schedules.")
    ] = False,
    source: Annotated[
        From | None,
        typer.Option("--from", help="Which schedules to import.", show_default="those of the project's beat_scheduler"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be imported, and change nothing.")] = False,
    disable_originals: Annotated[
        bool,
        typer.Option("--disable-originals", help="Switch the imported entries off in django-celery-beat or RedBeat."),
    ] = False,
    user_id: Annotated[
        str, typer.Option("--user-id", metavar="ID", help="The user that imported definitions belong to.")
    ] = "local",
    as_json: Json = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Look at a Celery project: what runs as it is after `adopt(app)`, and what does not; or import its schedules.

    It imports the project from the current folder and runs no task. The report contacts no server. Exit code 1:
    something is not possible.
    """
    import_from_here()
    if config is not None:
        # The project's app looks there too.
        os.environ["CELERIAC_CONFIG"] = str(config.absolute())
    if import_schedules:
        if report:
            raise SettingsError("--report and --import-schedules exclude each other: give one of them")
        outcome = declared(ADOPTION, "schedules")(
            project,
            source=None if source is None else source.value,
            dry_run=dry_run,
            disable_originals=disable_originals,
            user_id=user_id,
            overrides={} if data_dir is None else {"data_dir": str(data_dir)},
        )
        (print_json if as_json else _print_import)(outcome)
        return
    if source is not None or dry_run or disable_originals:
        raise SettingsError("--from, --dry-run and --disable-originals belong to --import-schedules: add that")
    found = declared(ADOPTION, "report")(project, _store_of(config, data_dir), load_settings(config).key_prefix)
    (print_json if as_json else _print_report)(found)
    if not found["possible"]:
        raise typer.Exit(FAILED)


def _store_of(config: Path | None, data_dir: Path | None) -> str | None:
    """Return the store of the settings, or of the `celeriac up` that runs here; None if there is none."""
    try:
        return joined_settings(config, data_dir)[1]
    except SettingsError:
        return load_settings(config).redis_url


def _print_report(found: dict[str, Any]) -> None:
    verdict = None
    width = max(len(finding["subject"]) for finding in found["findings"])
    for finding in found["findings"]:
        if finding["verdict"] != verdict:
            if verdict is not None:
                print_line("")
            verdict = finding["verdict"]
            print_line(verdict)
        print_line(f"  {finding['subject']:<{width}}  {printable(finding['sentence'])}")
    number = sum(finding["verdict"] == "not possible" for finding in found["findings"])
    print_line("")
    if number:
        print_line(f"not possible: {number}; change {'it' if number == 1 else 'them'} first")
    elif found["adopted"]:
        print_line("everything runs, and the project is adopted")
    else:
        print_line(f"everything runs: {_NEXT}")


def _print_import(outcome: dict[str, Any]) -> None:
    print_table(
        ("NAME", "WHAT", "STATUS", "GROUP", "ID"),
        [(d["name"], d["what"], d["status"].lower(), d["group"], d["task_def_id"]) for d in outcome["definitions"]],
        empty="there is nothing to import",
    )
    for entry in outcome["left_out"]:
        print_line(f"left out: {printable(entry['name'])}: {printable(entry['reason'])}")
    for name in outcome["disabled"]:
        print_line(f"switched off where it was: {printable(name)}")
    for entry in outcome["fires_twice"]:
        print_line(f"fires twice from now on: {printable(entry['name'])}: {entry['switch_off']}")
    if outcome["definitions"] and not outcome["dry_run"]:
        print_line("`celeriac beat` (or `celeriac up`) on the same store and database fires definitions")
