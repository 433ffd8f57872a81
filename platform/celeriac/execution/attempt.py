"""One attempt whose handler runs in this process: its context, progress reports and log, and how it is stopped."""

from __future__ import annotations

import asyncio
import ctypes
import math
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, Protocol

from celeriac.execution.attempt_state import AttemptState, StopReason
from celeriac.execution.attempt_store import AttemptStore
from celeriac.execution.attempt_work import AttemptWork
from celeriac.execution.log_lines import LogLines, kept_line
from celeriac.execution.lost_time import LostTime, Watch
from celeriac.handlers.context import BlockingContext, Context
from celeriac.model import Amendment, Claim, LogLine, Progress, percentage_of
from celeriac.moments import within_ms
from celeriac.settings import TaskLogSettings
from celeriac.signals.links import SignalLinks
from celeriac.threads.os_threads import greenlets_are_threads

#: How long a handler may run after it was asked to stop (seconds); then the attempt ends without it. `grpc_task` needs
#: some of this time to cancel the call of its service.
STOP_GRACE_S: Final = 3.0


class _Sent(Awaitable[None]):
    """What a report returns to a plain function: the call itself has waited, so there is nothing to await."""

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield


_SENT = _Sent()


class Attempt:
    """An attempt that this process runs; its context sends progress reports and log lines through it.

    Belongs to the runtime's loop; `report`, `log` and the thread's part may be used from the handler's thread.
    """

    def __init__(
        self,
        claim: Claim,
        *,
        store: AttemptStore,
        loop: asyncio.AbstractEventLoop,
        buffer: int,
        task_log: TaskLogSettings,
        overdue: Callable[[Attempt], object],
        watch: Watch | None = None,
        links: SignalLinks | None = None,
        work: AttemptWork | None = None,
        blocking: bool = False,
    ) -> None:
        self.claim = claim
        self._links = links
        #: `blocking`: its handler is a plain function.
        self.context = (BlockingContext if blocking else Context)(claim, self, work)
        #: The time that others took from it by blocking the loop; it counts as a plain function until `on_the_loop`.
        self.lost = LostTime(watch)
        #: Its time limit, if it has one (seconds), and when that began (`time.monotonic`).
        self.limit_s: float | None = None
        self._limited_at = 0.0
        #: Whether its end was recorded while its handler blocked the loop.
        self.ended_early = False
        #: Where it is, why it should stop, and how it ends.
        self.state = AttemptState(
            call_later=partial(self.lost.call_later, loop),
            grace_s=STOP_GRACE_S,
            on_stop=self._interrupt_for,
            on_overdue=partial(overdue, self),
        )
        self.started = time.monotonic()
        #: Whether it runs in Celery's tracer, which writes failures to the process's log.
        self.by_celery = False
        #: Whether Celery published its task and does not know yet how it ends.
        self.untold = False
        #: What changes for the next attempt; None if nothing does.
        self.amendment: Amendment | None = None
        #: The name of what its handler has put in the place of its task; None if it has not done that.
        self.replaced_by: str | None = None
        self._store = store
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._buffer = buffer
        self._task_log = task_log
        self._lines: LogLines | None = None
        self._last_sent: asyncio.Future[Any] | None = None
        self._room: threading.Semaphore | None = None
        self._seq = 0
        self._in_flight = 0
        #: How to interrupt the handler; None while there is nothing to interrupt.
        self._interrupt: Callable[[], object] | None = None

    # --- stopping

    def limit(self, seconds: float) -> None:
        """Stop the handler as timed out after this time. Time in which others block the loop does not count."""
        self.limit_s = seconds
        self._limited_at = time.monotonic() - self.lost.total_s()
        self.state.limit(seconds)

    @property
    def overdue_s(self) -> float:
        """For how long its time limit has passed; negative if it has not."""
        if self.limit_s is None:
            return -math.inf
        return time.monotonic() - self._limited_at - self.lost.total_s() - self.limit_s

    def stop(self, reason: StopReason) -> None:
        """Ask the handler to stop, and interrupt it; the first reason counts. On the loop only.

        If the handler has not let go when the grace has passed, `overdue` is called.
        """
        self.state.stop(reason)

    def _interrupt_for(self, reason: StopReason) -> None:
        self.context.stop(reason.value)
        if self._interrupt is not None:
            self._interrupt()

    @contextmanager
    def interruptible(self, interrupt: Callable[[], object]) -> Iterator[None]:
        """Let `stop` call `interrupt` inside this block; raises `CancelledError` if it is too late to begin."""
        # In this order: a stop from the loop's thread finds what to interrupt, or the code does not begin.
        self._interrupt = interrupt
        try:
            if not self.state.run():
                raise asyncio.CancelledError(self.state.reason)
            yield
        finally:
            self._interrupt = None

    def signal_url(self, signal: str, valid_s: float) -> str:
        """Return a link that answers a signal of the task; see `Context.signal_link`."""
        if self._links is None:
            raise RuntimeError("links are made by workers only")
        return self._links.url(self.claim.task_id, signal, valid_s)

    # --- progress

    def report(self, percentage: float, stage: str, message: str, timestamp_ms: int | None) -> Awaitable[None]:
        """Take one report; see `Context.progress`."""
        progress = Progress(
            percentage_of(percentage),
            stage,
            message,
            time.time_ns() // 1_000_000 if timestamp_ms is None else int(within_ms(timestamp_ms)),
        )
        if threading.get_ident() == self._loop_thread:
            if self._in_flight >= self._buffer:
                raise RuntimeError(f"{self._buffer} progress reports are on their way already: await ctx.progress(...)")
            return self._send(progress)
        if self._room is None:
            self._room = threading.Semaphore(self._buffer)
        self._room.acquire()
        self._loop.call_soon_threadsafe(self._send_from_thread, progress)
        return _SENT

    def _send(self, progress: Progress) -> asyncio.Future[Any]:
        self._seq += 1
        self._in_flight += 1
        sent = self._last_sent = self._store.report(self.claim, self._seq, progress)
        sent.add_done_callback(self._on_sent)
        return sent

    async def reported(self) -> None:
        """Wait until all reports so far have arrived or have failed."""
        if self._last_sent is not None and not self._last_sent.done():
            await asyncio.wait([self._last_sent])

    def _send_from_thread(self, progress: Progress) -> None:
        room = self._room
        assert room is not None
        self._send(progress).add_done_callback(lambda _: room.release())

    def _on_sent(self, sent: asyncio.Future[Any]) -> None:
        self._in_flight -= 1
        if sent.cancelled() or sent.exception() is not None:
            return  # the store is away for too long; the next renewal of the lease tells what to do
        if sent.result() == "cancel":
            self.stop(StopReason.CANCEL)
        elif sent.result() != "ok":
            self.stop(StopReason.LOST)

    # --- the loop

    @property
    def title(self) -> str:
        """What people know it by."""
        return f"task {self.claim.task_id} ({self.claim.type})"

    def note_block(self, seconds: float, stack: str) -> None:
        """Write into the task's log that its handler blocks the event loop; may be called from any thread."""
        text = f"the handler has blocked the event loop of its worker for {seconds:.1f} s"
        self.log(LogLine("warning", text, {"stack": stack}, time.time_ns() // 1_000_000), always=True)

    # --- log

    def log(self, line: LogLine, *, always: bool = False) -> None:
        """Take one line of the task's log; see `Context.log`. `always`: even if too many lines are on their way."""
        kept = kept_line(line, self._task_log)
        if kept is None:
            return
        if self._lines is None:
            self._lines = LogLines(
                send=partial(self._store.log, self.claim),
                loop=self._loop,
                loop_thread=self._loop_thread,
                most=self._task_log.buffer,
            )
        self._lines.add(kept, always=always)


class Interrupt(Protocol):
    """Ends or warns a plain function that runs inside its block; any thread may call it."""

    def __enter__(self) -> object:
        """Begin the block; raises `CancelledError` if the function must not begin."""
        ...

    def __exit__(self, *_: object) -> None:
        """End the block."""
        ...

    def __call__(self) -> None:
        """Raise `CancelledError` in the function, or prevent its start."""
        ...

    def warn(self, exception: type[Exception]) -> None:
        """Raise an exception in the function, which may catch it and go on."""
        ...


def new_interrupt() -> Interrupt:
    """Return what interrupts a plain function in this process."""
    if greenlets_are_threads():
        from celeriac.threads.greenlets import GreenletInterrupt

        return GreenletInterrupt()
    return ThreadInterrupt()


class ThreadInterrupt:
    """Raises `CancelledError`, or before it another exception, in a thread that runs a plain function.

    Python raises it between two bytecodes: in a loop at once, in a call into C when that returns.
    (PyThreadState_SetAsyncExc of the Python/C API, which dramatiq's time limits use too.)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread_id: int | None = None
        #: Whether the function must end, and whether an exception may be on its way to the thread.
        self._wanted = False
        self._sent = False

    def __enter__(self) -> None:
        with self._lock:
            if self._wanted:
                raise asyncio.CancelledError
            self._thread_id = threading.get_ident()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            thread_id, self._thread_id = self._thread_id, None
            if self._sent and thread_id is not None:
                # The exception may not have been raised yet: withdraw it.
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), None)

    def __call__(self) -> None:
        """Interrupt the function, or prevent its start."""
        with self._lock:
            self._wanted = True
            self._send(asyncio.CancelledError)

    def warn(self, exception: type[Exception]) -> None:
        """Raise an exception in the function, which may catch it and go on."""
        with self._lock:
            if not self._wanted:
                self._send(exception)

    def _send(self, exception: type[BaseException]) -> None:
        if self._thread_id is not None:
            self._sent = True
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread_id), ctypes.py_object(exception))
