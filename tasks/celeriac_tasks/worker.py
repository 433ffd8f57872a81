"""`celeriac worker`: a Celery worker for some groups, or for all."""

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

#: New objects between two looks for reference cycles.
_GC_THRESHOLD: Final = 20_000


def main(settings: Settings, options: dict[str, Any]) -> int:
    """Run a worker until it is told to stop; returns its exit code.

    Groups and concurrency are settings by now (`worker.groups`, `worker.concurrency`).
    """
    del options
    # Celery warns of running as root because of pickle; this app accepts nothing but JSON.
    warnings.simplefilter("ignore", SecurityWarning)
    # A line for each received message would drown the rest; the record and its events say more.
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)
    app = process_app(lambda: settings)
    app.load_types()
    # What is loaded now stays: no need to look at it for garbage again and again, nor 700 objects after 700.
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
    # Of tasks that it would deliver again when the store was away: here a claim decides that. Making the worker shows
    # these warnings always, so this comes after it.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning, module="celery.worker.consumer")
    worker.start()
    return int(worker.exitcode or 0)
