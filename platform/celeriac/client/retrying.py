"""When a request is sent again, and after which pause. Pure: randomness is passed in."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

#: Answers that may be another one soon: the queue is full, or something between here and the store is away.
TRANSIENT: Final = frozenset({429, 502, 503, 504})

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
#: What a server may ask for at most.
_LONGEST_OBEYED_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Retrying:
    """How often and how patiently: exponential pauses from 0.1 s to 5 s, each shortened by up to a half at random.

    8 retries ride out a restart of the API (about 12 s).
    """

    retries: int = 8
    #: Returns a number from 0 to below 1.
    chance: Callable[[], float] = random.random

    def pause_s(self, failures: int, asked_s: float = 0.0) -> float | None:
        """Return the pause after the `failures`-th failure in a row, None to give up.

        It is not shorter than `asked_s`, which the server asked for.
        """
        if failures > self.retries:
            return None
        longest = min(_FIRST_PAUSE_S * math.pow(2, min(failures, 20) - 1), _LONGEST_PAUSE_S)
        return max(longest * (1 - self.chance() / 2), min(asked_s, _LONGEST_OBEYED_S))


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float:
    """Return what `Retry-After` asks for (RFC 9110: seconds, or a date), 0 where it asks for nothing usable."""
    text = headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())
