"""Task types for the chaos tests: each run leaves a mark, so that a test can count the runs."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from pydantic import BaseModel

from celeriac import Context, task
from celeriac.tasks.types.processors import FileJob, processor

_LOOK_S = 0.02


class Nap(BaseModel):
    """How long to sleep, until which file exists, and the file to which each run that begins or ends adds a line."""

    seconds: float = 0.2
    gate: Path | None = None
    marks: Path

    @property
    def shut(self) -> bool:
        return self.gate is not None and not self.gate.exists()


def _mark(payload: Nap, ctx: Context, what: str) -> None:
    _mark_as(payload, what, f"{ctx.task_id} {ctx.attempt}")


def _mark_as(payload: Nap, what: str, who: str) -> None:
    # One short write to a file opened for appending is atomic.
    with payload.marks.open("a") as marks:
        marks.write(f"{what} {who} {os.getpid()}\n")


@task("nap", retry_delay_s=0.2)
async def nap(payload: Nap, ctx: Context) -> dict[str, int]:
    """Sleep on the loop."""
    _mark(payload, ctx, "begin")
    await asyncio.sleep(payload.seconds)
    while payload.shut:
        await asyncio.sleep(_LOOK_S)
    _mark(payload, ctx, "end")
    return {"attempt": ctx.attempt}


@task("nap_in_thread", retry_delay_s=0.2)
def nap_in_thread(payload: Nap, ctx: Context) -> dict[str, int]:
    """Sleep in a thread."""
    _mark(payload, ctx, "begin")
    time.sleep(payload.seconds)
    while payload.shut:
        time.sleep(_LOOK_S)
    _mark(payload, ctx, "end")
    return {"attempt": ctx.attempt}


@processor("nap", options=Nap)
def nap_in_child(job: FileJob, options: Nap) -> dict[str, str]:
    """Sleep in a process of its own; its marks name the text of the file."""
    name = job.source.read_text()
    _mark_as(options, "begin", name)
    time.sleep(options.seconds)
    while options.shut:
        time.sleep(_LOOK_S)
    _mark_as(options, "end", name)
    job.output("result.txt").write_text(name)
    return {"name": name}
