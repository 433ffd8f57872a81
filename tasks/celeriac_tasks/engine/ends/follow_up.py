"""What Celery does at the end of a task: the next link of its chain, callbacks, errbacks, its chord, its result.

Celery's tracer does it after the end. Here it happens before the end is recorded: if the process dies in between, the
task runs again and does it again, under the same ids, and each id is submitted only once. Otherwise a chain or a chord
would stand still for ever. The tracer then finds nothing left to do. `teller.py` sees to the ends that no attempt
announces.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from traceback import format_exception
from typing import Any, Final
from uuid import UUID, uuid5

from celery import states
from celery.app.task import get_actual_ignore_result
from celery.canvas import Signature, signature
from celery.exceptions import BackendStoreError, TaskRevokedError
from celery.utils.functional import maybe_list
from celery.utils.serialization import get_pickleable_exception

from celeriac_tasks.engine.attempts.replacing import fail_what_waits
from celeriac_tasks.engine.calls.publications import publishing_for

#: How much of an exception is stored that is too long (characters).
_SHOWN: Final = 1000
#: The namespace of callback ids. Celery would draw a new random id for each publication.
_CALLBACKS: Final = UUID("5f0c2a52-8a52-4c55-9d8a-6a2c6b1d3b5e")


def tell_success(task: Any, request: Any, value: Any, *, is_ending: bool = False) -> bytes:
    """Publish what follows a task that returned `value`, and store the result.

    `is_ending`: the end of the record is about to be stored. Then the result is returned instead, if that can be stored
    in one call with it (see `complete.lua`); b"" if there is nothing more to store.

    Callbacks that are groups or the like are left to the tracer: their tasks have no ids yet.

    A task's own `request` belongs to a thread; this may be another one.
    """
    with publishing_for(request):
        _publish_next(task.app, request, value)
        state = state_with_end(task, request, value) if is_ending and not request.chord else None
        if state is None:
            task.backend.mark_as_done(request.id, value, request, not get_actual_ignore_result(task, request))
    if request.chord:
        fail_what_waits(task, request)
    request.ignore_result, request.chord = True, None
    return state or b""


def state_with_end(task: Any, request: Any, value: Any) -> bytes | None:
    """Return the result of a task as it can be stored in one call with the end of its record.

    b"" if nothing is to be stored; None if the result backend of the task stores it by itself.
    """
    make: Callable[[str, Any, Any], bytes] | None = getattr(task.backend, "success_with_end", None)
    if make is None:
        return None
    return b"" if get_actual_ignore_result(task, request) else make(request.id, value, request)


def tell_failure(task: Any, request: Any, exc: BaseException) -> None:
    """Store the failure of a task, also for all later links of its chain and its chord, and call its errbacks."""
    kept = not get_actual_ignore_result(task, request) or task.store_errors_even_if_ignored
    shown = exc if isinstance(exc, Exception) else RuntimeError(repr(exc))
    trace = "".join(format_exception(type(shown), shown, exc.__traceback__))
    fail = partial(task.backend.mark_as_failure, request.id, request=request, store_result=kept)
    _name_errbacks(request)
    with publishing_for(request, failed=True):
        try:
            fail(get_pickleable_exception(shown), trace)
        except BackendStoreError:
            # It is too long to be stored. That the task failed counts all the same.
            fail(RuntimeError(repr(exc)[:_SHOWN]))
    fail_what_waits(task, request, exc)
    leave_nothing(request)


def tell_revoked(task: Any, request: Any, exc: TaskRevokedError) -> None:
    """Store that a task was cancelled or has expired, also for all later links of its chain and its chord.

    As in Celery, errbacks are not called. Celery itself leaves the later links pending, and with them a chord.
    """
    with publishing_for(request, failed=True):
        task.backend.mark_as_failure(
            request.id,
            exc,
            request=request,
            store_result=not get_actual_ignore_result(task, request) or task.store_errors_even_if_ignored,
            call_errbacks=False,
            state=states.REVOKED,
        )
    fail_what_waits(task, request, exc)
    leave_nothing(request)


def leave_nothing(request: Any) -> None:
    """Leave nothing of the end for Celery's tracer to store or to publish."""
    request.ignore_result = True
    request.chain = request.chord = request.errbacks = None


def _name_errbacks(request: Any) -> None:
    """Give each errback that Celery will publish, also those of the chord's body, the same id each time."""
    request.errbacks = _named(request.errbacks, request.id)
    if request.chord:
        options = request.chord["options"]
        if options.get("link_error"):
            options["link_error"] = _named(options["link_error"], options.get("task_id") or request.group)


def _named(errbacks: Any, failed: str) -> list[Any] | None:
    named = []
    for number, errback in enumerate(maybe_list(errbacks) or ()):
        # Not for groups and the like: their tasks have the ids.
        if errback.get("subtask_type") is None and not errback["options"].get("task_id"):
            task_id = str(uuid5(_CALLBACKS, f"{failed}/error/{number}"))
            errback = {**errback, "options": {**errback["options"], "task_id": task_id}}
        named.append(errback)
    return named or None


def _publish_next(app: Any, request: Any, value: Any) -> None:
    family = {"parent_id": request.id, "root_id": request.root_id or request.id}
    left_to_tracer = []
    for number, callback in enumerate(request.callbacks or ()):
        following = signature(callback, app=app)
        if type(following) is Signature:
            task_id = following.options.get("task_id") or str(uuid5(_CALLBACKS, f"{request.id}/{number}"))
            following.apply_async((value,), task_id=task_id, **family)
        else:
            left_to_tracer.append(callback)
    request.callbacks = left_to_tracer or None
    if request.chain:
        # The links of a chain already got their ids when the chain was published.
        *further, link = request.chain
        following = signature(link, app=app)
        if _all_named(following):
            following.apply_async((value,), chain=further, **family)
            request.chain = None


def _all_named(part: Any) -> bool:
    """Whether each task in a signature has its id, so that it can be published again without running twice."""
    if type(part) is Signature:
        return bool(part.options.get("task_id"))
    kwargs = part.kwargs or {}
    parts = [*(kwargs.get("tasks") or ()), *([kwargs["body"]] if kwargs.get("body") else ())]
    header = kwargs.get("header") or ()
    parts += [header] if isinstance(header, Signature) else list(header)
    return bool(parts) and all(_all_named(signature(one)) for one in parts)
