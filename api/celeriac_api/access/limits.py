"""How much one caller may ask for: token buckets, and a bound on open streams.

Each process counts by itself. That costs no round trip, but the limit of an installation is the limit of one process
times the number of API processes.
"""

from __future__ import annotations

import time
from collections import Counter
from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import Final

from celeriac.errors import RateLimitedError
from celeriac.settings import AccessSettings
from celeriac.up.ports import is_loopback

#: One process counts for at most this many callers. It forgets the one that was quiet longest, whose bucket is full.
_CALLERS: Final = 10_000
#: Requests per second of one principal, unless the settings say otherwise.
_DEFAULT_RATE: Final = 1000.0


class TokenBucket:
    """Fills by `rate` per second up to `burst`; each request takes one. It is full at the beginning."""

    __slots__ = ("_at", "_burst", "_level", "_rate")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = self._level = burst
        self._at = time.monotonic()

    def wait_s(self, take: float = 1.0) -> float:
        """Take and return 0, or the seconds until there is enough again."""
        now = time.monotonic()
        self._level = min(self._burst, self._level + (now - self._at) * self._rate)
        self._at = now
        if self._level < take:
            return (take - self._level) / self._rate
        self._level -= take
        return 0.0


class Buckets:
    """One bucket per caller."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self._burst = rate, burst
        self._buckets: dict[str, TokenBucket] = {}

    def wait_s(self, caller: str, take: float = 1.0) -> float:
        """Take from the caller's bucket and return 0, or the seconds until there is enough in it again."""
        bucket = self._buckets.pop(caller, None) or TokenBucket(self.rate, self._burst)
        # Added again at the end, so that the first one has been quiet longest.
        self._buckets[caller] = bucket
        if len(self._buckets) > _CALLERS:
            del self._buckets[next(iter(self._buckets))]
        return bucket.wait_s(take)


def principal_buckets(access: AccessSettings, *, host: str) -> Buckets | None:
    """Return the buckets of principals, or None if their rate is not limited; `host` is where the server listens."""
    rate = access.rate_limit
    if rate is None:
        rate = 0.0 if not access.on and is_loopback(host) else _DEFAULT_RATE
    return Buckets(rate, 2 * rate) if rate else None


def check_rate(buckets: Buckets | None, caller: str, what: str) -> None:
    """Raise `RateLimitedError` if the caller's bucket is empty."""
    if buckets is not None and (wait_s := buckets.wait_s(caller)) > 0:
        raise RateLimitedError(f"{what} (limit: {buckets.rate:g} per second)", retry_after_s=wait_s)


class OpenCounts:
    """How many of something each caller has open, up to a limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._open: Counter[str] = Counter()

    def enter(self, caller: str) -> bool:
        """Count one more and return True; False at the limit."""
        if self._open[caller] >= self.limit:
            return False
        self._open[caller] += 1
        return True

    def leave(self, caller: str) -> None:
        """Count one less."""
        self._open[caller] -= 1
        if self._open[caller] <= 0:
            del self._open[caller]


def network_of(address: str) -> str:
    """Return what counts as one address: an IPv4 address, or the /64 of an IPv6 address, which one machine may own."""
    if ":" not in address:
        return address
    try:
        known = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(known, IPv4Address):
        return address
    if known.ipv4_mapped is not None:
        return str(known.ipv4_mapped)
    return str(IPv6Network((int(known) >> 64 << 64, 64)))
