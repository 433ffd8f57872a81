"""Task types whose handlers ask a person by a link."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from celeriac import BlockingContext, Context, task


class Decision(BaseModel):
    approve: Literal["yes", "no"]
    amount: int = Field(le=500)


@task("asks_by_link", max_retries=0)
async def asks_by_link(ctx: Context) -> dict[str, object]:
    """Show the link, and wait for the answer."""
    await ctx.progress(1, "asked", ctx.signal_link("approval", valid="1h"))
    decision = await ctx.wait_for("approval", schema=Decision, title="Refund?", timeout="1h")
    return decision.model_dump()


@task("asks_by_link_sync", max_retries=0)
def asks_by_link_sync(ctx: BlockingContext) -> dict[str, object]:
    """Do the same in a thread."""
    ctx.progress(1, "asked", ctx.signal_link("approval", valid=3600))
    return ctx.wait_for("approval", schema=Decision, title="Refund?", timeout="1h").model_dump()
