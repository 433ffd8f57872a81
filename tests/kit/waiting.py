"""Waiting: until something is true, or for a moment."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import httpx

#: How long something that has to happen may take on a machine that is busy with other things.
PATIENCE_S = 60.0


async def eventually(
    check: Callable[[], Any], *, because: str, timeout_s: float = PATIENCE_S, interval_s: float = 0.02
) -> Any:
    """Wait until `check` (sync or async) returns something true, and return that; fail with `because`.

    The default only ends what would hang: a test whose subject is a time says which.
    """
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        found = check()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {because}")
        await asyncio.sleep(interval_s)


async def serves(client: httpx.AsyncClient, path: str) -> bool:
    """Return whether a server answers a GET of this path with 200 already."""
    try:
        return (await client.get(path)).status_code == 200
    except httpx.HTTPError:
        return False


def threading_pause() -> None:
    """Give way for 5 ms between two looks at a process that is starting."""
    import threading

    threading.Event().wait(0.005)
