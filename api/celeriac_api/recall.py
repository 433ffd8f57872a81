"""Finding a task wherever it is: in the store while that keeps it, in the history afterwards. Callers cannot tell."""

from __future__ import annotations

from collections.abc import Sequence

from celeriac.errors import LedgerMissingError, LedgerUnavailableError, TaskNotFoundError
from celeriac.ledger.ledger import KeptTask
from celeriac.model import Event, Task
from celeriac_api.parts import Parts
from celeriac_api.sse import parse_event_id

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


async def _live_events(
    parts: Parts, task_id: str, *, after: tuple[int, int], count: int, kinds: Sequence[str]
) -> list[Event]:
    found: list[Event] = []
    position = "-" if after < (0, 0) else f"{after[0]}-{after[1]}"
    while len(found) < count:
        page = await parts.store.events(task_id, after=position, count=_PAGE)
        found += [event for event in page if not kinds or event.kind in kinds]
        if len(page) < _PAGE:
            break
        position = page[-1].id
    return found[:count]


def _place(event: Event) -> tuple[int, int]:
    return parse_event_id(event.id) or (0, 0)
