"""FastAPI routes that call stock Celery's `delay()`, in FastAPI's threads and directly on the event loop."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from peers.celery_app import noop

app = FastAPI()


@app.post("/in-thread", status_code=202)
def in_thread(body: dict[str, Any]) -> dict[str, str]:
    """Publish from a thread."""
    return {"task_id": noop.delay(body["payload"]).id}


@app.post("/on-loop", status_code=202)
async def on_loop(body: dict[str, Any]) -> dict[str, str]:
    """Publish from the event loop, which blocks meanwhile."""
    return {"task_id": noop.delay(body["payload"]).id}
