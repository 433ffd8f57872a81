"""`celeriac doctor`: find out what is wrong, and what to do about it."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final

import typer

from celeriac.cli.options import Config, DataDir, Json, on_this_machine
from celeriac.cli.output import FAILED, print_json, print_line, printable
from celeriac.installation.discovery import joined_settings

if TYPE_CHECKING:
    from celeriac.up.findings import Finding

_MARKS: Final = {"ok": "ok  ", "warning": "WARN", "failure": "FAIL"}


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(rich_help_panel="Platform")(on_this_machine(doctor))


def doctor(
    quick: Annotated[
        bool, typer.Option("--quick", help="Only check whether the store and the history answer.")
    ] = False,
    as_json: Json = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Check every dependency, setting and clock, and advise what to do. Exit code 1: something does not work."""
    # Imported here, so that other commands do not import SQLAlchemy, which takes longer than they run.
    from celeriac.up.doctor import examine
    from celeriac.up.findings import Severity

    settings, redis_url = joined_settings(config, data_dir)

    async def work() -> list[Finding]:
        found = []
        async for finding in examine(settings, redis_url, quick=quick):
            found.append(finding)
            if not as_json:
                _print(finding)
        return found

    found = asyncio.run(work())
    failures = sum(finding.state is Severity.FAILURE for finding in found)
    warnings = sum(finding.state is Severity.WARNING for finding in found)
    if as_json:
        print_json({"healthy": not failures, "findings": [asdict(finding) for finding in found]})
    else:
        print_line(
            ""
            if quick
            else "\neverything works"
            if not failures + warnings
            else f"\nfailures: {failures}, warnings: {warnings}"
        )
    if failures:
        raise typer.Exit(FAILED)


def _print(finding: Finding) -> None:
    print_line(f"{_MARKS[finding.state]}  {finding.subject:<10} {printable(finding.detail)}")
    if finding.advice:
        print_line(f"      {'':<10} -> {printable(finding.advice)}")
