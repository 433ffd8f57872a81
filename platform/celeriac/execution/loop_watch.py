"""Notices from another thread that an event loop is blocked, and who blocks it.

A coroutine that does not give way (`time.sleep`, a long computation) stops everything that shares its loop. The time
that it takes from the others is counted here, so that nobody else is blamed for it (`lost_time.py`).
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Final, Protocol

from celeriac.execution.lost_time import LostTime
from celeriac.settings import BlockedLoopSettings
from celeriac.store.roles.role import Role
from celeriac.threads.os_threads import thread_id

log = logging.getLogger(__name__)

#: The longest time between two looks at the loop (seconds).
_TICK_S: Final = 0.5
#: The most lines of a stack that are shown, the innermost ones.
_MOST_LINES: Final = 40


class Culprit(Protocol):
    """Who may block a loop: an attempt whose coroutine runs on it."""

    @property
    def lost(self) -> LostTime:
        """Whose loop it blocks, and for how long it has done so."""
        ...

    @property
    def title(self) -> str:
        """What people know it by."""
        ...

    def note_block(self, seconds: float, stack: str) -> object:
        """Write into its own log that it blocks the loop; may be called from any thread."""
        ...


#: Returns the culprit whose code a frame of the loop's thread has called; None if it has called nobody's.
Find = Callable[[FrameType], Culprit | None]


class LoopWatch(Role):
    """Asks a loop again and again whether it runs, and looks at its thread if the answer does not come.

    It must run on another loop, in another thread. `lost_s` may be called from any thread.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: BlockedLoopSettings,
        *,
        find: Find = lambda _: None,
        on_culprit: Callable[[Culprit], object] = lambda _: None,
    ) -> None:
        super().__init__()
        self._watched = loop
        self._settings = settings
        self._find = find
        self._on_culprit = on_culprit
        self._tick_s = min(_TICK_S, settings.warning / 2)
        self._thread_id: int | None = None
        now = time.monotonic()
        #: When the loop last answered, when it was last asked, and when this watch last looked.
        self._seen_at = self._asked_at = self._looked_at = now
        self._answered = True
        self._lost_s = 0.0
        self._warned = False
        self._blamed: Culprit | None = None
        #: Whether the loop has been blocked for so long that its process counts as dead.
        self.hopeless = False

    @property
    def blocked(self) -> bool:
        """Whether the loop has been blocked for as long as a warning takes."""
        return not self._answered and time.monotonic() - self._asked_at >= self._settings.warning

    def lost_s(self) -> float:
        """Return for how long the loop has been blocked so far, all blocks together."""
        now = time.monotonic()
        if self._answered or now - self._asked_at <= self._tick_s:
            return self._lost_s
        return self._lost_s + now - self._seen_at

    async def step(self) -> float:
        """Ask the loop, or look why it has not answered."""
        now = time.monotonic()
        late = now - self._looked_at > 4 * self._tick_s
        if self._answered:
            self._asked_at, self._answered = now, False
            self._watched.call_soon_threadsafe(self._answer)
        elif not late:
            # If this thread is late as well, the whole process was stopped, and nobody is to blame.
            self._look(now)
        self._looked_at = now
        return self._tick_s

    def _look(self, now: float) -> None:
        frame = sys._current_frames().get(self._thread_id or 0)
        blamed, caller = self._culprit_in(frame)
        if blamed is not None:
            blamed.lost.own_s += now - (self._looked_at if self._blamed is not None else self._seen_at)
        self._blamed = blamed
        for_s = now - self._asked_at
        if frame is not None and for_s >= self._settings.warning and not self._warned:
            self._warned = True
            self._warn(for_s, blamed, _stack_text(frame, caller))
        if for_s >= self._settings.limit and not self.hopeless:
            self.hopeless = True
            log.error(
                "the event loop has been blocked for %.0f s by %s: this process counts as dead. It renews no more"
                " leases, and other workers get its tasks. Restart it",
                for_s,
                "a coroutine" if blamed is None else blamed.title,
            )
        if blamed is not None:
            self._on_culprit(blamed)

    def _warn(self, for_s: float, blamed: Culprit | None, stack: str) -> None:
        log.warning(
            "the event loop has been blocked for %.1f s by %s: use `await`, a plain function or asyncio.to_thread."
            " It is here:\n%s",
            for_s,
            "a coroutine" if blamed is None else blamed.title,
            stack,
        )
        if blamed is not None:
            blamed.note_block(for_s, stack)

    def _culprit_in(self, frame: FrameType | None) -> tuple[Culprit | None, FrameType | None]:
        """Return who runs in a stack, and the frame that called their code."""
        while frame is not None:
            if (found := self._find(frame)) is not None:
                return found, frame
            frame = frame.f_back
        return None, None

    def _answer(self) -> None:
        """Answer, on the watched loop."""
        now = time.monotonic()
        self._thread_id = thread_id()
        for_s = now - self._asked_at
        if for_s > self._tick_s:
            self._lost_s += now - self._seen_at
            if self._blamed is not None:
                self._blamed.lost.own_s += now - self._looked_at
            if self._warned:
                log.warning("the event loop runs again after %.1f s", for_s)
            elif for_s >= self._settings.warning:
                log.warning(
                    "the event loop did not run for %.1f s, and no other thread did: the process was stopped, the"
                    " machine was overloaded, or C code held the interpreter's lock",
                    for_s,
                )
        self._seen_at = now
        self._warned = self.hopeless = False
        self._blamed = None
        self._answered = True


def _stack_text(frame: FrameType | None, caller: FrameType | None) -> str:
    """Return the innermost lines of a stack, up to the frame that called what is of interest."""
    frames: list[tuple[FrameType, int]] = []
    while frame is not None and frame is not caller:
        frames.append((frame, frame.f_lineno))
        frame = frame.f_back
    lines = "".join(traceback.StackSummary.extract(iter(reversed(frames))).format()).splitlines()
    return "\n".join(lines[-_MOST_LINES:])
