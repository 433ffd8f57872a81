"""Hooks of our transport (`submit` in its options): what becomes of a message that Celery publishes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celeriac_tasks.engine import messages
from celeriac_tasks.engine.base import CeleriacTask

if TYPE_CHECKING:
    from celeriac_tasks.engine.app import CeleriacApp


class PublishedCalls:
    """Submits a published message if it calls one of our tasks."""

    def __init__(self, app: CeleriacApp) -> None:
        self._app = app

    def __call__(self, queue: str, message: dict[str, Any]) -> bool:
        """Submit the message; returns False for messages without a record: replies, events, other apps' tasks."""
        headers = message.get("headers") or {}
        if not headers.get("id") or messages.has_record(headers):
            return False
        if not isinstance(self._app.tasks.get(headers.get("task")), CeleriacTask):
            return False
        self._app.record(messages.call_of_envelope(message), queue=queue)
        return True

    def purge(self, queue: str) -> int:
        """Cancel what waits in the group of a queue (`celery purge`, `worker --purge`); returns how many tasks."""
        return self._app.records.cancel_waiting(queue, "purged")

    def __json__(self) -> str:
        """Return a name, because workers show their transport options to operators as JSON."""
        return "celeriac"


class CollectedCalls:
    """Keeps a published call for the thread that publishes it, instead of sending it."""

    def __init__(self) -> None:
        self._calls: dict[str, tuple[str, messages.PublishedCall]] = {}

    def __call__(self, queue: str, message: dict[str, Any]) -> bool:
        """Keep the message; returns False for what is not a call of a task, such as an event."""
        task_id = (message.get("headers") or {}).get("id")
        if not task_id:
            return False
        self._calls[task_id] = (queue, messages.call_of_envelope(message))
        return True

    def purge(self, queue: str) -> int:
        """Do nothing: it holds only calls that are being published."""
        return 0

    def take(self, task_id: str) -> tuple[str, messages.PublishedCall]:
        """Return the queue of the task's call and the call itself, and forget them."""
        return self._calls.pop(task_id)
