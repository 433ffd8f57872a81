"""Receivers for the signals of Celery with which a process ends."""

from __future__ import annotations

from typing import Any

from celery import signals

from celeriac.reload.project_files import report_imports
from celeriac_tasks.engine.runtime import stop_runtime


def stop_with_process(**_: Any) -> None:
    """Disconnect, and give back the tasks that one of Celery's own pools left running."""
    stop_runtime()


def report_imports_of_child(**_: Any) -> None:
    """Tell the parent of the worker what a process of its pool imports, if it has asked for that."""
    report_imports()


signals.worker_process_init.connect(report_imports_of_child)
signals.worker_shutdown.connect(stop_with_process)
signals.worker_process_shutdown.connect(stop_with_process)
