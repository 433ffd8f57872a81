"""dramatiq on Redis, with results in Redis."""

from __future__ import annotations

import os
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

url = os.environ["BENCH_URL"]
broker = RedisBroker(url=url)
broker.add_middleware(Results(backend=RedisBackend(url=url)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def noop(payload: dict[str, Any]) -> None:
    """Do nothing."""


def send(count: int, payload: dict[str, Any]) -> None:
    """Publish `count` tasks."""
    for _ in range(count):
        noop.send(payload)
