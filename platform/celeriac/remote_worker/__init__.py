"""Remote workers in Python: a program that connects to the gateway, takes tasks of its group and answers them."""

from __future__ import annotations

from celeriac.remote_worker.task import RemoteTask
from celeriac.remote_worker.worker import RemoteWorker

__all__ = ["RemoteTask", "RemoteWorker"]
