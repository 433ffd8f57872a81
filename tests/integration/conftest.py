"""Fixtures for all rooms: the application on a real server, its client, workers, a recorder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from celeriac.history.history import History
from celeriac.history.recorder import Recorder
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.api.http_serving import serving
from tests.kit.history import recording
from tests.kit.workers.engine_workers import Workers, workers_on


@pytest.fixture
async def url(settings: Settings) -> AsyncIterator[str]:
    """The URL of the application with the test's settings."""
    async with serving(settings) as address:
        yield address


@pytest.fixture
async def client(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the application."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as connected:
        yield connected


@pytest.fixture
async def workers(tmp_path: Path, valkey_url: str) -> AsyncIterator[Workers]:
    """A starter of workers; all are gone afterwards."""
    async with workers_on(tmp_path, valkey_url) as started:
        yield started


@pytest.fixture
async def kept(store: TaskStore, database_url: str, settings: Settings) -> AsyncIterator[tuple[Recorder, History]]:
    """A recorder of the test's own, and the history that it writes."""
    async with recording(store, database_url, settings) as parts:
        yield parts
