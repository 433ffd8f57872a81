"""Waiting: until something is true, or for a moment."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx

Found = TypeVar("Found")

#: How long something that has to happen may take on a machine that is busy with other things.
PATIENCE_S = 90.0
#: A machine that is busy may make what a test waits for so many times slower.
_MOST_TIMES = 5.0
_RUNNING = Path("/proc/loadavg")


async def eventually(
    check: Callable[[], Any], *, because: str, timeout_s: float = PATIENCE_S, interval_s: float = 0.02
) -> Any:
    """Wait until `check` (sync or async) returns something true, and return that; fail with `because`.

    The default only ends what would hang: a test whose subject is a time says which. Such a time is longer on a machine
    with more to do than it has processors for.
    """
    clock = asyncio.get_running_loop().time
    begun = clock()
    load = Load()
    while True:
        found = check()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        load.look()
        if clock() > begun + timeout_s and clock() > begun + (allowed_s := load.allowance_s(timeout_s)):
            raise AssertionError(f"not within {allowed_s:g} s: {because}")
        await asyncio.sleep(interval_s)


async def in_time(what: Awaitable[Found], timeout_s: float, *, because: str) -> Found:
    """Return what comes of `what`, which may take as long as `eventually` lets a check take; fail with `because`."""
    waited_for = asyncio.ensure_future(what)
    try:
        await eventually(waited_for.done, because=because, timeout_s=timeout_s)
    finally:
        waited_for.cancel()
    return waited_for.result()


class Load:
    """How many programs want a processor while a test waits.

    The load average of the system tells of the last minute: when other tests have just begun, it tells of quiet times.
    """

    def __init__(self) -> None:
        self._looks = 0
        self._running = 0

    def look(self) -> None:
        """Count what wants a processor now."""
        self._looks += 1
        self._running += running_now()

    def allowance_s(self, timeout_s: float) -> float:
        """Return how long what takes `timeout_s` at most may take: longer if programs wait for processors."""
        if timeout_s >= PATIENCE_S:
            return timeout_s
        mean = self._running / self._looks if self._looks else 0.0
        waiting = max(mean, os.getloadavg()[0]) / (os.cpu_count() or 1)
        return min(timeout_s * min(max(waiting, 1.0), _MOST_TIMES), PATIENCE_S)


def running_now() -> int:
    """Return how many threads of this machine run or want to; 0 if the system does not tell."""
    try:
        return int(_RUNNING.read_text().split()[3].partition("/")[0])
    except OSError:
        return 0


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
