"""What a forked child does with the connections and loops that it inherited: it forgets them, and keeps them."""

from __future__ import annotations

import os
import weakref
from typing import Final, Protocol


class PerProcess(Protocol):
    """An object that holds what belongs to one process."""

    def after_fork(self) -> None:
        """Begin anew, in a forked child.

        The child has one thread. Locks that the parent's other threads held would never be released: make new ones.
        """
        ...


#: Whose `after_fork` a forked child calls.
_owners: Final[weakref.WeakSet[PerProcess]] = weakref.WeakSet()
#: What belongs to the parent process, see `keep_inherited`.
_inherited: Final[list[object]] = []


def call_after_fork(owner: PerProcess) -> None:
    """Call `owner.after_fork()` in every child that this process forks, as long as the owner lives."""
    _owners.add(owner)


def keep_inherited(*things: object) -> None:
    """Keep objects of the parent process alive, so that no finaliser runs in the child.

    An inherited event loop shares its epoll instance with the parent's. A transport that is closed here would be
    removed there, and the parent would wait for ever for its next byte.
    """
    _inherited.extend(things)


def _after_fork() -> None:
    for owner in list(_owners):
        owner.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_after_fork)
