"""Follows the tasks that a foreign program has in hand (groups with `processor: external`, docs/task-service.md).

Such a program pops an id from the list `task:pending` and writes `status`, `result_file_path` and `error_message` into
the task's hash. It does not know about indexes, events and retention. This role sees what was written and does the
rest, so that groups, streams and history are right for these tasks too.
"""

from __future__ import annotations

import logging
from typing import Final

from celeriac.store.roles.role import Role
from celeriac.store.task_store import TaskStore

log = logging.getLogger(__name__)

#: One step looks at this many of the oldest tasks, on which the program most likely works, and at as many others.
_BATCH: Final = 500
#: Pause between two steps, with and without tasks to watch (seconds).
_INTERVAL_S: Final = 0.2
_IDLE_S: Final = 1.0


class ExternalWatcher(Role):
    """Looks at the records of external tasks a few times a second; `lua/transitions/watch_external.lua` does the work.

    Every step looks at the oldest tasks, and at some of the others in turn. With 100,000 tasks, a task that is not
    among the 500 oldest is seen within 40 seconds.
    """

    def __init__(self, *, store: TaskStore) -> None:
        super().__init__()
        self._store = store
        self._offset = _BATCH

    async def step(self) -> float:
        """Look once."""
        changes, watched = await self._store.watch_external(_BATCH, self._offset)
        self._offset = self._offset + _BATCH if self._offset + _BATCH < watched else _BATCH
        if changes:
            log.debug("external processors made %d changes; %d tasks are watched", changes, watched)
        return _INTERVAL_S if watched else _IDLE_S
