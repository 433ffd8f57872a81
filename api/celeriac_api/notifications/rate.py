"""How fast a client may send."""

from __future__ import annotations

import time


class Rate:
    """A bucket of tokens: `per_s` on average, twice that at once."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._tokens = 2 * per_s
        self._at = time.monotonic()

    def take(self) -> bool:
        """Take one; False when there is none."""
        now = time.monotonic()
        self._tokens = min(2 * self._per_s, self._tokens + (now - self._at) * self._per_s)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
