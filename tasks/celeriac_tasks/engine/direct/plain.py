"""Plain Celery tasks on the direct path: which calls may go it, and how their bodies run.

A call goes this way if its task, its message and its app ask for nothing that only Celery's tracer does: no hooks, no
receivers of its signals, no callbacks. The path ends where the body has returned: result and end go to the store in
one call. A body that raises, for whatever reason, is handed to the tracer with its outcome (`Ran`), and the tracer sees
to retries, failures, errbacks and signals as always.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from celery import Task, signals
from celery._state import _task_stack
from celery.app import trace
from celery.app.task import Context
from celery.loaders.base import BaseLoader
from kombu import serialization

from celeriac.errors import StaleClaimError, StoreUnavailableError
from celeriac.execution.attempt import Attempt, new_interrupt
from celeriac.execution.runner import AttemptEnd, Runner
from celeriac.model import Refusal
from celeriac.threads.daemon_threads import DaemonThreads
from celeriac_tasks.engine.attempts.base import (
    UNTHROWN,
    CeleriacTask,
    Ran,
    RegisteredTask,
    begin_request,
    has_own_call,
    unrecorded,
)
from celeriac_tasks.engine.attempts.coroutines import is_coroutine_task
from celeriac_tasks.engine.calls.messages import HEADER, KEPT, TIMES, edition_of, time_limits
from celeriac_tasks.engine.calls.published_call import JSON
from celeriac_tasks.engine.celery_log import are_ends_said
from celeriac_tasks.engine.ends.follow_up import state_with_end
from celeriac_tasks.engine.results import RecordBackend

log = logging.getLogger(__name__)

#: Hooks of a task that Celery's tracer calls besides the body, though nothing has failed.
_HOOKS: Final = ("before_start", "on_success", "after_return")
#: What Celery does after a task has returned.
_FOLLOWS: Final = ("callbacks", "chain", "chord")


class PlainCall(NamedTuple):
    """A call of a plain Celery task that a worker has received."""

    task: Task
    headers: Mapping[str, Any]
    properties: Mapping[str, Any]
    args: Any
    kwargs: Any
    embed: Mapping[str, Any]

    def request(self, hostname: str) -> Context:
        """Return the request that the body sees: what Celery's request and its tracer make of the message."""
        properties = self.properties
        address = properties.get("delivery_info") or {}
        request = Context(
            {
                **self.headers,
                "properties": properties,
                "reply_to": properties.get("reply_to"),
                "correlation_id": properties.get("correlation_id"),
                "hostname": hostname,
                "delivery_info": {
                    "exchange": address.get("exchange"),
                    "routing_key": address.get("routing_key"),
                    "priority": properties.get("priority"),
                    "redelivered": address.get("redelivered", False),
                },
                "is_eager": False,
                **self.embed,
            },
            args=self.args,
            called_directly=False,
            kwargs=self.kwargs,
        )
        unrecorded(request)  # takes our headers off it
        return request


def is_heard() -> bool:
    """Whether somebody wants to hear of each task that begins or succeeds."""
    return bool(
        signals.task_prerun.receivers
        or signals.task_postrun.receivers
        or signals.task_success.receivers
        or are_ends_said()
    )


def is_plain(app: Any, task: Task) -> bool:
    """Whether Celery's tracer does nothing for a task that returns, apart from storing its result."""
    tracer, loader = getattr(task, "__trace__", None), type(app.loader)
    return (
        isinstance(task, CeleriacTask)
        and not isinstance(task, RegisteredTask)
        and not is_coroutine_task(task)
        and not has_own_call(task)
        and not any(trace.task_has_custom(task, hook) for hook in _HOOKS)
        and type(task.backend) is RecordBackend
        # Libraries that watch tasks put a tracer of their own around Celery's.
        and getattr(getattr(tracer, "__code__", None), "co_filename", None) == trace.__file__
        and loader.on_task_init is BaseLoader.on_task_init
        and loader.on_process_cleanup is BaseLoader.on_process_cleanup
        and not task.soft_time_limit
        and not (app.conf.worker_deduplicate_successful_tasks and (app.conf.task_acks_late or task.acks_late))
        and JSON in serialization.prepare_accept_content(app.conf.accept_content)
    )


def plain_call(task: Task, envelope: Mapping[str, Any]) -> PlainCall | None:
    """Return the call in a message, None if it asks for more than its body.

    Raises what reading a damaged message raises.
    """
    headers, properties = envelope["headers"], envelope["properties"]
    if (
        headers.get(HEADER) != KEPT
        or TIMES in headers
        or headers.get("compression")
        or headers.get("replaced_task_nesting")
        or time_limits(headers.get("timelimit"))[1]
        or envelope["content-type"] != JSON
        or properties.get("body_encoding") != "base64"
    ):
        return None
    body = base64.b64decode(envelope["body"])
    args, kwargs, embed = serialization.loads(body, JSON, envelope["content-encoding"], {JSON})
    if not isinstance(kwargs, dict) or any(embed.get(name) for name in _FOLLOWS):
        return None
    return PlainCall(task, headers, properties, args, kwargs, embed)


async def run_plain(
    runner: Runner,
    threads: DaemonThreads,
    call: PlainCall,
    hostname: str,
    *,
    on_return: Callable[[], object],
) -> AttemptEnd | Ran:
    """Run one attempt of a call; never raises. Returns `Ran` if its body did not return, or has more to say.

    Then the tracer is to end the attempt. `on_return` is called when the thread is free.
    """
    task_id = call.headers["id"]
    try:
        attempt = await runner.begin(task_id, edition=edition_of(call.headers))
    except (StaleClaimError, StoreUnavailableError) as exc:
        log.error("task %s was not claimed: %s", task_id, exc)
        return AttemptEnd(None, note="store away")
    if isinstance(attempt, Refusal):
        return AttemptEnd(None, note=f"refused: {attempt.reason}")
    ran: Ran | None = None
    try:
        request = call.request(hostname)
        begin_request(request, attempt)
        if attempt.claim.timeout_ms is not None:
            attempt.limit(attempt.claim.timeout_ms / 1000)
        value, state, error = await threads.call(lambda: _run(call, request, attempt))
        if state is None:
            ran = Ran(attempt, request, value, error)
            return ran
        on_return()
        return await runner.succeed(attempt, value, keep=False, celery_state=state)
    except Exception as exc:
        log.exception("the end of task %s could not be recorded; its lease will run out", task_id)
        return AttemptEnd(None, note="not recorded", error=exc)
    finally:
        if ran is None:
            runner.forget(attempt)


def _run(call: PlainCall, request: Context, attempt: Attempt) -> tuple[Any, bytes | None, BaseException | None]:
    """Run the body in this thread; returns its value, the result to store (None: the tracer goes on), its error."""
    task, value = call.task, None
    requests = task.request_stack
    _task_stack.push(task)
    requests.push(request)
    try:
        interrupt = new_interrupt()
        with attempt.interruptible(interrupt), interrupt:
            value = task.run(*call.args, **call.kwargs)
        if attempt.replaced_by is not None or hasattr(request, UNTHROWN):
            return value, None, None
        return value, state_with_end(task, request, value), None
    except BaseException as exc:
        return None, None, exc
    finally:
        requests.pop()
        _task_stack.pop()
