"""API keys in the store, each as one field of a hash.

So any process checks a key in one round trip, all processes see a revocation at once, and the SQL database may be away.
"""

from __future__ import annotations

from typing import Any

from celeriac import json_text
from celeriac.access.api_key import ApiKey
from celeriac.access.principal import read_scopes
from celeriac.store import keys
from celeriac.store.task_store import TaskStore


class ApiKeys:
    """The keys of an installation."""

    def __init__(self, store: TaskStore) -> None:
        self._store = store

    async def add(self, key: ApiKey) -> None:
        """Keep a new key."""
        await self._store.read(("HSET", keys.api_keys(), key.key_id, json_text.write(_written(key))))

    async def find(self, key_id: str) -> ApiKey | None:
        """Return the key of this id, or None."""
        text = (await self._store.read(("HGET", keys.api_keys(), key_id)))[0]
        return None if text is None else _read(key_id, text)

    async def all(self) -> list[ApiKey]:
        """Return all keys, the oldest first."""
        found = (await self._store.read(("HGETALL", keys.api_keys())))[0]
        return sorted((_read(key_id, text) for key_id, text in found.items()), key=lambda key: key.created_at)

    async def revoke(self, key_id: str) -> bool:
        """Delete a key; returns whether it existed. A process that has just checked it accepts it for seconds."""
        return bool((await self._store.read(("HDEL", keys.api_keys(), key_id)))[0])


def _written(key: ApiKey) -> dict[str, Any]:
    return {
        "name": key.name,
        "user_id": key.user_id,
        "scopes": sorted(key.scopes),
        "digest": key.digest,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
    }


def _read(key_id: str, text: str) -> ApiKey:
    found = json_text.read(text)
    return ApiKey(
        key_id,
        found["name"],
        found["user_id"],
        read_scopes(found["scopes"]),
        found["digest"],
        found["created_at"],
        found["expires_at"],
    )
