"""Finding a task wherever it is: in the store while that keeps it, in the history afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from celeriac.errors import LedgerMissingError, TaskNotFoundError
from celeriac.model import Event, LogLine, Task
from celeriac.store.task_store import TaskStore

if TYPE_CHECKING:
    from celeriac.history.history import KeptTask

#: Events of a timeline that are shown, the first ones.
MAX_EVENTS: Final = 2000


async def find_task(store: TaskStore, task_id: str) -> tuple[Task, KeptTask | None]:
    """Return the task, and how the history keeps it if it is there only; raises `TaskNotFoundError`."""
    try:
        return await store.get(task_id), None
    except TaskNotFoundError:
        kept, _ = await find_kept(store, task_id)
        return kept.task, kept


async def find_kept(store: TaskStore, task_id: str, *, events: int = 0) -> tuple[KeptTask, list[Event]]:
    """Return a task of the history with its first `events` events; raises `TaskNotFoundError`."""
    # Here, so that commands that find their task in the store do not import SQLAlchemy, which takes longer than they.
    from celeriac.history.history import Ledger

    async with Ledger(
        store.settings.history_url, statement_timeout_s=store.settings.ledger.statement_timeout
    ) as ledger:
        try:
            kept = await ledger.get(task_id)
            return kept, await ledger.events(task_id, count=events) if events else []
        except LedgerMissingError:
            # Without tables nothing was ever recorded.
            raise TaskNotFoundError(task_id) from None


async def find_kept_log(store: TaskStore, task_id: str) -> list[LogLine]:
    """Return the lines that the history has of a task's log."""
    from celeriac.history.history import Ledger

    async with Ledger(
        store.settings.history_url, statement_timeout_s=store.settings.ledger.statement_timeout
    ) as ledger:
        return await ledger.log_lines(task_id, count=store.settings.ledger.log_lines)


async def timeline(store: TaskStore, task_id: str) -> tuple[Task, list[Event]]:
    """Return the task with its first `MAX_EVENTS` events; raises `TaskNotFoundError`."""
    try:
        return await store.get(task_id), await store.events(task_id, count=MAX_EVENTS)
    except TaskNotFoundError:
        kept, events = await find_kept(store, task_id, events=MAX_EVENTS)
        return kept.task, events
