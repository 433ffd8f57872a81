"""System checks: `manage.py check`, and `check --deploy` for what runs."""

from __future__ import annotations

from typing import Any, Final

from django.apps import apps
from django.core import checks
from django.db import connections

from celeriac.calling.blocking import block_on
from celeriac.connection.process import process_connection
from celeriac.errors import CeleriacError, SettingsError
from celeriac.settings import load_settings

MODES: Final = ("on_commit", "now", "outbox")
_OPTIONS: Final = ("enqueue", "database")
_APP: Final = "celeriac.contrib.django"


def backend_findings(backend: Any) -> list[checks.CheckMessage]:
    """Return what is wrong with the options of a backend."""
    where = f"TASKS[{backend.alias!r}]['OPTIONS']"
    found: list[checks.CheckMessage] = []
    for name in sorted(set(backend.options) - set(_OPTIONS)):
        hint = f"Options are: {', '.join(_OPTIONS)}."
        found.append(checks.Error(f"{where} has an unknown option {name!r}.", hint=hint, id="celeriac.E001"))
    if backend.mode not in MODES:
        hint = f"Use one of: {', '.join(MODES)}."
        found.append(checks.Error(f"{where}['enqueue'] cannot be {backend.mode!r}.", hint=hint, id="celeriac.E002"))
    if backend.database not in connections:
        hint = "Name one of DATABASES."
        found.append(checks.Error(f"{where}['database'] is {backend.database!r}.", hint=hint, id="celeriac.E003"))
    elif backend.mode == "outbox" and not apps.is_installed(_APP):
        hint = f"Add {_APP!r} to INSTALLED_APPS, and run `manage.py migrate`."
        found.append(checks.Error(f"{where}: the outbox has no table.", hint=hint, id="celeriac.E004"))
    elif backend.mode == "now" and connections[backend.database].settings_dict.get("ATOMIC_REQUESTS"):
        found.append(
            checks.Warning(
                f"{where}: a view with ATOMIC_REQUESTS submits tasks before its transaction is committed, so a worker"
                " may not find what the view has written.",
                hint='Use "on_commit" or "outbox".',
                id="celeriac.W001",
            )
        )
    elif backend.mode == "on_commit" and not process_connection.takes_ids():
        found.append(
            checks.Warning(
                f"{where}['enqueue'] is 'on_commit', and CELERIAC_URL leads to an API, which chooses the ids of tasks:"
                " tasks of a transaction are refused.",
                hint='Use "outbox" or "now", or set REDIS_URL instead of CELERIAC_URL.',
                id="celeriac.W004",
            )
        )
    return found


@checks.register("celeriac")
def check_settings(**_: Any) -> list[checks.CheckMessage]:
    """Return whether the settings can be read: those of the project, of the environment and of `celeriac.yaml`."""
    try:
        load_settings()
    except SettingsError as exc:
        hint = "See settings.CELERIAC, the variables of the environment, and celeriac.yaml."
        return [checks.Error(f"Celeriac's settings: {exc}", hint=hint, id="celeriac.E005")]
    return []


@checks.register("celeriac", deploy=True)
def check_workers(**_: Any) -> list[checks.CheckMessage]:
    """Return whether a worker runs, and whether the store answers."""
    from celeriac.connection.place import find_place
    from celeriac.store.task_store import TaskStore

    async def number_of_workers(redis_url: str, options: Any) -> int:
        store = TaskStore(redis_url, options, patience_s=0)
        try:
            return len(await store.workers())
        finally:
            await store.stop()

    try:
        place = find_place()
        if place.settings is None or place.settings.redis_url is None:
            return []
        found = block_on(number_of_workers(place.settings.redis_url, place.settings.store))
    except CeleriacError as exc:
        return [checks.Warning(f"Tasks cannot be submitted: {exc}", id="celeriac.W002")]
    if found:
        return []
    return [checks.Warning("No worker runs.", hint="Start `manage.py celeriac worker`.", id="celeriac.W003")]
