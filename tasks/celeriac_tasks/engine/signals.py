"""Receivers for the signals and remote-control commands of Celery that affect a task's record."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from celery import signals
from celery.worker.control import control_command, revoke

from celeriac.errors import CeleriacError
from celeriac_tasks.engine.runtime import Runtime, current_runtime, stop_runtime

log = logging.getLogger(__name__)


def cancel_revoked(sender: Any = None, request: Any = None, **_: Any) -> None:
    """Cancel the record of a task that Celery revoked."""
    if sender is None or request is None or not hasattr(sender.app, "celeriac_settings"):
        return
    runtime = current_runtime(sender.app, worker_id=str(request.hostname))
    runtime.spawn(_cancel(runtime, [request.id]))


def stop_with_process(**_: Any) -> None:
    """Disconnect, and give back the tasks that one of Celery's own pools left running."""
    stop_runtime()


@control_command(name="revoke", variadic="task_id", signature="[id1 [id2 [... [idN]]]]")  # type: ignore[untyped-decorator]
def revoke_in_record(state: Any, task_id: Any, terminate: bool = False, **options: Any) -> Any:
    """Cancel tasks. Replaces Celery's `revoke` (and Flower's button); the worker keeps nothing in its memory.

    A waiting task ends at once; a running task ends as it does after `POST .../cancel`. With `terminate`,
    Celery may also kill the pool's process.
    """
    ours = hasattr(state.app, "celeriac_settings")
    celerys_answer = revoke(state, task_id, terminate=terminate, **options) if terminate or not ours else None
    if not ours:
        return celerys_answer
    ids = [task_id] if isinstance(task_id, str) else list(task_id or ())
    runtime = current_runtime(state.app, worker_id=str(state.hostname))
    runtime.spawn(_cancel(runtime, ids))
    return {"ok": f"tasks {', '.join(ids)} are being cancelled"}


async def _cancel(runtime: Runtime, task_ids: Iterable[str]) -> None:
    for task_id in task_ids:
        try:
            await runtime.tasks.cancel(task_id, "revoked in Celery")
        except CeleriacError as exc:
            log.info("task %s was revoked, but its record cannot be cancelled: %s", task_id, exc)


signals.task_revoked.connect(cancel_revoked)
signals.worker_shutdown.connect(stop_with_process)
signals.worker_process_shutdown.connect(stop_with_process)
