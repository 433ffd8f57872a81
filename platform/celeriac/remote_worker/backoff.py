"""Decides how long to wait before the next attempt to connect. Pure: randomness is passed in."""

from __future__ import annotations

from typing import Final

#: The server stops or restarts. Another one is available, or will be soon.
RESTARTING: Final = frozenset({1001, 1012})
#: The server has no room now.
TRY_LATER: Final = 1013
#: The server refuses this worker because of its token, group or address.
REFUSED: Final = 1008

#: The longest first pause (seconds). It doubles with each failure in a row.
_BASE_S: Final = 0.5
#: The same if the server asked to try later.
_LATER_S: Final = 5.0


def pause_s(failures: int, code: int | None, *, longest_s: float, random: float) -> float:
    """Return the seconds until the next attempt: exponential backoff with full jitter.

    `failures` is how many attempts in a row did not lead to a connection, 0 after one that did. `code` is the close
    code of the last connection. `random` is in [0, 1). Full jitter (any pause from 0 to the longest) spreads the
    workers of a server that stopped most evenly: M. Brooker, "Exponential Backoff and Jitter".
    """
    base_s = _LATER_S if code == TRY_LATER else _BASE_S
    # The exponent is bounded, or the power would overflow after many failures.
    return random * min(base_s * 2.0 ** min(failures, 30), longest_s)
