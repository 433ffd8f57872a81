"""An ordinary Celery project with one line more. The environment says where its broker and its results are.

Without `ADOPTED` in the environment, the line is missing and this is a stock project.
"""

from __future__ import annotations

import os
import time
from typing import Any

from celery import Celery, Task, shared_task

from tests.kit.workers.holding import wait_until

app = Celery("shop")
app.conf.broker_url = os.environ.get("SHOP_BROKER")
app.conf.result_backend = os.environ.get("SHOP_RESULTS")
app.conf.task_default_queue = os.environ.get("SHOP_QUEUE", "celery")
app.conf.worker_pool = os.environ.get("SHOP_POOL", "prefork")


@app.task(name="shop.early")
def early(number: int) -> int:
    """Add one; declared before the app is adopted."""
    return number + 1


if "ADOPTED" in os.environ:
    import celeriac

    celeriac.adopt(app, redis_url=os.environ.get("SHOP_STORE"))


class OutOfStockError(Exception):
    """An exception of the project's own."""


class LoggedTask(Task):
    """A base class of the project's own."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Mark what passes through it."""
        return ["logged", self.run(*args, **kwargs)]


@app.task(name="shop.add")
def add(a: int, b: int, pause_s: float = 0, gate: str = "") -> int:
    """Add two numbers, after a pause, and when the file `gate` is there."""
    time.sleep(pause_s)
    wait_until(lambda: not gate or os.path.exists(gate))
    return a + b


@app.task(name="shop.total")
def total(numbers: list[int]) -> int:
    """Add a list of numbers."""
    return sum(numbers)


@shared_task(name="shop.logged", base=LoggedTask)
def logged(text: str) -> str:
    """Run under a base class of the project's own."""
    return text


@app.task(name="shop.fails")
def fails(article: str) -> None:
    """Raise an exception of the project's own."""
    raise OutOfStockError(article, 3)


@app.task(name="shop.packs", bind=True)
def packs(self: Task, boxes: int) -> str:
    """Report progress the way Celery projects do."""
    for box in range(boxes):
        self.update_state(state="PACKING", meta={"current": box + 1, "total": boxes})
    return "packed"


@app.task(name="shop.again", bind=True, max_retries=3)
def again(self: Task, times: int) -> int:
    """Retry itself some times."""
    if self.request.retries < times:
        raise self.retry(countdown=0.01)
    return int(self.request.retries)
