"""Task types of random graphs for the chaos tests: some fail, some keep steps and wait, some call others."""

from __future__ import annotations

import time
from pathlib import Path
from uuid import uuid4

from celeriac import Context, SkipRetry, task
from celeriac.handlers.context import BlockingContext

#: How many steps a handler of these keeps.
STEPS = 3


def _work(marks: str, task_id: str, name: str) -> str:
    """Leave a mark, `TASK NAME TIME VALUE`, and return a value that no other run returns."""
    value = str(uuid4())
    # One short write to a file opened for appending is atomic.
    with Path(marks).open("a") as file:
        file.write(f"{task_id} {name} {time.time()} {value}\n")
    return value


@task("chaos.quick")
async def quick(fails: bool = False) -> str:
    if fails:
        raise SkipRetry("it was to fail", code="was_to_fail")
    return "quick"


@task("chaos.steps")
async def steps(ctx: Context, marks: str) -> list[str]:
    """Keep steps, and sleep between them."""
    found = []
    for number in range(STEPS):
        found.append(await ctx.step(f"work-{number}", _work, marks, ctx.task_id, f"work-{number}"))
        await ctx.sleep(0.2)
    return found


@task("chaos.steps_in_thread")
def steps_in_thread(ctx: BlockingContext, marks: str) -> list[str]:
    """Keep steps as a plain function, and wait for a signal."""
    found = [ctx.step("work-0", _work, marks, ctx.task_id, "work-0")]
    found.append(str(ctx.wait_for("go", timeout="2m")))
    found.append(ctx.step("work-1", _work, marks, ctx.task_id, "work-1"))
    return found


@task("chaos.calls")
async def calls(ctx: Context, children: int = 3) -> list[str]:
    """Call others, and wait for them."""
    found: list[str] = await ctx.gather(*(ctx.call("chaos.quick", {}) for _ in range(children)))
    return found
