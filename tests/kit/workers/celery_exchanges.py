"""Tasks of a project with exchanges of its own. `EXCHANGES` is how the names of its exchanges and queues begin."""

from __future__ import annotations

import os
from typing import Any

from celery import Task
from kombu import Exchange, Queue
from kombu.common import Broadcast

from celeriac_tasks.celery import app
from tests.kit.workers.notes import note

P = os.environ.get("EXCHANGES", "exchanges")
MEDIA, STEPS = Exchange(f"{P}-media", "topic"), Exchange(f"{P}-steps", "direct")

app.conf.task_queues = (
    Queue(f"{P}-plain"),
    Queue(f"{P}-images", MEDIA, routing_key="media.image.#"),
    Queue(f"{P}-films", MEDIA, routing_key="media.film.*"),
    Queue(f"{P}-rushes", MEDIA, routing_key="media.film.rush"),
    Queue(f"{P}-first", STEPS, routing_key="first", max_priority=9),
    Broadcast(f"{P}-all"),
)
if os.environ.get("QUORUM"):
    app.conf.task_queues = (
        Queue(f"{P}-quorum", MEDIA, routing_key="media.#", queue_arguments={"x-queue-type": "quorum"}),
    )


@app.task(bind=True)
def looks(self: Task, *numbers: int) -> int:
    """Note which worker runs it."""
    note(self.request.id, str(self.request.hostname))
    return sum(numbers)


@app.task(bind=True, default_retry_delay=0.1)
def comes_again(self: Task, until: int = 1) -> str:
    """Retry with another argument, so that the call is described anew."""
    note(self.request.id, f"until {until}")
    if until:
        raise self.retry(args=(until - 1,))
    return "done"


@app.task(bind=True)
def passes_on(self: Task) -> Any:
    """Call another task with the headers of its own request."""
    return looks.apply_async((1,), headers=self.request.headers, queue=f"{P}-plain").id
