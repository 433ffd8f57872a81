"""An API process on a store of its own, and large bodies that nobody holds in memory."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psutil

from tests.kit.command_line import clean_environment
from tests.kit.servers import ValkeyServer, free_port
from tests.kit.waiting import eventually, serves

_BLOCK = os.urandom(256 * 1024)


async def generated(size: int) -> AsyncIterator[bytes]:
    """Yield `size` bytes, a multiple of the block's."""
    assert size % len(_BLOCK) == 0
    for _ in range(size // len(_BLOCK)):
        yield _BLOCK


async def multipart(content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield a form with the field `file`, of boundary `b`."""
    yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="large.mp4"\r\n\r\n'
    async for block in content:
        yield block
    yield b"\r\n--b--\r\n"


@asynccontextmanager
async def api_process_memory(folder: Path) -> AsyncIterator[tuple[str, psutil.Process]]:
    """Run an API process; yields its URL and the process, whose memory can be watched."""
    store = ValkeyServer(folder / "valkey")
    store.start()
    port, grpc_port = free_port(), free_port()
    environment = {
        **clean_environment(REDIS_URL=store.url()),
        "LOCAL_STORAGE_PATH": str(folder / "storage"),
        "CELERIAC_PORT": str(port),
        "CELERIAC_GRPC_PORT": str(grpc_port),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "celeriac", "api", "--data-dir", str(folder / "data"), env=environment,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(timeout=60, base_url=url) as client:
            await eventually(
                lambda: process.returncode is not None or serves(client, "/readyz"), because="the API process serves"
            )
        assert process.returncode is None, "the API process ended at its start"
        yield url, psutil.Process(process.pid)
    finally:
        process.kill()
        await process.wait()
        store.kill()
