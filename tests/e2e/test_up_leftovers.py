"""What a killed `up` may leave behind, with real processes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from celeriac.up.leftovers import end_leftovers

#: A process is known by the environment that it was executed with.
pytestmark = pytest.mark.fresh_python

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"


class Started:
    """Processes of a test, killed when it ends."""

    def __init__(self) -> None:
        self.processes: list[asyncio.subprocess.Process] = []

    async def __call__(self, program: str, cwd: Path | None = None, **environ: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, env=environ, cwd=cwd, stdout=asyncio.subprocess.PIPE
        )
        self.processes.append(process)
        assert process.stdout is not None
        await process.stdout.readline()
        return process


@pytest.fixture
async def start() -> AsyncIterator[Started]:
    started = Started()
    yield started
    for process in started.processes:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_child_that_does_not_end_is_killed_and_named(start: Started, tmp_path: Path) -> None:
    process = await start(DEAF, CELERIAC_DATA_DIR=str(tmp_path))
    assert await end_leftovers(tmp_path, [process.pid], patience_s=0.3) == [process.pid]
    assert await process.wait() == -9


async def test_the_store_is_known_by_its_folder_and_its_pid_file(start: Started, tmp_path: Path) -> None:
    folder = tmp_path / "valkey"
    folder.mkdir()
    process = await start(DEAF, cwd=folder)
    (folder / "valkey.pid").write_text(f"{process.pid}\n")
    assert await end_leftovers(tmp_path, [], patience_s=0.3) == [process.pid]


async def test_other_processes_that_got_the_same_id_are_not_touched(start: Started, tmp_path: Path) -> None:
    stranger = await start(DEAF, CELERIAC_DATA_DIR=str(tmp_path / "other"))
    assert await end_leftovers(tmp_path, [stranger.pid, 1, 999_999_999], patience_s=0.3) == []
    assert stranger.returncode is None


async def test_without_leftovers_it_takes_no_time(tmp_path: Path) -> None:
    async with asyncio.timeout(0.2):
        assert await end_leftovers(tmp_path, []) == []
