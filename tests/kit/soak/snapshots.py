"""Records of ended tasks as the store had them, taken now and then: history must say the same at the end."""

from __future__ import annotations

import asyncio
from typing import Any

import redis.asyncio as redis
from redis.exceptions import RedisError

from celeriac.history.rows import row_of
from celeriac.store import keys
from tests.kit.soak.records import FINAL, Records

_EVERY_S = 45.0
_PAGE = 200
_COMPARED = ("status", "attempt", "finished_ms", "error_code", "result", "queue", "started_ms", "user_id", "rev")


class Snapshots:
    """The last state seen of each record that had ended, by its id."""

    def __init__(self, store_url: str) -> None:
        self._store_url = store_url
        self.rows: dict[str, dict[str, Any]] = {}

    async def run(self) -> None:
        """Look until cancelled; the store may be away."""
        while True:
            await asyncio.sleep(_EVERY_S)
            try:
                await self.look()
            except (RedisError, OSError, TimeoutError):
                continue

    async def look(self) -> None:
        """Read all records that have ended."""
        async with redis.Redis.from_url(self._store_url, decode_responses=True, socket_timeout=10) as client:
            names = [name async for name in client.scan_iter(match=keys.task("*"), count=1000)]
            for start in range(0, len(names), _PAGE):
                page = [name for name in names[start : start + _PAGE] if name != keys.EXTERNAL]
                async with client.pipeline(transaction=False) as pipe:
                    for name in page:
                        pipe.hgetall(name)
                    records = await pipe.execute()
                for name, record in zip(page, records, strict=True):
                    if record.get("status") in FINAL:  # an empty one has expired meanwhile
                        row = row_of(record)
                        self.rows[name.removeprefix(keys.task(""))] = {column: row[column] for column in _COMPARED}

    def differences(self, records: Records) -> list[str]:
        """Return what history says otherwise. A task that was retried later has a higher revision there."""
        found = []
        for task_id, seen in self.rows.items():
            row = records.tasks.get(task_id)
            if row is None:
                found.append(f"{task_id} is not in history")
            elif row["rev"] < seen["rev"]:
                found.append(f"{task_id}: history has revision {row['rev']}, the store had {seen['rev']}")
            elif row["rev"] == seen["rev"]:
                found += [
                    f"{task_id} {column}: history {row[column]!r}, store {seen[column]!r}"
                    for column in _COMPARED
                    if row[column] != seen[column]
                ]
        return found
