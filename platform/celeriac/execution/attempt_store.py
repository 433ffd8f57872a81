"""The part of the life cycle that running an attempt needs."""

from __future__ import annotations

import asyncio
from typing import Protocol

from celeriac.model import Amendment, Claim, Failure, LogLine, Progress, Refusal, Status


class AttemptStore(Protocol):
    """The transitions of one attempt. `TaskStore` is the implementation, and describes them."""

    async def claim(self, task_id: str, *, worker: str) -> Claim | Refusal:
        """Claim a waiting task for its next attempt."""
        ...

    def report(self, claim: Claim, seq: int, progress: Progress) -> asyncio.Future[str]:
        """Send a progress report; the future gets `ok`, `cancel` (a cancel was asked for) or `stale:STATUS`."""
        ...

    def log(self, claim: Claim, seq: int, line: LogLine) -> asyncio.Future[str]:
        """Send a line of the task's log; the future gets `ok` or `stale:STATUS`."""
        ...

    async def complete(self, claim: Claim, result_json: str, result_file_path: str = "") -> None:
        """End the attempt with its result."""
        ...

    async def fail(self, claim: Claim, failure: Failure, delay_ms: int) -> Status:
        """End the attempt as failed; returns the task's new status."""
        ...

    async def amend(self, claim: Claim, amendment: Amendment) -> None:
        """Change what later attempts get."""
        ...

    async def settle_cancelled(self, claim: Claim, message: str = ...) -> None:
        """End the attempt as cancelled."""
        ...

    async def release(self, claim: Claim) -> Status:
        """Give the task back; the attempt does not count."""
        ...
