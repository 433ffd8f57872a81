"""The tasks of a project, as its developer writes them, and a program beside them."""

from __future__ import annotations

from pydantic import BaseModel

from celeriac import Context, task


class Report(BaseModel):
    customer: int
    pages: int


@task
async def report(ctx: Context, customer: int, pages: int = 10) -> Report:
    """Write a customer's report."""
    await ctx.progress(50, "written")
    ctx.log.info("a report", pages=pages)
    return Report(customer=customer, pages=pages)


@task
def clean() -> None: ...


@task(max_retries=0)
def broken(times: int) -> int:
    return "often"  # type: ignore[return-value]


@task
async def within(customer: int) -> int:
    return (await report.arun(customer)).pages


@task
def within_thread(customer: int) -> int:
    return report.run(customer, pages=4).pages


@task(max_retries=0)
async def blocks(customer: int) -> None:
    report.run(customer)


if __name__ == "__main__":
    handle = report.submit(customer=7)
    print(handle.result(timeout=60).pages, handle.status == "completed", handle.status)
    print([one.stage for one in handle.progress()], [line.message for line in handle.log("info")])
    print(report.run(8, pages=3).pages, report.delay(9).result(60).pages, clean.run())
    print(report.options(depends_on=[handle], tags=["after"]).run(5).customer)
    print(report.options(delay="1h", tags=["later"]).submit(1).cancel())
