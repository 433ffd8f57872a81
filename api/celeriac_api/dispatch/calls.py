"""Submits remote tasks and waits for their ends, for every route that does so."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from starlette.types import Receive, Scope

from celeriac import json_text
from celeriac.errors import CeleriacError, JsonError, PayloadTooLargeError
from celeriac.model import RemoteOrders, Status, Submission
from celeriac.settings import Settings
from celeriac.store.submit_call import heard_for_good
from celeriac.store.watching.replies import CallEnd, Delta, Replies, Waiter
from celeriac.tasks.service import Tasks
from celeriac.tasks.submission import new_task_id, remote_submission
from celeriac_api.dispatch.requests import InvalidCallError
from celeriac_api.gateway.gateway import Gateway
from celeriac_api.http.hangups import at_hangup

log = logging.getLogger(__name__)

#: Kinds of calls that are remembered.
_MOST_KINDS: Final = 1000
#: The end of a task whose record is gone.
_VANISHED: Final = CallEnd(Status.FAILED, "task_not_found", "Task not found or expired")


class CallerGoneError(Exception):
    """The caller disconnected while it waited."""


@dataclass(frozen=True, slots=True)
class CallKind:
    """What many calls have in common: all but the id and the payload."""

    template: Submission
    #: As the store reads it.
    stored: str
    deadline_in_ms: int
    quiet: bool


class Call(NamedTuple):
    """A call; its payload is JSON."""

    kind: CallKind
    task_id: str
    payload: str


class RemoteCalls:
    """Turns calls into remote tasks. Any number of them wait on one subscription."""

    def __init__(self, *, tasks: Tasks, gateway: Gateway, replies: Replies, settings: Settings) -> None:
        self.settings = settings
        self._tasks = tasks
        self._gateway = gateway
        self._replies = replies
        self._kinds: dict[tuple[Any, ...], CallKind] = {}
        self._steps: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        """Wait until started cancellations arrive. Idempotent."""
        if self._steps:
            await asyncio.wait(self._steps, timeout=3)

    def call(
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
    ) -> Call:
        """Return a call with a new id. The payload begins with its `model`.

        Raises `InvalidCallError` for nesting that is too deep, and `PayloadTooLargeError`.
        """
        try:
            text = json_text.write(payload)
        except JsonError as exc:
            raise InvalidCallError(f"Invalid request: {exc}") from exc
        if len(text) > self.settings.max_body_bytes:
            raise PayloadTooLargeError("the payload", len(text), self.settings.max_body_bytes)
        # What this process sees for itself needs no proof of the store.
        needs_worker = not self._gateway.serves(group)
        quiet = self._gateway.claims_for(group) is not None
        facts = (group, timeout_ms, priority, max_retries, user_id, key, cost, waits, needs_worker, quiet)
        kind = self._kinds.get(facts)
        if kind is None:
            if len(self._kinds) >= _MOST_KINDS:
                self._kinds.clear()
            kind = self._kinds[facts] = self._kind(*facts)
        return Call(kind, new_task_id(), text)

    def _kind(
        self,
        group: str,
        timeout_ms: int,
        priority: int,
        max_retries: int,
        user_id: str | None,
        key: str | None,
        cost: int | None,
        waits: bool,
        needs_worker: bool,
        quiet: bool,
    ) -> CallKind:
        template = remote_submission(
            self.settings,
            group=group,
            orders=RemoteOrders(
                deadline_in_ms=timeout_ms,
                needs_worker=needs_worker,
                quiet=quiet,
                reply_to=self._replies.channel if waits else None,
            ),
            priority=priority,
            max_retries=max_retries,
            user_id=user_id,
            key=key,
            cost=cost,
        )
        return CallKind(template, self._gateway.remote.kind_of(template), timeout_ms, quiet)

    async def submit(self, call: Call) -> None:
        """Submit; an idle worker of this process gets it in the same round trip.

        Raises `NoWorkerError`, `QueueFullError`, `KeyFullError`, and the other errors of `TaskStore.submit`.
        """
        kind = call.kind
        claim = self._gateway.claims_for(kind.template.group) if kind.quiet else None
        reply = await self._gateway.remote.submit(call.task_id, call.payload, kind.stored, then=claim)
        if not isinstance(reply, str):
            heard_for_good(replace(kind.template, task_id=call.task_id), reply)

    def begin(self, call: Call, end: Callable[[CallEnd | Exception], None]) -> SoonEnded:
        """Submit a call whose caller waits, and return it; `end` is called once, with how it ended. It must not raise.

        It costs less than `waiting`: it needs neither a task nor a context.
        """
        return SoonEnded(self, call, end)

    def submit_soon(self, call: Call, heard: Callable[[Any], None]) -> None:
        """Submit as `submit` does; `heard` gets what `heard_for_good` reads. It must not raise."""
        kind = call.kind
        claim = self._gateway.claims_for(kind.template.group) if kind.quiet else None
        self._gateway.remote.submit_soon(call.task_id, call.payload, kind.stored, heard, then=claim)

    def end_after(self, call: Call, waiter: Waiter) -> asyncio.TimerHandle:
        """End a call as timed out at its deadline; returns what calls that off."""
        delay_s = call.kind.deadline_in_ms / 1000
        return asyncio.get_running_loop().call_later(delay_s, self._end_soon, call.task_id, waiter)

    def waiting(
        self,
        call: Call,
        scope: Scope,
        receive: Receive,
        on_delta: Callable[[Delta], object] | None = None,
    ) -> WaitingCall:
        """Return the call as a context: entering it submits, and it has the waiter for the end.

        If the caller hangs up inside the block, the task is cancelled and `CallerGoneError` is raised. A refused
        submission leaves nothing behind.
        """
        return WaitingCall(self, call, scope, receive, on_delta)

    async def outcome(self, call: Call, waiter: Waiter) -> CallEnd:
        """Wait for the end, at most until the deadline: then the task fails as timed out."""
        timer = self.end_after(call, waiter)
        try:
            return await waiter.outcome
        finally:
            timer.cancel()

    def _end_soon(self, task_id: str, waiter: Waiter) -> None:
        self._spawn(self._end(task_id, waiter))

    async def _end(self, task_id: str, waiter: Waiter) -> None:
        """End a task whose time is over by the clock of the store, and tell its waiter."""
        try:
            while not waiter.outcome.done():
                found = await self._gateway.remote.time_out(task_id)
                if isinstance(found, int):
                    await asyncio.wait([waiter.outcome], timeout=max(found, 1) / 1000)
                elif found is None:
                    self._replies.settle(task_id, _VANISHED)
                    return
                else:
                    await self._replies.look([task_id])
                    return
        except Exception as exc:
            if not waiter.outcome.done():
                waiter.outcome.set_exception(exc)

    def expect(self, task_id: str, on_delta: Callable[[Delta], object] | None) -> Waiter:
        """Return a waiter for a task that is about to be submitted; `forget` it afterwards."""
        return self._replies.expect(task_id, on_delta)

    def forget(self, task_id: str, *, hung_up: bool) -> None:
        """Stop waiting. `hung_up`: the caller has, and the task was accepted."""
        self._replies.forget(task_id)
        if hung_up and self.settings.dispatch.cancel_on_disconnect:
            self._cancel_soon(task_id)

    def _cancel_soon(self, task_id: str) -> None:
        async def cancel() -> None:
            # The task may have ended meanwhile.
            with contextlib.suppress(CeleriacError):
                await self._tasks.cancel(task_id, "the caller hung up")

        self._spawn(cancel())

    def _spawn(self, step: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(step)
        self._steps.add(task)
        task.add_done_callback(self._steps.discard)


class WaitingCall:
    """A call whose caller waits (see `RemoteCalls.waiting`)."""

    __slots__ = (
        "_accepted",
        "_call",
        "_call_off",
        "_calls",
        "_gone",
        "_on_delta",
        "_receive",
        "_scope",
        "_waiter",
    )

    def __init__(
        self,
        calls: RemoteCalls,
        call: Call,
        scope: Scope,
        receive: Receive,
        on_delta: Callable[[Delta], object] | None,
    ) -> None:
        self._calls = calls
        self._call = call
        self._scope = scope
        self._receive = receive
        self._on_delta = on_delta
        self._accepted = self._gone = False

    async def __aenter__(self) -> Waiter:
        """Submit; returns the waiter."""
        self._waiter = self._calls.expect(self._call.task_id, self._on_delta)
        self._call_off = at_hangup(self._scope, self._receive, self._hang_up)
        try:
            await self._calls.submit(self._call)
        except BaseException:
            self._leave()
            raise
        self._accepted = True
        return self._waiter

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Stop waiting; raises `CallerGoneError` if that is why the block was left."""
        self._leave()
        if self._gone and kind is not None and issubclass(kind, asyncio.CancelledError):
            raise CallerGoneError from None

    def _hang_up(self) -> None:
        self._gone = True
        self._waiter.outcome.cancel()

    def _leave(self) -> None:
        self._call_off()
        self._calls.forget(self._call.task_id, hung_up=self._gone and self._accepted)


class SoonEnded:
    """A call whose end a function hears (see `RemoteCalls.begin`)."""

    __slots__ = ("_accepted", "_call", "_calls", "_end", "_gone", "_timer", "_waiter")

    def __init__(self, calls: RemoteCalls, call: Call, end: Callable[[CallEnd | Exception], None]) -> None:
        self._calls = calls
        self._call = call
        self._end: Callable[[CallEnd | Exception], None] | None = end
        self._accepted = self._gone = False
        self._waiter = calls.expect(call.task_id, None)
        self._timer = calls.end_after(call, self._waiter)
        self._waiter.outcome.add_done_callback(self._heard_end)
        calls.submit_soon(call, self._heard_answer)

    def hang_up(self) -> None:
        """The caller has hung up: cancel the task."""
        self._gone = True
        if self._accepted:
            self._finish(CallerGoneError())

    def _heard_answer(self, reply: Any) -> None:
        if not isinstance(reply, str):
            try:
                heard_for_good(replace(self._call.kind.template, task_id=self._call.task_id), reply)
            except Exception as exc:
                self._finish(exc)
                return
        self._accepted = True
        if self._gone:
            self._finish(CallerGoneError())

    def _heard_end(self, outcome: asyncio.Future[CallEnd]) -> None:
        if outcome.cancelled():
            return
        error = outcome.exception()
        self._finish(error if isinstance(error, Exception) else outcome.result())

    def _finish(self, outcome: CallEnd | Exception) -> None:
        end, self._end = self._end, None
        if end is None:
            return
        self._timer.cancel()
        self._waiter.outcome.cancel()
        self._calls.forget(self._call.task_id, hung_up=self._gone and self._accepted)
        end(outcome)
