"""Task types for the tests of the page of one task: some are noisy, some try several times, some have large values."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel, SecretStr

from celeriac import Context, SkipRetry, task


class Noise(BaseModel):
    reports: int = 2000
    lines: int = 3000
    #: How long the task goes on afterwards, unless it is cancelled (seconds).
    hold_s: float = 0.0
    steps: int = 0
    children: int = 0


class Flaky(BaseModel):
    failures: int = 2
    pause_s: float = 0.0
    retry_delay_s: float = 0.05


class Kept(BaseModel):
    value: Any = None


class Refused(BaseModel):
    reason: str


class Login(BaseModel):
    user: str
    password: SecretStr


class Chat(BaseModel):
    messages: list[dict[str, Any]]


@task("page.noise", group="page", max_retries=0)
async def noise(payload: Noise, ctx: Context) -> dict[str, int]:
    """Report and log a lot, in three stages."""
    for number in range(payload.steps):
        await ctx.step(f"step-{number}", int, number)
    for number in range(payload.children):
        await ctx.call("page.keep", {"value": number}, name=f"child-{number}")
    for number in range(payload.reports):
        stage = ("reading", "thinking", "writing")[3 * number // payload.reports]
        await ctx.progress(100 * number / payload.reports, stage, f"part {number + 1}")
    for number in range(payload.lines):
        level = ctx.log.warning if number % 500 == 0 else ctx.log.info
        level(f"line number {number}", batch=number // 100)
        if number % 100 == 0:
            await asyncio.sleep(0)
    await asyncio.sleep(payload.hold_s)
    return {"reports": payload.reports, "lines": payload.lines}


@task("page.flaky", group="page", max_retries=5, retry_delay_s=0.05)
async def flaky(payload: Flaky, ctx: Context) -> dict[str, int]:
    """Fail some times with the same error, then succeed."""
    ctx.log.info("looking for the supplier", attempt=ctx.attempt)
    await asyncio.sleep(payload.pause_s)
    if ctx.attempt <= payload.failures:
        raise ConnectionError("the supplier does not answer")
    return {"attempts": ctx.attempt}


@task("page.later", group="page", max_retries=5, retry_delay_s=3600)
async def later(payload: Flaky, ctx: Context) -> dict[str, int]:
    """Fail some times, with an hour between attempts."""
    if ctx.attempt <= payload.failures:
        raise ConnectionError("the supplier does not answer")
    return {"attempts": ctx.attempt}


@task("page.refuse", group="page", max_retries=0)
async def refuse(payload: Refused, ctx: Context) -> None:
    """Fail for a reason of the caller's choice."""
    raise SkipRetry(payload.reason, code="refused")


@task("page.keep", group="page", max_retries=0)
async def keep(payload: Kept, ctx: Context) -> Any:
    """Return what it got."""
    return payload.value


@task("page.sleep", group="page", max_retries=0)
async def sleep(payload: Kept, ctx: Context) -> str:
    """Take a step, sleep for long in the store, and take another one."""
    await ctx.step("before", str, "one")
    await ctx.sleep(payload.value)
    await ctx.step("after", str, "two")
    return "rested"


@task("page.login", group="page", max_retries=0)
async def login(payload: Login, ctx: Context) -> int:
    """Return how long the password is."""
    return len(payload.password.get_secret_value())


@task("page.chat", group="page", max_retries=0)
async def chat(payload: Chat, ctx: Context) -> dict[str, Any]:
    """Answer as a model would: it takes a moment."""
    await asyncio.sleep(0.05)
    said = {"role": "assistant", "content": f"You said: {payload.messages[-1]['content']}"}
    usage = {"prompt_tokens": 12, "completion_tokens": 34, "total_tokens": 46}
    return {"choices": [{"index": 0, "message": said, "finish_reason": "stop"}], "usage": usage}
