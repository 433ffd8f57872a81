"""A task's log as server-sent events: `line` for each line, and one `done` when the task has ended."""

from __future__ import annotations

import contextlib

from celeriac.errors import TaskNotFoundError
from celeriac.model import Task, severity
from celeriac.store.watching.hub import LiveHub
from celeriac.tasks.record import log_line_record
from celeriac_api.http.event_stream import START, Events, frame


class LogStream:
    """One client's view of a task's log, from the stream id `position` on (`-` is from the beginning)."""

    def __init__(self, *, hub: LiveHub, task_id: str, position: str, level: str, keepalive_s: float) -> None:
        self._hub = hub
        self._task_id = task_id
        self._position = position
        self._least = severity(level)
        self._keepalive_s = keepalive_s

    async def events(self) -> Events:
        """Yield what to send; ends after `done`, when the task's record is gone, or when the hub stops."""
        followed = self._hub.follow_log(self._task_id, self._position, idle_s=self._keepalive_s)
        with contextlib.suppress(TaskNotFoundError):
            async with contextlib.aclosing(followed) as items:
                async for item in items:
                    if item is None:
                        yield None
                    elif isinstance(item, Task):
                        # It has the id of the last line: a client that comes back with it gets only the end again.
                        seen = None if self._position == START else self._position
                        yield frame("done", {"task_id": self._task_id, "status": item.status.wire}, seen)
                    else:
                        self._position = item.id
                        if severity(item.level) >= self._least:
                            yield frame("line", {"task_id": self._task_id, **log_line_record(item)}, item.id)
