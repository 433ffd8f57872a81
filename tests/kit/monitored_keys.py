"""Every command that a server runs, those of scripts included, and whether its keys and channels have a prefix."""

from __future__ import annotations

import re
import socket
import threading
from types import TracebackType
from typing import Self

from celeriac.store.server.prefix import places_of

#: `TIME [DATABASE CLIENT] "WORD" "WORD" …`, as MONITOR writes it.
_LINE = re.compile(r"^\+?[\d.]+ \[\d+ [^\]]*\] (.*)$")
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"')


class KeyMonitor:
    """Reads MONITOR of a server while the block runs; then `outside` has the commands whose keys lack the prefix."""

    def __init__(self, port: int, prefix: str) -> None:
        self.prefix = prefix
        #: Commands with a key or channel outside the prefix, and such whose keys are not known; a bounded number.
        self.outside: list[str] = []
        #: The names of all commands that were seen.
        self.seen: set[str] = set()
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._socket.sendall(b"MONITOR\r\n")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(30)
        self._socket.close()

    def _read(self) -> None:
        with self._socket.makefile("r", encoding="utf-8", errors="replace", newline="\n") as lines:
            for line in lines:
                if (found := _LINE.match(line.rstrip("\r\n"))) is not None:
                    self._look(_WORD.findall(found[1]))

    def _look(self, words: list[str]) -> None:
        name = words[0].upper()
        self.seen.add(name)
        if name == "SCAN":
            names = [words[words.index("MATCH") + 1]] if "MATCH" in words else [""]
        else:
            places = places_of(words)
            names = ["(not known)"] if places is None else [words[place] for place in places if place < len(words)]
        if any(not one.startswith(self.prefix) for one in names) and len(self.outside) < 50:
            self.outside.append(" ".join(words)[:300])
