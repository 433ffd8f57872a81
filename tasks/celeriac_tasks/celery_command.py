"""A plugin of Celery's command line: `CELERIAC_ADOPT=1 celery -A proj worker` adopts the app without a change of code.

Celery loads it (entry point `celery.commands`) before it finds the app, and has a command more: `celery -A proj
celeriac`. Without the variable, loading it costs nothing more than this file.
"""

from __future__ import annotations

import os
from typing import Any

import click
from celery._state import connect_on_app_finalize

#: Values of the variable that mean no.
_NO = ("", "0", "false", "no", "off")


def _adopt(app: Any) -> None:
    """Adopt an app that is being completed; not the one that Celery makes for programs that have none."""
    if app.main == "default":
        return
    from celeriac_tasks.adoption import adopt

    adopt(app)


if os.environ.get("CELERIAC_ADOPT", "").lower() not in _NO:
    from celeriac_tasks.own_pool import name_own_pool

    # Celery looks for the pool before the app is completed.
    name_own_pool()
    connect_on_app_finalize(_adopt)


@click.command()
@click.pass_context
def celeriac(ctx: click.Context) -> None:
    """Say whether the tasks of the app have records, and where."""
    from celeriac.errors import SettingsError
    from celeriac.settings.store_address import masked
    from celeriac_tasks.engine.app import CeleriacApp

    app = ctx.obj.app
    app.finalize()
    if not isinstance(app, CeleriacApp):
        click.echo("The tasks of this app have no records. Write celeriac.adopt(app), or set CELERIAC_ADOPT=1.")
        ctx.exit(1)
    try:
        store = str(app.celeriac_settings.redis_url)
    except SettingsError as exc:
        raise click.ClickException(str(exc)) from exc
    click.echo(f"The tasks of this app have records in {masked(store)}.")
