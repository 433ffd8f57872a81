"""Fixtures for the rules of groups."""

from __future__ import annotations

import pytest
import redis as redis_sync


@pytest.fixture
def client(valkey_url: str) -> redis_sync.Redis:
    """A client of the test's store that decodes replies."""
    return redis_sync.Redis.from_url(valkey_url, decode_responses=True)
