"""Options that several commands share, with one help text each."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from celeriac.cli import completing
from celeriac.cli.reach.destination import Destination
from celeriac.errors import SettingsError

_PANEL: Final = "Where"

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="FOLDER",
        help="The data folder of `celeriac up`.",
        show_default=".celeriac",
        file_okay=False,
        rich_help_panel=_PANEL,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The settings file, YAML or JSON.",
        show_default="$CELERIAC_CONFIG, else celeriac.yaml here",
        dir_okay=False,
        rich_help_panel=_PANEL,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no line for each task that ends.")]
Reload = Annotated[
    bool, typer.Option("--reload", help="Start the processes anew when their code or the configuration changes.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
TaskId = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="The task's id, or its beginning: six characters or more.",
        show_default=False,
        autocompletion=completing.task_ids,
    ),
]

_URL: Final = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="The server to use.",
        show_default="$CELERIAC_URL, else what runs here",
        rich_help_panel=_PANEL,
    ),
]
_TOKEN: Final = Annotated[
    str | None,
    typer.Option(
        "--token",
        metavar="TOKEN",
        help="The token or API key for the server.",
        show_default="$CELERIAC_TOKEN, else the profile's",
        rich_help_panel=_PANEL,
    ),
]
_PROFILE: Final = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="NAME",
        help="The server that you logged in to by this name.",
        show_default=False,
        autocompletion=completing.profiles,
        rich_help_panel=_PANEL,
    ),
]
_REMOTE: Final = {"url": _URL, "token": _TOKEN, "profile": _PROFILE}


def with_options(
    command: Callable[..., None], options: Mapping[str, Any], receiver: str, read: Callable[[dict[str, Any]], Any]
) -> Callable[..., None]:
    """Give a command more options. Its parameter `receiver` gets what `read` makes of their values.

    So options that many commands have are written once, and not as parameters of every command.
    """
    own = inspect.signature(command, eval_str=True)

    @functools.wraps(command)
    def run(**given: Any) -> None:
        made = read({name: given.pop(name) for name in options})
        command(**({receiver: made} if receiver else {}), **given)

    parameters = [parameter for name, parameter in own.parameters.items() if name != receiver]
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
        for name, option in options.items()
    ]
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def anywhere(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say where it goes. Its parameter `there` receives the `Destination`."""
    options = {**_REMOTE, "data_dir": DataDir, "config": Config}
    return with_options(command, options, "there", lambda given: Destination(**given))


def on_this_machine(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command that works on this machine only say so if it is given a server."""
    hidden = {name: Annotated[str | None, typer.Option(f"--{name}", hidden=True)] for name in _REMOTE}

    def refuse(given: dict[str, Any]) -> None:
        for name, value in given.items():
            if value is not None:
                raise SettingsError(f"this command works on this machine only: leave --{name} out")

    return with_options(command, hidden, "", refuse)


def group_of(command: Callable[..., None]) -> typer.Typer:
    """Return a group of commands that does `command` if none of them is named; `command` takes `there`."""
    own = inspect.signature(command, eval_str=True)

    def run(ctx: typer.Context, there: Destination, **given: Any) -> None:
        if ctx.invoked_subcommand is None:
            command(there=there, **given)
        elif there != Destination():
            words = f"celeriac {ctx.info_name} {ctx.invoked_subcommand} …"
            raise SettingsError(f"write --url and other words on where to go after the command: {words}")

    parameters = [
        inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
        *(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own.parameters.values()),
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__doc__ = command.__doc__
    group = typer.Typer()
    group.callback(invoke_without_command=True)(anywhere(run))
    return group
