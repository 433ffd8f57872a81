"""What is written into the caller's transaction."""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, cast

from celeriac.calling.access import TaskAccess, process_access
from celeriac.calling.handle import AsyncTaskHandle, ReadResult, TaskHandle
from celeriac.calling.options import NewTask, submission_document, to_json
from celeriac.calling.submittable import Submittable
from celeriac.errors import InvalidSubmissionError, TaskNotFoundError, Violation, WaitTimeoutError
from celeriac.model import Outcome, Status, Task

R = TypeVar("R")
T = TypeVar("T")

#: What the store may answer with another task than the one whose id the caller has by then.
_NOT_HERE: Final = ("once", "debounce", "idempotency_key")

#: The pauses between two looks for a task that was not relayed yet (seconds).
_FIRST_LOOK_S: Final = 0.02
_LAST_LOOK_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """A task that is submitted once the transaction has been committed."""

    #: A UUID of version 7: rows are relayed in the order of their ids.
    task_id: str
    #: What `POST /api/v1/tasks` takes, as JSON.
    submission: str
    #: When it was made (ms since the epoch, by this machine's clock).
    created_ms: int


def entry_of(task: NewTask) -> OutboxEntry:
    """Return the row of a checked submission; raises `InvalidSubmissionError` if an outbox cannot keep its promise."""
    for name in _NOT_HERE:
        if task.get(name) is not None:
            raise InvalidSubmissionError(
                [Violation(name, "is not for an outbox: it may lead to another task, and the id is known before")]
            )
    created_ms = time.time_ns() // 1_000_000
    return OutboxEntry(uuid7(created_ms), to_json(submission_document(task)).decode(), created_ms)


def entry_for_call(
    what: Submittable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], *, user_id: str | None = None
) -> OutboxEntry:
    """Return the row of a call of a task type; raises `TypeError` and `InvalidSubmissionError` as the call does.

    `user_id` is on whose behalf it is, if the options of `what` do not say.
    """
    if not hasattr(what, "new_task"):
        raise TypeError(
            f"submit_in takes a task type of Celeriac, as @celeriac.task returns it, not {type(what).__name__};"
            " a task of Django has enqueue"
        )
    checked = {"user_id": user_id, **what.new_task(tuple(args), kwargs)}
    # It is there without a value too, since it is a part of what a type checks.
    checked = {name: value for name, value in checked.items() if value is not None}
    return entry_of(cast(NewTask, checked))


def handle_of(entry: OutboxEntry, read_result: ReadResult[R]) -> TaskHandle[R]:
    """Return the handle of the task that an entry will be. Its `wait` and `result` wait for the relay too."""
    access = cast(TaskAccess, _Relayed(process_access()))
    return TaskHandle(AsyncTaskHandle(access, entry.task_id, Status.PENDING, read_result))


class _Relayed:
    """A connection for a task that may not be submitted yet."""

    def __init__(self, access: TaskAccess) -> None:
        self._access = access

    def __getattr__(self, name: str) -> Any:
        return getattr(self._access, name)

    async def outcome(self, task_id: str, timeout: float | None) -> Outcome:
        """See `TaskAccess.outcome`."""
        return await after_relay(self._access.outcome, task_id, timeout)

    async def ended(self, task_id: str, timeout: float | None) -> Task:
        """See `TaskAccess.ended`."""
        return await after_relay(self._access.ended, task_id, timeout)


async def after_relay(wait: Callable[[str, float | None], Awaitable[T]], task_id: str, timeout: float | None) -> T:
    """Wait for the end of a task that may not be submitted yet; raises as `wait` does, and `WaitTimeoutError`."""
    began = time.monotonic()
    pause_s = _FIRST_LOOK_S
    while True:
        left = None if timeout is None else max(0.0, timeout - (time.monotonic() - began))
        try:
            return await wait(task_id, left)
        except TaskNotFoundError:
            if left == 0:
                raise WaitTimeoutError(task_id, Status.PENDING, timeout or 0.0) from None
        await asyncio.sleep(pause_s if left is None else min(pause_s, left))
        pause_s = min(2 * pause_s, _LAST_LOOK_S)


class Ids:
    """Makes UUIDs of version 7 (RFC 9562, section 5.7), each above the one before: rows keep the order of the calls."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def new(self, ms: int) -> str:
        """Return an id for a time in milliseconds since the epoch."""
        with self._lock:
            # The time and 74 random bits as one number.
            self._last = max(ms << 74 | secrets.randbits(74), self._last + 1 + secrets.randbits(16))
            high, low = divmod(self._last, 2**62)
        time_and_version = (high >> 12) << 16 | 0x7 << 12 | high & 0xFFF
        return str(uuid.UUID(int=time_and_version << 64 | 0b10 << 62 | low))

    def begin_anew(self) -> None:
        """Forget the last id, and a lock that another thread of the parent process had."""
        self._lock, self._last = threading.Lock(), 0


_IDS: Final = Ids()
# A child process must not go on where its parent does.
os.register_at_fork(after_in_child=_IDS.begin_anew)


def uuid7(ms: int) -> str:
    """Return a new UUID of version 7 for a time in milliseconds since the epoch; a later call returns a greater one."""
    return _IDS.new(ms)


def moment_of(task_id: str) -> datetime | None:
    """Return when an id of `uuid7` was made, to the millisecond; None for any other id."""
    try:
        found = uuid.UUID(task_id)
    except ValueError:
        return None
    if found.version != 7:
        return None
    return datetime.fromtimestamp((found.int >> 80) / 1000, UTC)
