"""`celeriac worker`: a Celery worker for some or all groups."""

from __future__ import annotations

import gc
import logging
import os
import socket
import warnings
from typing import Any, Final

from celery.exceptions import CPendingDeprecationWarning
from celery.platforms import SecurityWarning

from celeriac.settings import Settings
from celeriac_tasks.engine.app import process_app

#: How many new objects trigger a garbage collection.
_GC_THRESHOLD: Final = 20_000


def main(settings: Settings, options: dict[str, Any]) -> int:
    """Run a worker until it receives a signal to stop; returns its exit code.

    The command line has already put groups and concurrency into the settings (`worker.groups`,
    `worker.concurrency`).
    """
    del options
    # Celery warns against running as root because of pickle; this app accepts only JSON.
    warnings.simplefilter("ignore", SecurityWarning)
    # A line for each received message would hide everything else; the record and its events say more.
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)
    app = process_app(lambda: settings)
    app.load_types()
    # Everything loaded so far stays in use, so the garbage collector need not scan it again. The default threshold
    # of 700 new objects would make it run too often.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 10, 10)
    names = settings.worker.groups
    worker = app.Worker(
        hostname=f"worker-{os.getpid()}@{socket.gethostname()}",
        queues=None if names == "*" else [name.strip() for name in names.split(",") if name.strip()],
        concurrency=settings.worker.concurrency,
        loglevel=settings.log_level.upper(),
        without_mingle=True,
        without_gossip=True,
        task_events=settings.worker.send_events,
        quiet=True,
    )
    # Celery warns that it may deliver tasks again after the broker was unavailable; here the claim decides. Creating
    # the worker resets the filter for these warnings, so this line comes after it.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning, module="celery.worker.consumer")
    worker.start()
    return int(worker.exitcode or 0)
