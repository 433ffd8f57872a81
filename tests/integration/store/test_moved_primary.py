"""One address that leads to another server after a failover, as a name or a virtual address of a managed store does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from celeriac.errors import StoreUnavailableError
from celeriac.model import Submission
from celeriac.settings import Settings
from celeriac.store.server.channel import StoreChannel
from celeriac.store.server.siblings import siblings_of
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.hub import LiveHub
from tests.kit.cuttable_proxy import CuttableProxy
from tests.kit.servers import ValkeyServer, free_port
from tests.kit.waiting import eventually

CHANNEL = "celeriac:live:moved"


@pytest.fixture
def moving(tmp_path: Path) -> Iterator[tuple[CuttableProxy, ValkeyServer, ValkeyServer]]:
    """Two servers, and an address that leads to the first one."""
    first, second = ValkeyServer(tmp_path / "first"), ValkeyServer(tmp_path / "second")
    first.start()
    second.start()
    proxy = CuttableProxy(free_port(), _port(first))
    proxy.start()
    try:
        yield proxy, first, second
    finally:
        proxy.stop()
        first.kill()
        second.kill()


def _port(server: ValkeyServer) -> int:
    return int(server.url().rsplit(":", 1)[1].split("/")[0])


def demote(first: ValkeyServer, second: ValkeyServer) -> None:
    """Make the first server a replica of the second one; its connections stay open and it goes on to answer."""
    with redis.Redis.from_url(first.url()) as client:
        client.execute_command("REPLICAOF", "127.0.0.1", _port(second))


async def test_a_server_that_became_a_replica_loses_every_connection_of_the_process(
    moving: tuple[CuttableProxy, ValkeyServer, ValkeyServer],
) -> None:
    proxy, first, second = moving
    url = f"redis://127.0.0.1:{proxy.port}/0"
    async with TaskStore(url, Settings().store, patience_s=20) as store:
        hub = LiveHub(store=store)
        await hub.start()
        heard: list[str | None] = []
        end = await hub.listen(CHANNEL, heard.append)
        channel = StoreChannel(url, store.settings)
        try:
            await store.submit(Submission(task_id="before", type="demo"))
            assert channel.find("before") is not None
            await eventually(lambda: heard == [None], because="the subscription is made")
            proxy.upstream = _port(second)
            demote(first, second)
            # One write finds out, and no connection is left that would read old data or hear nothing.
            await store.submit(Submission(task_id="after", type="demo"))
            with redis.Redis.from_url(second.url()) as client:
                assert client.exists("task:after")
            await eventually(lambda: heard == [None, None], because="the subscription is made anew")
            await store.read(("PUBLISH", CHANNEL, "news"))
            await eventually(lambda: heard[-1] == "news", because="messages of the new primary come")
            assert await asyncio.to_thread(channel.find, "before") is None, "this server never had it"
        finally:
            end()
            await hub.stop()


async def test_a_process_that_only_listens_finds_out_by_itself(
    moving: tuple[CuttableProxy, ValkeyServer, ValkeyServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celeriac.store.watching.hub._QUIET_S", 0.2)
    monkeypatch.setattr("celeriac.store.server.connecting._ROLE_S", 0.2)
    proxy, first, second = moving
    url = f"redis://127.0.0.1:{proxy.port}/0"
    async with TaskStore(url, Settings().store, patience_s=20) as store:
        hub = LiveHub(store=store)
        await hub.start()
        heard: list[str | None] = []
        end = await hub.listen(CHANNEL, heard.append)
        try:
            await eventually(lambda: heard == [None], because="the subscription is made")
            proxy.upstream = _port(second)
            demote(first, second)
            await eventually(lambda: len(heard) > 1, because="the subscription is made anew")
            with redis.Redis.from_url(second.url()) as client:
                await eventually(lambda: client.publish(CHANNEL, "news"), because="it is at the new primary")
            await eventually(lambda: "news" in heard, because="its messages come")
        finally:
            end()
            await hub.stop()


async def test_a_replica_is_refused_at_once_and_named(moving: tuple[CuttableProxy, ValkeyServer, ValkeyServer]) -> None:
    proxy, first, second = moving
    demote(first, second)
    store = TaskStore(f"redis://127.0.0.1:{proxy.port}/0", Settings().store, patience_s=0)
    try:
        with pytest.raises(StoreUnavailableError, match="it is a replica"):
            await store.read(("PING",))
        with pytest.raises(StoreUnavailableError, match="it is a replica"):
            await store.ping()
    finally:
        await store.stop()
    assert not siblings_of(f"redis://127.0.0.1:{proxy.port}/0").any_open
