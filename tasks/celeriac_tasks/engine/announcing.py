"""What a worker tells of its code: to front doors the types that it runs, to beats the schedules of its types."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any

from celeriac.store.code import RENEW_S, note_code, note_of
from celeriac.store.roles.role import Role
from celeriac.store.task_store import TaskStore
from celeriac.tasks.key_source import KeySource, PayloadPath
from celeriac.tasks.parameters import module_of
from celeriac.tasks.task_type import TaskType
from celeriac.tasks.types.celery_call import CELERY_ARGUMENTS

log = logging.getLogger(__name__)


def type_facts(task_type: TaskType) -> dict[str, Any]:
    """Return what front doors need of a type that they do not have themselves."""
    return {
        "schema": task_type.json_schema(),
        "group": task_type.group,
        "description": task_type.description,
        "max_retries": task_type.retry.max_retries,
        "timeout_s": task_type.timeout_s,
        "retention_s": task_type.retention_s,
        **_key_facts(task_type.key),
        **({} if task_type.title_template is None else {"title": task_type.title_template.announced()}),
        **({"once": once} if task_type.once is not None and (once := task_type.once.announced()) else {}),
    }


def celery_facts(app: Any, task: Any) -> dict[str, Any]:
    """Return the same of a plain Celery task, whose payload is `{"args": [...], "kwargs": {...}}`."""
    try:
        queue = app.amqp.router.route({}, task.name).get("queue")
        group = str(getattr(queue, "name", queue) or app.conf.task_default_queue)
    except Exception as exc:  # a router is code of the project
        log.debug("the queue of the task %s is not known: %s", task.name, exc)
        group = str(app.conf.task_default_queue)
    return {
        "celery": True,
        "schema": CELERY_ARGUMENTS.json_schema(),
        "group": group,
        "description": inspect.getdoc(task.run) or "",
        # A project may set anything.
        "max_retries": task.max_retries if type(task.max_retries) is int else None,
        "timeout_s": task.time_limit if isinstance(task.time_limit, int | float) else None,
        "retention_s": None,
        **_key_facts(getattr(task, "key_source", None)),
    }


def _key_facts(source: KeySource | None) -> dict[str, Any]:
    """Return where front doors read the keys of a type's tasks; a function is in this process alone."""
    return {"key": source.announced()} if isinstance(source, PayloadPath) else {}


def _schedule_facts(task_type: TaskType) -> dict[str, Any]:
    assert task_type.handler is not None
    return {
        "facts": type_facts(task_type),
        "place": f"{module_of(task_type.handler)}.{task_type.handler.__qualname__}",
        "schedules": [
            {
                "name": one.name,
                "payload": one.payload,
                "fields": dict(one.fields),
                **({} if one.key is None else {"key": one.key}),
            }
            for one in task_type.schedules
        ],
    }


class CodeAnnouncer(Role):
    """Announces the types of a worker, and which version of the code it runs; again from time to time."""

    def __init__(self, *, store: TaskStore, app: Any, noted: Callable[[], object]) -> None:
        """`noted` is called when the version is known to the store for the first time."""
        super().__init__()
        self._store = store
        self._noted = noted
        self._types = [known for known in app.celeriac_registry if known.handler is not None]
        names_of_types = {known.name for known in self._types}
        names = {*app.tasks, *names_of_types}
        scheduled = {known.name: _schedule_facts(known) for known in self._types if known.schedules}
        self._facts = {
            task.name: celery_facts(app, task)
            for task in app.tasks.values()
            if task.name not in names_of_types and not task.name.startswith("celery.")
        } | {known.name: type_facts(known) for known in self._types}
        self._note, self._digest = note_of(names, scheduled)
        self._since_ms = 0

    @property
    def facts(self) -> dict[str, str]:
        """What the worker's presence says of its code."""
        return {"code": self._digest, "code_ms": str(self._since_ms)} if self._since_ms else {}

    async def step(self) -> float:
        """Write both; the server may have lost them."""
        await self._store.announce_types(self._facts)
        now_ms = await note_code(self._store, self._note, self._digest)
        if not self._since_ms:
            self._since_ms = now_ms
            self._noted()
        return RENEW_S
