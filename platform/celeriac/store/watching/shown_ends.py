"""Shows on the terminal how tasks ended of which no process of ours does: those that were cancelled while they waited,
expired, or were lost with their worker, and those of foreign programs.
"""

from __future__ import annotations

from typing import Any

from celeriac import json_text
from celeriac.errors import JsonError
from celeriac.model import Failure, Status
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.hub import LiveHub
from celeriac.terminal.task_end import TaskEnd, error_text
from celeriac.terminal.task_lines import TaskLines


class ShownEnds:
    """Hears of such ends, and gives them to `lines`. What ends while the store cannot be reached has no line."""

    def __init__(self, *, store: TaskStore, lines: TaskLines) -> None:
        self._hub = LiveHub(store=store)
        self._lines = lines

    async def start(self) -> None:
        """Begin to listen."""
        await self._hub.start()
        await self._hub.listen(keys.ENDS, self._on_end)

    async def stop(self) -> None:
        """Disconnect. Idempotent."""
        await self._hub.stop()

    def _on_end(self, text: str | None) -> None:
        if text is None or not self._lines.has_room():
            return
        try:
            self._lines.add(end_from(json_text.read(text)))
        except (JsonError, KeyError, TypeError, ValueError):
            # A foreign program writes records too. Its task has no line.
            return


def end_from(found: Any) -> TaskEnd:
    """Return an end as `show` in `lua/shared/ends.lua` writes it; raises what Python does at a wrong document."""
    status, ran_ms = Status(found["status"]), found.get("ran_ms")
    error = ""
    if status is Status.CANCELLED:
        error = str(found.get("message") or "")
    elif found.get("code"):
        error = error_text(Failure(found["code"], found.get("message") or "", retryable=False))
    return TaskEnd(
        group=found["queue"] or "",
        type=found["type"] or "",
        task_id=found["id"],
        status=status,
        took_s=None if ran_ms is None else int(ran_ms) / 1000,
        attempt=int(found.get("attempt") or 0),
        attempts=int(found.get("attempts") or 0),
        error=error,
    )
