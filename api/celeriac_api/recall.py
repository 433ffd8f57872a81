"""Finding a task wherever it is: in the store while that keeps it, in the history afterwards. Callers cannot tell."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from celeriac.errors import LedgerMissingError, LedgerUnavailableError, TaskNotFoundError
from celeriac.history.history import KeptTask
from celeriac.model import Event, LogLine, Task, severity
from celeriac_api.http.sse import parse_event_id
from celeriac_api.parts import Parts

#: Events read from the store at once.
_PAGE = 500


async def find_task(parts: Parts, task_id: str) -> Task:
    """Return the task; raises `TaskNotFoundError`, `StoreUnavailableError`, `LedgerUnavailableError`."""
    try:
        return await parts.store.get(task_id)
    except TaskNotFoundError:
        return (await find_kept(parts, task_id)).task


async def find_kept(parts: Parts, task_id: str) -> KeptTask:
    """Return the task from the history; raises `TaskNotFoundError`, `LedgerUnavailableError`."""
    if parts.ledger is None:
        raise TaskNotFoundError(task_id)
    try:
        return await parts.ledger.get(task_id)
    except LedgerMissingError:
        # No tables: then nothing was ever recorded, which is an answer too.
        raise TaskNotFoundError(task_id) from None


async def find_events(
    parts: Parts, task_id: str, *, after: tuple[int, int], count: int, kinds: Sequence[str]
) -> list[Event]:
    """Return up to `count` events after the stream id `after`, in order: what store and history have, each once.

    Raises `TaskNotFoundError` for a task that neither of them knows.
    """
    known = (await parts.store.known([task_id]))[0]
    found: dict[tuple[int, int], Event] = {}
    if known:
        for event in await _live_events(parts, task_id, after=after, count=count, kinds=kinds):
            found[_place(event)] = event
    try:
        if not known:
            await find_kept(parts, task_id)
        if parts.ledger is not None:
            for event in await parts.ledger.events(task_id, after=after, count=count, kinds=kinds):
                found.setdefault(_place(event), event)
    except LedgerUnavailableError:
        # The store has them all, but for a task that came back from the history.
        if not known:
            raise
    return [found[place] for place in sorted(found)][:count]


async def find_log(parts: Parts, task_id: str, *, after: tuple[int, int], count: int, least: int) -> list[LogLine]:
    """Return up to `count` lines after the stream id `after` that are at least so severe, in order, each once.

    Raises `TaskNotFoundError` for a task that neither store nor history knows.
    """

    async def live(position: tuple[int, int], page: int) -> list[LogLine]:
        return await parts.store.log_lines(task_id, after=_stream_id(position), count=page)

    async def kept(position: tuple[int, int], page: int) -> list[LogLine]:
        return [] if parts.ledger is None else await parts.ledger.log_lines(task_id, after=position, count=page)

    known = (await parts.store.known([task_id]))[0]
    found: dict[tuple[int, int], LogLine] = {}
    if known:
        found = await _severe(live, after, count, least)
    try:
        if not known:
            await find_kept(parts, task_id)
        # Also of what the store has: it may have come back from the history, without its log.
        for place, line in (await _severe(kept, after, count, least)).items():
            found.setdefault(place, line)
    except LedgerUnavailableError:
        if not known:
            raise
    return [found[place] for place in sorted(found)][:count]


async def _severe(
    read: Callable[[tuple[int, int], int], Awaitable[list[LogLine]]], after: tuple[int, int], count: int, least: int
) -> dict[tuple[int, int], LogLine]:
    found: dict[tuple[int, int], LogLine] = {}
    while len(found) < count:
        page = await read(after, _PAGE)
        places = [parse_event_id(line.id) or (0, 0) for line in page]
        found |= {place: line for place, line in zip(places, page, strict=True) if severity(line.level) >= least}
        if len(page) < _PAGE:
            break
        after = places[-1]
    return found


def _stream_id(position: tuple[int, int]) -> str:
    return "-" if position < (0, 0) else f"{position[0]}-{position[1]}"


async def _live_events(
    parts: Parts, task_id: str, *, after: tuple[int, int], count: int, kinds: Sequence[str]
) -> list[Event]:
    found: list[Event] = []
    position = _stream_id(after)
    while len(found) < count:
        page = await parts.store.events(task_id, after=position, count=_PAGE)
        found += [event for event in page if event.kind in kinds]
        if len(page) < _PAGE:
            break
        position = page[-1].id
    return found[:count]


def _place(event: Event) -> tuple[int, int]:
    return parse_event_id(event.id) or (0, 0)
