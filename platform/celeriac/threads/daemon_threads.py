"""Threads for plain functions that do not keep a process from ending."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, TypeVar

from celeriac.threads.os_threads import greenlets_are_threads

if TYPE_CHECKING:
    from celeriac.threads.greenlets import Greenlets

T = TypeVar("T")


def threads_for_functions(most: int, *, name: str) -> DaemonThreads | Greenlets:
    """Return what runs plain functions: threads, or greenlets in a process whose threads are greenlets."""
    if greenlets_are_threads():
        from celeriac.threads.greenlets import Greenlets

        return Greenlets(most)
    return DaemonThreads(most, name=name)


class _Returned:
    """What functions have returned for one event loop, which takes many of them at a time."""

    __slots__ = ("_ends", "_is_announced", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ends: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._is_announced = False

    def run(self, future: asyncio.Future[Any], function: Callable[[], Any]) -> None:
        """Run a function in this thread, and have the loop take what it returns."""
        if future.cancelled():
            return
        try:
            value: Any = function()
            error: BaseException | None = None
        except BaseException as exc:
            value, error = None, exc
        self._ends.append((future, value, error))
        if not self._is_announced:
            self._is_announced = True
            # A loop that is closed has nobody who waits.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        # First: what comes from now on is announced again.
        self._is_announced = False
        while self._ends:
            future, value, error = self._ends.popleft()
            if future.done():
                continue
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)


class DaemonThreads(Executor):
    """An executor of up to `most` threads, started when they are needed.

    Unlike `ThreadPoolExecutor` the interpreter does not wait for them at its end: a function that is stuck
    in C would hold up a worker whose tasks have been given back already.

    One thread at a time is on its way to new work. When it takes some and there is more, it wakes the next one before
    it begins. So short functions are run by one thread, one after another, and others need not fight for the
    interpreter; a function that waits or lasts holds nothing up.
    """

    def __init__(self, most: int, *, name: str) -> None:
        self._most = most
        self._name = name
        self._lock = threading.Lock()
        self._work: deque[Callable[[], object]] = deque()
        #: What the threads without work wait on, the one that worked last at the end.
        self._idle: list[threading.Lock] = []
        self._started = 0
        #: Whether a thread has been woken, or started, that has not looked for work yet.
        self._is_coming = False
        self._ended = False
        self._returned: _Returned | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run `fn` in the next free thread."""
        future: Future[Any] = Future()

        def work() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args, **kwargs))
                except BaseException as exc:
                    future.set_exception(exc)

        self._begin(work)
        return future

    def call(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Run a function for the running loop in the next free thread; it must not raise."""
        loop = asyncio.get_running_loop()
        returned = self._returned
        if returned is None or self._loop is not loop:
            self._loop, self._returned = loop, (returned := _Returned(loop))
        future: asyncio.Future[T] = loop.create_future()
        run = returned.run
        self._begin(lambda: run(future, function))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Have the threads end when they are done, without waiting for them."""
        del wait, cancel_futures
        with self._lock:
            self._ended = True
            while self._idle:
                self._idle.pop().release()

    def _begin(self, work: Callable[[], object]) -> None:
        with self._lock:
            self._work.append(work)
            self._wake()

    def _wake(self) -> None:
        """Have one more thread look for work, unless one is coming; the lock is held."""
        if self._is_coming:
            return
        if self._idle:
            self._is_coming = True
            self._idle.pop().release()
        elif self._started < self._most:
            thread = threading.Thread(target=self._run, name=f"{self._name}-{self._started + 1}", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # The system gives no more threads: those that there are take what waits.
                if not self._started:
                    raise
            else:
                self._started += 1
                self._is_coming = True

    def _run(self) -> None:
        parked = threading.Lock()
        parked.acquire()
        is_new = True
        while True:
            with self._lock:
                if is_new:
                    self._is_coming = is_new = False
                work = self._work.popleft() if self._work else None
                if self._work:
                    self._wake()
                if work is None:
                    if self._ended:
                        self._started -= 1
                        return
                    self._idle.append(parked)
            if work is not None:
                work()
                # Otherwise a waiting thread would keep the objects of its last work alive.
                del work
            else:
                parked.acquire()
                is_new = True
