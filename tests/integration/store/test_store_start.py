"""What a store checks of its server before anything is entrusted to it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from celeriac.errors import SettingsError, StoreUnavailableError
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.servers import ValkeyServer, free_port

IMPATIENT = Settings(store_timeout=0.3)


async def test_a_server_that_may_throw_tasks_away_is_refused(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path / "valkey")
    server.start()
    try:
        store = TaskStore(server.url(), Settings().store)
        await store.redis.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(SettingsError, match=r"maxmemory-policy is 'allkeys-lru'.*CONFIG SET"):
            await store.start()
        await store.stop()
    finally:
        server.kill()


async def test_a_server_without_an_append_only_file_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = ValkeyServer(tmp_path / "valkey")
    server.start()
    try:
        store = TaskStore(server.url(), Settings().store)
        await store.redis.config_set("appendonly", "no")
        with caplog.at_level(logging.WARNING):
            await store.start()
        assert "append-only file" in caplog.text
        await store.stop()
    finally:
        server.kill()


@pytest.mark.parametrize(("version", "fits"), [("5.0.14", False), ("6.0.20", False), ("6.2.0", True), ("10.1.1", True)])
async def test_a_server_that_is_too_old_is_refused(version: str, fits: bool) -> None:
    """An old server is not to be had here: this one only tells its version."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while header := await reader.readline():
            words = []
            for _ in range(int(header[1:])):
                size = int((await reader.readline())[1:])
                words.append((await reader.readexactly(size + 2))[:-2].upper())
            if words[0] == b"INFO":
                text = f"redis_version:{version}\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n".encode()
                writer.write(b"$%d\r\n%s\r\n" % (len(text), text))
            elif words[0] == b"HELLO":
                writer.write(b"-ERR unknown command\r\n")
            else:
                writer.write(b"+OK\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = TaskStore(f"redis://127.0.0.1:{port}/0?protocol=2", IMPATIENT.store)
    try:
        if fits:
            await store.start()
        else:
            with pytest.raises(SettingsError, match=f"is version {version}; 6.2 or later is needed"):
                await store.start()
    finally:
        await store.stop()
        server.close()


async def test_a_server_that_is_not_there_is_named_so() -> None:
    store = TaskStore(f"redis://127.0.0.1:{free_port()}/0", IMPATIENT.store)
    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        await store.start()
    await store.stop()
