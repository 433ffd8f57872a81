"""What a group may be limited to across all its workers: how many tasks run at once, and how many start per time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from celeriac.errors import InvalidSubmissionError, Violation

#: Highest limit of tasks that run at once.
MAX_RUNNING: Final = 1_000_000
#: The periods of a rate, by the letter that stands for them (ms).
_PERIODS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
#: Starts per second above which a rate is not worth its name; the store counts in 1/1024 ms.
_MOST_PER_S: Final = 10_000
_RATE: Final = re.compile(r"([0-9]{1,9})/([smhd])")


@dataclass(frozen=True, slots=True)
class StartRate:
    """At most `starts` starts within any `per_ms` milliseconds."""

    starts: int
    per_ms: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `5/s`, `100/m`, `10/h` or `1/d`; raises `ValueError` that says what is wrong."""
        found = _RATE.fullmatch(text.strip())
        if found is None:
            raise ValueError("is not a rate: write a number and a period, as in 5/s, 100/m, 10/h or 1/d")
        rate = cls(int(found[1]), _PERIODS_MS[found[2]])
        if rate.starts == 0:
            raise ValueError("lets nothing start: pause the group instead")
        if rate.starts * 1000 > _MOST_PER_S * rate.per_ms:
            raise ValueError(f"is too high: at most {_MOST_PER_S} a second")
        return rate

    def __str__(self) -> str:
        letter = next(letter for letter, ms in _PERIODS_MS.items() if ms == self.per_ms)
        return f"{self.starts}/{letter}"


def check_limits(max_running: int | None, rate: StartRate | None) -> None:
    """Raise `InvalidSubmissionError` if neither limit is given, or `max_running` is out of range."""
    if max_running is None and rate is None:
        raise InvalidSubmissionError([Violation("max_running", "give max_running, rate or both")])
    if max_running is not None and not 1 <= max_running <= MAX_RUNNING:
        raise InvalidSubmissionError([Violation("max_running", f"must be between 1 and {MAX_RUNNING}")])


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a group, since when, and the operator's note; None means without a limit of this kind."""

    max_running: int | None
    rate: StartRate | None
    at: datetime
    note: str = ""
