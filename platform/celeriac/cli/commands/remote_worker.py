"""`celeriac remote-worker`: run your own function as a remote worker."""

from __future__ import annotations

import importlib
import sys
from typing import Annotated, Any

import typer

from celeriac.cli.options import Config, Quiet
from celeriac.errors import SettingsError
from celeriac.installation.discovery import import_from_here
from celeriac.installation.importing import importing


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("remote-worker", rich_help_panel="Run")(remote_worker)


def remote_worker(
    target: Annotated[str, typer.Argument(metavar="MODULE:HANDLER", help="The function that runs a task.")],
    group: Annotated[str, typer.Option(metavar="G", help="The group whose tasks it runs.")] = "default",
    url: Annotated[
        str | None,
        typer.Option(
            help="The API's address.", show_default="$CELERIAC_URL, else that of the `up` on .celeriac, else port 8000"
        ),
    ] = None,
    token: Annotated[
        str | None, typer.Option(help="The token or API key to authenticate with.", show_default="$CELERIAC_TOKEN")
    ] = None,
    concurrency: Annotated[int, typer.Option(metavar="N", help="How many tasks to run at once.", min=1)] = 1,
    model: Annotated[
        list[str] | None, typer.Option(metavar="M", help="A model that it serves. Repeat the option to name several.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The name that operators see.")] = None,
    config: Config = None,
    quiet: Quiet = False,
) -> None:
    """Receive the tasks of a group over a WebSocket and run them with a function. Needs no store and no Celery.

    Ctrl-C lets running tasks finish. A second Ctrl-C stops at once.
    """
    from celeriac.logs import configure_logging, writes_json
    from celeriac.remote_worker import RemoteWorker
    from celeriac.settings import load_settings
    from celeriac.terminal.task_lines import lines_on

    settings = load_settings(config, {"task_lines": 0 if quiet else None})
    configure_logging(level=settings.log_level, form=settings.log_format, role="remote-worker")
    import_from_here()
    RemoteWorker(
        url,
        _handler(target),
        group=group,
        token=token,
        concurrency=concurrency,
        models=model or (),
        name=name,
        task_lines=lines_on(sys.stderr, most=settings.task_lines, as_json=writes_json(settings.log_format)),
    ).run()


def _handler(target: str) -> Any:
    module_name, separator, attribute = target.partition(":")
    if not separator or not module_name or not attribute:
        raise SettingsError(f"{target!r} is not a handler: write module:function, for example mymodule:handle")
    try:
        with importing(module_name):
            found: Any = importlib.import_module(module_name)
    except SettingsError as exc:
        missing = exc.__cause__
        if isinstance(missing, ModuleNotFoundError) and f"{module_name}.".startswith(f"{missing.name}."):
            raise SettingsError(f"there is no module {module_name!r} in this folder or on the path") from missing
        raise
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise SettingsError(f"the module {module_name!r} has no {attribute!r}")
        found = getattr(found, part)
    if not callable(found):
        raise SettingsError(f"{target} is not a function: name the function that runs a task")
    return found
