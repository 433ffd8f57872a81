"""The Python client of the HTTP API, blocking (`Client`) and for asyncio (`AsyncClient`).

What an operation does is written once, without input and output: a generator that asks for steps (send
this, pause, read on) and is told what came of them (`steps.py`). `wire.py`, the one file that imports
httpx, performs the steps for either client; it is imported when the first client is made, so that
workers, which import `celeriac` too, do not pay for it.
"""

from __future__ import annotations

from celeriac.client.async_client import AsyncClient, AsyncTaskHandle
from celeriac.client.blocking_client import Client, TaskHandle
from celeriac.client.charts import Chart, Counts, DurationStats
from celeriac.client.inputs import FilterOptions, NewTask, TaskOptions

__all__ = [
    "AsyncClient",
    "AsyncTaskHandle",
    "Chart",
    "Client",
    "Counts",
    "DurationStats",
    "FilterOptions",
    "NewTask",
    "TaskHandle",
    "TaskOptions",
]
