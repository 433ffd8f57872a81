"""Async handlers that do not give way, so that nothing else runs on their worker's event loop, and their neighbours."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

from celeriac import Context, task
from tests.kit.workers.notes import note


@task("blocks_loop", max_retries=0)
async def blocks_loop(payload: dict[str, Any], ctx: Context) -> str:
    """Block the loop for `s` seconds: asleep, or busy in Python."""
    await asyncio.to_thread(note, ctx.task_id, f"start {ctx.attempt}")
    until = time.monotonic() + payload["s"]
    if payload.get("busy"):
        while time.monotonic() < until:
            pass
    else:
        time.sleep(payload["s"])  # noqa: ASYNC251 - what this is about
    await asyncio.to_thread(note, ctx.task_id, f"end {ctx.attempt}")
    return "blocked"


@task("waits", max_retries=0)
async def waits(payload: dict[str, Any], ctx: Context) -> str:
    """Sleep `s` seconds in small steps, so that it needs the loop again and again."""
    await asyncio.to_thread(note, ctx.task_id, f"start {ctx.attempt}")
    for _ in range(int(payload["s"] / 0.1)):
        await asyncio.sleep(0.1)
    return "waited"


@task("waits_sync", max_retries=0)
def waits_sync(payload: dict[str, Any], ctx: Context) -> str:
    """Sleep `s` seconds in a thread."""
    note(ctx.task_id, f"start {ctx.attempt}")
    time.sleep(payload["s"])
    return "waited"


@task("holds_the_lock", max_retries=0)
async def holds_the_lock(payload: dict[str, Any], ctx: Context) -> str:
    """Backtrack in a regular expression, which holds the interpreter's lock."""
    await asyncio.to_thread(note, ctx.task_id, f"start {ctx.attempt}")
    re.match(r"(a+)+$", "a" * payload["n"] + "b")
    return "matched"
