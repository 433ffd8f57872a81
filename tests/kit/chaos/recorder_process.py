"""A recorder in a process of its own, to be killed."""

from __future__ import annotations

import asyncio
import sys

from celeriac.history.roles import keeping
from celeriac.settings import LedgerSettings, Settings
from celeriac.store.task_store import TaskStore
from celeriac.tasks.catalog import TypeCatalog
from celeriac.tasks.registry import registry
from celeriac.tasks.titles import Titles

#: Small batches, one after the other: so a kill always meets one.
SETTINGS = Settings(lease=1, ledger=LedgerSettings(batch=40, interval=0.01))


def record(store_url: str, database_url: str) -> None:
    """Record until killed; says `recording` once it does."""
    asyncio.run(_record(store_url, database_url))


async def _record(store_url: str, database_url: str) -> None:
    settings = SETTINGS.model_copy(update={"database_url": database_url})
    async with (
        TaskStore(store_url, settings.store, patience_s=60) as store,
        keeping(store, settings, Titles(TypeCatalog(registry, store))),
    ):
        print("recording", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    record(*sys.argv[1:])
