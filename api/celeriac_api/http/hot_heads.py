"""Recognises whole requests to one hot route by their heads, most of which were parsed before.

A client sends the same head again and again, apart from the length of the body. So what a head means is remembered,
and a request with a known head is not parsed. A head is remembered only if the parser took it as it is and nothing in
it asks for more than an answer; then only its length can differ, which is read each time.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import httptools

Meaning = TypeVar("Meaning")

#: The length of a body, in a head.
_LENGTH: Final = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: ?([0-9]{1,9})\r\n")
_END: Final = b"\r\n\r\n"
#: Heads of one process that are remembered; the oldest is forgotten first.
_REMEMBERED: Final = 1000
#: Largest head that is recognised (bytes).
_MOST_BYTES: Final = 2048
#: Headers that ask for more than an answer.
_MORE: Final = frozenset({b"transfer-encoding", b"expect", b"upgrade", b"content-encoding", b"trailer"})
_KEEP: Final = b"keep-alive"

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class WholeHead(Generic[Meaning]):
    """The head of a request at the start of a chunk, and where its body is in the chunk."""

    meaning: Meaning
    begins: int
    ends: int


class HotHeads(Generic[Meaning]):
    """The heads of `POST path` over HTTP/1.1 that one process has seen.

    `meaning_of` returns what a head with these headers (names in lower case) means, and whether it may be remembered;
    None for one that this route does not take.
    """

    def __init__(
        self,
        path: str,
        meaning_of: Callable[[Headers], tuple[Meaning, bool] | None],
        *,
        max_bytes: int,
        max_fields: int,
    ) -> None:
        self._path = path.encode()
        self._line = b"POST %b HTTP/1.1\r\n" % self._path
        self._meaning_of = meaning_of
        self._most_bytes = min(max_bytes, _MOST_BYTES)
        self._most_fields = max_fields
        self._known: dict[bytes, Meaning] = {}

    def find(self, data: bytes) -> WholeHead[Meaning] | None:
        """Return the head that a chunk begins with; None if it is not a whole head that this route takes."""
        if not data.startswith(self._line):
            return None
        end = data.find(_END, 0, self._most_bytes)
        if end < 0:
            return None
        length = _LENGTH.search(data, 0, end + 2)
        if length is None:
            return None
        first, last = length.span(1)
        rest = data[:first] + data[last:end]
        meaning = self._known.get(rest)
        if meaning is None:
            found = self._read(data[: end + 4])
            if found is None:
                return None
            meaning, lasting = found
            if lasting:
                if len(self._known) >= _REMEMBERED:
                    del self._known[next(iter(self._known))]
                self._known[rest] = meaning
        return WholeHead(meaning, end + 4, end + 4 + int(length[1]))

    def _read(self, head: bytes) -> tuple[Meaning, bool] | None:
        reader = _Reader()
        parser = httptools.HttpRequestParser(reader)
        try:
            parser.feed_data(head)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return None
        names = [name for name, _ in reader.headers]
        if (
            not reader.complete
            or reader.url != self._path
            or parser.get_method() != b"POST"
            or parser.get_http_version() != "1.1"
            or parser.should_upgrade()
            or not parser.should_keep_alive()
            or len(names) > self._most_fields
            or names.count(b"content-length") != 1
            or not _MORE.isdisjoint(names)
            or any(name == b"connection" and value.lower() != _KEEP for name, value in reader.headers)
        ):
            return None
        return self._meaning_of(reader.headers)


class _Reader:
    def __init__(self) -> None:
        self.url = b""
        self.headers: Headers = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.complete = True


#: What a head means, for protocols that do not look at it.
AnyHead = WholeHead[Any]
