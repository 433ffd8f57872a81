"""The output of children: read line by line, bounded, and written to the terminal without holding anything up."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

from celeriac import json_text
from celeriac.model import rfc3339
from celeriac.safe_text import redact
from celeriac.standard_streams import shows_colours

#: Bytes of a line that are shown; the rest of it is dropped.
LONGEST_LINE = 8192
#: Lines that may wait for a slow terminal; beyond it, the oldest are dropped and counted.
MOST_WAITING = 5000

#: The sequence that clears the rest of a line, and all control characters except tabs and colours (`ESC[1;31m`).
_ERASE = re.compile(r"\x1b\[[012]?K")
_STEERING = re.compile(r"(?!\t|\x1b\[[\d;:]{0,32}m)[\x00-\x1f\x7f-\x9f]")
_COLOURS = ("36", "32", "33", "35", "34", "96", "92", "93", "95", "94")


class LineReader(asyncio.Protocol):
    """Splits a child's output into lines and passes each on, cut to `LONGEST_LINE` bytes."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._kept = bytearray()
        self._cut = False
        self.closed = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        """Take some output, and pass on the lines that it completes."""
        *complete, rest = data.split(b"\n")
        for part in complete:
            self._keep(part)
            self._emit()
        self._keep(rest)

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on an unfinished last line."""
        if self._kept:
            self._emit()
        if not self.closed.done():
            self.closed.set_result(None)

    def _keep(self, part: bytes) -> None:
        room = LONGEST_LINE - len(self._kept)
        self._kept += part[:room]
        self._cut = self._cut or len(part) > room

    def _emit(self) -> None:
        line = self._kept.rstrip(b"\r").decode("utf-8", "replace") + (" … (line cut)" if self._cut else "")
        self._kept.clear()
        self._cut = False
        self._on_line(line)


class Screen:
    """Writes lines of several roles to one stream, from a thread of its own.

    A paused terminal (Ctrl-S) or a slow reader stops neither `up` nor a child: lines beyond `MOST_WAITING` are dropped,
    and a line tells how many. With `as_json`, each line is one JSON object: the child's own line if that is one
    already, else `{timestamp, role, event}`.
    """

    def __init__(self, stream: TextIO | None = None, *, as_json: bool = False, colours: bool | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        #: Whether each line is JSON.
        self.as_json = as_json
        #: Whether it shows colours.
        self.colours = shows_colours(self._stream) if colours is None else colours
        self._palette: dict[str, str] = {}
        self._width = 6
        self._waiting: deque[str] = deque()
        self._dropped = 0
        self._closing = False
        self._news = threading.Condition()
        self._writer = threading.Thread(target=self._write, name="screen", daemon=True)
        self._writer.start()

    def line(self, role: str, text: str) -> None:
        """Show one line of `role`, without secrets and without control sequences that would steer the terminal."""
        if self.colours:
            text = text.rpartition("\r")[2]  # a progress bar overwrites its line: only the last version is shown
        text = _STEERING.sub("\N{REPLACEMENT CHARACTER}", _ERASE.sub("", redact(text)))
        self._put(self._render(role, f"{text}\x1b[0m" if "\x1b" in text else text))

    def block(self, role: str, text: str) -> None:
        """Show several lines as they are, without a prefix; as JSON they are one event."""
        self._put(self._json(role, text) if self.as_json else text)

    def close(self, timeout_s: float = 2.0) -> None:
        """Write the lines that wait, for at most `timeout_s`."""
        with self._news:
            self._closing = True
            self._news.notify()
        self._writer.join(timeout_s)

    def _put(self, text: str) -> None:
        with self._news:
            if len(self._waiting) >= MOST_WAITING:
                self._waiting.popleft()
                self._dropped += 1
            self._waiting.append(text)
            self._news.notify()

    def _write(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                lines = list(self._waiting)
                self._waiting.clear()
                if self._dropped:
                    note = f"{self._dropped} lines were dropped, because the output was read too slowly"
                    lines.insert(0, self._render("up", note))
                    self._dropped = 0
            try:
                self._stream.write("\n".join(lines) + "\n")
                self._stream.flush()
            except (OSError, ValueError):
                # The reader is gone (`up | head`). The platform goes on without it.
                continue

    def _render(self, role: str, text: str) -> str:
        return self._json(role, text) if self.as_json else f"{self._prefix(role)} {text}"

    def _prefix(self, role: str) -> str:
        self._width = max(self._width, len(role))
        label = f"{role:<{self._width}} |"
        if not self.colours:
            return label
        colour = self._palette.setdefault(role, _COLOURS[len(self._palette) % len(_COLOURS)])
        return f"\x1b[{colour}m{label}\x1b[0m"

    def _json(self, role: str, text: str) -> str:
        if text.startswith("{") and text.endswith("}"):
            return text
        event = {"timestamp": rfc3339(datetime.now(UTC)), "role": role, "event": text}
        return json_text.describe(event)
