"""The follow-up of a Celery task: the next link of its chain, and its callbacks."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID, uuid5

from celery.canvas import Signature, signature

#: The namespace of callback ids. Celery would draw a new random id for each publication.
_CALLBACKS: Final = UUID("5f0c2a52-8a52-4c55-9d8a-6a2c6b1d3b5e")


def publish_follow_up(app: Any, request: Any, value: Any) -> None:
    """Publish the follow-up of the task of `request`, so that Celery's tracer does not publish it again.

    Call this before the task's end is recorded. If the process dies in between, the task runs again and
    publishes the same ids, and each id is submitted only once. The tracer still publishes groups and chords.
    """
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
