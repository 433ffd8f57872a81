"""The service of schedules for programs that connect by themselves: Python and the command line."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import celeriac.tasks.types.file_process
import celeriac.tasks.types.grpc_task  # noqa: F401 - these register the built-in task types
from celeriac.errors import SettingsError
from celeriac.history.history import History
from celeriac.schedules.service import Schedules
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.tasks.catalog import KnownTypes, TypeLookup
from celeriac.tasks.registry import load, registry


@contextlib.asynccontextmanager
async def connected_schedules(settings: Settings, url: str) -> AsyncIterator[Schedules]:
    """Yield the service of schedules on the store at `url` and on the settings' database."""
    # The modules may not be importable from the folder in which a command is run. Then only the types that workers
    # announce are known.
    with contextlib.suppress(SettingsError):
        load(settings.imports)
    try:
        store = TaskStore(url, settings.store)
    except ValueError as exc:
        raise SettingsError(f"redis_url: {exc}") from exc

    async def types(_: str) -> TypeLookup:
        return KnownTypes(registry, await store.task_types())

    async with store, History(settings.history_url, statement_timeout_s=settings.ledger.statement_timeout) as history:
        yield Schedules(store=store, history=history, types=types, settings=settings)
