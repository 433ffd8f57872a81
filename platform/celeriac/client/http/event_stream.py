"""Reads server-sent events as they arrive (WHATWG HTML, section 9.2.6)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

#: Longest line. The line of a `done` event has the task's result.
MAX_LINE_BYTES: Final = 64 * 1024**2


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event. A client that reconnects sends `last_id`: the event's id, or else the last id before it, or None."""

    name: str
    data: str
    last_id: str | None


class EventReader:
    """Turns the bytes of one response into events. An event that was cut off is dropped."""

    def __init__(self, last_id: str | None = None) -> None:
        self._rest = bytearray()
        self._searched = 0
        self._after_cr = False
        self._name = ""
        self._data: list[str] = []
        self._id = self._last_id = last_id

    def feed(self, chunk: bytes) -> Iterator[ServerEvent]:
        """Yield the events that `chunk` completes; raises `ValueError` for a line longer than `MAX_LINE_BYTES`."""
        for line in self._lines(chunk):
            if line:
                self._field(line)
                continue
            self._last_id = self._id
            if self._data:
                yield ServerEvent(self._name or "message", "\n".join(self._data), self._last_id)
            self._name, self._data = "", []

    def _lines(self, chunk: bytes) -> Iterator[str]:
        """Yield complete lines. A line ends with LF, CRLF or CR; a CRLF may be split between two chunks."""
        rest = self._rest
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        if chunk:
            self._after_cr = False
        rest += chunk
        start = 0
        while (end := self._line_end(max(start, self._searched))) >= 0:
            yield rest[start:end].decode("utf-8", "replace")
            start = end + 1
            if rest[end] == 0x0D:
                if start == len(rest):
                    self._after_cr = True
                elif rest[start] == 0x0A:
                    start += 1
        del rest[:start]
        self._searched = len(rest)
        if len(rest) > MAX_LINE_BYTES:
            raise ValueError(f"a line of the event stream is longer than {MAX_LINE_BYTES} bytes")

    def _line_end(self, start: int) -> int:
        lf = self._rest.find(b"\n", start)
        cr = self._rest.find(b"\r", start, lf if lf >= 0 else len(self._rest))
        return lf if cr < 0 else cr

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._name = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value
