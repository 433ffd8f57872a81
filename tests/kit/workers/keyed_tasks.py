"""Tasks with keys: plain Celery ones, and types of ours that call others."""

from __future__ import annotations

from typing import Any

from celeriac import Context, task
from celeriac_tasks.celery import app


@app.task(key="customer")
def of_parameter(customer: Any = "nobody", n: int = 0) -> Any:
    """Its key is an argument, by place or by name."""
    return customer


@app.task(key="order.customer")
def of_path(order: dict[str, Any]) -> str:
    """Its key is within an argument."""
    return str(order["customer"])


@app.task(key=lambda arguments: f"{arguments['customer']}-{arguments['area']}")
def of_function(customer: str, area: str = "north") -> str:
    """Its key is computed from its arguments by name."""
    return customer


@app.task
def calls(link: str) -> str:
    """Call a task without a key of its own, and one with one."""
    without_key.apply_async(task_id=f"{link}-without")
    of_parameter.apply_async(("other",), task_id=f"{link}-with")
    return link


@app.task
def without_key(*_: Any) -> None:
    """A task that no key belongs to."""


@task("keyed.parent")
async def parent(ctx: Context) -> list[str]:
    """Spawn children: one that inherits the key, one that names another, one whose type has a key."""
    inherits = await ctx.spawn("keyed.child", {"customer": "c1"})
    names = await ctx.spawn("keyed.child", {"customer": "c1"}, key="named")
    of_type_ = await ctx.spawn("keyed.of_type", {"customer": "c1"})
    return [inherits, names, of_type_]


@task("keyed.child")
async def child(customer: str, ctx: Context) -> str | None:
    """Return the key that it runs with."""
    return ctx.key


@task("keyed.of_type", key="customer")
async def of_type(customer: str, ctx: Context) -> str | None:
    """Return the key that it runs with."""
    return ctx.key
