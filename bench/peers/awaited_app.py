"""`delay()`, then `get()`: a Celery app with the Redis result backend; `BENCH_ADOPT=1` adopts it, then records tell."""

from __future__ import annotations

import os
import time
from typing import Any

from celery import Celery

url = os.environ["BENCH_URL"]
app = Celery("bench", broker=url, backend=None if os.environ.get("BENCH_ADOPT") else url)
app.conf.broker_connection_retry_on_startup = True
if os.environ.get("BENCH_ADOPT"):
    import celeriac

    celeriac.adopt(app)


@app.task(name="bench.awaited")
def noop(payload: dict[str, Any]) -> None:
    """Do nothing."""


def latencies_ms(count: int, payload: dict[str, Any]) -> list[float]:
    """Publish one task after another; return the time of each until its result is here (milliseconds)."""
    found = []
    for _ in range(count):
        began = time.perf_counter()
        noop.delay(payload).get(timeout=60)
        found.append(1000 * (time.perf_counter() - began))
    return found
