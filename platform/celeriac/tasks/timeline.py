"""Finding a task wherever it is: in the store while the store keeps it, in the history afterwards.

Callers cannot tell the two apart. What both have (after a retry of a task that only the history knew) is merged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeAlias, TypeVar

from celeriac import json_text
from celeriac.access.principal import Principal
from celeriac.database.page_bytes import fitting
from celeriac.errors import HistoryMissingError, HistoryUnavailableError, TaskNotFoundError
from celeriac.model import Event, KeptTask, LogLine, Task, ms_from_utc, severity, stream_position
from celeriac.signals.records import TaskStep

if TYPE_CHECKING:
    from celeriac.store.task_store import TaskStore
    from celeriac.task_filter import TaskFilter

E = TypeVar("E", Event, LogLine)
#: Returns those entries of a page that are wanted; whether it is the last page is the second argument.
Choose: TypeAlias = Callable[[list[E], bool], list[E]]

#: A position before all entries of a stream.
START: Final = (-1, 0)
#: Entries read from the store or the history at once.
_PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Entries(Generic[E]):
    """Some entries in order, and whether there are more of them after the last one."""

    items: list[E]
    more: bool

    @property
    def next_cursor(self) -> str | None:
        """The id of the last entry, if there are more after it."""
        return self.items[-1].id if self.more else None


class TaskHistory(Protocol):
    """What the service of tasks asks of the history; every method raises `HistoryUnavailableError`."""

    async def check(self) -> None:
        """Raise `HistoryMissingError` unless the tables are there, in this version."""

    async def get(self, task_id: str) -> KeptTask:
        """Return one task; raises `TaskNotFoundError`."""

    async def count(self, task_filter: TaskFilter) -> int:
        """Return how many tasks the filter selects."""

    async def ids(self, prefix: str, *, limit: int, user_id: str | None = ...) -> list[str]:
        """Return the first ids that begin with `prefix`, in order; with `user_id` only of this user's tasks."""

    async def events(
        self, task_id: str, *, after: tuple[int, int] = ..., count: int = ..., kinds: Sequence[str] = ...
    ) -> list[Event]:
        """Return up to `count` events after the position, in order."""

    async def log_lines(self, task_id: str, *, after: tuple[int, int] = ..., count: int = ...) -> list[LogLine]:
        """Return up to `count` lines of the log after the position, in order."""

    async def steps(self, task_id: str) -> list[tuple[int, TaskStep]]:
        """Return the steps of a task with their numbers, in order."""


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

    async def ids(self, prefix: str, *, caller: Principal, limit: int) -> list[str]:
        """Return the first ids of the caller's tasks that begin with `prefix`, in order.

        A prefix that is the id of a task in the store means that one alone. Raises `HistoryUnavailableError`.
        """
        # Imported here: a client imports this room too, without the driver of the store.
        from celeriac.store.watching.unrecorded import unrecorded_ids

        if await self._is_of(prefix, caller):
            return [prefix]
        # In this order: what is recorded meanwhile is found twice instead of not at all.
        found = {task_id for task_id in await unrecorded_ids(self._store, prefix) if await self._is_of(task_id, caller)}
        if self._history is not None:
            with suppress(HistoryMissingError):  # without tables nothing was ever recorded
                user_id = caller.confined_to
                found.update(await self._history.ids(prefix, limit=limit, user_id=user_id))
        return sorted(found)[:limit]

    async def recent_ids(self, prefix: str, *, caller: Principal, limit: int) -> list[str]:
        """Return up to `limit` ids of the caller's tasks among those with events of late that begin with `prefix`."""
        from celeriac.store.watching.unrecorded import recent_ids

        found: list[str] = []
        for task_id in await recent_ids(self._store, prefix):
            if len(found) == limit:
                break
            if await self._is_of(task_id, caller):
                found.append(task_id)
        return found

    async def _is_of(self, task_id: str, caller: Principal) -> bool:
        known, owner = await self._store.owner(task_id)
        return known and caller.sees(owner)

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
        self,
        task_id: str,
        *,
        after: tuple[int, int] = START,
        count: int,
        kinds: Sequence[str],
        stages: bool = False,
        most_bytes: int | None = None,
    ) -> Entries[Event]:
        """Return up to `count` events after the position `after`, in order, each once; fewer above `most_bytes`.

        With `stages`, progress is folded: only the first report of each stage is there, and the latest report.
        Raises `TaskNotFoundError` for a task that neither store nor history knows.
        """

        async def live(position: tuple[int, int], page: int) -> list[Event]:
            return await self._store.events(task_id, after=_stream_id(position), count=page)

        async def kept(position: tuple[int, int], page: int) -> list[Event]:
            assert self._history is not None
            return await self._history.events(task_id, after=position, count=page, kinds=kinds)

        def choose() -> Choose[Event]:
            return Folded(kinds) if stages else each(lambda event: event.kind in kinds)

        return await self._merged(task_id, live, kept, choose, after, count, most_bytes)

    async def log(
        self,
        task_id: str,
        *,
        after: tuple[int, int] = START,
        count: int,
        least: int = 0,
        most_bytes: int | None = None,
    ) -> Entries[LogLine]:
        """Return up to `count` lines after the position `after` that are at least so severe, in order, each once.

        Above `most_bytes` they are fewer.
        Raises `TaskNotFoundError` for a task that neither store nor history knows.
        """

        async def live(position: tuple[int, int], page: int) -> list[LogLine]:
            return await self._store.log_lines(task_id, after=_stream_id(position), count=page)

        async def kept(position: tuple[int, int], page: int) -> list[LogLine]:
            assert self._history is not None
            return await self._history.log_lines(task_id, after=position, count=page)

        def choose() -> Choose[LogLine]:
            return each(lambda line: severity(line.level) >= least)

        return await self._merged(task_id, live, kept, choose, after, count, most_bytes)

    async def steps(
        self, task_id: str, *, after: int, count: int, most_bytes: int | None = None
    ) -> tuple[list[TaskStep], int | None]:
        """Return up to `count` steps after the one of the number `after`, in order; fewer above `most_bytes`.

        Also returns the number of the last one, if there are more. Raises `TaskNotFoundError` for a task that neither
        store nor history knows, and `HistoryUnavailableError`.
        """
        if (await self._store.known([task_id]))[0]:
            # Once more than there may be on a page, to know whether there are more.
            found = await self._store.steps(task_id, after=after, count=count + 1)
            numbered = [(one.number, TaskStep(*one[:5])) for one in found]
        else:
            await self.kept(task_id)
            assert self._history is not None
            numbered = [pair for pair in await self._history.steps(task_id) if pair[0] > after]
        fit = min(count, len(numbered))
        if most_bytes is not None:
            fit = fitting((step.size for _, step in numbered[:fit]), most_bytes)
        return [step for _, step in numbered[:fit]], numbered[fit - 1][0] if fit < len(numbered) else None

    async def kept_steps(self, task_id: str) -> dict[str, str]:
        """Return the steps of a task as the store keeps them, from the history; raises `HistoryUnavailableError`."""
        assert self._history is not None
        return {
            f"step:{step.name}": f"{number} {ms_from_utc(step.started_at)} {ms_from_utc(step.finished_at)} "
            + json_text.write(step.result)
            for number, step in await self._history.steps(task_id)
        }

    async def _merged(
        self,
        task_id: str,
        live: Callable[[tuple[int, int], int], Awaitable[list[E]]],
        kept: Callable[[tuple[int, int], int], Awaitable[list[E]]],
        choose: Callable[[], Choose[E]],
        after: tuple[int, int],
        count: int,
        most_bytes: int | None,
    ) -> Entries[E]:
        known = (await self._store.known([task_id]))[0]
        # One more tells whether there are more.
        found, end = await _walk(live, choose(), after, count + 1, most_bytes) if known else ({}, None)
        try:
            if not known:
                await self.kept(task_id)
            if self._history is not None:
                # Also for a task that the store has: it may have come back from the history, without its past.
                past, end_of_past = await _walk(kept, choose(), after, count + 1, most_bytes)
                found = {**past, **found}
                end = min((one for one in (end, end_of_past) if one is not None), default=None)
        except HistoryUnavailableError:
            if not known:
                raise
        # After the end of what one of the two was read for, the other one alone would leave gaps.
        places = sorted(position for position in found if end is None or position <= end)
        # What each of the two has chosen may be more than both together need.
        chosen = {id(entry) for entry in choose()([found[position] for position in places], True)}
        places = [position for position in places if id(found[position]) in chosen]
        first = places[:count]
        if most_bytes is not None:
            first = first[: fitting((_size_of(found[position]) for position in first), most_bytes)]
        return Entries([found[position] for position in first], more=end is not None or len(first) < len(places))


def each(wanted: Callable[[E], bool]) -> Choose[E]:
    """Choose each entry for itself."""
    return lambda page, _: [entry for entry in page if wanted(entry)]


class Folded:
    """Chooses events page by page: of the progress only the first report of each stage, and the latest report."""

    def __init__(self, kinds: Sequence[str]) -> None:
        self._kinds = kinds
        self._stage: str | None = None
        #: The latest report, if it is not chosen yet.
        self._latest: Event | None = None

    def __call__(self, page: list[Event], last: bool) -> list[Event]:
        """Return the chosen events of a page; `last` says that no page follows."""
        chosen = []
        for event in page:
            if event.kind == "progress":
                stage = event.fields.get("stage", "")
                self._latest = event if stage == self._stage else None
                if stage == self._stage or "progress" not in self._kinds:
                    continue
                self._stage = stage
            elif event.kind == "status":
                # Each attempt begins its stages anew.
                self._stage = None
            if event.kind in self._kinds:
                chosen.append(event)
        if last and self._latest is not None and "progress" in self._kinds:
            chosen.append(self._latest)
            chosen.sort(key=lambda event: stream_position(event.id) or (0, 0))
        return chosen


async def _walk(
    read: Callable[[tuple[int, int], int], Awaitable[list[E]]],
    choose: Choose[E],
    after: tuple[int, int],
    count: int,
    most_bytes: int | None,
) -> tuple[dict[tuple[int, int], E], tuple[int, int] | None]:
    """Return up to `count` wanted entries after a position, by their positions.

    Once they are above `most_bytes`, the walk ends early: then the second value is its last position.
    """
    found: dict[tuple[int, int], E] = {}
    size = 0
    while len(found) < count:
        page = await read(after, _PAGE)
        last = len(page) < _PAGE
        chosen = {stream_position(entry.id) or (0, 0): entry for entry in choose(page, last)}
        found |= chosen
        if last:
            break
        after = stream_position(page[-1].id) or (0, 0)
        if most_bytes is not None:
            size += sum(map(_size_of, chosen.values()))
            if size > most_bytes:
                return found, after
    return found, None


def _size_of(entry: Event | LogLine) -> int:
    """Return about how long an entry is (characters)."""
    if isinstance(entry, Event):
        return sum(map(len, entry.fields.values()))
    return len(entry.message) + (len(json_text.write(entry.data)) if entry.data else 0)


def _stream_id(position: tuple[int, int]) -> str:
    return "-" if position < (0, 0) else f"{position[0]}-{position[1]}"
