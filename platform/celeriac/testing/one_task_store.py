"""A store in memory that holds one task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from celeriac.errors import StaleClaimError
from celeriac.model import Amendment, Claim, Failure, LogLine, Progress, Refusal, Status


@dataclass(frozen=True, slots=True)
class RecordedEnd:
    """How the attempt ended. The fields are arguments of the methods of `AttemptStore`."""

    status: Status
    result_json: str = "null"
    result_file_path: str = ""
    failure: Failure | None = None
    delay_ms: int | None = None


class OneTaskStore:
    """An `AttemptStore` in memory: it grants one claim, and decides as the store's scripts (`store/lua`) do.

    No call waits, so that `end` has the end of the attempt in the same step of the loop that reports it.
    """

    def __init__(self, claim: Claim, cancel_when: Callable[[Progress], object] | None) -> None:
        self._claim = claim
        self._cancel_when = cancel_when
        self.cancel_requested = False
        self.progress: list[Progress] = []
        self.log_lines: list[LogLine] = []
        self.end: asyncio.Future[RecordedEnd] = asyncio.get_running_loop().create_future()

    async def claim(self, task_id: str, *, worker: str) -> Claim | Refusal:
        """Grant the claim."""
        return self._claim

    def report(self, claim: Claim, seq: int, progress: Progress) -> asyncio.Future[str]:
        """Keep a report; answer whether a user asked to cancel the task."""
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        if self.end.done():
            answer.set_result("stale")
            return answer
        self.progress.append(progress)
        try:
            self.cancel_requested = self.cancel_requested or bool(self._cancel_when and self._cancel_when(progress))
            answer.set_result("cancel" if self.cancel_requested else "ok")
        except Exception as exc:  # raised by the test, for example an assertion, and not by the handler
            self.end.set_exception(exc)
            answer.set_result("stale")
        return answer

    def log(self, claim: Claim, seq: int, line: LogLine) -> asyncio.Future[str]:
        """Keep a line of the log."""
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.log_lines.append(line)
        answer.set_result("ok")
        return answer

    async def complete(self, claim: Claim, result_json: str, result_file_path: str = "") -> None:
        """End the attempt with its result, even if a user asked to cancel it: that came too late."""
        self._settle(RecordedEnd(Status.COMPLETED, result_json, result_file_path))

    async def fail(self, claim: Claim, failure: Failure, delay_ms: int) -> Status:
        """End the attempt as failed, or as `RETRYING` if the failure is retryable and attempts are left."""
        if self.cancel_requested:
            await self.settle_cancelled(claim)
        elif failure.retryable and claim.attempt < claim.attempts_allowed:
            self._settle(RecordedEnd(Status.RETRYING, failure=failure, delay_ms=delay_ms))
        else:
            self._settle(RecordedEnd(Status.FAILED, failure=failure))
        return self.end.result().status

    async def amend(self, claim: Claim, amendment: Amendment) -> None:
        """Do nothing: only Celery's own `retry()` changes a task, and here no attempt follows."""

    async def settle_cancelled(self, claim: Claim, message: str = "cancelled while it ran") -> None:
        """End the attempt as cancelled."""
        self._settle(RecordedEnd(Status.CANCELLED, failure=Failure("cancelled", message, False)))

    async def release(self, claim: Claim) -> Status:
        """End the attempt as given back."""
        self._settle(RecordedEnd(Status.PENDING))
        return Status.PENDING

    def _settle(self, end: RecordedEnd) -> None:
        if self.end.done():
            raise StaleClaimError(self._claim.task_id, self.end.result().status)
        self.end.set_result(end)
