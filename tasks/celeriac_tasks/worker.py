"""`celeriac worker`: a Celery worker for some or all groups, of the platform's own app or of a project's."""

from __future__ import annotations

import gc
import logging
import os
import socket
import sys
import warnings
from typing import Any, Final

from celery.concurrency import get_available_pool_names, get_implementation
from celery.exceptions import CPendingDeprecationWarning
from celery.platforms import SecurityWarning

from celeriac.errors import SettingsError
from celeriac.logs import writes_json
from celeriac.reload.import_check import ONLY_MARK, tell_files
from celeriac.settings import Settings, WorkerSettings
from celeriac.tasks.registry import load
from celeriac.terminal.task_lines import lines_on
from celeriac.up.parent_tie import WORKER_MARK
from celeriac_tasks.adoption import adopted_by_name
from celeriac_tasks.adoption.adopting import process_app
from celeriac_tasks.adoption.loading import load_tasks
from celeriac_tasks.engine.app import CeleriacApp
from celeriac_tasks.engine.celery_log import leave_ends_to_lines
from celeriac_tasks.engine.pools.refused_pools import EVENTLET

#: How many new objects trigger a garbage collection.
_GC_THRESHOLD: Final = 20_000


def main(settings: Settings, options: dict[str, Any]) -> int:
    """Run a worker until it receives a signal to stop; returns its exit code.

    The command line has already put groups and concurrency into the settings (`worker.groups`,
    `worker.concurrency`). `options`: `app`, the project's app as in Celery's `-A`; its `pool`; and the settings that
    the command line names (`overrides`).
    """
    # Celery warns against running as root because of pickle; this app accepts only JSON.
    warnings.simplefilter("ignore", SecurityWarning)
    # A line for each received message would hide everything else; the record and its events say more.
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)
    only_imports = os.environ.pop(ONLY_MARK, None) is not None
    try:
        app, arguments = _loaded(settings, options)
    except SettingsError as exc:
        if only_imports:
            tell_files(exc)
        raise
    if only_imports:
        tell_files()
        return 0
    lines = app.celeriac_lines = lines_on(
        sys.stderr, most=settings.task_lines, as_json=writes_json(settings.log_format)
    )
    # Everything loaded so far stays in use, so the garbage collector need not scan it again. The default threshold
    # of 700 new objects would make it run too often.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 10, 10)
    worker = app.Worker(
        hostname=f"worker-{os.environ.pop(WORKER_MARK, os.getpid())}@{socket.gethostname()}",
        loglevel=settings.log_level.upper(),
        quiet=True,
        **arguments,
    )
    # Celery warns that it may deliver tasks again after the broker was unavailable; here the claim decides. Creating
    # the worker resets the filter for these warnings, so this line comes after it.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning, module="celery.worker.consumer")
    leave_ends_to_lines()
    try:
        worker.start()
    finally:
        lines.close()
    return int(worker.exitcode or 0)


def _loaded(settings: Settings, options: dict[str, Any]) -> tuple[CeleriacApp, dict[str, Any]]:
    """Return the app with all its tasks, and the arguments of its worker; raises `SettingsError`."""
    if options.get("app") is None:
        app, arguments = process_app(lambda: settings), _own_arguments(settings)
        # Here, because an error in the app's own import of them would only be logged: Celery calls it by a signal.
        load(settings.imports)
        app.finalize()
    else:
        _check_pool(options["pool"], options["app"])
        app = adopted_by_name(options["app"], options["overrides"])
        arguments = _project_arguments(app.celeriac_settings.worker, options["pool"])
        load(settings.imports)
        load_tasks(app, options["app"])
    return app, arguments


def _check_pool(pool: str | None, app: str) -> None:
    """Raise `SettingsError` unless this process can use the pool: one of Celery's names, or a class."""
    if pool == "eventlet":
        raise SettingsError(EVENTLET)
    if pool == "gevent":
        # It changes Python's own modules, which is possible only before anything else is imported.
        raise SettingsError(f"--pool gevent is Celery's to start: CELERIAC_ADOPT=1 celery -A {app} worker -P gevent")
    try:
        if pool is not None:
            get_implementation(pool)
    except (ImportError, AttributeError, ValueError) as exc:
        names = ", ".join(name for name in get_available_pool_names() if name not in ("gevent", "eventlet"))
        raise SettingsError(f"--pool {pool} is not a pool of Celery: {names}, or MODULE:CLASS") from exc


def _own_arguments(settings: Settings) -> dict[str, Any]:
    return {
        "queues": _queues(settings.worker),
        "concurrency": settings.worker.concurrency,
        "without_mingle": True,
        "without_gossip": True,
        "task_events": settings.worker.send_events,
    }


def _project_arguments(worker: WorkerSettings, pool: str | None) -> dict[str, Any]:
    """Return what the platform's settings say; all else is in the project's configuration."""
    named = worker.model_fields_set
    return {
        "queues": _queues(worker),
        **({"concurrency": worker.concurrency} if "concurrency" in named else {}),
        **({"pool_cls": pool} if pool is not None else {}),
        **({"task_events": worker.send_events} if "send_events" in named else {}),
    }


def _queues(worker: WorkerSettings) -> list[str] | None:
    names = worker.groups
    return None if names == "*" else [name.strip() for name in names.split(",") if name.strip()]
