"""Tasks that a worker holds because of Celery's `rate_limit` are held once.

While the worker holds a message, nobody claims the task, and the sweep sends its message again. Each of them would take
a place in the rate, so the tasks would run more slowly than the limit allows.
"""

from __future__ import annotations

from typing import Any

from celery import bootsteps

from celeriac_tasks.engine.calls import messages


class HeldTasks(bootsteps.Step):
    """Drops a message whose task this worker already holds for its rate limit."""

    requires = ("celery.worker.consumer:Tasks",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        self._hold = consumer._limit_task
        # Celery's strategies take this function when they are made, at each (re)connection.
        consumer._limit_task = self._hold_once

    def _hold_once(self, request: Any, bucket: Any, tokens: Any) -> Any:
        if messages.has_record(request.request_dict) and any(held.id == request.id for held, _ in bucket.contents):
            request.acknowledge()
            return None
        return self._hold(request, bucket, tokens)
