"""Ids of tasks in the global stream: those that the history cannot know yet, and those of late."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from celeriac.errors import HistoryUnavailableError
from celeriac.store import keys
from celeriac.store.server.scripts import script
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.feed import GROUP, group_of

#: Entries that one call reads: a few milliseconds of the server's time.
_PAGE: Final = 1_000
#: Most entries that are read at all. Recording is normally less than a second behind.
_MOST: Final = 200_000


async def unrecorded_ids(store: TaskStore, prefix: str) -> list[str]:
    """Return the ids that begin with `prefix` among the tasks with events that are not recorded yet, in order.

    Raises `HistoryUnavailableError` if recording is so far behind that looking would take long.
    """
    found: set[str] = set()
    start = await _first_unrecorded(store)
    for _ in range(_MOST // _PAGE):
        call = ("EVAL", script("ids_in_stream").source, 1, keys.EVENTS, start, _PAGE, prefix)
        start, *ids = (await store.read(call))[0]
        found.update(ids)
        if not start:
            return sorted(found)
    raise HistoryUnavailableError(
        "the history is too far behind to look for the beginning of an id: write all of the id"
    )


async def recent_ids(store: TaskStore, prefix: str) -> list[str]:
    """Return the ids that begin with `prefix` among the last thousand events, those of the latest events first."""
    entries = (await store.read(("XREVRANGE", keys.EVENTS, "+", "-", "COUNT", _PAGE)))[0]
    found = (fields["task_id"] for _, fields in entries if "task_id" in fields)
    return list(dict.fromkeys(task_id for task_id in found if task_id.startswith(prefix)))


async def _first_unrecorded(store: TaskStore) -> str:
    """Return where to begin to read: at the first entry that no recorder has acknowledged."""
    groups = (await store.read(("XINFO", "GROUPS", keys.EVENTS), errors=True))[0]
    mine: Mapping[str, Any] | None = None if isinstance(groups, Exception) else group_of(groups)
    if mine is None:
        return "-"
    if int(mine["pending"]):
        summary = (await store.read(("XPENDING", keys.EVENTS, GROUP)))[0]
        if first := summary["min"] if isinstance(summary, dict) else summary[1]:
            return str(first)
    return f"({mine['last-delivered-id']}"
