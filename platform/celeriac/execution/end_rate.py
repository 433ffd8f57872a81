"""How many attempts end per minute, from a count that only grows."""

from __future__ import annotations

from collections import deque
from typing import Final

#: The time that a rate is about (seconds).
_MINUTE_S: Final = 60.0
#: Counts that are noted more often than this are not kept (seconds).
_LEAST_S: Final = 1.0


class EndRate:
    """The rate of the last minute. It is as exact as `note` is called often."""

    def __init__(self) -> None:
        #: When a count was noted (seconds of any clock that goes on), and the count.
        self._noted: deque[tuple[float, int]] = deque()

    def note(self, at_s: float, ended: int) -> float:
        """Note how many have ended by now; returns how many ended per minute, with one decimal.

        In the first minute it is what has ended since the first count.
        """
        if not self._noted or at_s - self._noted[-1][0] >= _LEAST_S:
            self._noted.append((at_s, ended))
        # One that is a minute old or older is needed, to begin with.
        while len(self._noted) > 1 and at_s - self._noted[1][0] >= _MINUTE_S:
            self._noted.popleft()
        began_s, before = self._noted[0]
        return round(max(ended - before, 0) * _MINUTE_S / max(at_s - began_s, _MINUTE_S), 1)
