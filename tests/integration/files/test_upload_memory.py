"""A large upload takes disk, not memory. `bench/upload.py` does the same with 2 GiB."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.kit.api.api_memory import api_process_memory, generated, multipart

SIZE = 256 * 1024**2
LIMIT = 100 * 1024**2


@pytest.mark.parametrize("form", [False, True], ids=["bare", "multipart"])
async def test_256_mib_pass_through_one_api_process_in_constant_memory(tmp_path: Path, form: bool) -> None:
    async with (
        api_process_memory(tmp_path) as (url, process),
        httpx.AsyncClient(base_url=url, timeout=120) as client,
    ):
        before = peak = process.memory_info().rss
        body = multipart(generated(SIZE)) if form else generated(SIZE)
        headers = {"Content-Type": "multipart/form-data; boundary=b"} if form else {}
        sending = asyncio.create_task(
            client.post("/api/v1/files", content=body, headers=headers, params={"filename": "large.mp4"})
        )
        while not sending.done():
            peak = max(peak, process.memory_info().rss)
            await asyncio.wait([sending], timeout=0.05)
        answer = sending.result()
        assert answer.status_code == 201, answer.text
        assert answer.json()["size"] == SIZE
        assert peak - before < LIMIT
