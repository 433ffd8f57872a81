"""The Python client of the HTTP API, for blocking code (`Client`) and for asyncio (`AsyncClient`).

Everything is written once, for asyncio. `Client` is an `AsyncClient` on the thread of blocking calls (see
`calling/blocking.py`).
Only `http/wire.py` imports httpx, and it is imported when the first client is made: a worker imports `celeriac` too,
and does not need it.
"""

from __future__ import annotations

from celeriac.calling.handle import AsyncTaskHandle, TaskHandle
from celeriac.calling.options import NewNode, NewTask, TaskOptions
from celeriac.client.async_client import AsyncClient
from celeriac.client.blocking_client import Client
from celeriac.client.blocking_workflows import ClientWorkflows
from celeriac.client.charts import (
    Chart,
    ChartPart,
    Counts,
    DurationStats,
    HistogramBucket,
    SlowTask,
    TaskCounts,
    TaskHistogram,
)
from celeriac.client.errors import ErrorGroup
from celeriac.client.inputs import FilterOptions
from celeriac.client.workflows import AcceptedWorkflow, AsyncClientWorkflows, NodeChange
from celeriac.signals.records import TaskStep, Wait

__all__ = [
    "AcceptedWorkflow",
    "AsyncClient",
    "AsyncClientWorkflows",
    "AsyncTaskHandle",
    "Chart",
    "ChartPart",
    "Client",
    "ClientWorkflows",
    "Counts",
    "DurationStats",
    "ErrorGroup",
    "FilterOptions",
    "HistogramBucket",
    "NewNode",
    "NewTask",
    "NodeChange",
    "SlowTask",
    "TaskCounts",
    "TaskHandle",
    "TaskHistogram",
    "TaskOptions",
    "TaskStep",
    "Wait",
]
