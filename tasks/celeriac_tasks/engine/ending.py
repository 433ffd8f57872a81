"""A worker that is told to stop ends in time, whatever Celery's thread waits for.

Celery stops between two turns of its own loop. That thread may be in a call that lasts: a store that does not answer,
a task of the pool `solo`, C code. So another thread hears the signals too, stops the runtime if Celery does not, and
ends the process at last.
"""

from __future__ import annotations

import _socket
import contextlib
import logging
import os
import signal
import socket
import threading
import time
from typing import Any, Final

from celery import signals

from celeriac.execution.attempt import STOP_GRACE_S
from celeriac.execution.last_moment import end_now
from celeriac.threads.forking import call_after_fork
from celeriac.threads.os_threads import OsThread
from celeriac_tasks.engine.adopted import is_adopted
from celeriac_tasks.engine.runtime import running_runtime

log = logging.getLogger(__name__)

_SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT} if hasattr(signal, "SIGQUIT") else ())
#: How long Celery has to begin to stop, and to end when the runtime has stopped (seconds).
_CELERY_S: Final = 1.0
_LEAVE_S: Final = 2.0
#: Programs that pass signals on send one Ctrl-C twice. Within this time two are one (seconds).
_DOUBLE_S: Final = 0.2


class Ending:
    """Hears the signals that end a worker, in a thread of its own."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        #: Whether a second signal has come.
        self._hurried = False
        self._grace_s: float = worker.app.celeriac_settings.worker.shutdown_grace
        self._reader, writer = _pair()
        writer.setblocking(False)
        # Python writes the number of each signal there at once, also while the main thread is in C.
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self._writer = writer
        call_after_fork(self)
        # Not greenlets, which a task that computes would stop.
        OsThread(self._run, name="celeriac-ending").start()

    def after_fork(self) -> None:
        """Hear nothing in a child of a pool: its signals are not ours."""
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(-1)

    def _run(self) -> None:
        number = self._next_signal()
        OsThread(self._hurry_later, name="celeriac-hurry").start()
        begun = time.monotonic()
        time.sleep(_CELERY_S)
        grace_s = 0.0 if number == signal.SIGQUIT else self._grace_s
        runtime = running_runtime()
        if runtime is not None:
            # Waits for Celery's thread if that stops it already.
            runtime.stop(grace_s)
        if self._children():
            # A pool of processes waits for its tasks, however long they take.
            self._wait_for_children(grace_s - (time.monotonic() - begun))
            for child in self._children():
                # It gives its task back.
                with contextlib.suppress(OSError):
                    os.kill(child.pid, signal.SIGTERM)
            self._wait_for_children(STOP_GRACE_S, hurried=False)
        time.sleep(_LEAVE_S)
        for child in self._children():
            with contextlib.suppress(OSError):
                os.kill(child.pid, signal.SIGKILL)
        end_now("Celery's main thread does not end")

    def _wait_for_children(self, seconds: float, *, hurried: bool = True) -> None:
        """Wait for the end of all children, at most so long; `hurried`: at most until a second signal."""
        until = time.monotonic() + seconds
        while self._children() and time.monotonic() < until and not (hurried and self._hurried):
            time.sleep(0.1)

    def _hurry_later(self) -> None:
        """A second signal shortens the grace."""
        since = time.monotonic()
        while True:
            self._next_signal()
            if time.monotonic() - since > _DOUBLE_S and (runtime := running_runtime()) is not None:
                log.warning("a second signal: running tasks are given back at once")
                runtime.hurry()
                self._hurried = True

    def _next_signal(self) -> int:
        while True:
            for number in self._reader.recv(64):
                if number in _SIGNALS:
                    return int(number)

    def _children(self) -> list[Any]:
        """Return the living processes of a pool of Celery's."""
        pool = getattr(getattr(self._worker, "pool", None), "_pool", None)
        return [child for child in getattr(pool, "_pool", None) or () if _lives(child)]


def _pair() -> tuple[Any, Any]:
    """Return two connected sockets, not those of gevent, which belong to the greenlets of one thread."""
    pair = getattr(_socket, "socketpair", socket.socketpair)
    reader, writer = pair()
    return reader, writer


def _lives(child: Any) -> bool:
    try:
        os.kill(child.pid, 0)
    except (AttributeError, TypeError, OSError):
        return False
    return True


def end_in_time(sender: Any = None, **_: Any) -> None:
    """Begin to listen; Celery calls this when a worker starts."""
    if is_adopted(sender.app) and threading.current_thread() is threading.main_thread():
        sender.celeriac_ending = Ending(sender)


signals.worker_init.connect(end_in_time)
