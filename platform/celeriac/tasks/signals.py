"""Signals as callers send them: who may, which values fit, and what a caller can answer."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from celeriac import json_text
from celeriac.access.principal import LOCAL, Principal
from celeriac.errors import (
    InvalidSubmissionError,
    SignalReceivedError,
    TaskEndedError,
    TaskNotFoundError,
    Violation,
)
from celeriac.model import AwaitedSignal, utc_from_ms
from celeriac.signals.records import Wait
from celeriac.signals.schemas import misfits

if TYPE_CHECKING:
    from celeriac.store.task_store import TaskStore
    from celeriac.tasks.timeline import Timeline

_NO_CURSOR: Final = "is not a cursor; use the `next_cursor` of a page unchanged"


class Signals:
    """The signals of all tasks. Every method raises `StoreUnavailableError` while the store is away."""

    def __init__(self, store: TaskStore, timeline: Timeline) -> None:
        self._store = store
        self._timeline = timeline

    async def send(
        self, task_id: str, name: str, value: Any, *, caller: Principal = LOCAL, key: str | None = None
    ) -> datetime:
        """Give a task a signal that it waits for, or will wait for; returns when the task received it.

        The first one of a name counts; calls of one `key` are one. Raises `SignalReceivedError` for another one,
        `TaskEndedError`, `InvalidSubmissionError` for a value that does not fit, and `TaskNotFoundError`, also for a
        task that the caller may not signal.
        """
        text = json_text.write(value, "value")
        nonce = None if key is None else _nonce(caller, key)
        try:
            return await self._store.signal(
                task_id, name, text, user_id=caller.confined_to, check=partial(_check, value), nonce=nonce
            )
        except TaskNotFoundError:
            task = (await self._timeline.kept(task_id)).task
            if not caller.sees(task.user_id) or not task.status.final:
                raise
            raise TaskEndedError(task_id, task.status) from None

    async def open_wait(self, task_id: str, name: str) -> Wait | None:
        """Return what a task asks with a signal; None if it does not wait for it yet.

        Raises `SignalReceivedError`, `TaskEndedError` and `TaskNotFoundError` if it will not any more.
        """
        task = await self._store.get(task_id)
        if task.status.final:
            raise TaskEndedError(task_id, task.status)
        # Read after the record: what was answered in between counts as answered.
        received = (await self._store.signals(task_id, name)).get(name)
        if received is not None:
            raise SignalReceivedError(task_id, name, utc_from_ms(received.noted_ms))
        for one in task.waiting_for or ():
            if isinstance(one, AwaitedSignal) and one.signal == name:
                return Wait(task_id, task.type, name, one.title, one.schema, task.updated_at, one.expires_at)
        return None

    async def waits(
        self, *, caller: Principal = LOCAL, limit: int = 50, cursor: str | None = None
    ) -> tuple[list[Wait], str | None]:
        """Return a page of the signals that the caller may send to tasks which wait for them, the oldest wait first.

        Also returns the cursor of the next page, None if this is the last one. Raises `ValueError` for a text that is
        not a cursor.
        """
        after = None if cursor is None else _place(cursor)
        found, following = await self._store.waits(caller.confined_to, after=after, count=limit)
        waits = [
            Wait(one.task_id, one.type, one.signal, one.title, one.schema, one.since, one.expires_at) for one in found
        ]
        return waits, None if following is None else _cursor(following)


def _check(value: Any, schema: Any) -> None:
    if found := misfits(value, schema):
        raise InvalidSubmissionError([Violation(one.field or "value", one.message) for one in found])


def _nonce(caller: Principal, key: str) -> str:
    """Return a text without spaces that no other caller's key has."""
    return "key:" + hashlib.sha256(f"{len(caller.name)}:{caller.name}:{key}".encode()).hexdigest()[:40]


def _cursor(place: tuple[int, str]) -> str:
    return base64.urlsafe_b64encode(json_text.write_bytes(list(place))).rstrip(b"=").decode()


def _place(cursor: str) -> tuple[int, str]:
    try:
        since_ms, member = json_text.read(base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)))
    except (TypeError, ValueError):
        raise ValueError(_NO_CURSOR) from None
    if type(since_ms) is not int or not isinstance(member, str) or abs(since_ms) >= 2**53:
        raise ValueError(_NO_CURSOR)
    return since_ms, member
