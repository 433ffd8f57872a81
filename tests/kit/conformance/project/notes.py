"""What the tasks of the project leave behind in Redis, and what they wait for."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import redis

_URL = os.environ.get("CONFORMANCE_NOTES", "redis://127.0.0.1:1/0")
_client: dict[int, redis.Redis] = {}


def client() -> redis.Redis:
    """Return the connections of this process; a forked process gets its own."""
    if os.getpid() not in _client:
        _client[os.getpid()] = redis.Redis.from_url(_URL, decode_responses=True)
    return _client[os.getpid()]


def note(key: str, value: Any) -> None:
    client().rpush(f"note:{key}", json.dumps(value))


def notes(key: str) -> list[Any]:
    return [json.loads(value) for value in client().lrange(f"note:{key}", 0, -1)]


def release(key: str) -> None:
    """Let the task that waits for this key go on."""
    client().set(f"go:{key}", 1)


def hold(key: str) -> None:
    """Let tasks wait for this key again."""
    client().delete(f"go:{key}")


def wait_for(key: str, timeout_s: float = 100) -> bool:
    """Wait in small steps until somebody releases the key."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if client().exists(f"go:{key}"):
            return True
        time.sleep(0.02)
    return False
