"""Fixtures for the store: a look at it from outside, and a server that may be killed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_sync

from celeriac.store.task_store import TaskStore
from tests.kit.life_cycle_state import assert_consistent
from tests.kit.servers import ValkeyServer


@pytest.fixture
async def look(valkey_url: str, store: TaskStore) -> AsyncIterator[Any]:
    """A client of the test's store; what it holds is consistent at the end."""
    with redis_sync.Redis.from_url(valkey_url, decode_responses=True) as client:
        yield client
        assert_consistent(client)


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server of the test's own, to be killed."""
    server = ValkeyServer(tmp_path / "valkey")
    server.start()
    yield server
    server.kill()
