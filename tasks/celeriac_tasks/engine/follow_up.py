"""What follows a Celery task: the next link of its chain, and its callbacks."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID, uuid5

from celery.canvas import Signature, signature

#: The space of the ids that callbacks get, which Celery would draw anew with each publication.
_CALLBACKS: Final = UUID("5f0c2a52-8a52-4c55-9d8a-6a2c6b1d3b5e")


def publish_follow_up(app: Any, request: Any, value: Any) -> None:
    """Publish what follows the task of `request`, and leave nothing of it to Celery's tracer.

    To be called before the task's end is recorded: a process that dies in between runs the task again,
    and publishes the same ids, of which each is submitted once. Groups and chords stay with the tracer.
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
        # The links of a chain have had their ids since it was published.
        *further, link = request.chain
        following = signature(link, app=app)
        if type(following) is Signature:
            following.apply_async((value,), chain=further, **family)
            request.chain = None
