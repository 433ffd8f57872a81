"""One task on the direct path."""

from __future__ import annotations

from collections.abc import Mapping
from time import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celeriac_tasks.engine.direct.plain import PlainCall


class DirectJob:
    """A message that a worker has in hand: taken, not claimed yet, or running.

    It stands for a Celery request, which is made if an operator looks at the worker meanwhile.
    """

    __slots__ = (
        *("accepted_at", "call", "end", "ended_at", "is_noted", "message", "name", "queue", "request", "retries"),
        *("taken_at", "task_id", "told"),
    )

    def __init__(
        self, task_id: str, name: str, queue: str, message: bytes, retries: int, call: PlainCall | None = None
    ) -> None:
        self.task_id = task_id
        #: What a plain Celery task is called with; None: a task of a registered type.
        self.call = call
        self.name = name
        self.queue = queue
        self.retries = retries
        #: As it was in its list; to put it back, and to make a request of it.
        self.message = message
        #: When it was taken, when it got its slot, and when it ended (`time.time`); 0: not yet.
        self.taken_at = time()
        self.accepted_at = 0.0
        self.ended_at = 0.0
        #: The event of its end, and what that says; None if Celery has no event for it.
        self.end: tuple[str, Mapping[str, Any]] | None = None
        #: Celery's request, once somebody has looked.
        self.request: Any = None
        #: How many of its events monitors have, and whether it waits to have others sent (see `monitors.py`).
        self.told = 0
        self.is_noted = False
