"""Remote workers in Python: programs that connect to the gateway, take the tasks of a group, and answer them.

worker.py         connects, and connects again
connection.py     one connection: what the worker sends and receives
outbox.py         the messages that wait to be sent over a connection
running_tasks.py  the tasks that the worker runs, over all its connections
execution.py      one run of the handler
task.py           the task as the handler sees it
messages.py       the protocol's messages
"""

from __future__ import annotations

from celeriac.remote_worker.task import RemoteTask
from celeriac.remote_worker.worker import RemoteWorker

__all__ = ["RemoteTask", "RemoteWorker"]
