"""Plain help: Typer 0.29 writes `<bool>` after each flag and `<str>` after each argument."""

from __future__ import annotations

from typing import Any, Final

from typer.core import TyperArgument, TyperOption

HELP_NAMES: Final = ["-h", "--help"]


def make_plain(command: Any) -> None:
    """Let the help of a command, and of those below it, show what a value is, and nothing after a flag."""
    command.context_settings = {**command.context_settings, "help_option_names": HELP_NAMES}
    context = command.context_class(command, **command.context_settings)
    for parameter in command.get_params(context):
        make_parameter_plain(parameter)
    for below in getattr(command, "commands", {}).values():
        make_plain(below)


def make_parameter_plain(parameter: Any) -> None:
    """Do so for one parameter."""
    if isinstance(parameter, TyperOption):
        if parameter.metavar is None:
            parameter.metavar = "" if parameter.is_flag else str(parameter.name).rstrip("_").upper()
    elif isinstance(parameter, TyperArgument):
        # Its name stands before it. This is how Typer asks each parameter for the text; there is no setting for it.
        vars(parameter)["display_type_rich"] = _nothing


def _nothing(ctx: object = None) -> None:
    return None
