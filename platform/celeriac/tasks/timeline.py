"""Finding a task wherever it is: in the store while the store keeps it, in the history afterwards.

Callers cannot tell the two apart. What both have (after a retry of a task that only the history knew) is merged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from celeriac.errors import HistoryMissingError, HistoryUnavailableError, TaskNotFoundError
from celeriac.model import Event, KeptTask, LogLine, Task, severity, stream_position

if TYPE_CHECKING:
    from celeriac.store.task_store import TaskStore
    from celeriac.task_filter import TaskFilter

E = TypeVar("E", Event, LogLine)

#: A position before all entries of a stream.
START: Final = (-1, 0)
#: Entries read from the store or the history at once.
_PAGE: Final = 500


class TaskHistory(Protocol):
    """What the service of tasks asks of the history; every method raises `HistoryUnavailableError`."""

    async def check(self) -> None:
        """Raise `HistoryMissingError` unless the tables are there, in this version."""

    async def get(self, task_id: str) -> KeptTask:
        """Return one task; raises `TaskNotFoundError`."""

    async def count(self, task_filter: TaskFilter) -> int:
        """Return how many tasks the filter selects."""

    async def events(
        self, task_id: str, *, after: tuple[int, int] = ..., count: int = ..., kinds: Sequence[str] = ...
    ) -> list[Event]:
        """Return up to `count` events after the position, in order."""

    async def log_lines(self, task_id: str, *, after: tuple[int, int] = ..., count: int = ...) -> list[LogLine]:
        """Return up to `count` lines of the log after the position, in order."""


class Timeline:
    """Reads tasks, their events and their logs from store and history, as one."""

    def __init__(self, store: TaskStore, history: TaskHistory | None) -> None:
        self._store = store
        self._history = history

    async def find(self, task_id: str) -> Task:
        """Return the task; raises `TaskNotFoundError`, `StoreUnavailableError`, `HistoryUnavailableError`."""
        try:
            return await self._store.get(task_id)
        except TaskNotFoundError:
            return (await self.kept(task_id)).task

    async def kept(self, task_id: str) -> KeptTask:
        """Return the task as the history has it; raises `TaskNotFoundError`, `HistoryUnavailableError`."""
        if self._history is None:
            raise TaskNotFoundError(task_id)
        try:
            return await self._history.get(task_id)
        except HistoryMissingError:
            # Without tables nothing was ever recorded, which is an answer too.
            raise TaskNotFoundError(task_id) from None

    async def events(
        self, task_id: str, *, after: tuple[int, int] = START, count: int, kinds: Sequence[str]
    ) -> list[Event]:
        """Return up to `count` events after the position `after`, in order, each once.

        Raises `TaskNotFoundError` for a task that neither store nor history knows.
        """

        async def live(position: tuple[int, int], page: int) -> list[Event]:
            return await self._store.events(task_id, after=_stream_id(position), count=page)

        async def kept(position: tuple[int, int], page: int) -> list[Event]:
            assert self._history is not None
            return await self._history.events(task_id, after=position, count=page, kinds=kinds)

        return await self._merged(task_id, live, kept, lambda event: event.kind in kinds, after, count)

    async def log(self, task_id: str, *, after: tuple[int, int] = START, count: int, least: int = 0) -> list[LogLine]:
        """Return up to `count` lines after the position `after` that are at least so severe, in order, each once.

        Raises `TaskNotFoundError` for a task that neither store nor history knows.
        """

        async def live(position: tuple[int, int], page: int) -> list[LogLine]:
            return await self._store.log_lines(task_id, after=_stream_id(position), count=page)

        async def kept(position: tuple[int, int], page: int) -> list[LogLine]:
            assert self._history is not None
            return await self._history.log_lines(task_id, after=position, count=page)

        return await self._merged(task_id, live, kept, lambda line: severity(line.level) >= least, after, count)

    async def _merged(
        self,
        task_id: str,
        live: Callable[[tuple[int, int], int], Awaitable[list[E]]],
        kept: Callable[[tuple[int, int], int], Awaitable[list[E]]],
        wanted: Callable[[E], bool],
        after: tuple[int, int],
        count: int,
    ) -> list[E]:
        known = (await self._store.known([task_id]))[0]
        found = await _walk(live, wanted, after, count) if known else {}
        try:
            if not known:
                await self.kept(task_id)
            if self._history is not None:
                # Also for a task that the store has: it may have come back from the history, without its past.
                found = {**await _walk(kept, wanted, after, count), **found}
        except HistoryUnavailableError:
            if not known:
                raise
        return [found[position] for position in sorted(found)][:count]


async def _walk(
    read: Callable[[tuple[int, int], int], Awaitable[list[E]]],
    wanted: Callable[[E], bool],
    after: tuple[int, int],
    count: int,
) -> dict[tuple[int, int], E]:
    """Return up to `count` wanted entries after a position, by their positions."""
    found: dict[tuple[int, int], E] = {}
    while len(found) < count:
        page = await read(after, _PAGE)
        positions = [stream_position(entry.id) or (0, 0) for entry in page]
        found |= {position: entry for position, entry in zip(positions, page, strict=True) if wanted(entry)}
        if len(page) < _PAGE:
            break
        after = positions[-1]
    return found


def _stream_id(position: tuple[int, int]) -> str:
    return "-" if position < (0, 0) else f"{position[0]}-{position[1]}"
