"""Task types for the tests of the engine: each one does one thing that a handler may do to its worker.

What a handler did is written to a Redis list named after the task, so that tests see it run (and how often).
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import os
import sys
import threading
import time
from typing import Any

import redis
from pydantic import BaseModel, Field

from celeriac import BlockingContext, Context, RateLimited, RetryAfter, SkipRetry, TaskError, task
from tests.kit.workers.holding import wait_until
from tests.kit.workers.notes import first_time, note


class Sum(BaseModel):
    numbers: list[int] = Field(min_length=1)
    pause_s: float = 0.0
    #: A file for whose appearance it waits first.
    gate: str = ""


@task("add", retry_delay_s=0.05)
async def add(payload: Sum, ctx: Context) -> dict[str, int]:
    while payload.gate and not os.path.exists(payload.gate):  # noqa: ASYNC240 - a test handler
        await asyncio.sleep(0.02)
    await asyncio.sleep(payload.pause_s)
    await asyncio.to_thread(note, ctx.task_id, f"attempt {ctx.attempt}")
    return {"sum": sum(payload.numbers)}


@task("add_sync", retry_delay_s=0.05)
def add_sync(payload: Sum, ctx: Context) -> dict[str, int]:
    while payload.gate and not os.path.exists(payload.gate):
        time.sleep(0.02)
    time.sleep(payload.pause_s)
    note(ctx.task_id, f"attempt {ctx.attempt}")
    return {"sum": sum(payload.numbers)}


@task("noop")
async def noop(payload: dict[str, Any]) -> dict[str, Any]:
    return payload


@task("parents")
async def parents(payload: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Return what the handler sees of its parents, and how those are that it looks up by the names in `look_up`."""
    found: dict[str, Any] = {
        task_id: [one.status.wire, one.result, one.error and one.error.code] for task_id, one in ctx.parents.items()
    }
    if "look_up" in payload:
        found["by name"] = [ctx.parents[name].status.wire for name in payload["look_up"]]
    return found


@task("reports")
async def reports(payload: dict[str, Any], ctx: Context) -> str:
    """Report `count` times: awaited, left to themselves, or from `threads` threads."""
    for n in range(payload.get("awaited", 0)):
        await ctx.progress(n % 101, "awaited", str(n))
    for n in range(payload.get("left", 0)):
        ctx.progress(n % 101, "left", str(n))
    for n in range(payload.get("thread", 0)):
        await asyncio.to_thread(ctx.progress, n % 101, "thread", str(n))
    return "done"


def _say(payload: dict[str, Any], ctx: Context) -> None:
    ctx.log.debug("not kept")
    ctx.log.info("%s of %s", 1, 2)
    log = ctx.log.bind(page=7)
    for n in range(payload.get("lines", 0)):
        log.warning("a line", n=n, password="pw")
    try:
        raise KeyError("inside")
    except KeyError:
        ctx.log.exception("caught")
    if payload.get("fail"):
        raise ValueError("Bearer abc.def.ghi was refused")


@task("says", max_retries=0)
async def says(payload: dict[str, Any], ctx: Context) -> str:
    """Log in every way."""
    _say(payload, ctx)
    return "done"


@task("says_sync", max_retries=0)
def says_sync(payload: dict[str, Any], ctx: Context) -> str:
    _say(payload, ctx)
    return "done"


@task("reports_sync")
def reports_sync(payload: dict[str, Any], ctx: Context) -> str:
    for n in range(payload["count"]):
        ctx.progress(n % 101, "sync", str(n))
    return "done"


@task("flood", max_retries=0)
async def flood(payload: dict[str, Any], ctx: Context) -> None:
    """Report without ever giving way, more than fit on their way."""
    for n in range(100_000):
        ctx.progress(n % 101)


class OddError(Exception):
    pass


class FinalError(Exception):
    pass


class SilentError(Exception):
    def __str__(self) -> str:
        raise ValueError("has nothing to say")


@task("fails", max_retries=2, retry_delay_s=0.05, final_errors=(FinalError,))
async def fails(payload: dict[str, Any], ctx: Context) -> str:
    await asyncio.to_thread(note, ctx.task_id, f"attempt {ctx.attempt}")
    if ctx.attempt >= payload.get("until", 99):
        return "at last"
    raise _error(payload["how"])


@task("backs_off", max_retries=1, retry_delay_s=0.05, retry_backoff=100)
async def backs_off(ctx: Context) -> None:
    raise OddError(f"attempt {ctx.attempt} of {ctx.max_retries + 1}")


@task("fails_sync", max_retries=2, retry_delay_s=0.05, final_errors=(FinalError,))
def fails_sync(payload: dict[str, Any], ctx: Context) -> str:
    note(ctx.task_id, f"attempt {ctx.attempt}")
    if ctx.attempt >= payload.get("until", 99):
        return "at last"
    raise _error(payload["how"])


def _error(how: str) -> BaseException:
    return {
        "odd": OddError("odd"),
        "final": FinalError("final"),
        "skip": SkipRetry("enough", code="enough"),
        "after": RetryAfter("later", delay_s=0.3, code="later"),
        "long after": RetryAfter("later", delay_s=600, code="later"),
        "task": TaskError("own", code="own_code"),
        "silent": SilentError(),
        "exit": SystemExit(3),
        "interrupt": KeyboardInterrupt(),
        "cancelled": asyncio.CancelledError(),
        "stop_iteration": StopIteration(7),
        "generator_exit": GeneratorExit(),
        "memory": MemoryError("no more"),
        "group": BaseExceptionGroup("several", [SystemExit(1), ValueError("v")]),
    }[how]


def _told_to_wait(task_id: str) -> None:
    note(task_id, "begun")
    if first_time(task_id):
        raise RateLimited("too many requests", retry_after="200ms")


@task("limited", max_retries=0)
async def limited(ctx: Context) -> int:
    """Is told to come back later, once."""
    await asyncio.to_thread(_told_to_wait, ctx.task_id)
    return ctx.attempt


@task("limited_long")
async def limited_long() -> None:
    raise RateLimited("too many requests", retry_after="10m")


@task("limited_sync", max_retries=0)
def limited_sync(ctx: BlockingContext) -> int:
    _told_to_wait(ctx.task_id)
    return ctx.attempt


@task("limited_in_a_group", max_retries=0)
async def limited_in_a_group(ctx: Context) -> int:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.to_thread(_told_to_wait, ctx.task_id))
    return ctx.attempt


@task("limited_step", max_retries=0)
async def limited_step(ctx: Context) -> int:
    """Is told so in a step, which is not tried again in place; what was kept before stays."""
    await ctx.step("first", note, ctx.task_id, "first step")
    await ctx.step("second", _told_to_wait, ctx.task_id, retries=5)
    return ctx.attempt


@task("leaves_exit_behind")
async def leaves_exit_behind(payload: dict[str, Any]) -> str:
    """Leave an asyncio task behind that ends with SystemExit, which asyncio hands to the loop."""

    async def leave() -> None:
        sys.exit(4)

    asyncio.get_running_loop().create_task(leave())
    await asyncio.sleep(0.1)
    return "still here"


class Model(BaseModel):
    at: datetime.datetime
    size: int


@dataclasses.dataclass
class Record:
    name: str
    parts: list[int]


@task("returns", max_retries=2, retry_delay_s=0.05)
async def returns(payload: dict[str, Any], ctx: Context) -> Any:
    await asyncio.to_thread(note, ctx.task_id, f"attempt {ctx.attempt}")
    endless: list[Any] = []
    endless.append(endless)
    return {
        "model": Model(at=datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC), size=1),
        "dataclass": Record("a", [1, 2]),
        "datetime": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
        "bytes": {"inside": b"abc"},
        "nan": {"x": float("nan"), "y": float("inf")},
        "huge": {"n": 10**40},
        "set": {1},
        "large": "x" * 400_000,
        "wide": "é" * 200_000,
        "endless": endless,
        "object": object(),
        "none": None,
    }[payload["what"]]


@task("sleeps", max_retries=0)
async def sleeps(payload: dict[str, Any], ctx: Context) -> str:
    """Note the start, sleep, note how it ended. Attempts after the first one sleep `again_s`, if that is given."""
    try:
        # Somebody who reads this note may cancel before the thread says that it is written.
        await asyncio.to_thread(note, ctx.task_id, f"start {ctx.attempt}")
        await asyncio.sleep(_for_s(payload, ctx))
    except asyncio.CancelledError:
        await asyncio.to_thread(note, ctx.task_id, f"cancelled {ctx.stop_reason}")
        raise
    await asyncio.to_thread(note, ctx.task_id, f"end {ctx.attempt}")
    return "slept"


def _for_s(payload: dict[str, Any], ctx: Context) -> float:
    s = payload.get("s", 60)
    return float(s if ctx.attempt == 1 else payload.get("again_s", s))


@task("sleeps_again", max_retries=3, retry_delay_s=0.05)
async def sleeps_again(payload: dict[str, Any], ctx: Context) -> str:
    """As `sleeps`, with retries."""
    return str(await sleeps(payload, ctx))


@task("naps_through", max_retries=3, retry_delay_s=0.05)
def naps_through(payload: dict[str, Any], ctx: Context) -> str:
    """As `sleeps_again`, as a plain function that naps."""
    note(ctx.task_id, f"start {ctx.attempt}")
    until = time.monotonic() + _for_s(payload, ctx)
    while time.monotonic() < until:
        time.sleep(0.02)
    note(ctx.task_id, f"end {ctx.attempt}")
    return "napped"


@task("stubborn", max_retries=0)
async def stubborn(payload: dict[str, Any], ctx: Context) -> str:
    """Swallow every cancellation until `s` have passed; or the first one, and end then."""
    await asyncio.to_thread(note, ctx.task_id, f"start {ctx.attempt}")
    until = time.monotonic() + payload["s"]
    while time.monotonic() < until:
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            if payload.get("once"):
                break
    await asyncio.to_thread(note, ctx.task_id, f"end {ctx.stop_reason}")
    return "outlived it"


@task("spins", max_retries=0)
def spins(payload: dict[str, Any], ctx: Context) -> str:
    """Keep a thread busy in pure Python."""
    note(ctx.task_id, f"start {ctx.attempt}")
    until = time.monotonic() + payload.get("s", 60)
    while time.monotonic() < until:
        pass
    return "spun"


@task("blocks", max_retries=0)
def blocks(payload: dict[str, Any], ctx: Context) -> str:
    """Block in C, where no exception reaches."""
    note(ctx.task_id, f"start {ctx.attempt}")
    try:
        time.sleep(payload.get("s", 30))
    finally:
        note(ctx.task_id, f"end {ctx.stop_reason}")
    return "woke up"


@task("polite", max_retries=0)
def polite(payload: dict[str, Any], ctx: Context) -> str:
    """Look whether to stop, between two naps."""
    note(ctx.task_id, f"start {ctx.attempt}")
    for _ in range(1000):
        if ctx.cancelled:
            note(ctx.task_id, f"saw {ctx.stop_reason}")
        ctx.raise_if_cancelled()
        threading.Event().wait(0.05)
    return "done"


@task("context")
async def context(payload: dict[str, Any], ctx: Context) -> dict[str, Any]:
    """Tell what a handler knows of itself."""
    ctx.log.info("said by a handler", colour="green")
    return {
        "task_id": ctx.task_id, "type": ctx.type, "group": ctx.group, "attempt": ctx.attempt,
        "max_retries": ctx.max_retries, "user_id": ctx.user_id, "metadata": ctx.metadata, "cancelled": ctx.cancelled,
    }  # fmt: skip


@task("without_parameters")
def without_parameters() -> str:
    return "nothing needed"


@task("counts_running")
async def counts_running(payload: dict[str, Any], ctx: Context) -> str:
    """Note how many of these run at once, this one included. With `beside`, go on until so many have begun."""

    def begin() -> None:
        with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
            client.sadd("begun", ctx.task_id)
            client.sadd("running-now", ctx.task_id)
            note(ctx.task_id, str(client.scard("running-now")))

    def end() -> None:
        with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
            wait_until(lambda: client.scard("begun") >= payload.get("beside", 0))
            client.srem("running-now", ctx.task_id)

    await asyncio.to_thread(begin)
    await asyncio.sleep(payload.get("s", 0.02))
    await asyncio.to_thread(end)
    return "counted"
