"""What takes the place of threads where gevent has made threads greenlets (see `os_threads.py`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import gevent
from gevent.hub import Waiter
from gevent.lock import Semaphore
from gevent.monkey import get_original

T = TypeVar("T")

#: The hub of the thread whose greenlets run what belongs to the program: the first one that starts a thread of ours.
_home: Any = None


def keep_home() -> None:
    """Take this thread for the one of the program's greenlets, unless another thread was earlier."""
    global _home
    if _home is None:
        _home = gevent.get_hub()


def wait_in_greenlet(future: Future[Any], timeout_s: float | None = None) -> bool:
    """Wait until another thread has done something, while other greenlets go on; returns whether it has."""
    hub = gevent.get_hub()
    woken = Waiter(hub)
    alarm = hub.loop.async_()
    lock = get_original("_thread", "allocate_lock")()
    is_open = True

    def wake(_: object) -> None:
        # An alarm that is closed must not be sent, and another thread sends it.
        with lock:
            if is_open:
                alarm.send()

    alarm.start(woken.switch, None)
    try:
        future.add_done_callback(wake)
        with gevent.Timeout(timeout_s, False):
            woken.get()
        return future.done()
    finally:
        with lock:
            is_open = False
            alarm.stop()
            alarm.close()


class Greenlets(ThreadPoolExecutor):
    """An executor of up to `most` greenlets; any thread may submit.

    It derives from `ThreadPoolExecutor` because event loops take no other class as their default.
    """

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self._room = Semaphore(most)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run `fn` in a greenlet of the program's thread."""
        future: Future[Any] = Future()
        keep_home()
        _home.loop.run_callback_threadsafe(gevent.spawn, self._run, future, fn, args, kwargs)
        return future

    def call(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Run a function for the running loop in a greenlet of the program's thread; it must not raise."""
        return asyncio.wrap_future(self.submit(function))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Do nothing: greenlets end with what they run."""
        del wait, cancel_futures

    def _run(self, future: Future[Any], fn: Callable[..., Any], args: Any, kwargs: Any) -> None:
        with self._room:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args, **kwargs))
                except BaseException as exc:
                    future.set_exception(exc)


class GreenletInterrupt:
    """Raises `CancelledError`, or before it another exception, in the greenlet that is inside its block.

    The exception arrives where the greenlet waits. A greenlet that computes without a pause cannot be interrupted.
    """

    def __init__(self) -> None:
        self._greenlet: Any = None
        self._loop: Any = None
        self._wanted = False

    def __enter__(self) -> None:
        self._loop, self._greenlet = gevent.get_hub().loop, gevent.getcurrent()
        if self._wanted:
            self._greenlet = None
            raise asyncio.CancelledError

    def __exit__(self, *_: object) -> None:
        self._greenlet = None

    def __call__(self) -> None:
        """Interrupt the function, or prevent its start; any thread may call it."""
        self._wanted = True
        self._send(asyncio.CancelledError)

    def warn(self, exception: type[Exception]) -> None:
        """Raise an exception in the function, which may catch it and go on."""
        if not self._wanted:
            self._send(exception)

    def _send(self, exception: type[BaseException]) -> None:
        if self._greenlet is not None:
            self._loop.run_callback_threadsafe(self._throw, exception)

    def _throw(self, exception: type[BaseException]) -> None:
        # In the thread of the greenlet, so it cannot leave the block meanwhile.
        if self._greenlet is not None:
            self._greenlet.throw(exception)
