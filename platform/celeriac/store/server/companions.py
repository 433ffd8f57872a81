"""Which replicas a primary has had of late, and whether one of them has left it.

A replica that is promoted leaves its primary. A primary that only stalled goes on when it wakes up, until the Sentinels
have told it: for that long it may have another replica left, which acknowledges what both will lose. So while a replica
is away that was there before, nothing counts as kept, until a failover would be over.

What was there before is noted in the store, so that a process knows it that has just started. Each process measures the
time itself: the clock of a server that stalled may jump.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from celeriac.store import keys
from celeriac.store.server.pipeline import Command
from celeriac.store.server.scripts import script

#: A replica acknowledges once a second what it has. One that is silent for longer may have been cut off (seconds).
_SILENT_S: Final = 2


class Companions:
    """The replicas of the primary, as one process has seen them. May be used by several threads.

    `failover_s`: how long a failover takes at most, until the old primary knows of it (seconds).
    """

    def __init__(self, failover_s: float) -> None:
        self._failover_s = failover_s
        #: A server that is promoted begins a history of its own.
        self._history = ""
        self._most = 0
        self._fewer_since: float | None = None
        #: A history whose missing replica is given up, and how many it has without it: to be noted.
        self._given_up = ("", 0)

    @property
    def look(self) -> Command:
        """What tells `away_s` how it is now."""
        history, left = self._given_up
        return ("EVAL", script("companions").source, 1, keys.COMPANIONS, _SILENT_S, history, left)

    def away_s(self, looked: Sequence[Any], now_s: float) -> float | None:
        """Return for how long a replica has been away that was there before.

        None if none is, or if it has been for longer than a failover takes.
        `looked`: what the server answered to `look`. `now_s`: the time of a clock that nobody sets.
        """
        history, count, noted = _text(looked[0]), int(looked[1]), int(looked[2])
        if history != self._history:
            self._history, self._most, self._fewer_since = history, noted, None
        if count >= self._most:
            # It may have come back after it was given up.
            self._most, self._fewer_since, self._given_up = count, None, ("", 0)
            return None
        if self._fewer_since is None:
            self._fewer_since = now_s
        away_s = now_s - self._fewer_since
        if away_s < self._failover_s:
            return away_s
        self._most, self._fewer_since, self._given_up = count, None, (history, count)
        return None


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
