"""What waits in the store, for operators: tasks that wait for a worker, and tasks that wait for a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from celeriac.model import Status, utc_from_ms
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.previews import read_previews
from celeriac.task_fields import status_of

#: Most bytes of a payload that are shown.
_SHOWN_BYTES: Final = 2000
#: At most this many tasks that wait for a time are looked at for each one that is shown: some are of other groups.
_LOOKED_AT: Final = 10
_TIMED: Final = frozenset({Status.SCHEDULED, Status.RETRYING})


@dataclass(frozen=True, slots=True)
class WaitingTask:
    """The beginning of the record of a task that waits."""

    task_id: str
    status: Status
    type: str
    group: str
    #: How it reaches its executor (`Delivery`), and its priority (9 is served first).
    delivery: str
    priority: int
    attempt: int
    #: JSON; cut anywhere if `cut` is set.
    payload: str
    cut: bool
    #: When it is due, if it waits for a time.
    due: datetime | None


async def ready_tasks(store: TaskStore, groups: Sequence[str], limit: int) -> list[WaitingTask]:
    """Return up to `limit` tasks that wait in these groups, the next ones first; three round trips.

    Groups in which tasks wait have equal shares of the limit.
    """
    counts = await store.read(*(("ZCARD", keys.waiting(group)) for group in groups))
    busy = [group for group, count in zip(groups, counts, strict=True) if count][:limit]
    share = max(limit // max(len(busy), 1), 1)
    pages = await store.read(*(("ZRANGE", keys.waiting(group), 0, share - 1) for group in busy))
    ids = [str(task_id) for page in pages for task_id in page]
    found = await tasks_with_ids(store, ids)
    return [found[task_id] for task_id in ids if task_id in found and found[task_id].status is Status.PENDING]


async def timed_tasks(store: TaskStore, is_wanted: Callable[[str], bool], limit: int) -> list[WaitingTask]:
    """Return up to `limit` tasks that wait for a time in the groups that `is_wanted`, the soonest first.

    It looks at a bounded number of tasks, so some are left out if very many tasks of other groups are due before.
    """
    shown: list[WaitingTask] = []
    for start in range(0, _LOOKED_AT * limit, limit):
        (page,) = await store.read(("ZRANGE", keys.DELAYED, start, start + limit - 1, "WITHSCORES"))
        due = {str(task_id): utc_from_ms(float(score)) for task_id, score in page}
        found = await tasks_with_ids(store, [*due], due)
        shown += [task for task in found.values() if task.status in _TIMED and is_wanted(task.group)]
        if len(page) < limit or len(shown) >= limit:
            break
    return shown[:limit]


async def tasks_with_ids(
    store: TaskStore, ids: Sequence[str], due: dict[str, datetime] | None = None
) -> dict[str, WaitingTask]:
    """Return the beginnings of those records that exist; one round trip."""
    rows = await read_previews(store, ids, shown_bytes=_SHOWN_BYTES)
    found: dict[str, WaitingTask] = {}
    for task_id, row in rows.items():
        found[task_id] = WaitingTask(
            task_id=task_id,
            status=status_of(row.status),
            type=row.type,
            group=row.group,
            delivery=row.delivery,
            priority=_whole(row.priority),
            attempt=_whole(row.attempt),
            payload=row.payload,
            cut=int(row.payload_bytes or 0) > _SHOWN_BYTES,
            due=None if due is None else due.get(task_id),
        )
    return found


def _whole(text: str) -> int:
    """Return a number of a record, 0 for what a foreign program damaged."""
    return int(text) if text.isdigit() else 0
