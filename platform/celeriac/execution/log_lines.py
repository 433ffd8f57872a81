"""The lines of an attempt's log on their way to the store."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from celeriac.logs import hide_secrets
from celeriac.model import LogLine, severity
from celeriac.settings import TaskLogSettings


def kept_line(line: LogLine, settings: TaskLogSettings) -> LogLine | None:
    """Return a line as its task's log keeps it, without secrets, or None if the log does not keep it."""
    if not settings.lines or severity(line.level) < severity(settings.level):
        return None
    if not line.data:
        return line
    data = {name: value for name, value in line.data.items() if settings.tracebacks or name != "traceback"}
    return replace(line, data=hide_secrets(None, line.level, data))


class LogLines:
    """Sends lines in their order, from any thread, without waiting for the store; the number on their way is bounded.

    `send(seq, line)` is called on `loop`, with numbers from 1. While `most` lines are on their way, further lines are
    only counted; a line with their number follows when there is room again.
    """

    def __init__(
        self,
        *,
        send: Callable[[int, LogLine], asyncio.Future[str]],
        loop: asyncio.AbstractEventLoop,
        loop_thread: int,
        most: int,
    ) -> None:
        self._send = send
        self._loop = loop
        self._loop_thread = loop_thread
        self._most = most
        self._lock = threading.Lock()
        self._under_way = 0
        self._left_out = 0
        self._seq = 0

    def add(self, line: LogLine, *, always: bool = False) -> None:
        """Send a line if there is room; `always`: in any case."""
        with self._lock:
            if self._under_way >= self._most and not always:
                self._left_out += 1
                return
            self._under_way += 1
        if threading.get_ident() == self._loop_thread:
            self._go(line)
        else:
            # A thread whose attempt has ended without it may outlive the loop.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._go, line)

    def _go(self, line: LogLine) -> None:
        self._seq += 1
        self._send(self._seq, line).add_done_callback(self._arrived)

    def _arrived(self, sent: asyncio.Future[str]) -> None:
        if not sent.cancelled():
            # If the store is away for too long, the line is lost here; the process's own log has it.
            sent.exception()
        with self._lock:
            self._under_way -= 1
            # Lines that go in any case may still be more than the room: then a later arrival says it.
            left_out = self._left_out if self._under_way < self._most else 0
            self._left_out -= left_out
        if left_out:
            text = f"{left_out} lines were left out: they came faster than the store took them"
            self.add(LogLine("warning", text, {}, time.time_ns() // 1_000_000))
