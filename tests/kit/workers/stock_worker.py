"""A plain Celery app that knows nothing of us: its tasks leave traces in Redis.

STOCK_URL=redis://… celery -A tests.kit.workers.stock_worker worker --pool=solo --concurrency=1 -Q media
"""

from __future__ import annotations

import os
from typing import Any

import redis
from celery import Celery

URL = os.environ.get("STOCK_URL", "redis://127.0.0.1:1/0")

app = Celery("stock", broker=URL)
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)


@app.task(name="stock.trace", bind=True)  # type: ignore[untyped-decorator]
def trace(self: Any, *args: Any, **kwargs: Any) -> None:
    """Note that this task ran, in the order of running."""
    with redis.Redis.from_url(URL, decode_responses=True) as client:
        client.rpush("stock:ran", self.request.id)
