"""The embedded store of `celeriac up` as a process of its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis

from celeriac.up.disk_sync import DiskSync
from celeriac.up.embedded import EmbeddedStore, PingAnswer
from tests.kit.waiting import eventually


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[tuple[EmbeddedStore, subprocess.Popen[bytes]]]:
    store = EmbeddedStore(tmp_path, durability="everysec")
    store.prepare()
    process = subprocess.Popen(store.argv, cwd=store.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await eventually(lambda: pongs(store), because="the store serves")
        yield store, process
    finally:
        process.kill()
        process.wait()


async def pongs(store: EmbeddedStore) -> bool:
    return await store.ping() is PingAnswer.PONG


async def test_what_it_answered_is_in_its_file_also_while_the_disk_is_busy(
    embedded: tuple[EmbeddedStore, subprocess.Popen[bytes]],
) -> None:
    """A server that syncs in a thread of its own answers first, as long as that takes, and loses it when killed."""
    store, _ = embedded
    [path] = store.append_only_files()

    def write_until(syncs: list[float]) -> None:
        with redis.Redis.from_url(store.url) as client:
            size = path.stat().st_size
            while len(syncs) < 5:
                client.set("some", os.urandom(500))
                grown = path.stat().st_size
                assert grown > size, "a write was answered and is nowhere but in the server's memory"
                size = grown

    sync = DiskSync(store=store, say=print)
    syncs: list[float] = []
    writing = asyncio.create_task(asyncio.to_thread(write_until, syncs))
    while not writing.done():
        syncs.append(await sync.step())
        # The server's own syncs would come once a second: five seconds hold some of them.
        await asyncio.wait([writing], timeout=1)
    await writing


async def test_a_disk_that_fails_is_the_servers_affair(
    embedded: tuple[EmbeddedStore, subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It refuses writes until its own syncs succeed; ours could only say so."""
    store, _ = embedded
    said: list[str] = []
    sync = DiskSync(store=store, say=said.append)
    await sync.step()
    with redis.Redis.from_url(store.url, decode_responses=True) as client:
        assert client.config_get("appendfsync") == {"appendfsync": "no"}

        def failing(handle: int) -> None:
            raise OSError(5, "Input/output error")

        # A disk that fails cannot be had.
        monkeypatch.setattr("celeriac.up.disk_sync._to_disk", failing)
        await sync.step()
        await sync.step()
        assert client.config_get("appendfsync") == {"appendfsync": "everysec"}
    assert said == ["cannot sync the store's append-only file to the disk: Input/output error"]
