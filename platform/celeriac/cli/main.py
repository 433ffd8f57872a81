"""The command `celeriac`: its subcommands, and how errors end it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Final

import typer

import celeriac
from celeriac.cli.command_table import COMMANDS
from celeriac.cli.loading import LazyGroup
from celeriac.cli.output import FAILED, INTERRUPTED, error_text, exit_code, finish_output, print_error, printable
from celeriac.errors import CeleriacError, MissingExtraError, SettingsError
from celeriac.standard_streams import drop_output, prepare_standard_streams

#: Set by a shell that asks what it can complete.
_COMPLETING: Final = "_CELERIAC_COMPLETE"


class _Commands(LazyGroup):
    entries = COMMANDS


app = typer.Typer(
    name="celeriac",
    cls=_Commands,
    help="One control plane for background work: submit tasks, run them on Celery workers, watch them live.",
    epilog="Start with `celeriac up`, which shows how to submit a first task. Exit codes: 0 success, 1 the task failed"
    " or was cancelled, 2 wrong input or no such task, 3 try again later (the store is away, or the queue is full).",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    """Run the command line; returns the exit code. An expected error is one line on standard error."""
    prepare_standard_streams()
    code = finish_output(_run(sys.argv[1:]))
    if _COMPLETING in os.environ:
        # At once: what was asked may still wait for an answer that nobody needs any more.
        os._exit(code)
    return code


def _run(arguments: Sequence[str]) -> int:
    try:
        _refuse_foreign_bytes(arguments)
        app(arguments, prog_name="celeriac")
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else 0
    except MissingExtraError as exc:
        print_error(str(MissingExtraError("this command", exc.package, exc.extra)))
        return exit_code(exc)
    except CeleriacError as exc:
        print_error(error_text(exc))
        return exit_code(exc)
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as exc:
        # The machine does not let this command do its work: a full disk, a folder that may not be read, no descriptors.
        drop_output()
        print_error(_problem_of(exc))
        return FAILED
    return 0


def _problem_of(error: OSError) -> str:
    try:
        os.getcwd()
    except FileNotFoundError:
        return "the folder in which this command runs does not exist any more: change to another one"
    return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"


def _refuse_foreign_bytes(arguments: Sequence[str]) -> None:
    """Raise `SettingsError` for an argument whose bytes are not text in the encoding of this process."""
    foreign = [(number, argument) for number, argument in enumerate(arguments, 1) if not argument.isascii()]
    if not foreign:
        return
    # Imported here, so that `celeriac --help` does not import the settings.
    from celeriac.settings.environment import has_foreign_bytes

    for number, argument in foreign:
        if has_foreign_bytes(argument):
            raise SettingsError(
                f"argument {number} holds bytes that are not text in {sys.getfilesystemencoding()}:"
                f" {printable(argument)[:100]!r}; write it in UTF-8, and set PYTHONUTF8=1 if the locale is another"
            )
