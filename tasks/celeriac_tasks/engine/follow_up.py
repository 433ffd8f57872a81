"""What Celery does at the end of a task: the next link of its chain, callbacks, errbacks, its chord, its result.

Celery's tracer does it after the end. Here it happens before the end is recorded: if the process dies in between, the
task runs again and does it again, under the same ids, and each id is submitted only once. Otherwise a chain or a chord
would stand still for ever. The tracer then finds nothing left to do.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final
from uuid import UUID, uuid5

from billiard.einfo import ExceptionInfo
from celery.app.task import get_actual_ignore_result
from celery.canvas import Signature, signature
from celery.exceptions import BackendStoreError
from celery.utils.serialization import get_pickleable_exception

#: How much of an exception is stored that is too long (characters).
_SHOWN: Final = 1000
#: The namespace of callback ids. Celery would draw a new random id for each publication.
_CALLBACKS: Final = UUID("5f0c2a52-8a52-4c55-9d8a-6a2c6b1d3b5e")


def tell_success(task: Any, request: Any, value: Any) -> None:
    """Publish what follows a task that returned `value`, and store the result. Groups are left to the tracer.

    A task's own `request` belongs to a thread; this may be another one.
    """
    _publish_next(task.app, request, value)
    task.backend.mark_as_done(request.id, value, request, not get_actual_ignore_result(task, request))
    request.ignore_result, request.chord = True, None


def tell_failure(task: Any, request: Any, exc: BaseException) -> None:
    """Store the failure of a task, also for all later links of its chain and its chord, and call its errbacks."""
    kept = not get_actual_ignore_result(task, request) or task.store_errors_even_if_ignored
    shown = exc if isinstance(exc, Exception) else RuntimeError(repr(exc))
    trace = ExceptionInfo((type(shown), shown, exc.__traceback__)).traceback
    fail = partial(task.backend.mark_as_failure, request.id, request=request, store_result=kept)
    try:
        fail(get_pickleable_exception(shown), trace)
    except BackendStoreError:
        # It is too long to be stored. That the task failed counts all the same.
        fail(RuntimeError(repr(exc)[:_SHOWN]))
    request.ignore_result = True
    request.chain = request.chord = request.errbacks = None


def tell_cancelled(task: Any, request: Any) -> None:
    """Tell the chord of a cancelled task that its result will not come."""
    task.backend.mark_as_revoked(request.id, "cancelled", request, store_result=False)


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
        if type(following) is Signature:
            following.apply_async((value,), chain=further, **family)
            request.chain = None
