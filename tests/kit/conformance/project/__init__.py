"""An ordinary Celery project. `CONFORMANCE_SIDE` says on what it runs: stock Celery, an adopted app, or our own app.

Everything but the choice of the app is what a project that knows only Celery would write.
"""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from kombu import Exchange, Queue

SIDE = os.environ.get("CONFORMANCE_SIDE", "stock")
URL = os.environ.get("CONFORMANCE_URL", "redis://127.0.0.1:1/0")

app: Any
if SIDE == "own":
    from celeriac_tasks.celery import app
else:
    app = Celery("project", broker=URL, backend=URL)
    if SIDE == "adopted":
        import celeriac

        celeriac.adopt(app)

app.conf.update(
    accept_content=["json", "pickle", "yaml"],
    result_extended=True,
    worker_send_task_events=True,
    task_send_sent_event=True,
    broker_connection_retry_on_startup=True,
    # A broadcast holds one connection and takes another one: threads that do it at once would wait for each other.
    broker_pool_limit=100,
    task_routes={"routed.*": {"queue": "routed"}, "by_a_function": {"queue": "media"}},
    task_annotations={"annotated": {"max_retries": 7, "rate_limit": "50/s"}},
    task_queues=[
        Queue("routed", Exchange("routed"), routing_key="routed"),
        Queue("side", Exchange("side"), routing_key="side"),
        Queue("media", Exchange("media", type="topic"), routing_key="media.#"),
        Queue(app.conf.task_default_queue),
    ],
    beat_schedule={
        "every second": {"task": "beaten", "schedule": 1.0, "args": ("entry",), "kwargs": {"by": "beat"}},
        "to a queue": {"task": "beaten", "schedule": 1.0, "args": ("queue",), "options": {"queue": "side"}},
    },
    include=[f"{__name__}.{module}" for module in ("tasks", "states", "classes", "signals", "steps")],
)
app.loader.import_default_modules()
