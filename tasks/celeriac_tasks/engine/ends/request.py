"""The request of a recorded task in the process that received its message: the record decides how the task ends.

Celery's own request stores a failure when the process of a pool dies or is killed, although another attempt may follow
here. This one asks the store to end the attempt, which leaves to a worker what Celery is to be told (`teller.py`).
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

from billiard.einfo import ExceptionWithTraceback
from celery import signals
from celery.exceptions import Ignore, Reject, Retry, TimeLimitExceeded
from celery.worker import state
from celery.worker.request import Request
from kombu.asynchronous import get_event_loop
from kombu.utils.imports import symbol_by_name

from celeriac.errors import CeleriacError
from celeriac.model import Failure, Status
from celeriac.store.task_store import LostAttempt
from celeriac.terminal.task_end import TaskEnd, error_text
from celeriac_tasks.engine.calls import messages
from celeriac_tasks.engine.ends.exceptions import REVOKED_IN_CELERY
from celeriac_tasks.engine.operators.revoking import cancel
from celeriac_tasks.engine.runtime import Runtime, current_runtime, running_runtime

log = logging.getLogger(__name__)

#: What monitors such as Flower are told of an attempt that lost its process, by the task's status after it.
_EVENTS = {Status.PENDING: "task-retried", Status.FAILED: "task-failed", Status.CANCELLED: "task-revoked"}


class RecordedRequest(Request):
    """A request whose result, chord, chain and errbacks are left to the record, if its task has one."""

    @property
    def recorded(self) -> bool:
        """Whether its task has a record."""
        headers = self._request_dict
        return messages.has_record(headers) and not messages.runs_unrecorded(headers)

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Take what an attempt raised, or how its process ended; Celery calls this in the worker's main process."""
        exc = exc_info.exception
        exc = exc.exc if isinstance(exc, ExceptionWithTraceback) else exc
        if not self.recorded or (return_ok and not isinstance(exc, Reject)) or isinstance(exc, Retry | Ignore):
            return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)
        if isinstance(exc, Reject):
            return self._on_reject_raised(exc, exc_info)
        if isinstance(exc, TimeLimitExceeded):
            return self._end_attempt("timeout", "the attempt ran longer than its time limit", again=False)
        return self._end_attempt("worker_lost", f"its process ended: {exc}", again=True)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """Take that the pool interrupts (`soft`) or kills the process of a task that ran for too long."""
        if soft or not self.recorded:
            super().on_timeout(soft, timeout)
        else:
            self._end_attempt("timeout", f"the attempt ran longer than its time limit ({timeout:g} s)", again=False)

    def _on_reject_raised(self, exc: Any, exc_info: Any) -> None:
        # The attempt has told Celery of the failure already, before its end was recorded.
        state.task_ready(self)
        if not exc.requeue:
            signals.task_failure.send(
                sender=self.task, task_id=self.id, exception=exc, args=self.args, kwargs=self.kwargs,
                traceback=exc_info.traceback, einfo=exc_info,
            )  # fmt: skip
            self.send_event("task-failed", exception=repr(exc), traceback=exc_info.traceback)
        self.reject(requeue=exc.requeue)

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        """Report a revocation, and cancel the record."""
        if not self.recorded:
            super()._announce_revoked(reason, terminated, signum, expired)
            return
        state.task_ready(self)
        self.send_event("task-revoked", terminated=terminated, signum=signum, expired=expired)
        self.acknowledge()
        self._already_revoked = True
        runtime = current_runtime(self.task.app, worker_id=str(self.hostname))
        runtime.spawn(cancel(runtime, [self.id]))
        signals.task_revoked.send(
            sender=self.task, request=self._context, terminated=terminated, signum=signum, expired=expired
        )

    def _announce_cancelled(self, emit_retry: bool = True) -> None:
        """Report that the worker stops the task, since it lost its broker; the task will run again."""
        if not self.recorded:
            super()._announce_cancelled(emit_retry)
            return
        state.task_ready(self)
        self.send_event("task-cancelled")
        self._already_cancelled = True

    # --- an attempt whose process is gone

    def _end_attempt(self, code: str, text: str, *, again: bool) -> None:
        """Have the store end the attempt, unless it has ended. If that fails, its lease runs out."""
        state.task_ready(self)
        # If the task is to run again, it gets another message.
        self.acknowledge()
        if any(other.id == self.id and other is not self for other in tuple(state.reserved_requests)):
            return  # Another process of this worker has a message of the same task, and perhaps its claim.
        runtime = running_runtime()
        if runtime is None:
            return
        hub = get_event_loop()
        call: Callable[..., Any] = hub.call_soon if hub is not None else _at_once
        if runtime.lines is None:
            log.warning("task %s: %s", self.id, text)
        lost = self._lose(runtime, code, text, again)
        try:
            runtime.spawn(lost).add_done_callback(lambda done: call(self._report, done, runtime, code, text))
        except RuntimeError:  # the worker ends
            lost.close()

    async def _lose(self, runtime: Runtime, code: str, text: str, again: bool) -> LostAttempt | None:
        if self._already_revoked:
            # The revocation has it cancelled as well, but perhaps later.
            with contextlib.suppress(CeleriacError):
                await runtime.tasks.cancel(self.id, REVOKED_IN_CELERY)
        return await runtime.store.lose(self.id, worker=runtime.worker_id, code=code, message=text, again=again)

    def _report(self, done: Any, runtime: Runtime, code: str, text: str) -> None:
        """Tell monitors and the terminal what became of the task; on Celery's thread."""
        if done.cancelled() or done.exception() is not None:
            log.warning("task %s: the end of its process is not recorded yet; its lease will run out", self.id)
            return
        lost = done.result()
        if lost is None:
            return
        if runtime.lines is not None and runtime.lines.has_room():
            group = self.delivery_info.get("routing_key") or ""
            took_s = time.time() - self.time_start if self.time_start else None
            error = "" if lost.status is Status.CANCELLED else error_text(Failure(code, text, retryable=True))
            runtime.lines.add(
                TaskEnd(group, self.name, self.id, lost.status, took_s, lost.attempt, lost.attempts, error)
            )
        if (event := _EVENTS.get(lost.status)) is not None:
            more = {"terminated": True, "signum": None, "expired": False} if event == "task-revoked" else {}
            self.send_event(event, exception=text, traceback="", **more)


def _at_once(function: Callable[..., Any], *arguments: Any) -> None:
    function(*arguments)


def recorded_request(request: Any) -> type[RecordedRequest]:
    """Return a class of requests of a project's own (a class or its path) whose tasks have records."""
    own = symbol_by_name(request)
    if issubclass(own, RecordedRequest):
        return own  # type: ignore[no-any-return]
    return type(own.__name__, (own, RecordedRequest), {"__module__": own.__module__, "__doc__": own.__doc__})
