"""What one question about a timetable may cost: steps, and time of a processor. Pure."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from celeriac.errors import InvalidSubmissionError, Violation

#: The clock is read after this many steps.
_STEPS_PER_LOOK: Final = 32


class TimetableCostError(InvalidSubmissionError):
    """The next moments of a timetable take too long to compute."""

    def __init__(self, steps: int) -> None:
        message = (
            f"takes too long to compute: {steps} steps did not find enough moments that are not left out."
            " Use fewer rules and exclusions, or exclude whole days or ranges"
        )
        super().__init__([Violation("trigger_args", message)])


@dataclass(frozen=True, slots=True)
class ComputeLimits:
    """The limits of one question. Time is that of a processor, so a busy machine refuses nothing more."""

    max_steps: int = 20_000
    max_cpu_s: float = 0.05

    def budget(self, times: int = 1) -> Budget:
        """Return what one question may use, or several at once."""
        return Budget(self.max_steps * times, self.max_cpu_s * times)


class Budget:
    """What is left of the limits of a question. It belongs to the thread that asks."""

    __slots__ = ("_deadline", "_limit", "_max_cpu_s", "spent")

    def __init__(self, max_steps: int, max_cpu_s: float) -> None:
        self._limit = max_steps
        #: The steps so far.
        self.spent = 0
        self._max_cpu_s = max_cpu_s
        self._deadline: float | None = None

    def again(self) -> Budget:
        """Return a budget with the same limits, of which nothing is spent."""
        return Budget(self._limit, self._max_cpu_s)

    def spend(self) -> None:
        """Take a step; raises `TimetableCostError` if none is left."""
        if self._deadline is None:
            self._deadline = time.thread_time() + self._max_cpu_s
        self.spent += 1
        late = self.spent % _STEPS_PER_LOOK == 0 and time.thread_time() > self._deadline
        if late or self.spent > self._limit:
            raise TimetableCostError(self.spent)

    @property
    def half_spent(self) -> bool:
        """Whether half of the steps or of the time is gone."""
        if self.spent * 2 > self._limit:
            return True
        if self._deadline is None or self.spent % _STEPS_PER_LOOK:
            return False
        return time.thread_time() > self._deadline - self._max_cpu_s / 2
