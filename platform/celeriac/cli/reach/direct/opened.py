"""The parts of an installation, opened when a command first uses them: most commands use one or two."""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

from celeriac.connection.on_demand import FilesOnDemand, HistoryOnDemand
from celeriac.errors import SettingsError
from celeriac.groups.limits import LimitRules
from celeriac.groups.service import Groups
from celeriac.installation.discovery import import_from_here
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.tasks.catalog import TypeCatalog
from celeriac.tasks.registry import load, registry
from celeriac.tasks.service import Tasks
from celeriac.tasks.types.file_process import FILES

if TYPE_CHECKING:
    from celeriac.history.history import History
    from celeriac.schedules.service import Schedules


class Opened:
    """An installation's store, history and services, for one command. Whatever was opened is closed with `stack`."""

    def __init__(self, settings: Settings, url: str, stack: AsyncExitStack) -> None:
        self.settings = settings
        self._url = url
        self._stack = stack
        self._store: TaskStore | None = None
        self._history = HistoryOnDemand(settings, stack)
        self._tasks: Tasks | None = None
        self._schedules: Schedules | None = None

    async def store(self) -> TaskStore:
        """Return the store; raises `SettingsError` for a URL that cannot be used."""
        if self._store is None:
            try:
                store = TaskStore(self._url, self.settings.store)
            except ValueError as exc:
                raise SettingsError(f"redis_url: {exc}") from exc
            self._store = await self._stack.enter_async_context(store)
        return self._store

    async def history(self) -> History:
        """Return the history; its methods raise `HistoryMissingError` if there is none."""
        return await self._history.connected()

    async def tasks(self, *, checked_here: bool = False) -> Tasks:
        """Return the service of tasks; `checked_here`: it also knows the task types of this folder."""
        if checked_here:
            _load_types(self.settings)
        if self._tasks is None:
            store = await self.store()
            self._tasks = Tasks(
                store=store,
                types=TypeCatalog(registry, store),
                settings=self.settings,
                history=None if self.settings.database_url is None else self._history,
                intakes={FILES: FilesOnDemand(store, self.settings)},
                warns=True,
            )
        return self._tasks

    async def groups(self) -> Groups:
        """Return the service of groups."""
        return Groups(store=await self.store(), queues=self.settings.queues)

    async def limits(self) -> LimitRules:
        """Return the service of limits."""
        return LimitRules(store=await self.store())

    async def schedules(self) -> Schedules:
        """Return the service of definitions."""
        from celeriac.schedules.connection import connected_schedules

        if self._schedules is None:
            import_from_here()
            self._schedules = await self._stack.enter_async_context(connected_schedules(self.settings, self._url))
        return self._schedules


def _load_types(settings: Settings) -> None:
    """Register the task types that can be checked here; workers check the types that only they have."""
    import celeriac.tasks.types.demo
    import celeriac.tasks.types.grpc_task  # noqa: F401 - registers itself, as do those that the service imports

    import_from_here()
    with suppress(SettingsError):
        # A command may be typed in a folder from which the modules cannot be imported.
        load(settings.imports)
