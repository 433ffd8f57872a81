"""Task types of a small business, for the pages' tests: some quick, some slow, some that fail."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel

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
