"""The command `celeriac`: its subcommands, and how errors end it."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

import celeriac
from celeriac.cli.commands import (
    access,
    backup,
    dead,
    definitions,
    doctor,
    groups,
    history,
    listings,
    log,
    processes,
    remote_worker,
    tasks,
    up,
    watch,
)
from celeriac.cli.output import INTERRUPTED, exit_code, print_error
from celeriac.errors import CeleriacError

app = typer.Typer(
    name="celeriac",
    help="One control plane for background work: submit tasks, run them on Celery workers, watch them live.",
    epilog="Start with `celeriac up`, which shows how to submit a first task. Exit codes: 0 success, 1 the task failed"
    " or was cancelled, 2 wrong input or no such task, 3 try again later (the store is away, or the queue is full).",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
up.register(app)
processes.register(app)
remote_worker.register(app)
tasks.register(app)
watch.register(app)
log.register(app)
history.register(app)
dead.register(app)
definitions.register(app)
groups.register(app)
listings.register(app)
doctor.register(app)
access.register(app)
backup.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"celeriac {celeriac.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """One control plane for background work: submit tasks, run them on Celery workers, watch them live."""


def main() -> int:
    """Run the command line; returns the exit code or exits with it. An expected error is one line on standard error."""
    try:
        app(prog_name="celeriac")
    except CeleriacError as exc:
        print_error(str(exc))
        return exit_code(exc)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of the pipe is gone (`celeriac types | head`). This is not an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0
