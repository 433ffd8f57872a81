"""`celeriac api`, `grpc`, `worker` and `beat` run one process each, as `up` does for all of them; and `migrate`.

The core imports neither the API nor Celery. Those packages declare their processes as entry points.
"""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer

from celeriac.cli.options import Config, DataDir
from celeriac.errors import SettingsError
from celeriac.installation.discovery import import_from_here, joined_settings
from celeriac.settings import Settings, redis_url_of_parts

ENTRY_POINTS = "celeriac.processes"


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (api, grpc, worker, beat, migrate):
        app.command(rich_help_panel="Run")(command)


def api(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port of HTTP.", show_default="8000", min=0, max=65535)] = None,
    grpc_port: Annotated[int | None, typer.Option(help="Port of gRPC.", show_default="50050", min=0, max=65535)] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow an address that other machines reach, without authentication.")
    ] = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Serve HTTP and gRPC. Any number of these may run on one store."""
    from celeriac.up.ports import refuse_open_address

    settings, _ = joined_settings(config, data_dir, {"host": host, "port": port, "grpc_port": grpc_port})
    refuse_open_address(settings.host, insecure=insecure, authenticated=settings.access.on)
    _run("api", settings, {"insecure": insecure}, config)


def grpc(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    grpc_port: Annotated[
        int | None, typer.Option("--grpc-port", "--port", help="Port.", show_default="50050", min=0, max=65535)
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow an address that other machines reach, without authentication.")
    ] = False,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Serve gRPC only (the task service). The store is that of `up`, REDIS_URL, or REDIS_ADDR (localhost:6379)."""
    from celeriac.up.ports import refuse_open_address

    settings, _ = joined_settings(
        config, data_dir, {"host": host, "grpc_port": grpc_port}, fallback=redis_url_of_parts()
    )
    refuse_open_address(settings.host, insecure=insecure, authenticated=settings.access.on)
    _run("grpc", settings, {"insecure": insecure}, config)


def worker(
    groups: Annotated[
        str | None,
        typer.Option(
            metavar="A,B", help="Groups to serve; `*` means all, those that appear later included.", show_default="*"
        ),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(metavar="N", help="How many tasks to run at once.", show_default="1000", min=1)
    ] = None,
    data_dir: DataDir = None,
    config: Config = None,
) -> None:
    """Run tasks. Any number of these may run on one store, on any number of machines."""
    chosen = {name: value for name, value in (("groups", groups), ("concurrency", concurrency)) if value is not None}
    settings, _ = joined_settings(config, data_dir, {"worker": chosen} if chosen else None)
    _run("worker", settings, {}, config)


def beat(data_dir: DataDir = None, config: Config = None) -> None:
    """Run schedules, due tasks, expired leases, lost messages and the recording of history. Any number may run."""
    settings, _ = joined_settings(config, data_dir)
    _run("beat", settings, {}, config)


def migrate(data_dir: DataDir = None, config: Config = None) -> None:
    """Create the tables of the history, or upgrade them to this version. `celeriac up` does so by itself.

    It needs DATABASE_URL or the data folder of `up`, and nothing else. Any number may run at once.
    """
    from celeriac.cli.output import print_line
    from celeriac.database.engine import shown
    from celeriac.database.migrating import migrate as run
    from celeriac.installation.run_file import find_installation
    from celeriac.settings import load_settings

    settings = load_settings(config, {"data_dir": None if data_dir is None else str(data_dir)})
    installation = find_installation(settings.data_dir)
    joined = installation.database if installation is not None and settings.database_url is None else None
    url = joined or settings.history_url
    os.umask(int(settings.umask, 8))
    before, after = run(url)
    print_line(f"{shown(url)} is at version {after}" + ("" if before == after else f" (was: {before or 'empty'})"))


def _run(name: str, settings: Settings, options: dict[str, Any], config: Path | None) -> None:
    from celeriac.logs import configure_logging
    from celeriac.up.parent_tie import watch_stdin

    watch_stdin()
    if config is not None:
        # Whatever asks later where the settings come from finds the same file.
        os.environ["CELERIAC_CONFIG"] = str(config.absolute())
    os.umask(int(settings.umask, 8))
    configure_logging(level=settings.log_level, form=settings.log_format, role=name)
    import_from_here()
    raise typer.Exit(int(_load(name)(settings, options) or 0))


def _load(name: str) -> Any:
    found = entry_points(group=ENTRY_POINTS, name=name)
    if not found:
        raise SettingsError(f"this installation has no process {name!r}: reinstall it with pip install celeriac")
    try:
        return next(iter(found)).load()
    except ModuleNotFoundError as exc:
        raise SettingsError(f"the process {name!r} needs the package {exc.name}, which is not installed") from exc
