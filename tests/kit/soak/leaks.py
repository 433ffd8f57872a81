"""What grows: memory, descriptors and threads of each process, connections and memory of the servers."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import psutil
import psycopg
import redis.asyncio as redis
from redis.exceptions import RedisError

from tests.kit.soak.servers import SoakPlatform

_EVERY_S = 5.0
#: A process is looked at from this age on (seconds): before, it still fills its caches.
_GROWN_S = 30.0


@dataclass(frozen=True)
class Sample:
    """One look at one process."""

    at: float
    rss_mib: float
    fds: int
    threads: int


@dataclass(frozen=True)
class Growth:
    """What one process had in the first and in the last quarter of the time in which it was watched."""

    name: str
    minutes: float
    rss_mib: tuple[float, float]
    fds: tuple[float, float]
    threads: tuple[float, float]

    @property
    def leaks(self) -> bool:
        """Whether it grew more than by chance."""
        return (
            self.rss_mib[1] > self.rss_mib[0] * 1.25 + 15
            or self.fds[1] > self.fds[0] * 1.25 + 10
            or self.threads[1] > self.threads[0] * 1.25 + 8
        )


class Leaks:
    """Samples everything every few seconds."""

    def __init__(self, platform: SoakPlatform) -> None:
        self._platform = platform
        self._samples: dict[tuple[str, int], list[Sample]] = defaultdict(list)
        #: (time, MiB used by the store's data, its connections, connections of the database, keys)
        self.servers: list[tuple[float, float, int, int, int]] = []
        self.since = 0.0

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            await self.sample()
            await asyncio.sleep(_EVERY_S)

    async def sample(self) -> None:
        """Look once."""
        now = time.time()
        for role in self._platform.processes.roles.values():
            if role.pid is None or role.stalled:
                continue
            try:
                process = psutil.Process(role.pid)
                if now - process.create_time() < _GROWN_S:
                    continue
                sample = Sample(now, process.memory_info().rss / 2**20, process.num_fds(), process.num_threads())
            except psutil.Error:
                continue
            self._samples[role.name, role.pid].append(sample)
        try:
            async with asyncio.timeout(3):
                self.servers.append((now, *await self._servers()))
        except (TimeoutError, RedisError, OSError, psycopg.Error):
            pass

    async def _servers(self) -> tuple[float, int, int, int]:
        async with redis.Redis.from_url(self._platform.store_url, socket_timeout=3, decode_responses=True) as client:
            info = await client.info()
            keys = await client.dbsize()
        database = await asyncio.to_thread(self._database_connections)
        return info["used_memory"] / 2**20, int(info["connected_clients"]) - 1, database, int(keys)

    def _database_connections(self) -> int:
        url = self._platform.database_url
        if url.startswith("sqlite"):
            return 0
        with psycopg.connect(url, connect_timeout=3) as connection:
            row = connection.execute(
                "SELECT count(*) - 1 FROM pg_stat_activity WHERE datname = current_database()"
            ).fetchone()
        return int(row[0]) if row else 0

    def growths(self) -> list[Growth]:
        """Return for each role the growth of its process that lived longest since `since`."""
        found: dict[str, Growth] = {}
        for (name, _), samples in self._samples.items():
            late = [s for s in samples if s.at >= self.since]
            if len(late) < 8:
                continue
            quarter = len(late) // 4
            first, last = late[:quarter], late[-quarter:]
            growth = Growth(
                name,
                (late[-1].at - late[0].at) / 60,
                _pair([s.rss_mib for s in first], [s.rss_mib for s in last]),
                _pair([s.fds for s in first], [s.fds for s in last]),
                _pair([s.threads for s in first], [s.threads for s in last]),
            )
            if name not in found or found[name].minutes < growth.minutes:
                found[name] = growth
        return sorted(found.values(), key=lambda growth: growth.name)

    def quiet(self, seconds: float) -> dict[str, float]:
        """Return the medians of the servers' figures in the last seconds."""
        late = [s for s in self.servers if s[0] >= time.time() - seconds] or self.servers[-1:]
        names = ("store MiB", "store connections", "database connections", "keys")
        return {name: statistics.median(s[i] for s in late) for i, name in enumerate(names, 1)} if late else {}


def _pair(first: Sequence[float], last: Sequence[float]) -> tuple[float, float]:
    return float(statistics.median(first)), float(statistics.median(last))
