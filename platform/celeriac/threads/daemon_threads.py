"""Threads for plain functions that do not keep a process from ending."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from typing import Any

from celeriac.threads.os_threads import greenlets_are_threads

_Work = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...], dict[str, Any]]


def threads_for_functions(most: int, *, name: str) -> Executor:
    """Return an executor for plain functions: threads, or greenlets in a process whose threads are greenlets."""
    if greenlets_are_threads():
        from celeriac.threads.greenlets import Greenlets

        return Greenlets(most)
    return DaemonThreads(most, name=name)


class DaemonThreads(Executor):
    """An executor of up to `most` threads, started when they are needed.

    Unlike `ThreadPoolExecutor` the interpreter does not wait for them at its end: a function that is stuck
    in C would hold up a worker whose tasks have been given back already.
    """

    def __init__(self, most: int, *, name: str) -> None:
        self._most = most
        self._name = name
        self._work: SimpleQueue[_Work | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0
        #: The number of threads that wait for work, minus the work that is queued.
        self._free = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run `fn` in the next free thread."""
        future: Future[Any] = Future()
        with self._lock:
            self._free -= 1
            self._work.put((future, fn, args, kwargs))
            if self._free < 0 and self._started < self._most:
                self._started += 1
                self._free += 1
                threading.Thread(target=self._run, name=f"{self._name}-{self._started}", daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Have the threads end when they are done, without waiting for them."""
        del wait, cancel_futures
        with self._lock:
            for _ in range(self._started):
                self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            future, fn, args, kwargs = work
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args, **kwargs))
                except BaseException as exc:
                    future.set_exception(exc)
            # Otherwise a waiting thread would keep the objects of its last work alive.
            del work, future, fn, args, kwargs
            with self._lock:
                self._free += 1
