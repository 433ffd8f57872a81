"""Submits remote tasks and waits for their ends, for every route that does so."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from starlette.types import Receive

from celeriac import json_text
from celeriac.errors import CeleriacError, JsonError
from celeriac.model import RemoteOrders, Status, Submission, Submitted
from celeriac.settings import Settings
from celeriac.store.watching.replies import CallEnd, Delta, Replies, Waiter
from celeriac.tasks.service import Tasks
from celeriac.tasks.submission import remote_submission
from celeriac_api.dispatch.requests import InvalidCallError
from celeriac_api.gateway.gateway import Gateway

log = logging.getLogger(__name__)

#: The end of a task whose record is gone.
_VANISHED: Final = CallEnd(Status.FAILED, "task_not_found", "Task not found or expired")


class CallerGoneError(Exception):
    """The caller disconnected while it waited."""


class RemoteCalls:
    """Turns calls into remote tasks. Any number of them wait on one subscription."""

    def __init__(self, *, tasks: Tasks, gateway: Gateway, replies: Replies, settings: Settings) -> None:
        self.settings = settings
        self._tasks = tasks
        self._gateway = gateway
        self._replies = replies
        self._cancels: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        """Wait until started cancellations arrive. Idempotent."""
        if self._cancels:
            await asyncio.wait(self._cancels, timeout=3)

    def submission(
        self,
        payload: Mapping[str, Any],
        *,
        group: str,
        timeout_ms: int,
        priority: int = 0,
        max_retries: int = 0,
        user_id: str | None = None,
        key: str | None = None,
        cost: int | None = None,
        waits: bool = True,
    ) -> Submission:
        """Return the submission of a call. The payload begins with its `model`.

        Raises `InvalidCallError` for nesting that is too deep, and `PayloadTooLargeError`.
        """
        try:
            text = json_text.write(payload)
        except JsonError as exc:
            raise InvalidCallError(f"Invalid request: {exc}") from exc
        orders = RemoteOrders(
            deadline_in_ms=timeout_ms,
            # What this process sees for itself needs no proof of the store.
            needs_worker=not self._gateway.serves(group),
            quiet=self._gateway.claims_for(group) is not None,
            reply_to=self._replies.channel if waits else None,
        )
        return remote_submission(
            text,
            self.settings,
            group=group,
            orders=orders,
            priority=priority,
            max_retries=max_retries,
            user_id=user_id,
            key=key,
            cost=cost,
        )

    async def submit(self, submission: Submission) -> Submitted:
        """Submit; an idle worker of this process gets it in the same round trip.

        Raises `NoWorkerError`, `QueueFullError`, `KeyFullError`, and the other errors of `TaskStore.submit`.
        """
        quiet = submission.remote is not None and submission.remote.quiet
        claim = self._gateway.claims_for(submission.group) if quiet else None
        return await self._gateway.remote.submit(submission, then=claim)

    @asynccontextmanager
    async def waiting(
        self, submission: Submission, receive: Receive, on_delta: Callable[[Delta], object] | None = None
    ) -> AsyncIterator[Waiter]:
        """Submit, and yield the waiter for the end. If the caller disconnects inside the block, the task is cancelled.

        Then `CallerGoneError` is raised. A refused submission leaves nothing behind.
        """
        task_id = submission.task_id
        waiter = self._replies.expect(task_id, on_delta)
        gone = asyncio.get_running_loop().create_task(_disconnected(receive))
        gone.add_done_callback(lambda _: waiter.outcome.cancel())
        accepted = False
        try:
            await self.submit(submission)
            accepted = True
            yield waiter
        except asyncio.CancelledError:
            if not gone.done():
                raise
            raise CallerGoneError from None
        finally:
            if gone.done() and accepted and self.settings.dispatch.cancel_on_disconnect:
                self._cancel_soon(task_id)
            gone.cancel()
            self._replies.forget(task_id)

    async def outcome(self, submission: Submission, waiter: Waiter) -> CallEnd:
        """Wait for the end, at most until the deadline: then the task fails as timed out."""
        left_ms = submission.remote.deadline_in_ms if submission.remote is not None else None
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if left_ms is None else left_ms / 1000):
                    return await asyncio.shield(waiter.outcome)
            found = await self._gateway.remote.time_out(submission.task_id)
            if isinstance(found, int):
                left_ms = max(found, 1)
            elif found is None:
                return _VANISHED
            else:
                await self._replies.look([submission.task_id])
                return await asyncio.shield(waiter.outcome)

    def _cancel_soon(self, task_id: str) -> None:
        async def cancel() -> None:
            # The task may have ended meanwhile.
            with contextlib.suppress(CeleriacError):
                await self._tasks.cancel(task_id, "the caller hung up")

        task = asyncio.get_running_loop().create_task(cancel())
        self._cancels.add(task)
        task.add_done_callback(self._cancels.discard)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
