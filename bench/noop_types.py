"""Task types that do nothing, so that a benchmark measures only the platform."""

from __future__ import annotations

from typing import Any

from celeriac import task

#: The group of both types, so that the benchmarks know the name of the queue.
GROUP = "bench"


@task("bench.noop_async", group=GROUP)
async def noop_async(payload: dict[str, Any]) -> None:
    """Do nothing, on the event loop."""


@task("bench.noop_sync", group=GROUP)
def noop_sync(payload: dict[str, Any]) -> None:
    """Do nothing, in a thread."""
