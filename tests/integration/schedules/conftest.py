"""Fixtures of the tests of task control."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.schedules import SchedulesKit, task_control


@pytest.fixture
def settings(valkey_url: str, database_url: str) -> Settings:
    # Nobody renews the claims and the presence of the workers of these tests, however slow the machine.
    return Settings(redis_url=valkey_url, database_url=database_url, lease=600)


@pytest.fixture
async def kit(store: TaskStore, settings: Settings) -> AsyncIterator[SchedulesKit]:
    async with task_control(store, settings) as made:
        yield made
