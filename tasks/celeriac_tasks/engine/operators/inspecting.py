"""The commands of `celery inspect` that are about waiting tasks.

For each group one worker answers: the first living one by name that serves it. So no task is there twice in the
answers of all workers. A worker that died is out of the list after the time of a lease.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from celery.worker import control
from celery.worker import state as worker_state
from celery.worker.control import inspect_command
from kombu import Queue

from celeriac.errors import CeleriacError
from celeriac.model import WorkerInfo
from celeriac.store.owners import Owners
from celeriac.store.reading import serving
from celeriac.store.watching.waiting_tasks import ready_tasks, tasks_with_ids, timed_tasks
from celeriac.threads.os_threads import wait_for
from celeriac_tasks.engine.adopted import is_adopted
from celeriac_tasks.engine.calls import messages
from celeriac_tasks.engine.consumer_steps import MOST_GUESTS, shown_guests
from celeriac_tasks.engine.operators.answers import request_of, state_of, timed_request_of
from celeriac_tasks.engine.operators.revoking import shown_revoked
from celeriac_tasks.engine.runtime import Runtime, current_runtime

T = TypeVar("T")

log = logging.getLogger(__name__)

#: How long a command may hold up a worker (seconds). `celery inspect` itself waits for one second by default.
_MOST_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class AnsweredGroups:
    """The groups that this worker answers for."""

    worker_id: str
    workers: Sequence[WorkerInfo]
    owners: Owners

    def __contains__(self, group: str) -> bool:
        return any(first.worker_id == self.worker_id for first in serving(group, self.workers, self.owners)[:1])


async def answered_groups(runtime: Runtime) -> AnsweredGroups:
    """Return the groups that this worker answers for at present."""
    workers = [worker for worker in await runtime.store.workers() if worker.kind == "celery"]
    workers.sort(key=lambda worker: worker.worker_id)
    return AnsweredGroups(runtime.worker_id, workers, await runtime.store.owners())


@inspect_command(alias="dump_schedule")  # type: ignore[untyped-decorator]
def scheduled(state: Any, **kwargs: Any) -> Any:
    """List of currently scheduled ETA/countdown tasks."""
    held = [
        found
        for found in control.scheduled(state, **kwargs)
        if not is_adopted(state.app) or not _has_record(found["request"]["id"])
    ]

    async def from_store(runtime: Runtime) -> list[Any]:
        answered = await answered_groups(runtime)
        most = runtime.settings.worker.inspected
        found = await timed_tasks(runtime.store, answered.__contains__, most)
        return [timed_request_of(task, state.hostname) for task in found]

    return held + _ask(state, from_store, [])


@inspect_command(alias="dump_reserved")  # type: ignore[untyped-decorator]
def reserved(state: Any, **kwargs: Any) -> Any:
    """List of currently reserved tasks, not including scheduled/active."""
    held = [
        found
        for found in control.reserved(state, **kwargs)
        if not is_adopted(state.app) or not _has_record(found["id"])
    ]

    async def from_store(runtime: Runtime) -> list[Any]:
        answered = await answered_groups(runtime)
        served = dict.fromkeys(runtime.groups)
        if runtime.follows:
            served.update(dict.fromkeys((await runtime.store.awake_groups(0, MOST_GUESTS))[1]))
        groups = [group for group in served if group in answered]
        found = await ready_tasks(runtime.store, groups, runtime.settings.worker.inspected)
        running = {request.id for request in state.tset(worker_state.active_requests)}
        return [request_of(task, state.hostname) for task in found if task.task_id not in running]

    return held + _ask(state, from_store, [])


@inspect_command(alias="dump_revoked")  # type: ignore[untyped-decorator]
def revoked(state: Any, **kwargs: Any) -> Any:
    """List of revoked task-ids."""
    return list(dict.fromkeys([*control.revoked(state, **kwargs), *shown_revoked]))


@inspect_command(variadic="ids", signature="[id1 [id2 [... [idN]]]]")  # type: ignore[untyped-decorator]
def query_task(state: Any, ids: Any, **kwargs: Any) -> Any:
    """Query for task information by id."""
    held = control.query_task(state, ids, **kwargs)
    wanted = [ids] if isinstance(ids, str) else [str(task_id) for task_id in ids or ()]
    if not is_adopted(state.app):
        return held

    async def from_store(runtime: Runtime) -> dict[str, Any]:
        answered = await answered_groups(runtime)
        found = await tasks_with_ids(runtime.store, wanted[: runtime.settings.worker.inspected])
        return {
            task.task_id: (word, request_of(task, state.hostname))
            for task in found.values()
            if (word := state_of(task)) is not None and task.group in answered
        }

    active = {task_id: found for task_id, found in held.items() if found[0] == "active" or not _has_record(task_id)}
    return {**_ask(state, from_store, {}), **active}


@inspect_command()  # type: ignore[untyped-decorator]
def active_queues(state: Any) -> Any:
    """List the task queues a worker is currently consuming from."""
    if not is_adopted(state.app) or not state.consumer.task_consumer:
        return control.active_queues(state)
    guests = [Queue(group, exchange="", routing_key=group) for group in shown_guests(state.consumer)]
    served = [*state.consumer.celeriac_groups.queues(state.consumer), *guests]
    return [dict(queue.as_dict(recurse=True)) for queue in served]


def _has_record(task_id: str) -> bool:
    """Whether a message that this worker holds has a record, so that the store answers for it."""
    request = worker_state.requests.get(task_id)
    return request is not None and messages.has_record(request.request_dict)


def _ask(state: Any, question: Callable[[Runtime], Coroutine[Any, Any, T]], otherwise: T) -> T:
    """Return what the store answers; raises `CeleriacError`, which the operator sees, if it does not in time."""
    if not is_adopted(state.app):
        return otherwise
    runtime = current_runtime(state.app, worker_id=str(state.hostname))
    asked = runtime.spawn(question(runtime))
    if not wait_for(asked, _MOST_S):
        asked.cancel()
        raise CeleriacError(f"the store did not answer within {_MOST_S:g} s: look at the worker's log")
    return asked.result()
