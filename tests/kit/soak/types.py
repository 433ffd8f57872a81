"""Task types and handlers of the soak. Each run leaves marks in a file, so that runs can be counted."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from celery import Task
from pydantic import BaseModel

from celeriac import Context, RemoteTask, task
from celeriac.errors import TaskError
from celeriac_tasks.celery import app


def _mark(what: str, task_id: str, attempt: int) -> None:
    """Append `WHAT ID ATTEMPT TIME PID`; one short write to a file opened for appending is atomic."""
    with open(os.environ["SOAK_MARKS"], "a") as marks:
        marks.write(f"{what} {task_id} {attempt} {time.time():.3f} {os.getpid()}\n")


class Nap(BaseModel):
    """How long to sleep, and how many first attempts fail."""

    seconds: float = 0.2
    failures: int = 0


class Steps(BaseModel):
    """How many reports to make, and how long one takes."""

    steps: int = 5
    seconds: float = 0.1


@task("soak.nap", retry_delay_s=0.5)
async def nap(payload: Nap, ctx: Context) -> dict[str, int]:
    """Sleep on the loop."""
    _mark("begin", ctx.task_id, ctx.attempt)
    await asyncio.sleep(payload.seconds)
    if ctx.attempt <= payload.failures:
        raise ValueError(f"attempt {ctx.attempt} fails")
    _mark("end", ctx.task_id, ctx.attempt)
    return {"attempt": ctx.attempt}


@task("soak.thread", retry_delay_s=0.5)
def nap_in_thread(payload: Nap, ctx: Context) -> dict[str, int]:
    """Sleep in a thread."""
    _mark("begin", ctx.task_id, ctx.attempt)
    until = time.monotonic() + payload.seconds
    while time.monotonic() < until:
        ctx.raise_if_cancelled()
        time.sleep(0.05)
    if ctx.attempt <= payload.failures:
        raise ValueError(f"attempt {ctx.attempt} fails")
    _mark("end", ctx.task_id, ctx.attempt)
    return {"attempt": ctx.attempt}


@task("soak.steps", retry_delay_s=0.5)
async def steps(payload: Steps, ctx: Context) -> dict[str, int]:
    """Report each step by its number, and log it."""
    _mark("begin", ctx.task_id, ctx.attempt)
    for step in range(1, payload.steps + 1):
        await ctx.progress(100 * step / payload.steps, "stepping", str(step))
        ctx.log.info("a step", step=step)
        await asyncio.sleep(payload.seconds)
    _mark("end", ctx.task_id, ctx.attempt)
    return {"steps": payload.steps}


@app.task(bind=True, name="soak.add", max_retries=50, default_retry_delay=0.5)
def add(self: Task, a: int, b: int, failures: int = 0) -> int:
    """Add, as a plain Celery task; the first runs may ask for a retry."""
    _mark("begin", self.request.id, self.request.retries + 1)
    time.sleep(0.05)
    if self.request.retries < failures:
        raise self.retry(exc=ConnectionError("not yet"))
    _mark("end", self.request.id, self.request.retries + 1)
    return a + b


async def handle_remotely(remote: RemoteTask) -> Any:
    """Answer a remote task, in parts if it is a chat."""
    _mark("begin", remote.id, remote.attempt)
    await remote.progress(50, "half way")
    await asyncio.sleep(0.1)
    if remote.messages:
        for part in ("one ", "two ", "three"):
            await remote.delta(part)
    elif isinstance(remote.data, dict) and remote.attempt <= int(remote.data.get("failures", 0)):
        raise TaskError("not yet", code="not_yet")
    _mark("end", remote.id, remote.attempt)
    return {"content": "one two three"} if remote.messages else {"echo": remote.data}
