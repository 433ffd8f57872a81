"""Threads of the operating system, also in a process in which gevent has made Python's threads greenlets.

All greenlets of a process share one thread: an event loop in one of them would stop all others, and a task that
computes for long would stop the loop. So loops run in threads that gevent does not see, and a caller that waits for
such a thread lets the other greenlets go on meanwhile.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

#: How often a greenlet looks whether a thread has ended (seconds).
_LOOK_S: Final = 0.01

#: Waits for a future, at most so many seconds; returns whether it is done.
Wait = Callable[["Future[Any]", "float | None"], bool]

#: How a thread waits if not in the usual way (`wait`).
_ways: Final = threading.local()


def greenlets_are_threads() -> bool:
    """Whether gevent has replaced the threads of this process."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def thread_id() -> int:
    """Return the id of this thread. `threading.get_ident` returns that of the greenlet."""
    get_ident: Callable[[], int] = _original("get_ident")
    return get_ident()


def wait_for(future: Future[Any], timeout_s: float | None = None) -> bool:
    """Wait until another thread has done something, at most `timeout_s`; returns whether it has."""
    wait: Wait | None = getattr(_ways, "wait", None)
    if wait is None:
        wait = wait_as_thread
        if greenlets_are_threads():
            from celeriac.threads.greenlets import wait_in_greenlet as wait
    return wait(future, timeout_s)


def wait_here_by(wait: Wait) -> None:
    """Make this thread wait in another way."""
    _ways.wait = wait


class OsThread:
    """A daemon thread that runs one function."""

    def __init__(self, run: Callable[..., object], *args: Any, name: str) -> None:
        self._run_this = run
        self._args = args
        self._ended = False
        #: Its id, None until it runs.
        self.id: int | None = None
        self._thread: threading.Thread | None = None
        if greenlets_are_threads():
            from celeriac.threads.greenlets import keep_home

            keep_home()
        else:
            self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start it."""
        if self._thread is None:
            _original("start_new_thread")(self._run, ())
        else:
            self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return not self._ended

    def join(self, timeout_s: float | None) -> None:
        """Wait until it has ended, at most so many seconds; None means: however long that takes."""
        if self._thread is not None:
            self._thread.join(timeout_s)
            return
        until = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while not self._ended and time.monotonic() < until:
            time.sleep(_LOOK_S)

    def _run(self) -> None:
        self.id = thread_id()
        try:
            self._run_this(*self._args)
        finally:
            self._ended = True


def wait_as_thread(future: Future[Any], timeout_s: float | None) -> bool:
    """Wait until another thread has done something, as any thread can; returns whether it has."""
    try:
        # What it raises by itself is for the caller, who asks for the result.
        future.exception(timeout_s)
    except TimeoutError:
        return future.done()
    return True


def _original(name: str) -> Any:
    """Return a function of the module `_thread` as Python has it."""
    if greenlets_are_threads():
        from gevent.monkey import get_original

        return get_original("_thread", name)
    import _thread

    return getattr(_thread, name)
