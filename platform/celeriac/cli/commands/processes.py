"""`celeriac api`, `grpc`, `worker` and `beat` run one process each, as `up` does for all of them; and `migrate`.

The core imports neither the API nor Celery. Those packages declare their processes as entry points.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from celeriac.cli.options import Config, DataDir, Quiet, Reload, on_this_machine
from celeriac.cli.other_packages import PROCESSES, declared
from celeriac.errors import SettingsError
from celeriac.installation.discovery import import_from_here, joined_settings
from celeriac.settings import Settings, config_path, load_settings, redis_url_of_parts


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    for command in (api, grpc, worker, beat, migrate):
        app.command(rich_help_panel="Run")(on_this_machine(command))


def api(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port of HTTP.", show_default="8000", min=0, max=65535)] = None,
    grpc_port: Annotated[int | None, typer.Option(help="Port of gRPC.", show_default="50050", min=0, max=65535)] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow an address that other machines reach, without authentication.")
    ] = False,
    data_dir: DataDir = None,
    config: Config = None,
    quiet: Quiet = False,
) -> None:
    """Serve HTTP and gRPC. Any number of these may run on one store."""
    from celeriac.up.ports import refuse_open_address

    settings, _ = joined_settings(
        config,
        data_dir,
        {"host": host, "port": port, "grpc_port": grpc_port, "task_lines": 0 if quiet else None},
    )
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
    project: Annotated[
        str | None,
        typer.Option(
            "--app", "-A", metavar="PROJ", help="Celery app of a project to adopt; its configuration has the defaults."
        ),
    ] = None,
    pool: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="With --app: a pool of Celery, such as prefork or threads, or celeriac, the platform's own.",
        ),
    ] = None,
    data_dir: DataDir = None,
    config: Config = None,
    quiet: Quiet = False,
    reload: Reload = False,
    processes: Annotated[
        str,
        typer.Option(metavar="N", help="How many worker processes to run; `auto` means one for each core."),
    ] = "1",
) -> None:
    """Run tasks. Any number of these may run on one store, on any number of machines."""
    chosen = {name: value for name, value in (("groups", groups), ("concurrency", concurrency)) if value is not None}
    overrides: dict[str, Any] = {"worker": chosen} if chosen else {}
    if quiet:
        overrides["task_lines"] = 0
    if project is None and pool is not None:
        raise SettingsError("--pool needs --app: without a project, tasks run on the platform's own pool")

    def read() -> Settings:
        if project is None:
            return joined_settings(config, data_dir, overrides)[0]
        # The project says where the store is.
        return load_settings(config, {**overrides, "data_dir": None if data_dir is None else str(data_dir)})

    settings = read()
    if reload or processes != "1":
        raise typer.Exit(_run_processes(processes, settings, reload, config_path(config), read))
    options = {} if project is None else {"app": project, "pool": pool, "overrides": overrides}
    _run("worker", settings, options, config)


def beat(data_dir: DataDir = None, config: Config = None) -> None:
    """Run schedules, due tasks, expired leases, lost messages and the recording of history. Any number may run."""
    settings, _ = joined_settings(config, data_dir)
    _run("beat", settings, {}, config)


def migrate(
    data_dir: DataDir = None,
    config: Config = None,
    reindex: Annotated[
        bool,
        typer.Option(
            "--reindex", help="Let recorders index the words of all tasks anew, if a search misses some of them."
        ),
    ] = False,
) -> None:
    """Create the tables of the history, or upgrade them to this version. `celeriac up` does so by itself.

    It needs DATABASE_URL or the data folder of `up`, and nothing else. Any number may run at once.
    """
    from celeriac.cli.output import print_line
    from celeriac.database import migrating
    from celeriac.database.engine import shown
    from celeriac.installation.run_file import find_installation

    settings = load_settings(config, {"data_dir": None if data_dir is None else str(data_dir)})
    installation = find_installation(settings.data_dir)
    joined = installation.database if installation is not None and settings.database_url is None else None
    url = joined or settings.history_url
    os.umask(int(settings.umask, 8))
    before, after = migrating.migrate(url)
    print_line(f"{shown(url)} is at version {after}" + ("" if before == after else f" (was: {before or 'empty'})"))
    if reindex:
        migrating.reindex(url)
        print_line("the words of all tasks are indexed anew: `celeriac beat` does it within minutes")


def _own_arguments() -> list[str]:
    """Return the arguments of this process without those that are for the command that starts others."""
    arguments, rest = [], iter(sys.argv[1:])
    for argument in rest:
        if argument == "--processes":
            next(rest, None)
        elif argument != "--reload" and not argument.startswith("--processes="):
            arguments.append(argument)
    return arguments


def _run_processes(
    processes: str, settings: Settings, reload: bool, config: Path | None, read: Callable[[], Settings]
) -> int:
    from celeriac.logs import configure_logging
    from celeriac.up.parent_tie import watch_stdin
    from celeriac.up.worker_processes import WorkerCommand, WorkerProcesses, process_count

    command = WorkerCommand(_own_arguments(), process_count(processes), reload, config, read)
    watch_stdin(lambda: os.kill(os.getpid(), signal.SIGTERM))
    configure_logging(level=settings.log_level, form=settings.log_format, role="worker")
    return asyncio.run(WorkerProcesses(command, settings).run())


def _run(name: str, settings: Settings, options: dict[str, Any], config: Path | None) -> None:
    from celeriac.logs import configure_logging
    from celeriac.reload.own_changes import say_changes
    from celeriac.reload.project_files import parent_pipe, report_imports
    from celeriac.up.parent_tie import watch_stdin

    watch_stdin()
    if config is not None:
        # Whatever asks later where the settings come from finds the same file.
        os.environ["CELERIAC_CONFIG"] = str(config.absolute())
    os.umask(int(settings.umask, 8))
    configure_logging(level=settings.log_level, form=settings.log_format, role=_role(name))
    import_from_here()
    report_imports()
    if parent_pipe() is None:
        say_changes(f"celeriac {name}", config_path(config) or Path("celeriac.yaml"))
    raise typer.Exit(int(declared(PROCESSES, name)(settings, options) or 0))


def _role(name: str) -> str:
    """Return how the log names this process: `worker-2` if it is the second one that a command has started."""
    from celeriac.up.parent_tie import WORKER_MARK

    _, _, number = os.environ.get(WORKER_MARK, "").partition("-")
    return f"{name}-{number}" if number else name
