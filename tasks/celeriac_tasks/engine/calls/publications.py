"""Tells a publication that comes again from a new one, for calls of an id that has a record.

A task that runs again after a crash publishes what it has published before, under the same ids: nothing runs twice for
that. Somebody who calls an ended task's id anew wants another run. So each publication has a name, which the record
keeps. What a task publishes is named after the task, the edition of its message, and how often it has published this
id. Each publication from outside a task has a name of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from celeriac_tasks.engine.calls.messages import edition_of

if TYPE_CHECKING:
    from celeriac_tasks.engine.app import CeleriacApp


class AnnouncedEnd(NamedTuple):
    """The end of a task that is being announced: the task's request, and whether it failed or was cancelled."""

    request: Any
    failed: bool


#: The end that is being announced, perhaps in a thread where Celery has no current task.
_ENDING: Final[ContextVar[AnnouncedEnd | None]] = ContextVar("celeriac_ending", default=None)
#: The attribute of a request that counts how often its task has published an id, and for how many ids.
_PUBLISHED: Final = "celeriac_published"
_MOST_COUNTED: Final = 1000
_LENGTH: Final = 16


@contextmanager
def publishing_for(request: Any, *, failed: bool = False) -> Iterator[None]:
    """Let what is published meanwhile count as published by the task with this request, at its end."""
    before = _ENDING.set(AnnouncedEnd(request, failed))
    try:
        yield
    finally:
        _ENDING.reset(before)


def announced_end() -> AnnouncedEnd | None:
    """Return the end that is being announced, if one is."""
    return _ENDING.get()


def publisher_of(app: CeleriacApp, headers: Mapping[str, Any]) -> Any:
    """Return the request of the task that publishes a call, None if no task of this process does."""
    ending = _ENDING.get()
    if ending is not None:
        request = ending.request
    else:
        task = app.current_worker_task
        request = None if task is None else task.request
    return request if request is not None and request.id == headers.get("parent_id", request.id) else None


def publication_of(app: CeleriacApp, headers: Mapping[str, Any]) -> str | None:
    """Return the name of the publication of a call, the same if it comes again; None if no task publishes it."""
    request = publisher_of(app, headers)
    if request is None:
        return None
    task_id, counted = headers["id"], vars(request).setdefault(_PUBLISHED, {})
    number = counted.get(task_id, 0)
    if len(counted) < _MOST_COUNTED:
        counted[task_id] = number + 1
    return sha256(f"{request.id}/{edition_of(vars(request)) or 0}/{number}".encode()).hexdigest()[:_LENGTH]
