"""`CeleriacBackend`: Django's tasks run as tasks of Celeriac.

    TASKS = {
        "default": {
            "BACKEND": "celeriac.contrib.django.CeleriacBackend",
            "OPTIONS": {"enqueue": "on_commit", "database": "default"},
        }
    }

`enqueue` says when a task is submitted: `now`; `on_commit`, after the transaction (now, if there is none); or `outbox`,
by a row in the transaction, which is never lost and never doubled. The id is known at once with each of them, and tells
when the task was enqueued.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.core import checks
from django.db import DEFAULT_DB_ALIAS, transaction
from django.utils import timezone

from celeriac.calling.blocking import awaited, block_on
from celeriac.calling.options import NewTask
from celeriac.connection.process import process_connection
from celeriac.contrib.django import outbox
from celeriac.contrib.django.checking import MODES, backend_findings
from celeriac.contrib.django.interface import BaseTaskBackend, TaskResultDoesNotExist, normalize_json, task_enqueued
from celeriac.contrib.django.results import new_result, priority_of, result_of_record, result_of_submission
from celeriac.contrib.django.running import register
from celeriac.contrib.django.users import current_user_id
from celeriac.errors import SettingsError, TaskNotFoundError
from celeriac.model import LogLine
from celeriac.model import Task as Record
from celeriac.outbox.entries import entry_of

T = TypeVar("T")


class CeleriacBackend(BaseTaskBackend):
    """Django's interface to Celeriac."""

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self.mode: str = self.options.get("enqueue", MODES[0])
        self.database: str = self.options.get("database", DEFAULT_DB_ALIAS)

    def validate_task(self, task: Any) -> None:
        """Check a task as every backend does, and make it known to workers."""
        super().validate_task(task)
        register(task)

    def enqueue(self, task: Any, args: Iterable[Any], kwargs: dict[str, Any]) -> Any:
        """Submit a task; returns its result, whose id is final. Raises what Celeriac raises for a refused one."""
        self.validate_task(task)
        new = _submission(task, args, kwargs)
        if self.mode == "outbox":
            entry = entry_of(new)
            outbox.write(entry, self.database)
            result = new_result(task, entry.task_id, args, kwargs)
        elif self.mode == "on_commit" and transaction.get_connection(self.database).in_atomic_block:
            self._check_that_ids_are_taken()
            result = new_result(task, entry_of(new).task_id, args, kwargs)
            # Receivers are told of a task only if it is there.
            transaction.on_commit(partial(self._submit_and_tell, new, result), using=self.database)
            return result
        else:
            result = new_result(task, _block(_submitted, new), args, kwargs)
        self._tell(result)
        return result

    def _submit_and_tell(self, new: NewTask, result: Any) -> None:
        _block(process_connection.submit_as, result.id, new)
        self._tell(result)

    def _check_that_ids_are_taken(self) -> None:
        # Before the transaction ends: after it, the task would be lost.
        if not process_connection.takes_ids():
            raise SettingsError(
                f"TASKS[{self.alias!r}] enqueues on commit, and CELERIAC_URL leads to an API, which chooses the ids of"
                " tasks only then: set OPTIONS['enqueue'] to 'outbox', or to 'now', or set REDIS_URL instead of"
                " CELERIAC_URL"
            )

    async def aenqueue(self, task: Any, args: Iterable[Any], kwargs: dict[str, Any]) -> Any:
        """Do the same, for asyncio."""
        if self.mode != "now":
            # The transaction is that of the thread of synchronous code.
            return await sync_to_async(self.enqueue, thread_sensitive=True)(task, args, kwargs)
        self.validate_task(task)
        new = _submission(task, args, kwargs)
        result = new_result(task, await awaited(_submitted(new)), args, kwargs)
        await sync_to_async(self._tell, thread_sensitive=True)(result)
        return result

    def get_result(self, result_id: str) -> Any:
        """Return what has become of a task; raises `TaskResultDoesNotExist`."""
        try:
            return self._found(result_id)
        except TaskNotFoundError:
            row = outbox.find(result_id, self.database) if self.mode == "outbox" else None
        if row is not None:
            return result_of_submission(result_id, outbox.submission_of(row), self.alias)
        try:
            # It may have been relayed between the two looks.
            return self._found(result_id)
        except TaskNotFoundError as exc:
            raise TaskResultDoesNotExist(result_id) from exc

    def _found(self, result_id: str) -> Any:
        record, lines = _block(_read, result_id)
        return result_of_record(record, self.alias, lines)

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        """Return what is wrong with the options."""
        return backend_findings(self)

    def _tell(self, result: Any) -> None:
        task_enqueued.send_robust(type(self), task_result=result)


def _submission(task: Any, args: Iterable[Any], kwargs: dict[str, Any]) -> NewTask:
    new: NewTask = {
        "type": task.module_path,
        "payload": {"args": normalize_json(list(args)), "kwargs": normalize_json(kwargs)},
        "queue": task.queue_name,
        "priority": priority_of(task.priority),
    }
    if (user_id := current_user_id()) is not None:
        new["user_id"] = user_id
    if task.run_after is not None:
        moment = task.run_after
        new["run_at"] = moment if timezone.is_aware(moment) else timezone.make_aware(moment)
    return new


async def _submitted(new: NewTask) -> str:
    """Submit a task now; returns its id."""
    if process_connection.takes_ids():
        return (await process_connection.submit_as(entry_of(new).task_id, new))[0]
    return (await process_connection.submit(new))[0]


async def _read(task_id: str) -> tuple[Record, list[LogLine]]:
    record = await process_connection.get(task_id)
    if record.error is None:
        return record, []
    return record, [line async for line in process_connection.log(task_id, "warning")]


def _block(work: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
    # `instead` is left out: Django itself refuses what would block an event loop (`async_unsafe`), and its own async
    # views call this in a thread.
    return block_on(work(*args))
