"""The connections of this process to one store, so that what one of them finds out helps all.

When one meets a server that has become a replica, the others to the same place lead there too: a subscription stays
silent there, and a read is answered from old data. They are cut, and connect to the primary when they are used next.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Protocol

#: Host and port of a server.
Place = tuple[str, int]


class Cuttable(Protocol):
    """A connection that another thread may end."""

    @property
    def place(self) -> Place | None:
        """Return where it leads; None while it is not connected."""
        ...

    def cut(self) -> None:
        """End the connection. Who uses it gets the error of a lost connection."""
        ...


class Siblings:
    """All connections to the store at one address. May be used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: weakref.WeakSet[Any] = weakref.WeakSet()

    def add(self, connection: Cuttable) -> None:
        """Note a connection that is being opened."""
        with self._lock:
            self._all.add(connection)

    @property
    def any_open(self) -> bool:
        """Whether one of them is connected."""
        with self._lock:
            return any(one.place is not None for one in self._all)

    def cut_all_but(self, place: Place) -> None:
        """Cut those that lead to another server."""
        self._cut(lambda one: one.place != place)

    def cut_others(self, connection: Cuttable, place: Place) -> None:
        """Cut all to a place except this connection. One that leads to the new server already loses nothing by it."""
        self._cut(lambda one: one is not connection and one.place == place)

    def _cut(self, wanted: Callable[[Any], bool]) -> None:
        with self._lock:
            found = [one for one in self._all if one.place is not None and wanted(one)]
        for one in found:
            with contextlib.suppress(OSError, RuntimeError):
                one.cut()


_all: dict[str, Siblings] = {}
_all_lock = threading.Lock()


def siblings_of(url: str) -> Siblings:
    """Return the connections of this process to the store of this URL."""
    with _all_lock:
        return _all.setdefault(url, Siblings())


def _forget() -> None:
    """Begin anew in a forked child: the parent's sockets are not its own, and a lock may have been held."""
    global _all, _all_lock
    _all, _all_lock = {}, threading.Lock()


os.register_at_fork(after_in_child=_forget)
