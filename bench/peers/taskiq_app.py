"""taskiq on a Redis list, with results in Redis."""

from __future__ import annotations

import asyncio
import os
import time
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


def latencies_ms(count: int, payload: dict[str, Any]) -> list[float]:
    """Publish one task after another; return the time of each until its result is here (milliseconds)."""
    return asyncio.run(_latencies_ms(count, payload))


async def _latencies_ms(count: int, payload: dict[str, Any]) -> list[float]:
    await broker.startup()
    found = []
    for _ in range(count):
        began = time.perf_counter()
        task = await noop.kiq(payload)
        # It cannot be woken, so it looks as often as makes sense.
        await task.wait_result(check_interval=0.001, timeout=60)
        found.append(1000 * (time.perf_counter() - began))
    await broker.shutdown()
    return found
