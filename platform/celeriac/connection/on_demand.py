"""The history and the service of files, imported and connected to when they are first used."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from celeriac.access.principal import Principal
from celeriac.model import Event, KeptTask, LogLine, Submission, Submitted
from celeriac.settings import Settings
from celeriac.signals.records import TaskStep
from celeriac.task_filter import TaskFilter

if TYPE_CHECKING:
    from celeriac.files.service import Files
    from celeriac.history.history import History
    from celeriac.store.task_store import TaskStore


class HistoryOnDemand:
    """The history. It is imported and connected to when it is first used."""

    def __init__(self, settings: Settings, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._stack = stack
        self._history: History | None = None

    async def check(self) -> None:
        """See `History.check`."""
        await (await self.connected()).check()

    async def get(self, task_id: str) -> KeptTask:
        """See `History.get`."""
        return await (await self.connected()).get(task_id)

    async def count(self, task_filter: TaskFilter) -> int:
        """See `History.count`."""
        return await (await self.connected()).count(task_filter)

    async def events(self, task_id: str, **chosen: Any) -> list[Event]:
        """See `History.events`."""
        return await (await self.connected()).events(task_id, **chosen)

    async def ids(self, prefix: str, **chosen: Any) -> list[str]:
        """See `History.ids`."""
        return await (await self.connected()).ids(prefix, **chosen)

    async def log_lines(self, task_id: str, **chosen: Any) -> list[LogLine]:
        """See `History.log_lines`."""
        return await (await self.connected()).log_lines(task_id, **chosen)

    async def steps(self, task_id: str) -> list[tuple[int, TaskStep]]:
        """See `History.steps`."""
        return await (await self.connected()).steps(task_id)

    async def connected(self) -> History:
        """Return the history itself, for what is not asked through this object."""
        from celeriac.history.history import History

        if self._history is None:
            self._history = await self._stack.enter_async_context(
                History(self._settings.history_url, statement_timeout_s=self._settings.ledger.statement_timeout)
            )
        return self._history


class FilesOnDemand:
    """The service of files. It is made for each call: few hand a file over."""

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
