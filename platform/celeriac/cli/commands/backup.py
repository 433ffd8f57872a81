"""`celeriac backup`: copy the data folder of a `celeriac up`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from celeriac.cli.options import Config, DataDir, on_this_machine
from celeriac.cli.output import print_line
from celeriac.settings import load_settings


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(rich_help_panel="Platform")(on_this_machine(backup))


def backup(
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="A folder that does not exist yet.")],
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Copy the data folder of `celeriac up`, whether it runs or not: store, database, uploads and secret.

    To restore, start `celeriac up` on the copy. Your own store or database (REDIS_URL, DATABASE_URL) and the files of
    tasks (files.storage_path) are not in the data folder: see docs/operations.md.

    For example:  celeriac backup /backups/2030-01-31
    """
    from celeriac.up.backup import back_up

    settings = load_settings(config, {"data_dir": None if data_dir is None else str(data_dir)})
    size = back_up(settings.data_dir, dest, store=settings.store)
    print_line(f"{dest}: {size / 1e6:.1f} MB. Start it with: celeriac up --data-dir {dest}")
