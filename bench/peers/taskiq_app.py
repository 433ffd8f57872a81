"""taskiq on a Redis list, with results in Redis."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

url = os.environ["BENCH_URL"]
broker = ListQueueBroker(url).with_result_backend(RedisAsyncResultBackend(url))


@broker.task
async def noop(payload: dict[str, Any]) -> None:
    """Do nothing."""


def send(count: int, payload: dict[str, Any]) -> None:
    """Publish `count` tasks."""
    asyncio.run(_send(count, payload))


async def _send(count: int, payload: dict[str, Any]) -> None:
    await broker.startup()
    for _ in range(count):
        await noop.kiq(payload)
    await broker.shutdown()
