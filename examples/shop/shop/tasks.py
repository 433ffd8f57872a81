"""The work of the shop, done by Celeriac's workers."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel

from celeriac import Context, SkipRetry, every, task
from shop import orders


class Receipt(BaseModel):
    """What a customer is told when an order is on its way."""

    number: int
    total: float
    parcels: int


@task(max_retries=5, timeout_s=60)
async def fulfil(ctx: Context, number: int) -> Receipt:
    """Pack an order and send it."""
    order = orders.get(number)
    if order is None:
        raise SkipRetry(f"there is no order {number}", code="unknown_order")  # another attempt would not help
    if order.status == "sent":
        # An attempt before this one sent it, and its worker died before it could say so.
        return Receipt(number=number, total=order.total, parcels=len(order.items))
    for place, item in enumerate(order.items):
        await ctx.progress(100 * place / len(order.items), "packing", f"{item.count} × {item.name}")
        await asyncio.sleep(0.4 * item.count)
    orders.update(number, status="sent")
    ctx.log.info("sent", to=order.email)
    return Receipt(number=number, total=order.total, parcels=len(order.items))


@task(schedule=every("1m"))
def count_sales() -> dict[str, int]:
    """Count what was sold; Celeriac runs it every minute."""
    return orders.sold()
