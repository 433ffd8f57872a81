"""A handler that was told to come back later: which of its exceptions say so, and the line of the log. Pure."""

from __future__ import annotations

import time

from celeriac.errors import RateLimited
from celeriac.model import LogLine

#: The message of the line. Remote workers write no line of their own.
_TOLD: str = "somebody else's service says to come back later"


def rate_limited_by(error: BaseException | None) -> RateLimited | None:
    """Return the `RateLimited` that a handler ended with, None if it ended otherwise.

    In a group of exceptions each one has to be one, and the longest time counts.
    """
    if isinstance(error, RateLimited):
        return error
    if isinstance(error, BaseExceptionGroup):
        found = [rate_limited_by(one) for one in error.exceptions]
        told = [one for one in found if one is not None]
        return max(told, key=lambda one: one.retry_after_s) if len(told) == len(found) else None
    return None


def rate_limited_line(message: str, retry_after_s: float) -> LogLine:
    """Return the line of a task's log for an attempt that is given back."""
    data = {"code": RateLimited.code, "error": message, "retry_after_s": round(retry_after_s, 3)}
    return LogLine("warning", _TOLD, data, time.time_ns() // 1_000_000)
