"""Timers that do not count the time in which somebody else blocked the event loop."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, Final, Protocol

#: Less lost time than this does not matter (seconds).
_NEGLIGIBLE_S: Final = 0.05
#: What a plain function or a remote worker may need after a block until its answer is read (seconds).
CATCH_UP_S: Final = 1.0


class Watch(Protocol):
    """Counts how long a loop was blocked."""

    def lost_s(self) -> float:
        """Return for how long the loop has been blocked so far."""
        ...


class LostTime:
    """How much time others have taken from an attempt by blocking its loop."""

    __slots__ = ("_watch", "most_s", "own_s")

    def __init__(self, watch: Watch | None, *, most_s: float = CATCH_UP_S) -> None:
        self._watch = watch
        #: The most that one block takes from the attempt: everything if its code runs on the loop.
        self.most_s = most_s
        #: How long the attempt itself has blocked the loop.
        self.own_s = 0.0

    def on_the_loop(self) -> None:
        """Note that the attempt's code runs on the loop, so that a block stops it altogether."""
        self.most_s = math.inf

    def total_s(self) -> float:
        """Return how long others have blocked the loop so far."""
        return 0.0 if self._watch is None else self._watch.lost_s() - self.own_s

    def call_later(
        self, loop: asyncio.AbstractEventLoop, seconds: float, call: Callable[..., Any], *arguments: Any
    ) -> FairTimer | asyncio.TimerHandle:
        """Call after so many seconds plus the time that is lost meanwhile; `cancel` calls it off."""
        if self._watch is None:
            return loop.call_later(seconds, call, *arguments)
        return FairTimer(self, loop, seconds, call, arguments)


class FairTimer:
    """A call that waits longer if others block the loop meanwhile."""

    __slots__ = ("_arguments", "_call", "_handle", "_loop", "_lost", "_lost_before_s")

    def __init__(
        self,
        lost: LostTime,
        loop: asyncio.AbstractEventLoop,
        seconds: float,
        call: Callable[..., Any],
        arguments: tuple[Any, ...],
    ) -> None:
        self._lost = lost
        self._loop = loop
        self._call = call
        self._arguments = arguments
        self._lost_before_s = lost.total_s()
        self._handle = loop.call_later(seconds, self._due)

    def cancel(self) -> None:
        """Call it off. Idempotent."""
        self._handle.cancel()

    def _due(self) -> None:
        total_s = self._lost.total_s()
        lost_s = min(total_s - self._lost_before_s, self._lost.most_s)
        self._lost_before_s = total_s
        if lost_s > _NEGLIGIBLE_S:
            self._handle = self._loop.call_later(lost_s, self._due)
        else:
            self._call(*self._arguments)
