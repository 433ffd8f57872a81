"""Task types whose handlers do durable work; each note says what was done, and how often."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel

from celeriac import BlockingContext, Context, TaskFailedError, task
from tests.kit.workers.notes import note


class Decision(BaseModel):
    approved: bool


def _done(ctx: Context, what: str, value: Any) -> Any:
    note(ctx.task_id, what)
    return value


@task("order", retry_delay_s=0.05)
async def order(payload: dict[str, Any], ctx: Context) -> list[Any]:
    """Charge, ask, sleep, and have a child do the rest."""
    note(ctx.task_id, "run")
    paid = await ctx.step("charge", _done, ctx, "charge", 120)
    decision = await ctx.wait_for("approval", schema=Decision, title="Refund?", users=["9"], timeout="1h")
    await ctx.sleep(payload.get("sleep_s", 0.5))
    double = await ctx.call("double", {"n": paid}, max_retries=0)
    return [decision.approved, double]


@task("order_sync", retry_delay_s=0.05)
def order_sync(payload: dict[str, Any], ctx: BlockingContext) -> list[Any]:
    """Do the same in a thread."""
    note(ctx.task_id, "run")
    paid = ctx.step("charge", _done, ctx, "charge", 120)
    decision = ctx.wait_for("approval", schema=Decision, title="Refund?", users=["9"], timeout="1h")
    ctx.sleep(payload.get("sleep_s", 0.5))
    double = ctx.call("double", {"n": paid}, max_retries=0)
    return [decision.approved, double]


@task("double", max_retries=0)
async def double(payload: dict[str, int], ctx: Context) -> int:
    await asyncio.to_thread(note, ctx.task_id, "run")
    return payload["n"] * 2


@task("refuse", max_retries=0)
async def refuse() -> None:
    raise ValueError("no")


@task("fan_out", retry_delay_s=0.05)
async def fan_out(payload: dict[str, Any], ctx: Context) -> int:
    """Add what many children return."""
    calls = (ctx.call("double", {"n": n}, name=f"part {n}") for n in range(payload["parts"]))
    return sum(await ctx.gather(*calls))


@task("fan_out_sync", retry_delay_s=0.05)
def fan_out_sync(payload: dict[str, Any], ctx: BlockingContext) -> int:
    return sum(ctx.gather(ctx.spawn("double", {"n": n}) for n in range(payload["parts"])))


@task("catching")
async def catching(ctx: Context) -> str:
    try:
        await ctx.call("refuse")
    except TaskFailedError as exc:
        return exc.code
    return ""


@task("many_steps", retry_delay_s=0.05)
async def many_steps(payload: dict[str, Any], ctx: Context) -> list[int]:
    """Keep many steps; each one says that it was done."""

    async def one(n: int) -> int:
        await asyncio.to_thread(note, ctx.task_id, f"step {n}")
        return n

    return [await ctx.step(f"step {n}", one, n) for n in range(payload["steps"])]


@task("patient", timeout_s=8.0, max_retries=0)
async def patient(payload: dict[str, Any], ctx: Context) -> str:
    """Sleep for longer than one attempt may run; or run for too long, in two parts."""
    await asyncio.sleep(payload.get("before_s", 0))
    await ctx.sleep(payload.get("sleep_s", 9))
    await asyncio.sleep(payload.get("after_s", 0))
    return "done"


@task("gets_a_result", max_retries=0)
def gets_a_result(ctx: BlockingContext) -> Any:
    """Wait as one does not in a handler."""
    from celeriac_tasks.celery import app

    return app.send_task("double", kwargs={"n": 1}).get(timeout=5)


@task("swallows")
async def swallows(ctx: Context) -> str:
    """Run into the suspension with everything that may go wrong around it."""
    try:
        await ctx.sleep(1)
    except Exception:
        return "caught"
    finally:
        await asyncio.to_thread(note, ctx.task_id, "finally")
    return "done"
