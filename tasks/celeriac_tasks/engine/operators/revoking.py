"""The commands with which operators end tasks: `revoke`, `terminate` and `revoke_by_stamped_headers`.

They replace Celery's, also for Flower's buttons and `AsyncResult.revoke`. The record is cancelled; a worker keeps
nothing in its memory. Tasks without a record are left to Celery's own commands.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from billiard.common import TERM_SIGNAME
from celery.concurrency.prefork import TaskPool as ProcessPool
from celery.platforms import signals as platform_signals
from celery.signals import task_revoked
from celery.utils.collections import LimitedSet
from celery.utils.functional import maybe_list
from celery.worker import control
from celery.worker import state as worker_state
from celery.worker.control import control_command

from celeriac.errors import CeleriacError, IllegalTransitionError, TaskNotFoundError
from celeriac.model import Status
from celeriac.threads.os_threads import wait_for
from celeriac_tasks.engine.adopted import is_adopted
from celeriac_tasks.engine.ends.exceptions import REVOKED_IN_CELERY
from celeriac_tasks.engine.runtime import Runtime, current_runtime

log = logging.getLogger(__name__)

#: How long a command may hold up a worker (seconds). What the store has not done by then, it does later.
_MOST_S: Final = 2.0
#: What operators have revoked here, for `celery inspect revoked` alone: the records say what is cancelled.
shown_revoked: Final = LimitedSet(maxlen=worker_state.REVOKES_MAX, expires=worker_state.REVOKE_EXPIRES)
_SIGNATURE: Final = "[id1 [id2 [... [idN]]]]"


@control_command(name="revoke", variadic="task_id", signature=_SIGNATURE)  # type: ignore[untyped-decorator]
def revoke(state: Any, task_id: Any, terminate: bool = False, signal: Any = None, **options: Any) -> Any:
    """Cancel tasks that wait. One that runs goes on, as in Celery, but no other attempt follows.

    With `terminate`, a running task is cancelled at once, and its process in the prefork pool gets the signal. In the
    platform's own app a running task ends without it too, as after `POST .../cancel`.
    """
    if not is_adopted(state.app):
        return control.revoke(state, task_id, terminate=terminate, signal=signal, **options)
    ids = [str(found) for found in maybe_list(task_id) or ()]
    shown_revoked.update(ids)
    unknown = _end(state, ids, terminate=terminate, signal=signal)
    if unknown:
        control.revoke(state, unknown, terminate=terminate, signal=signal, **options)
    return {"ok": f"tasks {', '.join(ids)} {'terminated' if terminate else 'are being cancelled'}"}


@control_command(  # type: ignore[untyped-decorator]
    name="terminate",
    variadic="task_id",
    args=[("signal", str)],
    signature=f"<signal> {_SIGNATURE}",
)
def terminate(state: Any, signal: Any, task_id: Any, **options: Any) -> Any:
    """Cancel tasks at once, and send a signal to their processes."""
    return revoke(state, task_id, terminate=True, signal=signal, **options)


@control_command(  # type: ignore[untyped-decorator]
    name="revoke_by_stamped_headers",
    variadic="headers",
    signature="[key1=value1 [key2=value2 [... [keyN=valueN]]]]",
)
def revoke_by_stamped_headers(
    state: Any, headers: Any, terminate: bool = False, signal: Any = None, **options: Any
) -> Any:
    """Cancel tasks by their stamps: what this worker receives from now on, and with `terminate` what it runs."""
    if not terminate or not is_adopted(state.app):
        return control.revoke_by_stamped_headers(state, headers, terminate=terminate, signal=signal, **options)
    wanted = dict(pair.split("=", 1) for pair in headers) if isinstance(headers, list) else headers
    control.revoke_by_stamped_headers(state, wanted, terminate=False)
    ids = [request.id for request in worker_state.active_requests if _has_stamp(request, wanted)]
    for request in _running(_end(state, ids, terminate=True, signal=signal)):
        request.terminate(state.consumer.pool, signal=signal)
    return {"ok": f"headers {wanted} " + ("revoked" if ids else "were not terminated")}


async def cancel(
    runtime: Runtime, ids: Iterable[str], *, at_once: Collection[str] = (), spare: bool = False
) -> dict[str, Status | None]:
    """Cancel tasks; returns their statuses, None for those without a record.

    Those in `at_once` are CANCELLED even if they run. With `spare`, the other ones that run may end as they do.
    """
    statuses: dict[str, Status | None] = {}
    for task_id in ids:
        try:
            if task_id in at_once:
                statuses[task_id] = await runtime.store.cancel(task_id, REVOKED_IN_CELERY, running="at_once")
            elif spare:
                statuses[task_id] = await runtime.store.cancel(task_id, REVOKED_IN_CELERY, running="spare")
            else:
                statuses[task_id] = await runtime.tasks.cancel(task_id, REVOKED_IN_CELERY)
        except TaskNotFoundError:
            statuses[task_id] = None
        except IllegalTransitionError as exc:
            statuses[task_id] = Status(exc.status)
        except CeleriacError as exc:
            log.warning("task %s was revoked, but its record cannot be cancelled: %s", task_id, exc)
    return statuses


def _end(state: Any, ids: Collection[str], *, terminate: bool, signal: Any) -> list[str]:
    """Cancel the records, then end the processes if asked to; returns the ids that have no record.

    In this order, a task that dies with its process is already cancelled: nobody takes it for lost or failed.
    """
    runtime = current_runtime(state.app, worker_id=str(state.hostname))
    pool = state.consumer.pool
    running = _running(ids) if terminate else []
    killed = {request.id for request in running} if isinstance(pool, ProcessPool) else set()
    spare = not terminate and not state.app.celeriac_source.stops_revoked
    found = runtime.spawn(cancel(runtime, ids, at_once=killed, spare=spare))
    statuses = found.result() if wait_for(found, _MOST_S) else {}
    for request in running:
        # A task that has ended meanwhile has left its process, which may be at another one.
        if statuses.get(request.id, Status.CANCELLED) in (Status.CANCELLED, Status.PROCESSING):
            _terminate(request, pool, signal)
    return [task_id for task_id, status in statuses.items() if status is None]


def _running(ids: Collection[str]) -> list[Any]:
    return [request for request in worker_state.active_requests if request.id in ids and request.time_start]


def _has_stamp(request: Any, wanted: Mapping[str, Any]) -> bool:
    stamps = request.stamps
    return any(set(maybe_list(stamps.get(name)) or ()) & set(maybe_list(values)) for name, values in wanted.items())


def _terminate(request: Any, pool: Any, signal: Any) -> None:
    """End a task's process, or in other pools say that the task is revoked: its cancellation interrupts it."""
    if isinstance(pool, ProcessPool):
        request.terminate(pool, signal=signal)
        return
    # Celery would also acknowledge the message, as a pool's thread does at the same time, and twice ends the worker.
    how = {"terminated": True, "signum": platform_signals.signum(signal or TERM_SIGNAME), "expired": False}
    request.send_event("task-revoked", **how)
    task_revoked.send(request.task, request=request._context, **how)
