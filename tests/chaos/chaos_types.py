"""Task types for the chaos tests: each run leaves a mark, so that a test can count the runs."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from pydantic import BaseModel

from celeriac import Context, task


class Nap(BaseModel):
    """How long to sleep, and the file to which each run that begins or ends adds a line."""

    seconds: float = 0.2
    marks: Path


def _mark(payload: Nap, ctx: Context, what: str) -> None:
    # One short write to a file opened for appending is atomic.
    with payload.marks.open("a") as marks:
        marks.write(f"{what} {ctx.task_id} {ctx.attempt} {os.getpid()}\n")


@task("nap", retry_delay_s=0.2)
async def nap(payload: Nap, ctx: Context) -> dict[str, int]:
    """Sleep on the loop."""
    _mark(payload, ctx, "begin")
    await asyncio.sleep(payload.seconds)
    _mark(payload, ctx, "end")
    return {"attempt": ctx.attempt}


@task("nap_in_thread", retry_delay_s=0.2)
def nap_in_thread(payload: Nap, ctx: Context) -> dict[str, int]:
    """Sleep in a thread."""
    _mark(payload, ctx, "begin")
    time.sleep(payload.seconds)
    _mark(payload, ctx, "end")
    return {"attempt": ctx.attempt}
