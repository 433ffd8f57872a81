"""The part of the life cycle that running an attempt needs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from celeriac.model import (
    Amendment,
    Claim,
    Dependency,
    Failure,
    Kept,
    LogLine,
    Noted,
    Parent,
    Progress,
    Refusal,
    Status,
    Wait,
)


class AttemptStore(Protocol):
    """The transitions of one attempt. `TaskStore` is the implementation, and describes them."""

    async def claim(self, task_id: str, *, worker: str, edition: int | None = None) -> Claim | Refusal:
        """Claim a waiting task for its next attempt, if its message is still of this edition."""
        ...

    async def parents(self, dependencies: Sequence[Dependency]) -> dict[str, Parent]:
        """Return the tasks that this one depends on, by id."""
        ...

    def report(self, claim: Claim, seq: int, progress: Progress) -> asyncio.Future[str]:
        """Send a progress report; the future gets `ok`, `cancel` (a cancel was asked for) or `stale:STATUS`."""
        ...

    def log(self, claim: Claim, seq: int, line: LogLine) -> asyncio.Future[str]:
        """Send a line of the task's log; the future gets `ok` or `stale:STATUS`."""
        ...

    async def complete(
        self, claim: Claim, result_json: str, result_file_path: str = "", celery_state: bytes = b""
    ) -> None:
        """End the attempt with its result, and with what Celery's result backend keeps of that."""
        ...

    async def fail(self, claim: Claim, failure: Failure, delay_ms: int, *, untold: bool = False) -> Status:
        """End the attempt as failed; returns the task's new status. `untold`: Celery does not know yet."""
        ...

    async def kept(self, task_id: str) -> Kept:
        """Return all that the task keeps: steps, sleeps, children, and signals."""
        ...

    async def signals(self, task_id: str, *names: str) -> dict[str, Noted]:
        """Return those signals of these names that the task has received."""
        ...

    async def note_step(self, claim: Claim, name: str, value: str, *, took_ms: int = 0) -> tuple[Noted, int]:
        """Keep what the attempt has done; returns what is kept, and the store's time (ms)."""
        ...

    async def suspend(self, claim: Claim, waits: Sequence[Wait]) -> Status | None:
        """Suspend the attempt; None: all that it waits for is there, and it still runs."""
        ...

    async def amend(self, claim: Claim, amendment: Amendment) -> None:
        """Change what later attempts get."""
        ...

    async def await_replacement(self, claim: Claim, name: str) -> Status | None:
        """End an attempt that has put `name` in the place of its task."""
        ...

    async def settle_cancelled(self, claim: Claim, message: str = ...) -> bool:
        """End the attempt as cancelled; returns whether it had not ended like that before."""
        ...

    async def release(self, claim: Claim) -> Status:
        """Give the task back; the attempt does not count."""
        ...

    async def rate_limited(self, claim: Claim, retry_after_s: float) -> Status:
        """Give the task back, and close its key or its group for that long; the attempt does not count."""
        ...
