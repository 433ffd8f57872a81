"""A beat in a process of its own, to be killed."""

from __future__ import annotations

import asyncio
import sys

from celeriac.schedules.running_scheduler import scheduling
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore

#: Small batches, so that a kill meets one; what a dead one left is taken over soon.
SETTINGS = Settings.model_validate({"schedule": {"batch": 20, "takeover": 0.5, "tick": 0.2}})


def beat(store_url: str, database_url: str) -> None:
    """Beat until killed; says `beating` once it does."""
    asyncio.run(_beat(store_url, database_url))


async def _beat(store_url: str, database_url: str) -> None:
    settings = SETTINGS.model_copy(update={"database_url": database_url})
    async with TaskStore(store_url, settings.store, patience_s=60) as store, scheduling(store, settings):
        print("beating", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    beat(*sys.argv[1:])
