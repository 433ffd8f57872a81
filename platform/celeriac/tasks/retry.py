"""When the next attempt runs: a pure function of the policy, the attempt and a random number."""

from __future__ import annotations

from dataclasses import dataclass

from celeriac.moments import MAX_DELAY_S


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how late a failed task runs again.

    The delay after attempt *n* (1 = the first) is ``delay_s * backoff ** (n - 1)``, at most
    `max_delay_s`, stretched by up to `jitter` (a share, 0 to 1) so that tasks which failed together
    do not come back together. It is never shorter than the unstretched delay.
    """

    max_retries: int = 3
    delay_s: float = 1.0
    backoff: float = 2.0
    max_delay_s: float = 300.0
    jitter: float = 0.2

    def delay_ms(self, attempt: int, random: float) -> int:
        """Return the milliseconds from the failure of `attempt` to the next; `random` is in [0, 1)."""
        # The exponent is capped: beyond it every sane policy has reached its ceiling, and a float may overflow.
        grown = self.delay_s * self.backoff ** min(max(attempt - 1, 0), 60)
        return round(min(grown, self.max_delay_s, MAX_DELAY_S) * (1 + self.jitter * random) * 1000)
