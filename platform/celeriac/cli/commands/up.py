"""`celeriac up`: run everything on this machine."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Annotated

import typer

from celeriac.cli.options import Config, DataDir, Quiet, Reload, on_this_machine
from celeriac.settings import Settings, config_path, load_settings


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(rich_help_panel="Run")(on_this_machine(up))


def up(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[
        int | None,
        typer.Option(help="Port of HTTP; 0 picks a free one.", show_default="8000", min=0, max=65535),
    ] = None,
    grpc_port: Annotated[
        int | None, typer.Option(help="Port of gRPC; 0 picks a free one.", show_default="50050", min=0, max=65535)
    ] = None,
    data_dir: DataDir = None,
    config: Config = None,
    flower: Annotated[
        bool, typer.Option("--flower", help="Run Flower too, on 127.0.0.1:5555 (setting up.flower_port).")
    ] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow an address that other machines reach, without authentication.")
    ] = False,
    quiet: Quiet = False,
    reload: Reload = False,
) -> None:
    """Run everything on this machine: store, API, gRPC, worker, beat.

    The store is an embedded Valkey with an append-only file in the data folder (REDIS_URL replaces it). A part that
    dies is started again. Ctrl-C stops everything; the next start on the same folder continues where this one stopped.
    """
    from celeriac.up.child_output import Screen
    from celeriac.up.parent_tie import watch_stdin
    from celeriac.up.run import Up

    # If a test has started it, it ends with the test's process, however that ends.
    watch_stdin(lambda: os.kill(os.getpid(), signal.SIGTERM))
    named = {"host": host, "port": port, "grpc_port": grpc_port, "data_dir": _text(data_dir)}

    def read() -> Settings:
        found = load_settings(config, {**named, "task_lines": 0 if quiet else None})
        return found.model_copy(update={"up": found.up.model_copy(update={"flower": True})}) if flower else found

    first = read()
    umask = os.umask(int(first.umask, 8))
    settings: Settings | None = first
    screen = Screen()
    code = 0
    try:
        while settings is not None:
            screen.as_json = settings.log_format == "json"
            run = Up(
                settings,
                config=config_path(config),
                insecure=insecure,
                screen=screen,
                umask=umask,
                reread=read if reload else None,
            )
            code = asyncio.run(run.run())
            settings = run.next_settings
    finally:
        screen.close()
    raise typer.Exit(code)


def _text(value: object) -> str | None:
    return None if value is None else str(value)
