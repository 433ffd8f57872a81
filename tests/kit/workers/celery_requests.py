"""A project whose tasks write down what they find in their request; stock, or adopted if `ADOPTED` is set.

`CONFIG` is Celery's configuration as JSON.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import redis
from celery import Celery, Task
from kombu.serialization import register

app = Celery("requests", broker=os.environ.get("SHOP_BROKER"), backend=os.environ.get("SHOP_RESULTS"))
app.conf.update(json.loads(os.environ.get("CONFIG", "{}")))
app.conf.task_default_queue = os.environ.get("SHOP_QUEUE", "celery")

#: A serializer of the project's own: reversed JSON.
register(
    "backwards", lambda value: json.dumps(value)[::-1], lambda text: json.loads(text[::-1]), "application/backwards"
)

register("sideways", json.dumps, json.loads, "application/sideways")

if "ADOPTED" in os.environ:
    import celeriac

    celeriac.adopt(app, redis_url=os.environ.get("SHOP_STORE"))

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


class Basket:
    """An object that only pickle can write."""

    def __init__(self, *articles: str) -> None:
        self.articles = articles


def write_down(task_id: str, what: Any) -> None:
    """Keep something under the id of a task."""
    with redis.Redis.from_url(os.environ["SHOP_NOTES"]) as client:
        client.rpush(f"noted:{task_id}", json.dumps(what, default=repr))


def raised_by(call: Callable[[], Any]) -> str:
    """Return the text of what a call raises."""
    try:
        call()
    except Exception as exc:
        return str(exc)
    return ""


@app.task(bind=True, name="requests.shows")
def shows(self: Task, *args: Any, **kwargs: Any) -> None:
    """Write down all that the request has."""
    write_down(self.request.id, {"args": args, "kwargs": kwargs, **vars(self.request)})


@app.task(bind=True, name="requests.dies", acks_late=True, reject_on_worker_lost=True)
def dies(self: Task) -> None:
    """Kill the worker the first time."""
    write_down(self.request.id, self.request.delivery_info["redelivered"])
    if not self.request.delivery_info["redelivered"]:
        os.kill(os.getpid(), signal.SIGKILL)


@app.task(bind=True, name="requests.tries", max_retries=1, default_retry_delay=0.1)
def tries(self: Task) -> None:
    """Retry once."""
    write_down(self.request.id, self.request.delivery_info["redelivered"])
    raise self.retry(exc=ValueError("again"))


@app.task(name="requests.counts")
def counts(basket: Any) -> int:
    """Return how many articles there are."""
    return len(basket.articles if isinstance(basket, Basket) else basket)


@app.task(name="requests.returns")
def returns(value: Any) -> Any:
    """Return what it is given."""
    return value
