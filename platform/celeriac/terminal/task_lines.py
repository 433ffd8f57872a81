"""Writes the lines: at most so many a second, in a thread, so that a slow terminal holds nothing up."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, TextIO

from celeriac.standard_streams import shows_colours
from celeriac.terminal.task_end import TaskEnd, json_of, line_of, more_json, more_line

#: Lines that may wait for a slow terminal; further ones count as left out.
_MOST_WAITING: Final = 2000
#: The thread writes no more often, so that a busy process does not wake it for each task (seconds).
_PAUSE_S: Final = 0.05
#: Marks that an old encoding may lack, and what stands for them.
_PLAIN: Final = str.maketrans({"✓": "ok", "✗": "x", "—": "-", "…": "..."})


class TaskLines:
    """A process's lines on ended tasks: `if lines.has_room(): lines.add(TaskEnd(...))`, from any thread.

    At most `most` ends a second get a line; the rest of that second is one line with their number. 0: none has a line.
    `write` gets each line without its end, in a thread of this object. In a forked child it begins anew.
    """

    def __init__(self, write: Callable[[str], None], *, most: int, as_json: bool, colours: bool = False) -> None:
        self._write = write
        self._most = most
        self._as_json = as_json
        self._colours = colours
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._news = threading.Condition()
        self._waiting: deque[tuple[TaskEnd, float]] = deque()
        self._writer: threading.Thread | None = None
        self._second = 0.0
        self._left = 0
        self._more = 0
        #: When the sum of those that have no line is due.
        self._due = 0.0
        self._closing = threading.Event()

    def has_room(self) -> bool:
        """Return whether one more end gets a line now; if not, it is counted."""
        if not self._most:
            return False
        if self._pid != os.getpid():
            self._begin()
        with self._news:
            now = time.monotonic()
            if now >= self._second + 1:
                self._second, self._left = now, self._most
            if self._left > 0 and len(self._waiting) < _MOST_WAITING:
                self._left -= 1
                return True
            self._more += 1
            if self._more == 1:
                self._due = self._second + 1
                self._start()
                self._news.notify_all()
            return False

    def add(self, end: TaskEnd) -> None:
        """Have the line of an end written."""
        with self._news:
            self._waiting.append((end, time.time()))
            self._start()
            self._news.notify_all()

    def close(self, timeout_s: float = 1.0) -> None:
        """Write what waits, for at most `timeout_s`. Idempotent."""
        if self._pid != os.getpid():
            return
        with self._news:
            self._closing.set()
            self._news.notify_all()
            writer = self._writer
        if writer is not None:
            writer.join(timeout_s)

    def _start(self) -> None:
        if self._writer is None:
            self._writer = threading.Thread(target=self._run, name="task-lines", daemon=True)
            self._writer.start()

    def _run(self) -> None:
        while (lines := self._next()) is not None:
            for line in lines:
                self._write(line)
            self._closing.wait(_PAUSE_S)

    def _next(self) -> list[str] | None:
        """Wait for the next lines; returns None when all is written and the process ends."""
        with self._news:
            while not self._waiting and not self._sum_is_due():
                if self._closing.is_set() and not self._more:
                    return None
                self._news.wait(self._due - time.monotonic() if self._more else None)
            ends, more = list(self._waiting), 0
            self._waiting.clear()
            if self._sum_is_due():
                more, self._more = self._more, 0
        lines = [self._line(end, _local(at)) for end, at in ends]
        if more:
            lines.append((more_json if self._as_json else more_line)(more, _local(time.time())))
        return lines

    def _sum_is_due(self) -> bool:
        return bool(self._more) and (self._closing.is_set() or time.monotonic() >= self._due)

    def _line(self, end: TaskEnd, at: datetime) -> str:
        return json_of(end, at) if self._as_json else line_of(end, at, colours=self._colours)


def _local(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC).astimezone()


def lines_on(stream: TextIO, *, most: int, as_json: bool, colours: bool | None = None) -> TaskLines:
    """Return the lines of a process that writes them to `stream`, one of its standard streams.

    `colours`: None means, if the stream is a terminal that shows them.
    """
    chosen = shows_colours(stream) if colours is None else colours
    return TaskLines(_writer_to(stream), most=most, as_json=as_json, colours=chosen)


def _writer_to(stream: TextIO) -> Callable[[str], None]:
    # Written past the stream's buffer, since other threads and libraries that replace it write there too.
    number, encoding = stream.fileno(), stream.encoding or "utf-8"

    def write(line: str) -> None:
        try:
            data = f"{line}\n".encode(encoding)
        except UnicodeEncodeError:
            data = f"{line.translate(_PLAIN)}\n".encode(encoding, "backslashreplace")
        try:
            while data:
                data = data[os.write(number, data) :]
        except OSError:
            # The reader is gone, or the disk is full. The worker goes on without its lines.
            return

    return write
