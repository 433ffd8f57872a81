"""The built-in task type `celeriac.demo`: it counts, so that an installation can be tried out as it is.

celeriac submit celeriac.demo --watch
"""

from __future__ import annotations

import asyncio

from pydantic import BaseModel, ConfigDict, Field

from celeriac.handlers.context import Context
from celeriac.tasks.registry import task


class DemoPayload(BaseModel):
    """How long to count, and in how many steps."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"seconds": 5}]})

    seconds: float = Field(5, ge=0, le=60)
    steps: int = Field(10, ge=1, le=100)


@task("celeriac.demo", max_retries=3)
async def demo(payload: DemoPayload, ctx: Context) -> dict[str, int]:
    """Count for some seconds, and report progress: shows that submissions, workers and watching work."""
    ctx.log.info("counting", seconds=payload.seconds, steps=payload.steps)
    for step in range(1, payload.steps + 1):
        await asyncio.sleep(payload.seconds / payload.steps)
        await ctx.progress(100 * step / payload.steps, "counting", f"{step} of {payload.steps}")
    ctx.log.info("counted", steps=payload.steps)
    return {"counted": payload.steps}
