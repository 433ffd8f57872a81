"""The shop's web application. It submits tasks, and passes their progress on to the browser."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel, Field

from celeriac import TaskHandle
from shop import orders
from shop.orders import PRICES, Item, Order
from shop.tasks import Receipt, fulfil

app = FastAPI(title="Shop")


class NewOrder(BaseModel):
    """What a customer sends."""

    email: Annotated[str, Field(pattern=r"[^@\s]+@[^@\s]+")]
    items: Annotated[list[Item], Field(min_length=1, max_length=20)]


@app.post("/orders", status_code=202)
async def order(new: NewOrder) -> Order:
    """Take an order, and have it fulfilled."""
    if unknown := [item.name for item in new.items if item.name not in PRICES]:
        raise HTTPException(422, f"the shop does not sell {', '.join(unknown)}")
    taken = orders.add(new.email, new.items)
    # The key makes a second submission for the same order harmless.
    task = await fulfil.options(idempotency_key=f"order-{taken.number}", tags=["order"]).asubmit(taken.number)
    orders.update(taken.number, task_id=task.id)
    return taken.model_copy(update={"task_id": task.id})


@app.get("/orders/{number}")
async def read_order(number: int) -> Order:
    """Return an order."""
    return _found(number)


@app.get("/orders/{number}/receipt")
async def receipt(number: int) -> Receipt:
    """Wait until the order is sent, and return its receipt."""
    return await _fulfilment(number).aresult(timeout=30)


@app.get("/orders/{number}/events", response_class=StreamingResponse)
async def follow(number: int) -> StreamingResponse:
    """Tell how far the order is, as server-sent events."""
    return StreamingResponse(_events(_fulfilment(number)), media_type="text/event-stream")


@app.post("/orders/{number}/cancel")
async def cancel(number: int) -> dict[str, str]:
    """Cancel an order that is not sent yet."""
    return {"status": await _fulfilment(number).acancel()}


@app.get("/", response_class=FileResponse)
async def page() -> Path:
    """Show the shop."""
    return Path(__file__).with_name("page.html")


async def _events(task: TaskHandle[Receipt]) -> AsyncIterator[str]:
    async for report in task.aprogress():
        yield f"event: progress\ndata: {report.percentage:.0f} {report.message}\n\n"
    done = await task.await_done()
    yield f"event: done\ndata: {done.status}\n\n"


def _found(number: int) -> Order:
    order = orders.get(number)
    if order is None:
        raise HTTPException(404, f"there is no order {number}")
    return order


def _fulfilment(number: int) -> TaskHandle[Receipt]:
    order = _found(number)
    if order.task_id is None:
        raise HTTPException(409, f"order {number} was not handed to the workers: order again")
    return fulfil.task(order.task_id)
