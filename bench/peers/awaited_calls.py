"""Celeriac's own calls that wait: a type's `run()`, through the store or with `CELERIAC_URL` over HTTP."""

from __future__ import annotations

import time
from typing import Any

from noop_types import noop_async


def latencies_ms(count: int, payload: dict[str, Any]) -> list[float]:
    """Run one task after another; return the time of each until its result is here (milliseconds)."""
    found = []
    for _ in range(count):
        began = time.perf_counter()
        noop_async.run(payload)
        found.append(1000 * (time.perf_counter() - began))
    return found
