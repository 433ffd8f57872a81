"""Task types that end in every way a handler can end."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import BaseModel, SecretStr

from celeriac import Context, RetryAfter, SkipRetry, task


class Pages(BaseModel):
    """A payload with a default."""

    customer: int
    pages: int = 2


@dataclass
class Written:
    """A result that is no JSON by itself."""

    pages: int
    at: datetime


class RefusedError(Exception):
    """Final for the types that say so."""


class UnsayableError(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


@task("kit.report", group="kit", max_retries=5, timeout_s=60)
async def report(payload: Pages, ctx: Context) -> Written:
    """Complete, with a report for each page."""
    for page in range(payload.pages):
        await ctx.progress(100 * page / payload.pages, "writing", f"page {page}")
    await ctx.progress(250, "done")  # above 100
    ctx.result_file_path = "/tmp/report.pdf"
    return Written(payload.pages, datetime(2030, 1, 1, tzinfo=UTC))


@task("kit.plain", group="kit")
def plain(payload: Pages, ctx: Context) -> dict[str, object]:
    """Say what a plain function knows of its task."""
    ctx.progress(50, "half")
    return {
        "customer": payload.customer,
        "user": ctx.user_id,
        "metadata": ctx.metadata,
        "attempt": ctx.attempt,
        "max_retries": ctx.max_retries,
        "group": ctx.group,
        "type": ctx.type,
        "extra": ctx.extra,
    }


@task("kit.bare", group="kit")
def bare() -> None:
    """Take neither payload nor context."""


@task("kit.skips", group="kit")
async def skips(payload: Pages) -> None:
    """Fail for good, with a code."""
    raise SkipRetry(f"there is no customer {payload.customer}", code="unknown_customer")


@task("kit.final", group="kit", final_errors=(RefusedError,))
def final(ctx: Context) -> None:
    """Fail for good by the class of the error."""
    raise RefusedError("no")


@task("kit.raises", group="kit", max_retries=3, retry_delay_s=300, retry_max_delay_s=3000)
def raises(ctx: Context) -> None:
    """Fail, to be repeated much later."""
    raise ValueError("wrong")


@task("kit.unsayable", group="kit", max_retries=0)
async def unsayable(ctx: Context) -> None:
    """Fail with an error without words."""
    raise UnsayableError


@task("kit.later", group="kit")
async def later(ctx: Context) -> None:
    """Fail, and say when to try again."""
    raise RetryAfter("busy", delay_s=500)


@task("kit.bytes", group="kit")
async def returns_bytes(ctx: Context) -> bytes:
    """Return what has no form in JSON."""
    return b"\x00"


@task("kit.exits", group="kit", max_retries=0)
def exits(ctx: Context) -> None:
    """Try to end the process."""
    raise SystemExit(3)


@task("kit.gives_up", group="kit", max_retries=0)
async def gives_up(ctx: Context) -> None:
    """Cancel itself."""
    raise asyncio.CancelledError


@task("kit.sleeps", group="kit", max_retries=0)
async def sleeps(ctx: Context) -> str:
    """Report once and take for ever."""
    await ctx.progress(10, "asleep")
    await asyncio.sleep(3600)
    return "awake"


@task("kit.spins", group="kit", max_retries=0)
def spins(ctx: Context) -> str:
    """Report once and take for ever, in a thread."""
    ctx.progress(10, "spinning")
    while True:
        time.sleep(0.001)


@task("kit.tidies", group="kit")
async def tidies(ctx: Context) -> str:
    """Complete in spite of a cancellation."""
    await ctx.progress(10, "working")
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        return f"stopped for {ctx.stop_reason}"
    return "not stopped"


class Login(BaseModel):
    """A payload with a secret."""

    password: SecretStr


@task("kit.login", group="kit")
async def login(payload: Login) -> int:
    """Read a secret."""
    return len(payload.password.get_secret_value())
