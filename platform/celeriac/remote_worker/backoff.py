"""How long to wait before the next attempt to connect: a pure function of what ended the last one."""

from __future__ import annotations

from typing import Final

#: The server stops or restarts: another one is there, or will be soon.
RESTARTING: Final = frozenset({1001, 1012})
#: The server has no room now.
TRY_LATER: Final = 1013
#: The server does not want this worker: token, group, address.
REFUSED: Final = 1008

#: First ceiling of the pause (seconds); doubles with each failure in a row.
_BASE_S: Final = 0.5
#: The same for a server that asked to try later.
_LATER_S: Final = 5.0


def pause_s(failures: int, code: int | None, *, longest_s: float, random: float) -> float:
    """Return the seconds until the next attempt: exponential backoff with full jitter.

    `failures` counts the attempts in a row that led to no connection, 0 after one that stood; `code` is what the
    last connection was closed with; `random` is in [0, 1). Full jitter (any moment from none to the ceiling) spreads
    the workers of a server that went away most evenly: M. Brooker, "Exponential Backoff and Jitter".
    """
    base_s = _LATER_S if code == TRY_LATER else _BASE_S
    # The exponent is capped: far beyond every ceiling, and a float may overflow.
    return random * min(base_s * 2.0 ** min(failures, 30), longest_s)
