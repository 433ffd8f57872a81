"""The same tasks as functions and as coroutines, for what they do in each pool."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import redis
import redis.asyncio
from celery import Task, current_task
from celery.exceptions import SoftTimeLimitExceeded
from celery.signals import task_postrun, task_prerun

from celeriac import RateLimited
from celeriac_tasks.celery import app
from tests.kit.workers.notes import first_time, note

_LIMIT_S = 0.6
_LONG_S = 60


def _nap(s: float) -> str:
    """Sleep in small steps, where an exception arrives between two."""
    until = time.monotonic() + s
    while time.monotonic() < until:
        time.sleep(0.02)
    return "napped"


# --- functions


@app.task(bind=True)
def naps(self: Task, s: float) -> str:
    note(self.request.id, "start")
    return _nap(s)


@app.task
def fails() -> None:
    raise KeyError("k")


@app.task(bind=True, default_retry_delay=0.05)
def retries(self: Task) -> int:
    if self.request.retries < 2:
        raise self.retry(exc=ConnectionError("not yet"))
    return int(self.request.retries)


@app.task(soft_time_limit=_LIMIT_S)
def soft() -> str:
    try:
        return _nap(_LONG_S)
    except SoftTimeLimitExceeded:
        return "in time"


@app.task(time_limit=_LIMIT_S)
def hard() -> str:
    return _nap(_LONG_S)


@app.task(bind=True, autoretry_for=(Exception,), max_retries=0)
def limited(self: Task) -> int:
    """Is told to come back later, once."""
    if first_time(self.request.id):
        raise RateLimited("too many", retry_after=0.2)
    return int(self.request.retries)


@app.task
def meets(name: str, number: int) -> int:
    """End when so many of its kind run at once."""
    note(name, "here")
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        while client.llen(f"ran:{name}") < number:
            time.sleep(0.05)
    return number


# --- coroutines


@app.task(bind=True)
async def naps_async(self: Task, s: float) -> str:
    note(self.request.id, "start")
    await asyncio.sleep(s)
    return "napped"


@app.task
async def fails_async() -> None:
    await asyncio.sleep(0)
    raise KeyError("k")


@app.task(bind=True, default_retry_delay=0.05)
async def retries_async(self: Task) -> int:
    await asyncio.sleep(0)
    if self.request.retries < 2:
        raise self.retry(exc=ConnectionError("not yet"))
    return int(self.request.retries)


@app.task(soft_time_limit=_LIMIT_S)
async def soft_async() -> str:
    try:
        await asyncio.sleep(_LONG_S)
    except SoftTimeLimitExceeded:
        await asyncio.sleep(0.01)
        return "in time"
    return "too late"


@app.task(time_limit=_LIMIT_S)
async def hard_async() -> None:
    await asyncio.sleep(_LONG_S)


@app.task(bind=True, autoretry_for=(Exception,), max_retries=0)
async def limited_async(self: Task) -> int:
    await asyncio.sleep(0)
    if first_time(self.request.id):
        raise RateLimited("too many", retry_after="200ms")
    return int(self.request.retries)


@app.task
async def meets_async(name: str, number: int) -> int:
    """End when so many of its kind run at once."""
    note(name, "here")
    async with redis.asyncio.from_url(os.environ["REDIS_URL"]) as client:
        while await client.llen(f"ran:{name}") < number:
            await asyncio.sleep(0.2)
    return number


@app.task(bind=True, autoretry_for=(OSError,), retry_backoff=False, default_retry_delay=0.05, max_retries=3)
async def by_itself_async(self: Task, until: int) -> int:
    await asyncio.sleep(0)
    if self.request.retries < until:
        raise OSError("again")
    return int(self.request.retries)


@app.task(bind=True)
async def counts_async(self: Task, n: int) -> int:
    """Call itself as the coroutine function it also is."""
    return 0 if n == 0 else 1 + int(await self(n - 1))


class ByClass(Task):
    """A class-based task whose `run` is a coroutine function."""

    name = "pools.by_class"

    async def run(self) -> list[Any]:
        async def own_id() -> Any:
            await asyncio.sleep(0)
            return self.request.id

        # What it has started knows the request too.
        ids = await asyncio.gather(own_id(), own_id())
        child = naps_async.delay(0)
        return [
            {*ids} == {self.request.id},
            current_task.name,
            [found.id for found in self.request.children] == [child.id],
        ]


by_class = app.register_task(ByClass)


class Noted(Task):
    """A task whose signals and handlers are noted."""

    abstract = True

    def before_start(self, task_id: str, *_: Any) -> None:
        note(task_id, "before_start")

    def on_success(self, retval: Any, task_id: str, *_: Any) -> None:
        note(task_id, f"on_success {retval}")


@app.task(bind=True, base=Noted)
async def noted_async(self: Task) -> str:
    note(self.request.id, "body")
    await asyncio.sleep(0)
    return "noted"


@task_prerun.connect(sender=noted_async)
def note_prerun(task: Task, task_id: str, **_: Any) -> None:
    note(task_id, f"prerun {task.request.id == task_id}")


@task_postrun.connect(sender=noted_async)
def note_postrun(task_id: str, state: str, **_: Any) -> None:
    note(task_id, f"postrun {state}")


@app.task(bind=True)
def ends_its_process(self: Task) -> str:
    """Send SIGTERM to the own process, the first time."""
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        if client.set(f"ended:{self.request.id}", "1", nx=True):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(_LONG_S)
    return "survived"
