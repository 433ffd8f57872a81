"""A store in memory that holds one task."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from celeriac import json_text
from celeriac.errors import StaleClaimError, StepLimitError
from celeriac.execution.runner import failure_of
from celeriac.handlers.durable import NewChild
from celeriac.handlers.results import encode_result
from celeriac.model import (
    Amendment,
    Awaited,
    AwaitedSignal,
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
    WaitForSignal,
    WaitForTask,
    WaitUntil,
    When,
)
from celeriac.settings import StepSettings


@dataclass(frozen=True, slots=True)
class RecordedEnd:
    """How the attempt ended. The fields are arguments of the methods of `AttemptStore`."""

    status: Status
    result_json: str = "null"
    result_file_path: str = ""
    failure: Failure | None = None
    delay_ms: int | None = None
    waiting_for: tuple[Awaited, ...] = ()


@dataclass(frozen=True, slots=True)
class Others:
    """What the test says of everything outside the task.

    A result may be an exception, which means that the task has failed with it, or a function of the payload.
    """

    #: Values of signals by name: all of them have come when the task asks.
    signals: Mapping[str, Any] = field(default_factory=dict)
    #: Results of children by name. One that is not among them does not end.
    children: Mapping[str, Any] = field(default_factory=dict)
    #: Results of the tasks that this one depends on, by id.
    parents: Mapping[str, Any] = field(default_factory=dict)


class OneTaskStore:
    """An `AttemptStore` in memory: it grants one claim, and decides as the store's scripts (`store/lua`) do.

    No call waits, so that `end` has the end of the attempt in the same step of the loop that reports it. A sleep takes
    no time: its clock goes on.
    """

    def __init__(
        self,
        claim: Claim,
        cancel_when: Callable[[Progress], object] | None,
        others: Others | None = None,
        limits: StepSettings | None = None,
    ) -> None:
        self._claim = claim
        self._others = Others() if others is None else others
        self._limits = StepSettings() if limits is None else limits
        self._steps: dict[str, Noted] = {}
        self._slept_ms = 0
        self._parents = {task_id: parent_of(result, None) for task_id, result in self._others.parents.items()}
        self._signals = {
            name: Noted(number, 0, 0, encode_result(value).decode())
            for number, (name, value) in enumerate(self._others.signals.items(), 1)
        }
        #: The children that the handler has submitted.
        self.children: list[NewChild] = []
        self._cancel_when = cancel_when
        self.cancel_requested = False
        self.progress: list[Progress] = []
        self.log_lines: list[LogLine] = []
        self.end: asyncio.Future[RecordedEnd] = asyncio.get_running_loop().create_future()

    async def claim(self, task_id: str, *, worker: str, edition: int | None = None) -> Claim | Refusal:
        """Grant the claim."""
        return self._claim

    async def parents(self, dependencies: Sequence[Dependency]) -> dict[str, Parent]:
        """Return what the test says of these tasks."""
        return {one.task_id: self._parents[one.task_id] for one in dependencies if one.task_id in self._parents}

    async def spawn(self, claim: Claim, child: NewChild) -> None:
        """Take a child; it ends at once if the test says how."""
        self.children.append(child)
        given = child.node in self._others.children
        self._parents[child.task_id] = (
            parent_of(self._others.children[child.node], child.payload) if given else Parent(Status.PENDING)
        )

    async def kept(self, task_id: str) -> Kept:
        """Return what the handler has done, and the signals that the test gives."""
        return Kept(dict(self._steps), dict(self._signals), self._now_ms())

    async def signals(self, task_id: str, *names: str) -> dict[str, Noted]:
        """Return those of these signals that the test gives."""
        return {name: self._signals[name] for name in names if name in self._signals}

    async def note_step(self, claim: Claim, name: str, value: str, *, took_ms: int = 0) -> tuple[Noted, int]:
        """Keep what the handler has done, within the limits of the settings."""
        if self.end.done():
            raise StaleClaimError(claim.task_id, self.end.result().status)
        now_ms = self._now_ms()
        if name not in self._steps:
            if len(self._steps) >= self._limits.most:
                raise StepLimitError(f"the task has kept {self._limits.most} steps, which is the limit (steps.most)")
            kept_bytes = sum(len(kept) + len(one.value) for kept, one in self._steps.items()) + len(name) + len(value)
            if kept_bytes > self._limits.max_task_bytes:
                limit = self._limits.max_task_bytes
                raise StepLimitError(f"the steps of the task are above {limit} bytes (steps.max_task_bytes)")
            if name.startswith("sleep:"):
                value = value or str(now_ms + took_ms)
            self._steps[name] = Noted(len(self._steps) + 1, now_ms - took_ms, now_ms, value)
        return self._steps[name], now_ms

    async def suspend(self, claim: Claim, waits: Sequence[Wait]) -> Status | None:
        """Let the time pass until all is there, and the attempt go on; it stays WAITING if something does not come."""
        if self.cancel_requested:
            await self.settle_cancelled(claim)
            return Status.CANCELLED
        open_items: list[Awaited] = []
        for wait in waits:
            match wait:
                case WaitUntil():
                    self._let_pass(wait.until_ms)
                case WaitForTask() if not self._parents[wait.task].status.final:
                    open_items.append(Dependency(wait.task, When.ENDED))
                case WaitForSignal():
                    if wait.dropped is not None:
                        self._signals.pop(wait.signal, None)
                    if wait.signal in self._signals:
                        continue
                    if wait.timeout_ms is None:
                        schema = None if wait.schema is None else json_text.read(wait.schema)
                        open_items.append(AwaitedSignal(wait.signal, wait.title, schema))
                    else:
                        self._let_pass(self._now_ms() + wait.timeout_ms)
                        self._steps[f"wait:{wait.wait}"] = Noted(len(self._steps) + 1, 0, 0, "")
        if not open_items:
            return None
        self._settle(RecordedEnd(Status.WAITING, waiting_for=tuple(open_items)))
        return Status.WAITING

    def _now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self._slept_ms

    def _let_pass(self, until_ms: int) -> None:
        self._slept_ms += max(0, until_ms - self._now_ms())

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

    async def complete(
        self, claim: Claim, result_json: str, result_file_path: str = "", celery_state: bytes = b""
    ) -> None:
        """End the attempt with its result, even if a user asked to cancel it: that came too late."""
        del celery_state
        self._settle(RecordedEnd(Status.COMPLETED, result_json, result_file_path))

    async def fail(self, claim: Claim, failure: Failure, delay_ms: int, *, untold: bool = False) -> Status:
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

    async def await_replacement(self, claim: Claim, name: str) -> Status | None:
        """End the attempt as waiting for what replaced its task."""
        self._settle(RecordedEnd(Status.SCHEDULED))
        return Status.SCHEDULED

    async def settle_cancelled(self, claim: Claim, message: str = "cancelled while it ran") -> bool:
        """End the attempt as cancelled."""
        self._settle(RecordedEnd(Status.CANCELLED, failure=Failure("cancelled", message, False)))
        return True

    async def release(self, claim: Claim) -> Status:
        """End the attempt as given back."""
        self._settle(RecordedEnd(Status.PENDING))
        return Status.PENDING

    async def rate_limited(self, claim: Claim, retry_after_s: float) -> Status:
        """End the attempt as given back until then, or as cancelled if a user asked for that."""
        if self.cancel_requested:
            await self.settle_cancelled(claim)
        else:
            self._settle(RecordedEnd(Status.PENDING, delay_ms=round(retry_after_s * 1000)))
        return self.end.result().status

    def _settle(self, end: RecordedEnd) -> None:
        if self.end.done():
            raise StaleClaimError(self._claim.task_id, self.end.result().status)
        self.end.set_result(end)


def parent_of(result: Any, payload: Any) -> Parent:
    """Return a task with this result, which may be an exception or a function of the payload."""
    if callable(result) and not isinstance(result, BaseException):
        try:
            result = result(payload)
        except Exception as exc:
            result = exc
    if isinstance(result, BaseException):
        return Parent(Status.FAILED, error=failure_of(result))
    return Parent(Status.COMPLETED, json_text.read(encode_result(result).decode()))
