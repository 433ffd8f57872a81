"""The cost of a large upload for an API process: memory, and time compared with writing the same bytes to the disk.

    python bench/upload.py [--size-mib 2048]

Starts a Valkey and one API process, streams a generated file to it as a raw body and as a multipart form, and
watches the memory of the process meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.kit.api.api_memory import api_process_memory, generated, multipart


async def main() -> None:
    """Measure, and print the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size-mib", type=int, default=2048)
    parser.add_argument("--folder", type=Path, default=Path())
    given = parser.parse_args()
    size = given.size_mib * 1024**2
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        disk_s = await asyncio.to_thread(_write, Path(folder) / "plain", size)
        print(f"{given.size_mib} MiB; written and synced by itself: {disk_s:.1f} s")
        for kind in ("bare", "multipart"):
            async with api_process_memory(Path(folder) / kind) as (url, process):
                used = await _upload(url, process, kind, size)
            print(
                f"{kind:10} {used[0]:6.1f} s   {used[0] / disk_s:4.1f} x the disk  "
                f" {used[1] / 1024**2:6.1f} MiB more memory"
            )


async def _upload(url: str, process: psutil.Process, kind: str, size: int) -> tuple[float, int]:
    before = peak = process.memory_info().rss
    body: AsyncIterator[bytes] = generated(size)
    headers, params = {}, {"filename": "large.mp4"}
    if kind == "multipart":
        body, headers, params = multipart(body), {"Content-Type": "multipart/form-data; boundary=b"}, {}
    started = time.perf_counter()
    async with httpx.AsyncClient(base_url=url, timeout=None) as client:
        sending = asyncio.create_task(client.post("/api/v1/files", content=body, headers=headers, params=params))
        while not sending.done():
            peak = max(peak, process.memory_info().rss)
            await asyncio.wait([sending], timeout=0.02)
        answer = sending.result()
    assert answer.status_code == 201, answer.text
    assert answer.json()["size"] == size
    return time.perf_counter() - started, peak - before


def _write(path: Path, size: int) -> float:
    block = os.urandom(1024**2)
    started = time.perf_counter()
    with path.open("wb") as file:
        for _ in range(size // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
    return time.perf_counter() - started


if __name__ == "__main__":
    asyncio.run(main())
