"""What tasks of the tests write down while they run."""

from __future__ import annotations

import os

import redis


def note(task_id: str, text: str) -> None:
    """Append to the list `ran:{task_id}`."""
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        client.rpush(f"ran:{task_id}", text)


def first_time(task_id: str) -> bool:
    """Return whether a task asks this for the first time."""
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        return bool(client.set(f"asked:{task_id}", "1", nx=True))
