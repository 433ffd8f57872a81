"""An event loop in a thread, for code that is not asynchronous."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from celeriac.threads.forking import call_after_fork, keep_inherited
from celeriac.threads.os_threads import OsThread, greenlets_are_threads, thread_id, wait_for

T = TypeVar("T")

log = logging.getLogger(__name__)

#: How long the end of the interpreter waits for a loop to stop (seconds).
_EXIT_S: Final = 1.0
#: How long a coroutine may take to react to its cancellation when the loop stops (seconds).
_CANCEL_S: Final = 1.0
#: How many functions run at once for `asyncio.to_thread` where these are greenlets.
_FUNCTIONS_AT_ONCE: Final = 32

_every: Final[weakref.WeakSet[LoopThread]] = weakref.WeakSet()


def usual_loop() -> asyncio.AbstractEventLoop:
    """Return a new event loop that may run in a thread of the operating system, whatever gevent has replaced."""
    if not greenlets_are_threads():
        return asyncio.new_event_loop()
    # asyncio's own loop waits with gevent's `select`, and its executor starts greenlets in the thread that it blocks.
    import uvloop

    from celeriac.threads.greenlets import Greenlets

    loop = uvloop.new_event_loop()
    loop.set_default_executor(Greenlets(_FUNCTIONS_AT_ONCE))
    return loop


class LoopThread:
    """Runs coroutines on an event loop of its own, in a daemon thread. Any other thread may submit them.

    - Between `start` and `stop` it is `running`; it may be started again.
    - A coroutine that raises `SystemExit` or `KeyboardInterrupt` ends itself, not the loop and not the process.
    - A forked child inherits it stopped: threads do not survive a fork. The child may start it, and gets a new loop;
      what was made on the parent's loop must be made again (see `forking.py`).
    - The end of the interpreter stops it, after the exit handlers that were registered later than this module's.
    """

    def __init__(self, name: str, *, new_loop: Callable[[], asyncio.AbstractEventLoop] = usual_loop) -> None:
        self._name = name
        self._new_loop = new_loop
        # Reentrant: a signal handler may stop what the interrupted code is just starting.
        self._lock = threading.RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: OsThread | None = None
        call_after_fork(self)
        _every.add(self)

    @property
    def running(self) -> bool:
        """Whether it takes coroutines, in this process."""
        return self._loop is not None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop; raises `RuntimeError` if it is not running."""
        if self._loop is None:
            raise RuntimeError(f"the event loop of the thread {self._name!r} is not running: call start() first")
        return self._loop

    def start(self) -> None:
        """Start the thread. Idempotent."""
        with self._lock:
            if self._loop is None:
                loop = self._new_loop()
                thread = OsThread(self._run, loop, name=self._name)
                thread.start()
                self._loop, self._thread = loop, thread

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin a coroutine on the loop; return a future of its result. Raises `RuntimeError` if not running."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self.loop)
        except RuntimeError:
            work.close()  # or Python warns that it was never awaited
            raise

    def wait(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run a coroutine on the loop, wait for it, and return its result.

        After `timeout_s` the coroutine is cancelled, and this raises `TimeoutError`. Raises `RuntimeError` if it is not
        running, or if the caller is on the loop itself, which would wait for itself for ever.
        """
        if self._thread is not None and thread_id() == self._thread.id:
            work.close()
            raise RuntimeError(f"wait() was called on the thread {self._name!r} itself: await the coroutine there")
        future = self.submit(work)
        if not wait_for(future, timeout_s):
            future.cancel()
            raise TimeoutError(f"the thread {self._name!r} did not answer within {timeout_s:g} s")
        return future.result()

    def stop(self, timeout_s: float = 5.0, *, abandon: bool = False) -> None:
        """Cancel what still runs, stop the loop, and wait for the thread to end. Idempotent.

        With `abandon`, for a process that ends, what still runs is neither cancelled nor waited for, and the loop is
        not closed. A thread that outlives the loop may still schedule calls on it, and nothing comes of them.
        """
        with self._lock:
            loop, thread = self._loop, self._thread
            if loop is None or thread is None:
                return
            if not abandon:
                with contextlib.suppress(TimeoutError):
                    self.wait(_cancel_others(), timeout_s)
            self._loop = self._thread = None
            loop.call_soon_threadsafe(loop.stop)
            thread.join(timeout_s)
            if thread.alive:
                log.warning("the thread %r did not end within %g s: a coroutine blocks its loop", self._name, timeout_s)
            elif not abandon:
                loop.close()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        while True:
            try:
                loop.run_forever()
                return
            except (SystemExit, KeyboardInterrupt):
                log.exception("a coroutine on the thread %r tried to end the process; the loop goes on", self._name)

    def after_fork(self) -> None:
        """Begin anew in a forked child."""
        if self._loop is not None:
            keep_inherited(self._loop, self._thread)
        self._lock = threading.RLock()
        self._loop = self._thread = None


async def _cancel_others() -> None:
    """Cancel all other tasks of the running loop, and wait a moment for them to end."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=_CANCEL_S)
    await asyncio.get_running_loop().shutdown_asyncgens()


def _stop_all() -> None:
    # A daemon thread that still runs Python code while the interpreter is taken apart may crash the process.
    for thread in list(_every):
        thread.stop(_EXIT_S)


atexit.register(_stop_all)
