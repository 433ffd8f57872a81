"""A message of a task that this worker's app does not know stays for workers of other apps.

Celery drops such a message and calls the task failed. Here the record waits on, and the sweep sends its message again
after a pause that doubles. The log says which type it is, and so does `celeriac doctor`.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from celery import bootsteps

from celeriac.errors import StoreUnavailableError
from celeriac_tasks.engine.calls import messages
from celeriac_tasks.engine.ownership import app_name
from celeriac_tasks.engine.runtime import running_runtime

log = logging.getLogger(__name__)

#: How often one type in one group is noted (seconds), and how many of them are remembered for that. It is logged once.
_AGAIN_S: Final = 60.0
_MOST_TYPES: Final = 100


class UnknownTasks(bootsteps.Step):
    """Leaves messages with records to other workers; all others are Celery's."""

    requires = ("celery.worker.consumer:Tasks",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        self._consumer = consumer
        self._as_celery = consumer.on_unknown_task
        self._noted: dict[tuple[str, str], float] = {}
        consumer.on_unknown_task = self._on_unknown_task

    def _on_unknown_task(self, body: Any, message: Any, exc: Any) -> None:
        headers = message.headers or {}
        if not messages.has_record(headers):
            self._as_celery(body, message, exc)
            return
        message.ack_log_error(log, self._consumer.connection_errors)
        task_type, group = str(headers.get("task")), str((message.delivery_info or {}).get("routing_key"))
        now, before = time.monotonic(), self._noted.get((task_type, group))
        if before is not None and now - before < _AGAIN_S:
            return
        if len(self._noted) >= _MOST_TYPES:
            self._noted.clear()
        self._noted[task_type, group] = now
        log.log(
            logging.DEBUG if before else logging.WARNING,
            "the app %s does not know the task %s in %s: it waits for another worker. Import its module here, or start"
            " a worker of its app for this queue",
            app_name(self._consumer.app),
            task_type,
            group,
        )
        if (runtime := running_runtime()) is not None:
            runtime.spawn(_note(runtime.store, task_type, group))


async def _note(store: Any, task_type: str, group: str) -> None:
    try:
        await store.note_unknown(task_type, group)
    except StoreUnavailableError as exc:
        log.debug("the unknown task %s was not noted: %s", task_type, exc)
