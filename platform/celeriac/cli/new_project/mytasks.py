"""The tasks of this project. `celeriac.yaml` names this module, and `celeriac up` runs what it declares."""

from __future__ import annotations

import asyncio

from celeriac import Context, SkipRetry, task


@task(group="reports", max_retries=5, timeout_s=60)
async def report(ctx: Context, customer: int, pages: int = 10) -> dict[str, int]:
    """Write a customer's report."""
    if customer == 0:
        raise SkipRetry("there is no customer 0", code="unknown_customer")  # fails at once: no retry would help
    for page in range(pages):
        await ctx.progress(100 * page / pages, "writing", f"page {page + 1} of {pages}")
        await asyncio.sleep(0.1)  # your work; if it raises, the task is tried again later
    return {"customer": customer, "pages": pages}


if __name__ == "__main__":
    handle = report.submit(customer=7)
    print("submitted", handle.id)
    print("result", handle.result(timeout=60))
