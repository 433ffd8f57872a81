"""Task types that store steps and wait for signals, with nothing else in them."""

from __future__ import annotations

from noop_types import GROUP

from celeriac import Context, task


def _nothing() -> None:
    """Do nothing."""


@task("bench.steps", group=GROUP)
async def steps(ctx: Context, count: int) -> int:
    """Store so many steps."""
    for _ in range(count):
        await ctx.step("nothing", _nothing)
    return count


@task("bench.waits", group=GROUP)
async def waits(ctx: Context) -> int:
    """Wait for one signal."""
    value: int = await ctx.wait_for("go")
    return value
