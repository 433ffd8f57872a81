"""Runs one attempt of a task with the code that workers use, without a store or a server."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Unpack

from celeriac import json_text
from celeriac.calling.options import Payload, TaskOptions, submission_document, to_json
from celeriac.execution.attempt_state import StopReason
from celeriac.execution.attempt_work import WorkSettings
from celeriac.execution.runner import AttemptEnd, Runner
from celeriac.handlers.durable import NewChild
from celeriac.model import Awaited, Claim, Failure, LogLine, Progress, Status
from celeriac.settings import Settings
from celeriac.signals.links import SignalLinks
from celeriac.tasks.registry import Registry
from celeriac.tasks.registry import registry as process_types
from celeriac.tasks.request import read_request
from celeriac.tasks.submission import build_submission
from celeriac.tasks.task_type import TaskType
from celeriac.testing.one_task_store import OneTaskStore, Others


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """How an attempt ended, as the record of the task would say it."""

    #: `COMPLETED`, `FAILED`, `CANCELLED`, `RETRYING` if another attempt would follow, `WAITING` if the task would wait
    #: for something that the test did not give, or `PENDING` if the handler raised `RateLimited`.
    status: Status
    #: What callers would read: the value that the handler returned, written as JSON and read again.
    result: Any
    #: Why the attempt did not complete: `code`, `message`, `retryable`.
    error: Failure | None
    #: The exception that the handler raised, with its traceback, or None.
    exception: Exception | None
    #: The reports of progress, in their order.
    progress: tuple[Progress, ...]
    #: The lines of `ctx.log`, from the level of the setting `task_log.level` on.
    log: tuple[LogLine, ...]
    #: At least this many seconds until the next attempt (workers add jitter); None if none would follow.
    would_retry_in_s: float | None
    #: The value of `ctx.result_file_path` when the handler ended.
    result_file_path: str
    task_id: str
    #: What the task would wait for: signals and tasks.
    waiting_for: tuple[Awaited, ...] = ()
    #: The tasks that the handler submitted by `ctx.spawn` and `ctx.call`: `node` is the name, and `type` and `payload`.
    children: tuple[NewChild, ...] = ()


def run_task(
    task_type: TaskType,
    payload: Payload | None = None,
    *,
    attempt: int = 1,
    cancel_when: Callable[[Progress], object] | None = None,
    cancel_after_s: float | None = None,
    settings: Settings | None = None,
    signals: Mapping[str, Any] | None = None,
    children: Mapping[str, Any] | None = None,
    parents: Mapping[str, Any] | None = None,
    **options: Unpack[TaskOptions],
) -> TaskOutcome:
    """Run one attempt of a task and return how it ended. An exception of the handler is part of the outcome.

    `payload` and `options` are those of `Client.submit` and are checked as there: raises
    `InvalidSubmissionError` and `PayloadTooLargeError`. Options that matter before a task starts
    (`queue`, `priority`, `delay`, …) only show in the context. `attempt` is the number of the attempt, from 1.

    `cancel_when` is called with each report of progress; if it returns something true, the task is cancelled, as a
    user would cancel it. `cancel_after_s` cancels the task that many seconds after its start. If the handler does
    not stop within 3 s, the attempt ends without it, as in a worker. `settings` are the defaults unless given; the
    environment is not read.

    `signals` are the values of signals by name. `children` are the results of the tasks that the handler submits, by
    name, and `parents` those of the tasks that this one depends on, by id. A result may be an exception, which means
    that the task has failed, or a function of the payload. The handler runs again from the top as on a worker, after
    each of its waits; sleeps and timeouts take no time. What never comes ends the run as `WAITING`.

    It may be called with or without a running event loop, and blocks that loop: the handler has a loop of its own,
    in a thread. Use `run_task_async` if the handler needs objects that belong to the test's loop.
    """
    ended: Future[TaskOutcome] = Future()
    others = Others(signals or {}, children or {}, parents or {})

    async def run() -> TaskOutcome:
        running, outcome = await _attempt(
            task_type, payload, attempt, cancel_when, cancel_after_s, settings, others, options
        )
        if not running.done():
            # This loop only ends when the handler does. The caller need not wait for a handler that does not stop.
            ended.set_result(outcome)
        return outcome

    def body() -> None:
        try:
            outcome = asyncio.run(run())
        except BaseException as exc:
            if not ended.done():
                ended.set_exception(exc)
        else:
            if not ended.done():
                ended.set_result(outcome)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(body,), name="run_task", daemon=True)
    thread.start()
    return ended.result()


async def run_task_async(
    task_type: TaskType,
    payload: Payload | None = None,
    *,
    attempt: int = 1,
    cancel_when: Callable[[Progress], object] | None = None,
    cancel_after_s: float | None = None,
    settings: Settings | None = None,
    signals: Mapping[str, Any] | None = None,
    children: Mapping[str, Any] | None = None,
    parents: Mapping[str, Any] | None = None,
    **options: Unpack[TaskOptions],
) -> TaskOutcome:
    """Run one attempt as `run_task` does, on the running event loop (a plain function in a thread)."""
    others = Others(signals or {}, children or {}, parents or {})
    _, outcome = await _attempt(task_type, payload, attempt, cancel_when, cancel_after_s, settings, others, options)
    return outcome


async def _attempt(
    task_type: TaskType,
    payload: Payload | None,
    attempt: int,
    cancel_when: Callable[[Progress], object] | None,
    cancel_after_s: float | None,
    settings: Settings | None,
    others: Others,
    options: TaskOptions,
) -> tuple[asyncio.Task[AttemptEnd], TaskOutcome]:
    """Run one attempt; return its asyncio task, which is not done if the handler did not stop, and its outcome."""
    if getattr(task_type, "handler", None) is None:
        raise TypeError(f"{task_type!r} is not a task type with a handler: pass what the decorator `@task` returned")
    settings = Settings() if settings is None else settings
    registry = Registry([process_types.surrounded(task_type)])
    if others.parents and options.get("depends_on") is None:
        options = {**options, "depends_on": list(others.parents)}
    claim = _claim(task_type, payload, attempt, settings, registry, options)
    store = OneTaskStore(claim, cancel_when, others, settings.steps)
    runner = Runner(
        store=store,
        registry=registry,
        policy_of=lambda task_type, payload: task_type.retry_policy(payload, settings),
        worker_id="run_task",
        threads=1,
        progress_buffer=settings.worker.progress_buffer,
        max_result_bytes=settings.max_result_bytes,
        task_log=settings.task_log,
        # No sleep is so short that it would be slept in place.
        work=WorkSettings(settings.steps, 0.0, store.spawn, pause=_no_pause),
        # No jitter, so that a test can tell what to expect.
        jitter=lambda: 0.0,
        # The outcome has the failure.
        log_failures=False,
        links=SignalLinks(b"run_task", settings.api_address),
    )
    loop = asyncio.get_running_loop()

    def cancel() -> None:
        store.cancel_requested = True
        for running_attempt in runner.leases.of_task(claim.task_id):
            running_attempt.stop(StopReason.CANCEL)

    timer = None if cancel_after_s is None else loop.call_later(cancel_after_s, cancel)
    running = loop.create_task(runner.run(claim.task_id), name=f"attempt of {task_type.name}")
    try:
        first: list[asyncio.Future[Any]] = [running, store.end]
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        running.cancel()
        raise
    finally:
        if timer is not None:
            timer.cancel()
        runner.threads.shutdown()
    if not store.end.done():
        raise running.result().error or RuntimeError(running.result().note)  # an error of this package
    end = store.end.result()
    return running, TaskOutcome(
        status=end.status,
        result=json_text.read(end.result_json),
        error=end.failure,
        exception=running.result().error if running.done() else None,
        progress=tuple(store.progress),
        log=tuple(store.log_lines),
        would_retry_in_s=None if end.delay_ms is None else end.delay_ms / 1000,
        result_file_path=end.result_file_path,
        task_id=claim.task_id,
        waiting_for=end.waiting_for,
        children=tuple(store.children),
    )


async def _no_pause(seconds: float) -> None:
    """Let a pause pass at once, but let others go on meanwhile."""
    await asyncio.sleep(0)


def _claim(
    task_type: TaskType,
    payload: Payload | None,
    attempt: int,
    settings: Settings,
    registry: Registry,
    options: TaskOptions,
) -> Claim:
    """Return the claim that a worker would get. The submission is written as JSON and checked, as by the API."""
    document = to_json(submission_document({"type": task_type.name, "payload": payload, **options}))
    submission = build_submission(read_request(json_text.read(document)), settings, registry)
    allowed = submission.max_retries + 1
    if not 1 <= attempt <= allowed:
        raise ValueError(
            f"there is no attempt {attempt}: with max_retries={submission.max_retries} the attempts are 1 to {allowed}"
        )
    return Claim(
        task_id=submission.task_id,
        fence="run_task",
        type=submission.type,
        group=submission.group,
        payload=submission.payload,
        attempt=attempt,
        max_retries=submission.max_retries,
        attempts_allowed=allowed,
        user_id=submission.user_id,
        key=submission.key,
        metadata=dict(submission.metadata),
        timeout_ms=submission.timeout_ms,
        depends_on=tuple(submission.depends_on),
    )
