"""Finds out which instances have ended: from their records, or from history if the store no longer has them.

The ends are looked up instead of listened for. So instances from before a restart are handled like all others, and an
end counts once even if two processes find it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from celeriac.model import Status
from celeriac.schedules import transitions
from celeriac.schedules.definition import InstanceEnd
from celeriac.schedules.sql.firings import FiringTable
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.standings import standings

#: An instance without any record counts as ended when it was planned this long ago (ms): the store lost it.
_LOST_MS: Final = 120_000


async def settle(store: TaskStore, firings: FiringTable, task_ids: Sequence[str], now_ms: int) -> dict[str, Status]:
    """Look at open instances and count those that have ended; returns the status of those that have not."""
    if not task_ids:
        return {}
    found = dict(zip(task_ids, await standings(store, task_ids), strict=True))
    outcomes = {
        task_id: InstanceEnd(standing.status.stored, standing.finished_ms or now_ms, standing.error)
        for task_id, standing in found.items()
        if standing is not None and standing.status.final
    }
    gone = [task_id for task_id, standing in found.items() if standing is None]
    if gone:
        recorded = await firings.recorded_ends(gone)
        outcomes |= {task_id: outcome for task_id, outcome in recorded.items() if outcome is not None}
        unknown = [task_id for task_id in gone if task_id not in outcomes]
        for task_id in await firings.planned_before(unknown, now_ms - _LOST_MS) if unknown else ():
            outcomes[task_id] = InstanceEnd("UNKNOWN", now_ms, "the store lost its record")
    if outcomes:
        await firings.settle(outcomes, lambda d, ended, unended: transitions.settled(d, ended, unended, now_ms))
    return {task_id: s.status for task_id, s in found.items() if s is not None and not s.status.final}
