"""The reference of the command line, as `celeriac --help` has it."""

from __future__ import annotations

import typer
from typer.cli import get_docs_for_click
from typer.main import get_command

from celeriac.cli.main import app


def page() -> str:
    """Return the page."""
    command = get_command(app)
    context = typer.Context(command, info_name="celeriac")
    return get_docs_for_click(obj=command, ctx=context, name="celeriac", title="Command line")
