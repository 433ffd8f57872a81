"""Run a command's coroutine on a connected store, on the service of tasks or of groups, or on the history."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from celeriac.access.principal import Principal
from celeriac.errors import GroupNotFoundError, InvalidSubmissionError, SettingsError, Violation
from celeriac.groups.service import Groups
from celeriac.installation.discovery import import_from_here
from celeriac.model import Event, KeptTask, LogLine, Submission, Submitted
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.task_filter import TaskFilter
from celeriac.tasks.catalog import TypeCatalog
from celeriac.tasks.registry import Registry, load, registry
from celeriac.tasks.service import Tasks
from celeriac.tasks.types.file_process import FILES

if TYPE_CHECKING:
    from celeriac.files.service import Files
    from celeriac.history.history import History

T = TypeVar("T")


def on_store(settings: Settings, url: str, work: Callable[[TaskStore], Awaitable[T]]) -> T:
    """Connect, run `work` and disconnect; raises `SettingsError` for a URL that cannot be used."""

    async def run() -> T:
        try:
            store = TaskStore(url, settings.store)
        except ValueError as exc:
            raise SettingsError(f"redis_url: {exc}") from exc
        async with store:
            return await work(store)

    return asyncio.run(run())


def on_tasks(settings: Settings, url: str, work: Callable[[Tasks], Awaitable[T]], *, types: Registry = registry) -> T:
    """Connect, run `work` on the service of tasks and disconnect; raises as `on_store` does.

    The history and the storage of files are only connected to when a command uses them.
    """

    async def on(store: TaskStore) -> T:
        async with AsyncExitStack() as stack:
            history = None if settings.database_url is None else _HistoryOnDemand(settings, stack)
            tasks = Tasks(
                store=store,
                types=TypeCatalog(types, store),
                settings=settings,
                history=history,
                intakes={FILES: _FilesOnDemand(store, settings)},
            )
            return await work(tasks)

    return on_store(settings, url, on)


def on_groups(settings: Settings, url: str, work: Callable[[Groups], Awaitable[T]]) -> T:
    """Connect, run `work` on the service of groups and disconnect; raises as `on_store` does.

    The error for an unknown group lists the groups that exist: the name is most likely a typing error.
    """

    async def on(store: TaskStore) -> T:
        try:
            return await work(Groups(store=store, queues=settings.queues))
        except GroupNotFoundError as exc:
            message = f"{exc}; known are: {', '.join(exc.known)}"
            raise InvalidSubmissionError([Violation("name", message)]) from exc

    return on_store(settings, url, on)


def on_history(settings: Settings, work: Callable[[History], Awaitable[T]]) -> T:
    """Connect to the history, run `work` and disconnect; raises `HistoryMissingError` if there is none."""
    # Imported here, so that other commands do not import SQLAlchemy, which takes longer than they run.
    from celeriac.history.history import History

    async def run() -> T:
        async with History(settings.history_url, statement_timeout_s=settings.ledger.statement_timeout) as history:
            return await work(history)

    return asyncio.run(run())


def local_types(settings: Settings) -> Registry:
    """Return the task types that can be checked here; workers check the types that only they have."""
    import celeriac.tasks.types.demo
    import celeriac.tasks.types.grpc_task  # noqa: F401 - registers itself, as do those that the service imports

    import_from_here()
    with suppress(SettingsError):
        # A command may be typed in a folder from which the modules cannot be imported.
        load(settings.imports)
    return registry


class _HistoryOnDemand:
    """The history. It is imported and connected to when a command first uses it."""

    def __init__(self, settings: Settings, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self._history: History | None = None

    async def check(self) -> None:
        """See `History.check`."""
        await (await self._connected()).check()

    async def get(self, task_id: str) -> KeptTask:
        """See `History.get`."""
        return await (await self._connected()).get(task_id)

    async def count(self, task_filter: TaskFilter) -> int:
        """See `History.count`."""
        return await (await self._connected()).count(task_filter)

    async def events(self, task_id: str, **chosen: Any) -> list[Event]:
        """See `History.events`."""
        return await (await self._connected()).events(task_id, **chosen)

    async def log_lines(self, task_id: str, **chosen: Any) -> list[LogLine]:
        """See `History.log_lines`."""
        return await (await self._connected()).log_lines(task_id, **chosen)

    async def _connected(self) -> History:
        from celeriac.history.history import History

        if self._history is None:
            self._history = await self._stack.enter_async_context(
                History(self._settings.history_url, statement_timeout_s=self._settings.ledger.statement_timeout)
            )
        return self._history


class _FilesOnDemand:
    """The service of files. It is made for each call, since only one command hands a file over."""

    def __init__(self, store: TaskStore, settings: Settings) -> None:
        self._store = store
        self._settings = settings

    async def check(self, payload: Any, caller: Principal) -> None:
        """See `Files.check`."""
        async with self._opened() as files:
            await files.check(payload, caller)

    async def submit(self, submission: Submission, payload: Any, caller: Principal) -> Submitted:
        """See `Files.submit`."""
        async with self._opened() as files:
            return await files.submit(submission, payload, caller)

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Files]:
        from celeriac.files.service import Files

        files = Files(store=self._store, settings=self._settings)
        try:
            yield files
        finally:
            await files.stop()
