"""Moments and durations for people. On a terminal a moment is relative or local; elsewhere it is RFC 3339."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Final

#: Units of relative times: the seconds of one, and the letter.
_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def ago(text: str | None, now: datetime | None = None) -> str | None:
    """Return how long ago a moment was (`3 m ago`), or how far it is (`in 3 m`), if standard output is a terminal."""
    if text is None or not sys.stdout.isatty():
        return text
    return relative(text, now or datetime.now(UTC))


def local(text: str | None) -> str | None:
    """Return a moment in local time and how long ago that was, if standard output is a terminal."""
    if text is None or not sys.stdout.isatty():
        return text
    moment = datetime.fromisoformat(text).astimezone()
    return f"{moment:%Y-%m-%d %H:%M:%S %Z} ({relative(text, datetime.now(UTC))})"


def clock(text: str) -> str:
    """Return a moment as local time of day, with the date unless it is today, if standard output is a terminal."""
    if not sys.stdout.isatty():
        return text
    moment = datetime.fromisoformat(text).astimezone()
    today = moment.date() == datetime.now().astimezone().date()
    return f"{moment:%H:%M:%S}" if today else f"{moment:%Y-%m-%d %H:%M:%S}"


def relative(text: str, now: datetime) -> str:
    """Return the distance of a moment from `now`, rounded down, in its largest unit: `3 m ago`, `in 2 d`, `now`."""
    seconds = (now - datetime.fromisoformat(text)).total_seconds()
    for size, unit in _UNITS:
        if abs(seconds) >= size:
            number = int(abs(seconds) // size)
            return f"{number} {unit} ago" if seconds > 0 else f"in {number} {unit}"
    return "now"


def duration(ms: float | None) -> str | None:
    """Return a duration in the unit that shows its size at once: 7ms, 1.25s, 3m20s, 2h05m."""
    if ms is None:
        return None
    if ms < 1000:
        return f"{ms:.0f}ms"
    seconds = ms / 1000
    if seconds < 60:
        return f"{seconds:.2f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"
