"""What the tests of the history share: a recorder to drive by hand, and tasks in every state."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from celeriac.history.history import History
from celeriac.history.recorder import Recorder
from celeriac.model import Claim, Failure, Progress, Submission
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.feed import EventFeed
from celeriac.tasks.catalog import TypeCatalog
from celeriac.tasks.registry import registry
from celeriac.tasks.titles import Titles


@asynccontextmanager
async def recording(store: TaskStore, database_url: str, settings: Settings) -> AsyncIterator[tuple[Recorder, History]]:
    """Yield a recorder that records when it is told to, and the history that it fills."""
    async with History(database_url) as history:
        feed = EventFeed(store, consumer=f"test-{secrets.token_hex(4)}")
        try:
            titles = Titles(TypeCatalog(registry, store))
            yield (
                Recorder(
                    feed=feed, engine=history.engine, ledger=settings.ledger, lease_s=settings.lease, titles=titles
                ),
                history,
            )
        finally:
            await feed.close()


async def record_all(recorder: Recorder, store: TaskStore) -> None:
    """Let `recorder` record until nothing is left to do."""
    feed = EventFeed(store, consumer="onlooker")
    for _ in range(200):
        await recorder.step()
        lag = await feed.lag()
        if not lag.entries and not lag.resyncing:
            return
    raise AssertionError(f"not recorded: {lag}")


async def claimed(store: TaskStore, task_id: str, **fields: Any) -> Claim:
    """Submit a task and claim it."""
    await store.submit(Submission(task_id=task_id, **{"type": "demo", **fields}))
    claim = await store.claim(task_id, worker="w")
    assert isinstance(claim, Claim)
    return claim


async def completed(store: TaskStore, task_id: str, result: str = "1", **fields: Any) -> None:
    """Bring a task to COMPLETED, with one report on the way."""
    claim = await claimed(store, task_id, **fields)
    await store.progress(claim, 1, Progress(50, "half", "way", 1234))
    await store.complete(claim, result)


async def failed(store: TaskStore, task_id: str, message: str = "it broke", **fields: Any) -> None:
    """Bring a task to FAILED."""
    claim = await claimed(store, task_id, **fields)
    await store.fail(claim, Failure("broken", message, False), 0)


async def forget(store: TaskStore, *task_ids: str) -> None:
    """Let the store forget tasks, as it does when their retention is over."""
    for task_id in task_ids:
        await store.redis.delete(f"task:{task_id}", f"celeriac:events:{task_id}", f"celeriac:log:{task_id}")
