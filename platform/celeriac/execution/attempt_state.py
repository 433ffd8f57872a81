"""The states of one attempt, the same for a handler in a worker process and for a remote worker.

    claimed ──▶ running ──▶ stopping ──▶ ended
       └───────────┴───────────┴───────────▲

An attempt ends once. What the handler or the remote worker says ends it, unless it was asked to stop and something else
was faster. Nothing here knows a store or a wire: the owner is called back when there is something to say to either.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, Protocol


class State(StrEnum):
    """Where an attempt is."""

    CLAIMED = "claimed"  #: its lease is held, and the code has not begun
    RUNNING = "running"  #: the handler or the remote worker has it in hand
    STOPPING = "stopping"  #: the code was asked to stop
    ENDED = "ended"  #: it is decided how the attempt ends; nothing said later counts


class StopReason(StrEnum):
    """Why the code of an attempt should stop."""

    CANCEL = "cancel"  #: somebody asked to cancel the task
    TIMEOUT = "timeout"  #: the time limit has passed
    LOST = "lost"  #: the claim is no longer this process's
    SHUTDOWN = "shutdown"  #: this process ends
    VANISHED = "vanished"  #: the remote worker is gone


class End(StrEnum):
    """How an attempt ends: what the record gets."""

    RESULT = "result"
    FAILURE = "failure"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed out"
    SUSPENDED = "suspended"  #: it goes on, as the same attempt, when all that it waits for is there
    REPLACED = "replaced"  #: other tasks take the place of this one, and the last of them will have its record
    GIVEN_BACK = "given back"  #: the attempt does not count
    ABANDONED = "abandoned"  #: the attempt counts, and the store decides whether another one follows
    LOST = "lost"  #: the record belongs to another claim: nothing is written


#: How an attempt ends whose code does not end it by itself.
_END_OF: Final = {
    StopReason.CANCEL: End.CANCELLED,
    StopReason.TIMEOUT: End.TIMED_OUT,
    StopReason.LOST: End.LOST,
    StopReason.SHUTDOWN: End.GIVEN_BACK,
    StopReason.VANISHED: End.ABANDONED,
}
#: The ends that the code itself may bring about.
_BY_THE_CODE: Final = frozenset({End.RESULT, End.FAILURE, End.SUSPENDED, End.REPLACED, End.GIVEN_BACK})


class Timer(Protocol):
    """A call that may still be called off."""

    def cancel(self) -> object:
        """Call it off. Idempotent."""
        ...


#: Calls a function with its arguments after so many seconds: the loop's, or that of a test's clock.
CallLater = Callable[..., Timer]


class AttemptState:
    """Decides what may happen to one attempt. It belongs to one event loop; only `run` may be called by other threads.

    `on_stop` is called once, with the first reason to stop. `on_overdue` is called when the code has not let go
    `grace_s` after that.
    """

    __slots__ = (
        *("_call_later", "_grace_s", "_has_run", "_let_go", "_on_overdue", "_on_stop", "_timer"),
        *("end", "reason"),
    )

    def __init__(
        self,
        *,
        call_later: CallLater,
        grace_s: float,
        on_stop: Callable[[StopReason], object],
        on_overdue: Callable[[], object],
    ) -> None:
        #: The first reason to stop; None while there is none.
        self.reason: StopReason | None = None
        #: How it ends; None until that is decided.
        self.end: End | None = None
        self._call_later = call_later
        self._grace_s = grace_s
        self._on_stop = on_stop
        self._on_overdue = on_overdue
        self._timer: Timer | None = None
        self._has_run = False
        self._let_go = False

    @property
    def state(self) -> State:
        """Where it is."""
        if self.end is not None:
            return State.ENDED
        if self.reason is not None:
            return State.STOPPING
        return State.RUNNING if self._has_run else State.CLAIMED

    def run(self) -> bool:
        """Begin the code, which may be in another thread; returns False if it is too late for that."""
        if self.reason is not None or self.end is not None:
            return False
        self._has_run = True
        return True

    def limit(self, seconds: float) -> None:
        """Stop the code as timed out after this time, unless `unlimit` or the end comes first."""
        if self.reason is None and not self._let_go:
            self._arm(seconds, self.stop, StopReason.TIMEOUT)

    def unlimit(self) -> None:
        """Take the time limit away: the code has done what it limits."""
        if self.reason is None:
            self._disarm()

    def stop(self, reason: StopReason) -> bool:
        """Ask the code to stop. The first reason counts, and none does after the end; returns whether this one does."""
        if self.reason is not None or self.end is not None:
            return False
        self.reason = reason
        self._disarm()
        if not self._let_go:
            self._arm(self._grace_s, self._on_overdue)
        self._on_stop(reason)
        return True

    @property
    def due_end(self) -> End:
        """How the attempt ends if the code has nothing more to say. Code that stops unasked has failed."""
        return End.FAILURE if self.reason is None else _END_OF[self.reason]

    def may_end(self, end: End) -> bool:
        """Return whether the attempt may still end like this."""
        if self.end is not None:
            return False
        if self.reason is not None and end is self.due_end:
            return True
        if self.reason in (StopReason.LOST, StopReason.VANISHED) or end not in _BY_THE_CODE:
            return False
        return self._has_run or end not in (End.RESULT, End.SUSPENDED, End.REPLACED)

    def finish(self, end: End) -> bool:
        """End the attempt; returns False if it may not end like this (any more), and then nothing is to be recorded."""
        if not self.may_end(end):
            return False
        self.end = end
        return True

    def let_go(self) -> None:
        """Note that the code has stopped, or that this process no longer waits for it. Idempotent."""
        self._let_go = True
        self._disarm()

    def _arm(self, seconds: float, call: Callable[..., Any], *arguments: Any) -> None:
        self._disarm()
        self._timer = self._call_later(seconds, call, *arguments)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
