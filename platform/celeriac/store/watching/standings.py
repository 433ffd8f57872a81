"""The status of many tasks at once, without reading whole records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from celeriac.model import Status, ms_from_utc
from celeriac.store import keys
from celeriac.store.life import field_of
from celeriac.store.task_store import TaskStore
from celeriac.task_fields import status_of


@dataclass(frozen=True, slots=True)
class Standing:
    """The status of a task, and how it ended if it has."""

    status: Status
    finished_ms: int | None
    error: str | None


async def standings(store: TaskStore, task_ids: Sequence[str]) -> list[Standing | None]:
    """Return the standing of each task, None if the store has no record of it; one round trip."""
    commands = (("HMGET", keys.task(task_id), "status", "finished_at", "error_message", "life") for task_id in task_ids)
    found: list[Standing | None] = []
    for status, own_end, error, life in await store.read_records(*commands):
        if not status:
            found.append(None)
            continue
        finished_at = field_of("finished_at", own_end, life)
        try:
            finished_ms = ms_from_utc(datetime.fromisoformat(finished_at)) if finished_at else None
        except (ValueError, OverflowError):  # a foreign program wrote it
            finished_ms = None
        found.append(Standing(status_of(status), finished_ms, error or None))
    return found


async def server_ms(store: TaskStore) -> int:
    """Return the time of the store's clock, which all processes of an installation use."""
    seconds, micros = (await store.read(("TIME",)))[0]
    return int(seconds) * 1000 + int(micros) // 1000
