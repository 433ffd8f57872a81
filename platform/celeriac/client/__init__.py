"""The Python client of the HTTP API, blocking (`Client`) and for asyncio (`AsyncClient`).

The client is written once, with `async`, in `asynchronous/`. `tools/generate_sync_client.py` makes the
blocking one from it, in `generated_blocking/`: edit the former and run `make client`. The modules of this
folder are for both: they compute, and do no input or output. Only `wire.py` imports httpx, and it is
imported when the first client is made: a worker imports `celeriac` too, and does not need it.
"""

from __future__ import annotations

from celeriac.client.asynchronous.client import AsyncClient, AsyncTaskHandle
from celeriac.client.charts import Chart, Counts, DurationStats
from celeriac.client.generated_blocking.client import Client, TaskHandle
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
