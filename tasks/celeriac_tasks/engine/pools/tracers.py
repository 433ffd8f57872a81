"""Threads in which Celery's tracer runs for many coroutines at once.

The tracer is not asynchronous: it calls signals, handlers and the result backend, which may block, and between them it
waits for the body of the task. It runs in a greenlet, so that its thread can begin or end other tasks while the bodies
run on the event loop. Celery keeps its current task and request by greenlet.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any

from greenlet import getcurrent, greenlet

from celeriac.threads.os_threads import OsThread, wait_as_thread, wait_here_by

_Work = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class TracerThreads(Executor):
    """An executor of a few threads for any number of functions that mostly wait, see `wait_for`.

    A function that blocks its thread holds up only those that have begun there. New ones go to the thread with the
    fewest.
    """

    def __init__(self, most: int, *, name: str) -> None:
        self._threads = [_TracerThread(f"{name}-{number}") for number in range(1, most + 1)]

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run `fn` in a greenlet of one of the threads."""
        future: Future[Any] = Future()
        thread = min(self._threads, key=lambda thread: thread.begun)
        thread.begin((future, fn, args, kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Have the threads end, without waiting for them."""
        del wait, cancel_futures
        for thread in self._threads:
            thread.end()


class _TracerThread:
    def __init__(self, name: str) -> None:
        self._name = name
        #: New work, greenlets that may go on, and None for the end.
        self._next: SimpleQueue[_Work | greenlet | None] = SimpleQueue()
        self._main: greenlet | None = None
        self._is_started = False
        #: How many functions have begun here and have not ended.
        self.begun = 0

    def begin(self, work: _Work) -> None:
        """Take one function. All calls come from one thread."""
        self.begun += 1
        if not self._is_started:
            self._is_started = True
            OsThread(self._run, name=self._name).start()
        self._next.put(work)

    def end(self) -> None:
        """End the thread."""
        self._next.put(None)

    def _run(self) -> None:
        self._main = getcurrent()
        wait_here_by(self._wait)
        while (item := self._next.get()) is not None:
            if isinstance(item, greenlet):
                item.switch()
            else:
                greenlet(self._call).switch(*item)
            del item

    def _call(self, future: Future[Any], fn: Callable[..., Any], args: Any, kwargs: Any) -> None:
        try:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args, **kwargs))
                except BaseException as exc:
                    future.set_exception(exc)
        finally:
            self.begun -= 1

    def _wait(self, future: Future[Any], timeout_s: float | None) -> bool:
        waiting = getcurrent()
        if waiting is self._main or self._main is None or timeout_s is not None:
            return wait_as_thread(future, timeout_s)
        future.add_done_callback(lambda _: self._next.put(waiting))
        self._main.switch()
        return True
