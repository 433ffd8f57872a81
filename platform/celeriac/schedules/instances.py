"""A definition's instances from history, completed from the store: running ones, and those not recorded yet."""

from __future__ import annotations

from celeriac.database.cursor import Cursor
from celeriac.history.history import History
from celeriac.model import Task, ms_from_utc
from celeriac.schedules.sql.definitions import DefinitionTable
from celeriac.store import keys
from celeriac.store.records import task_from_hash
from celeriac.store.task_store import TaskStore
from celeriac.task_filter import Sort, TaskFilter


async def page_of_instances(
    store: TaskStore,
    history: History,
    definitions: DefinitionTable,
    definition_id: str,
    *,
    limit: int,
    cursor: str | None,
) -> tuple[list[Task], str | None]:
    """Return up to `limit` instances, the newest first, and the next page's cursor; raises `BadCursorError`."""
    after = None if cursor is None else Cursor.decode(cursor, Sort.CREATED_DOWN)
    # Unrecorded ones first: an instance that is recorded meanwhile is then in both, and not in neither.
    fresh_ids = [firing.task_id for firing in await definitions.unrecorded(definition_id)]
    page = await history.find(TaskFilter(definition_id=definition_id), limit=limit + 1, cursor=cursor)
    found = {kept.task.task_id: kept.task for kept in page.tasks}
    going_on = [task_id for task_id, task in found.items() if not task.status.final]
    for task in await _live(store, [*fresh_ids, *going_on]):
        if task.task_id in found or after is None or _place(task) < (after.at_ms, after.task_id):
            found[task.task_id] = task
    ordered = sorted(found.values(), key=_place, reverse=True)
    following = None
    if page.next_cursor is not None and len(page.tasks) <= limit:
        # Its tasks are long, so it has fewer of them. What is older than the last one is on the next page.
        end = _place(page.tasks[-1].task)
        ordered, following = [task for task in ordered if _place(task) >= end], page.next_cursor
    if len(ordered) > limit:
        last_ms, last_id = _place(ordered[limit - 1])
        following = Cursor(Sort.CREATED_DOWN, last_ms, last_id).encoded()
    return ordered[:limit], following


def _place(task: Task) -> tuple[int, str]:
    return ms_from_utc(task.created_at), task.task_id


async def _live(store: TaskStore, task_ids: list[str]) -> list[Task]:
    records = await store.read_records(*(("HGETALL", keys.task(task_id)) for task_id in task_ids))
    return [
        task_from_hash({"task_id": task_id, **record})
        for task_id, record in zip(task_ids, records, strict=True)
        if "status" in record
    ]
