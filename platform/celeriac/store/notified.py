"""Tasks that a program runs by itself and reports to the store (see `lua/transitions/notify.lua`)."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from celeriac import json_text
from celeriac.errors import (
    IllegalTransitionError,
    InvalidSubmissionError,
    JsonError,
    QueueFullError,
    TaskNotFoundError,
    TaskTakenError,
    Violation,
)
from celeriac.model import Claim, LeaseState, Status, percentage_of
from celeriac.store import keys
from celeriac.store.task_store import MAX_TEXT, TaskStore, number_text
from celeriac.task_fields import status_of

#: Longest id of a task (characters).
MAX_ID_LENGTH: Final = 255

_WANTED = {"start": "start", "progress": "report on", "complete": "complete", "fail": "fail"}


@dataclass(frozen=True, slots=True)
class Heard:
    """The answer to a report: the task's status, and whether the platform itself runs the task."""

    status: Status
    platform: bool = False


class NotifiedTasks:
    """The reports of one process. `holder` is an id that no other process has, `name` is what people read.

    Calls are sent in the order in which they are made.
    """

    def __init__(self, store: TaskStore, *, holder: str, name: str) -> None:
        self._store = store
        self._holder = holder
        self._name = name
        self._seq = itertools.count(1)

    async def register(
        self, task_id: str, *, task_type: str, user_id: str | None, metadata: Mapping[str, Any] | None = None
    ) -> Heard:
        """Make the record, or begin a new run if the task has ended. A task that has not ended stays as it is.

        Raises `TaskTakenError`, `QueueFullError`, `InvalidSubmissionError`.
        """
        return await self._call("register", task_id, *self._facts(task_id, task_type, user_id, metadata))

    async def open(
        self, task_id: str, *, task_type: str, user_id: str | None, metadata: Mapping[str, Any] | None = None
    ) -> Heard:
        """Register and start in one step; raises as `register` does."""
        return await self._call("open", task_id, *self._facts(task_id, task_type, user_id, metadata))

    async def start(self, task_id: str) -> Heard:
        """Report that this process works on it; raises `TaskNotFoundError`, `IllegalTransitionError` after its end."""
        return await self._call("start", task_id)

    async def progress(self, task_id: str, percentage: float, *, step: str = "", message: str = "") -> Heard:
        """Report the percentage that is done (0 to 100); raises as `start` does."""
        done = number_text(percentage_of(percentage))
        return await self._call("progress", task_id, done, step[:MAX_TEXT], message[:MAX_TEXT])

    async def complete(self, task_id: str, result_json: str) -> Heard:
        """End it with a result; raises as `start` does, except if it has already completed."""
        return await self._call("complete", task_id, result_json)

    async def fail(self, task_id: str, *, code: str, message: str) -> Heard:
        """End it as failed; raises as `complete` does."""
        return await self._call("fail", task_id, code[:MAX_ID_LENGTH], message[:MAX_TEXT])

    async def cancel(self, task_id: str, message: str) -> Heard:
        """End it as cancelled; raises as `complete` does."""
        return await self._call("cancel", task_id, message[:MAX_TEXT])

    async def let_go(self, task_id: str) -> None:
        """Give the task up: this process ends in good order, and the work goes on elsewhere."""
        await self._call("let_go", task_id)

    async def renew(self, task_ids: Collection[str]) -> dict[str, LeaseState]:
        """Report that this process is alive; returns the state of each task's lease."""
        claims = [_claim(task_id, self._holder) for task_id in task_ids]
        states = await self._store.renew(self._name, claims)
        return dict(zip(task_ids, states, strict=True))

    def _facts(
        self, task_id: str, task_type: str, user_id: str | None, metadata: Mapping[str, Any] | None
    ) -> tuple[str, ...]:
        _check_id(task_id)
        try:
            facts = json_text.write(dict(metadata), "metadata") if metadata else ""
        except JsonError as exc:
            raise InvalidSubmissionError([Violation(exc.place, exc.problem)]) from exc
        return task_type, self._store.settings.notifications.group, user_id or "", facts

    async def _call(self, verb: str, task_id: str, *values: str) -> Heard:
        padded = [*values, *[""] * (5 - len(values))]
        reply = await self._store.call("notify", verb, task_id, self._holder, next(self._seq), self._name, *padded)
        match reply:
            case ["ok", status]:
                return Heard(status_of(status))
            case ["platform", status]:
                return Heard(status_of(status), platform=True)
            case ["ended", status]:
                raise IllegalTransitionError(task_id, status, _WANTED.get(verb, verb))
            case ["others", status]:
                raise TaskTakenError(task_id, status)
            case ["full", limit]:
                raise QueueFullError(self._store.settings.notifications.group, int(limit))
        raise TaskNotFoundError(task_id)


def _check_id(task_id: str) -> None:
    if not 0 < len(task_id) <= MAX_ID_LENGTH or not task_id.isprintable():
        message = f"must be 1 to {MAX_ID_LENGTH} printable characters"
        raise InvalidSubmissionError([Violation("task_id", message)])
    if keys.record_of_nobody(task_id):
        raise InvalidSubmissionError([Violation("task_id", f"{task_id!r} is reserved")])


def _claim(task_id: str, fence: str) -> Claim:
    return Claim(
        task_id=task_id, fence=fence, type="", group="", payload="", attempt=0, max_retries=0, attempts_allowed=0,
        user_id=None, metadata={},
    )  # fmt: skip
