"""Tells Celery of the ends that no attempt announces: cancelled while it waited, expired, lost with its worker.

The store notes the ids of such tasks when they end (`note_untold` in `lua/shared/attempts.lua`). Any worker that knows
the task takes one, and does what Celery does at the end of a task by what the record says: result, chord, later links
of the chain, errbacks. If it dies meanwhile, another one does it again, under the same ids.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from celery.app.task import Context
from celery.canvas import signature
from celery.exceptions import TaskRevokedError
from celery.signals import task_revoked
from kombu.exceptions import ContentDisallowed, DecodeError

from celeriac import json_text
from celeriac.errors import JsonError, TaskNotFoundError
from celeriac.model import Status, Task
from celeriac.store.roles.role import Role
from celeriac.store.task_store import TaskStore, UntoldEnd
from celeriac.threads.daemon_threads import DaemonThreads
from celeriac_tasks.engine.calls import messages
from celeriac_tasks.engine.calls.call_keys import KEY
from celeriac_tasks.engine.calls.publications import publishing_for
from celeriac_tasks.engine.calls.published_call import PublishedCall
from celeriac_tasks.engine.ends.exceptions import exception_of
from celeriac_tasks.engine.ends.follow_up import tell_failure, tell_revoked, tell_success

log = logging.getLogger(__name__)

#: Most ends that one step takes, and the pause after a step that found fewer (seconds).
_BATCH: Final = 20
_INTERVAL_S: Final = 0.5


def no_monitors(kind: str, fields: Mapping[str, Any]) -> None:
    """Send no event: no monitor can be reached yet."""


class Teller(Role):
    """Takes ended tasks that Celery does not know of, and tells it through the result backend of `app`.

    Celery's calls block, and its backends belong to a thread, so all of this happens in a thread of its own.
    """

    def __init__(
        self, *, store: TaskStore, app: Any, tell_monitors: Callable[[str, Mapping[str, Any]], object] = no_monitors
    ) -> None:
        super().__init__()
        self._store = store
        self._app = app
        self._tell_monitors = tell_monitors
        self._thread = DaemonThreads(1, name="teller")

    async def stop(self) -> None:
        """End the loop; what it has in hand is told by another worker. Idempotent."""
        await super().stop()
        self._thread.shutdown()

    async def step(self) -> float:
        """Tell of up to one batch."""
        clock = asyncio.get_running_loop().time
        ends = await self._store.take_untold(_BATCH)
        enough = clock() + self._store.settings.tell_lease / 2
        for end in ends:
            # A backend that answers slowly must not outlast the leases: what is left comes again when they run out.
            if clock() < enough:
                await self._see_to(end)
        return 0 if len(ends) == _BATCH else _INTERVAL_S

    async def _see_to(self, end: UntoldEnd) -> None:
        try:
            task = await self._store.get(end.task_id)
        except TaskNotFoundError:
            # Its retention is over, or its user removed it.
            await self._store.told(end)
            return
        problem = await self._told(task)
        if problem is None:
            await self._store.told(end)
            if (event := event_of(task)) is not None:
                self._tell_monitors(*event)
        elif not await self._store.tell_later(end, task.finished_at or task.updated_at):
            log.error("task %s ended, and nobody tells Celery any more, because %s", task.task_id, problem)

    async def _told(self, task: Task) -> str | None:
        """Tell of a task if it has ended; returns what keeps this worker from that."""
        # Somebody may have run it again meanwhile.
        if not task.status.final or task.celery_message is None:
            return None
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, tell, self._app, task)
        except Exception as exc:
            log.warning("task %s ended, and Celery could not be told: %r", task.task_id, exc)
            return f"it could not be told: {exc!r}"


def tell(app: Any, record: Task) -> str | None:
    """Do what Celery does at the end of a task, by its record; returns what keeps this app from that.

    Raises what the result backend and the broker raise.
    """
    try:
        call = messages.call_of_envelope(json_text.read(record.celery_message or "", "message"))
        request = request_of(call, record, app.conf.accept_content)
    except (JsonError, LookupError, TypeError, ValueError, ContentDisallowed, DecodeError) as unreadable:
        log.error("task %s ended, and Celery is not told: its message cannot be read: %r", record.task_id, unreadable)
        return None
    task = app.tasks.get(request.task)
    if task is None:
        return f"the workers that were asked do not have the task {request.task!r}"
    if record.status is Status.COMPLETED:
        _tell_success(task, request, record.result)
        return None
    exc = exception_of(record)
    if isinstance(exc, TaskRevokedError):
        tell_revoked(task, request, exc)
        task_revoked.send(sender=task, request=request, terminated=False, signum=None, expired=_expired(record))
    else:
        tell_failure(task, request, exc)
    return None


def event_of(record: Task) -> tuple[str, dict[str, Any]] | None:
    """Return the event, its type and its fields, by which Celery's monitors hear that a task failed or was revoked."""
    if record.status not in (Status.FAILED, Status.CANCELLED):
        return None
    exc = exception_of(record)
    if isinstance(exc, TaskRevokedError):
        found = {"uuid": record.task_id, "terminated": False, "signum": None, "expired": _expired(record)}
        return "task-revoked", found
    return "task-failed", {"uuid": record.task_id, "exception": repr(exc), "traceback": ""}


def _expired(record: Task) -> bool:
    return record.error is not None and record.error.code == "expired"


def request_of(call: PublishedCall, record: Task, accept: Collection[str]) -> Context:
    """Return the request of a published call as its task would have seen it in its last attempt."""
    args, kwargs, embed = call.whole(accept)
    properties = call.properties
    return Context(
        {
            **call.headers,
            **embed,
            KEY: record.key,
            "args": args,
            "kwargs": kwargs,
            "retries": max(record.attempt - 1, 0),
            "hostname": record.worker,
            "reply_to": properties.get("reply_to"),
            "correlation_id": properties.get("correlation_id"),
            "delivery_info": {"exchange": "", "routing_key": record.group, "priority": properties.get("priority")},
        }
    )


def _tell_success(task: Any, request: Context, value: Any) -> None:
    """Tell of a task that another program completed. There is no tracer, so nothing is left to it."""
    tell_success(task, request, value)
    family = {"parent_id": request.id, "root_id": request.root_id or request.id}
    with publishing_for(request):
        for callback in request.callbacks or ():
            signature(callback, app=task.app).apply_async((value,), **family)
        if request.chain:
            *further, link = request.chain
            signature(link, app=task.app).apply_async((value,), chain=further, **family)
