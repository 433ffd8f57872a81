"""Decides whether a request is sent again, and after which pause. Pure: randomness is passed in."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

#: Answers that may soon be different: the queue is full, or the API, its store or a proxy is not available.
TRANSIENT: Final = frozenset({429, 502, 503, 504})

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
#: The longest pause that is made because the server asked for it.
_LONGEST_OBEYED_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Retrying:
    """How often to try again: the pauses grow from 0.1 s to 5 s, and each is shortened by up to a half at random.

    8 retries take about 12 s, enough for a restart of the API.
    """

    retries: int = 8
    #: Returns a number from 0 to below 1.
    chance: Callable[[], float] = random.random

    def pause_s(self, failures: int, asked_s: float = 0.0) -> float | None:
        """Return the pause after so many failures in a row, None to give up.

        The pause is at least `asked_s`, which the server asked for, up to 60 s.
        """
        if failures > self.retries:
            return None
        longest = min(_FIRST_PAUSE_S * math.pow(2, min(failures, 20) - 1), _LONGEST_PAUSE_S)
        return max(longest * (1 - self.chance() / 2), min(asked_s, _LONGEST_OBEYED_S))


def retry_after_s(headers: Mapping[str, str], now: datetime | None = None) -> float:
    """Return the seconds that `Retry-After` asks for (RFC 9110: seconds, or a date), 0 if it is missing or invalid."""
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
