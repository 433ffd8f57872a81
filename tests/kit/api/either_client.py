"""Lets one list of tests hold both clients: the blocking one runs in threads, beside the server of the test's loop."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from celeriac import AsyncClient, Client

AnyClient = Any  # the two have no common type: what the one returns, the other awaits


@asynccontextmanager
async def connected(kind: str, url: str, **options: Any) -> AsyncIterator[AnyClient]:
    """A client of this kind (`blocking` or `asyncio`)."""
    if kind == "asyncio":
        async with AsyncClient(url, **options) as client:
            yield client
    else:
        blocking = Client(url, **options)
        try:
            yield blocking
        finally:
            blocking.close()


async def run(method: Any, *arguments: Any, **options: Any) -> Any:
    """Call a method of either client."""
    if inspect.iscoroutinefunction(method):
        return await method(*arguments, **options)
    return await asyncio.to_thread(method, *arguments, **options)


async def collect(items: Any, into: list[Any] | None = None) -> list[Any]:
    """Return what either client iterates over; it comes into `into` one by one."""
    found: list[Any] = [] if into is None else into
    if hasattr(items, "__aiter__"):
        async for item in items:
            found.append(item)
    else:
        await asyncio.to_thread(lambda: found.extend(iter_one_by_one(items)))
    return found


def iter_one_by_one(items: Any) -> Any:
    """Iterate without telling a length: `extend` then appends each item as it comes."""
    yield from items
