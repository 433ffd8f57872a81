"""huey on a Redis list, with results in Redis; the client is woken for a result instead of polling."""

from __future__ import annotations

import os
import time
from typing import Any

from huey import RedisHuey

huey = RedisHuey("bench", url=os.environ["BENCH_URL"], store_none=True, notify_result=True)


@huey.task()
def noop(payload: dict[str, Any]) -> None:
    """Do nothing."""


def send(count: int, payload: dict[str, Any]) -> None:
    """Publish `count` tasks."""
    for _ in range(count):
        noop(payload)


def latencies_ms(count: int, payload: dict[str, Any]) -> list[float]:
    """Publish one task after another; return the time of each until its result is here (milliseconds)."""
    found = []
    for _ in range(count):
        began = time.perf_counter()
        noop(payload).get(blocking=True, timeout=60)
        found.append(1000 * (time.perf_counter() - began))
    return found
