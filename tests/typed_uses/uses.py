"""What type checkers say of `@task`, of handles and of clients. Nothing runs this file: mypy and pyright read it.

A line that ends with `# wrong` has to be an error, and no other line may be one. What stands behind `# is` is what
`reveal_type` has to show.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TypedDict, reveal_type

from pydantic import BaseModel

from celeriac import AsyncClient, BlockingContext, Client, Context, TaskHandle, TaskType, task


class Report(BaseModel):
    customer: int
    pages: int = 10


@dataclass
class Order:
    number: int


class Line(TypedDict):
    text: str


@task
async def report(ctx: Context, customer: int, pages: int = 10) -> Report:
    """Write a customer's report."""
    return Report(customer=customer, pages=pages)


@task()
def plain(customer: int, *, pages: int = 10) -> list[Report]:
    return [Report(customer=customer, pages=pages)]


@task("named")
async def named(ctx: Context, order: Order) -> None: ...


@task(name="typed.line", group="lines", max_retries=5, timeout_s=60)
def line(ctx: Context, line: Line) -> dict[str, int]:
    return {line["text"]: 1}


@task
async def whole(payload: Report, ctx: Context) -> int:
    return payload.pages


@task("whole.plain", retry_delay_s=2)
def whole_plain(payload: dict[str, int], ctx: Context) -> str:
    return str(payload)


@task
def clean() -> None: ...


@task
async def context_only(ctx: Context) -> bytes:
    return ctx.task_id.encode()


def calls() -> None:
    reveal_type(report.submit(customer=7))  # is TaskHandle[Report]
    reveal_type(report.submit(7, 3))  # is TaskHandle[Report]
    reveal_type(report.delay(7))  # is TaskHandle[Report]
    reveal_type(report.run(customer=7))  # is Report
    reveal_type(report.run(customer=7).pages)  # is int
    reveal_type(plain.run(7, pages=3))  # is list[Report]
    reveal_type(named.run(Order(7)))  # is None
    reveal_type(line.run({"text": "a"}))  # is dict[str, int]
    reveal_type(whole.run(Report(customer=7)))  # is int
    reveal_type(whole_plain.submit({"a": 1}).result(timeout=5))  # is str
    reveal_type(clean.submit().result())  # is None
    reveal_type(context_only.run())  # is bytes
    reveal_type(report.options(queue="slow", delay="10m", idempotency_key="r-7").submit(customer=7).id)  # is str
    reveal_type(report.options(delay=timedelta(minutes=1), tags=["a"]).options(priority=1).run(7))  # is Report
    reveal_type(report.options(depends_on=[clean.submit(), "ID"], on_unmet="run").run(7))  # is Report
    report(Context, customer=7)

    report.submit()  # wrong
    report.submit(customer="x")  # wrong
    report.submit(custmer=7)  # wrong
    report.submit(7, 3, 1)  # wrong
    report.run(customer=None)  # wrong
    report.delay("7")  # wrong
    plain.submit(7, 3)  # wrong
    named.submit(Report(customer=1))  # wrong
    line.submit({"txt": "a"})  # wrong
    whole.submit(Order(7))  # wrong
    clean.submit(1)  # wrong
    context_only.submit(1)  # wrong
    report.options(prio=3)  # wrong
    report.options(priority="high")  # wrong
    report.options(queue="slow").submit(customer="x")  # wrong
    text: str = report.run(customer=7)  # wrong
    del text


async def awaited() -> None:
    handle = await report.asubmit(customer=7)
    reveal_type(handle)  # is TaskHandle[Report]
    reveal_type(await handle.aresult(timeout=5))  # is Report
    reveal_type(await report.arun(customer=7))  # is Report
    reveal_type((await handle.await_done()).result)  # is Any
    async for progress in handle.aprogress():
        reveal_type(progress.percentage)  # is float
    async for written in handle.alog("info"):
        reveal_type(written.message)  # is str
    reveal_type(await handle.acancel() == "cancelled")  # is bool
    await handle.aretry({"customer": 8})
    await handle.aretry(Report(customer=8))
    await report.asubmit(customer="x")  # wrong
    await handle.retry()  # wrong


def handles(handle: TaskHandle[Report]) -> None:
    reveal_type(handle.id)  # is str
    reveal_type(handle.status == "completed")  # is bool
    reveal_type(handle.result(timeout=5).customer)  # is int
    for progress in handle.progress():
        reveal_type(progress.stage)  # is str
    handle.retry(Order(7))
    handle.result("5")  # wrong
    print(handle.result(5).title)  # wrong


def clients(client: Client) -> None:
    reveal_type(client.submit(report, customer=7))  # is TaskHandle[Report]
    reveal_type(client.submit(report.options(queue="slow"), 7).result())  # is Report
    reveal_type(client.submit(whole, Report(customer=7)).result())  # is int
    reveal_type(client.submit(report, Report(customer=7)).result())  # is Report
    reveal_type(client.submit("report", {"customer": 7}, delay="10m"))  # is TaskHandle[Any]
    client.submit("report", Report(customer=7))
    client.submit("report", Order(7))
    client.submit("clean")
    client.submit(report, customer="x")  # wrong
    client.submit(report, 7, 3, 1)  # wrong
    client.submit("report", {"customer": 7}, prio=3)  # wrong
    client.submit(7)  # wrong


async def async_clients(client: AsyncClient) -> None:
    reveal_type(await (await client.submit(report, customer=7)).result())  # is Report
    reveal_type(await (await client.submit(clean)).result())  # is None
    await client.submit("report", Report(customer=7), priority=3)
    await client.submit(report, custmer=7)  # wrong


def types(one: TaskType, other: TaskType[[int], str]) -> None:
    reveal_type(one.run(1, a=2))  # is Any
    reveal_type(other.run(7))  # is str
    other.run("7")  # wrong


def charge(order: str) -> int:
    return len(order)


async def mail(to: str) -> Report:
    return Report(customer=len(to))


async def durable(ctx: Context) -> None:
    reveal_type(await ctx.step("charge", charge, "A-1", retries=3))  # is int
    reveal_type(await ctx.step("mail", mail, to="a"))  # is Report
    reveal_type(await ctx.wait_for("answer", schema=Report))  # is Report
    reveal_type(await ctx.wait_for("answer", schema=Report, default=None))  # is Report | None
    reveal_type(await ctx.spawn(report, {"customer": 7}))  # is str
    await ctx.sleep("3d")
    await ctx.sleep([])  # wrong


def durable_plain(ctx: BlockingContext) -> None:
    reveal_type(ctx.step("charge", charge, "A-1"))  # is int
    reveal_type(ctx.wait_for("answer", schema=Report))  # is Report
    reveal_type(ctx.spawn("report", {"customer": 7}))  # is str
