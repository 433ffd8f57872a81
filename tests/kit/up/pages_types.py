"""Task types of a small business, for the pages' tests: some quick, some slow, some that fail."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from pydantic import BaseModel, Field

from celeriac import Context, SkipRetry, task


class Report(BaseModel):
    customer: int
    #: Longest time for each page (seconds), unless `gate` ends it.
    pause_s: float = 0.0
    pages: int = 10


class Mail(BaseModel):
    to: str
    subject: str = "Your order is on its way"


class Charge(BaseModel):
    amount: float
    card: str


@task("report.render", group="reports", max_retries=2)
async def render(payload: Report, ctx: Context) -> dict[str, int]:
    """Write a customer's report, page by page."""
    for page in range(payload.pages):
        ctx.log.info("rendering a page", page=page + 1)
        await ctx.progress(100 * page / payload.pages, "rendering", f"page {page + 1} of {payload.pages}")
        await asyncio.sleep(payload.pause_s)
    return {"customer": payload.customer, "pages": payload.pages}


@task("mail.send", group="mail", max_retries=3)
async def send(payload: Mail, ctx: Context) -> dict[str, str]:
    """Send a mail."""
    return {"message_id": f"<{ctx.task_id}@example.org>", "to": payload.to}


@task("card.charge", group="payments", max_retries=0)
async def charge(payload: Charge, ctx: Context) -> dict[str, float]:
    """Charge a card; one that begins with 4000 is declined."""
    if payload.card.startswith("4000"):
        ctx.log.warning("the bank said no", card=payload.card)
        raise SkipRetry("the bank declined the card: insufficient funds", code="card_declined")
    return {"charged": payload.amount}


class Refund(BaseModel):
    amount: int


class Decision(BaseModel):
    approve: bool = Field(title="Pay it back")
    note: str | None = None


def booked(amount: int) -> dict[str, int]:
    return {"booked": amount}


@task("order.refund", group="orders", max_retries=0)
async def refund(payload: Refund, ctx: Context) -> dict[str, Any]:
    """Pay an order back, if somebody agrees, and tell the customer."""
    booking = await ctx.step("book", booked, payload.amount)
    decision = await ctx.wait_for("approval", schema=Decision, title=f"Refund {payload.amount} €")
    at = await ctx.step("stamp", time.time_ns)
    await ctx.call("mail.send", {"to": "ada@example.org"}, name="tell")
    return {**booking, "approve": decision.approve, "at": at}
