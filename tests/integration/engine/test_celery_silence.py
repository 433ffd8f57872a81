"""A store that is reachable and says nothing, as behind a connection that a router has forgotten."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from kombu.exceptions import OperationalError

from celeriac.model import Status
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac_tasks.adoption.adopting import own_app
from tests.kit.flaky_proxy import FlakyProxy
from tests.kit.workers.engine_workers import ended, submit, workers_on


@pytest.mark.timeout(60)
async def test_a_silent_server_does_not_hold_celerys_thread_for_ever() -> None:
    """That thread also notices dead connections: held by one, it would notice nothing any more."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        app = own_app(lambda: Settings(redis_url=f"redis://127.0.0.1:{silent.getsockname()[1]}/0"))
        with app.connection_for_write() as connection, pytest.raises(OperationalError, match="Timeout"):
            await asyncio.to_thread(lambda: connection.default_channel)


@pytest.mark.timeout(90)
async def test_a_worker_notices_soon_that_its_queues_have_gone_silent(
    tmp_path: Path, store: TaskStore, valkey_url: str
) -> None:
    async with FlakyProxy(valkey_url) as proxy:
        url = proxy.url.replace("http:", "redis:") + "/" + valkey_url.rsplit("/", 1)[1]
        async with workers_on(tmp_path, url) as workers:
            worker = await workers.start(store)
            assert (await ended(store, await submit(store, "noop"))).status is Status.COMPLETED
            proxy.silence_all()
            # With Celery's own settings, it takes up to a minute.
            task = await ended(store, await submit(store, "noop"), timeout_s=25)
            assert task.status is Status.COMPLETED, worker.said()
