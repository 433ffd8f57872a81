"""Submits tasks to Celeriac directly through its store, as its front doors do."""

from __future__ import annotations

import asyncio
import os
from typing import Any
from uuid import uuid4

import orjson
from noop_types import GROUP

from celeriac.model import Submission
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore


def send(count: int, payload: dict[str, Any]) -> None:
    """Submit `count` tasks of the type that BENCH_TYPE names."""
    asyncio.run(_send(count, orjson.dumps(payload).decode()))


async def _send(count: int, payload: str) -> None:
    async with TaskStore(os.environ["BENCH_URL"], Settings().store) as store:
        for start in range(0, count, 500):
            await asyncio.gather(
                *(
                    store.submit(
                        Submission(task_id=str(uuid4()), type=os.environ["BENCH_TYPE"], payload=payload, group=GROUP)
                    )
                    for _ in range(min(500, count - start))
                )
            )
