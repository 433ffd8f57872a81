"""Stock Celery on Redis, set up as its documentation says. `BENCH_RESULTS=1` adds the Redis result backend."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery

url = os.environ["BENCH_URL"]
app = Celery("bench", broker=url, backend=url if os.environ.get("BENCH_RESULTS") else None)
app.conf.broker_connection_retry_on_startup = True


@app.task(name="bench.noop")
def noop(payload: dict[str, Any]) -> None:
    """Do nothing."""


def send(count: int, payload: dict[str, Any]) -> None:
    """Publish `count` tasks."""
    for _ in range(count):
        noop.delay(payload)
