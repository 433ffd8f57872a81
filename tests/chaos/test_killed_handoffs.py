"""500 files are handed in while the gRPC process is killed again and again."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

from celeriac.files.handoff import Handoff
from celeriac.files.sweeping import HandoffSweeper
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac_proto.task import task_pb2, task_pb2_grpc
from tests.kit.command_line import CELERIAC
from tests.kit.servers import free_port
from tests.kit.waiting import eventually

FILES = 500
KILLS = 20
AT_ONCE = 12
#: A server that is still starting is tried again at once, not after gRPC's second.
IMPATIENT = [(f"grpc.{which}_reconnect_backoff_ms", 20) for which in ("initial", "min", "max")]


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)


@dataclass
class Handed:
    """The files, what of them is known, and who has been answered what."""

    sources: dict[str, Path] = field(default_factory=dict)  # by sha-256
    answered: dict[str, str] = field(default_factory=dict)  # by sha-256, the task's id

    def make(self, folders: list[Path]) -> None:
        chance = random.Random(7)
        for number in range(FILES):
            # Copies take a while, so that kills fall into them.
            folder = folders[number % len(folders)]
            data = chance.randbytes(1000 + number) * (1 if number % 2 == 0 else 2000)
            path = folder / f"{number}.mp4"
            path.write_bytes(data)
            self.sources[hashlib.sha256(data).hexdigest()] = path

    def open_ones(self) -> list[tuple[str, Path]]:
        return [(sha, path) for sha, path in self.sources.items() if sha not in self.answered and path.exists()]


async def hand_in(stub: Any, handed: Handed) -> None:
    """Hand in all that is open, several at once, until the server dies."""
    queue = handed.open_ones()
    random.shuffle(queue)

    async def one_after_another() -> None:
        while queue:
            sha, path = queue.pop()
            try:
                answer = await stub.CreateTask(task_pb2.CreateTaskRequest(temp_file_path=str(path)), timeout=20)
            except grpc.aio.AioRpcError as exc:
                if exc.code() is grpc.StatusCode.UNAVAILABLE:
                    queue.clear()
                continue
            handed.answered[sha] = answer.task_id

    await asyncio.gather(*(one_after_another() for _ in range(AT_ONCE)))


def found(folder: Path) -> dict[str, list[Path]]:
    """Return every file below `folder` by its sha-256."""
    files: dict[str, list[Path]] = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            files.setdefault(hashlib.sha256(path.read_bytes()).hexdigest(), []).append(path)
    return files


@pytest.mark.timeout(240)
async def test_each_file_ends_whole_in_exactly_one_place_and_each_answered_id_has_its_task(
    tmp_path: Path, elsewhere: Path, valkey_url: str
) -> None:
    incoming, storage = tmp_path / "incoming", tmp_path / "storage"
    incoming.mkdir()
    handed = Handed()
    handed.make([incoming, elsewhere])
    port = free_port()
    environment = {
        **os.environ,
        "REDIS_URL": valkey_url,
        "LOCAL_STORAGE_PATH": str(storage),
        "ALLOWED_FILE_ROOTS": f"{incoming}{os.pathsep}{elsewhere}",
        "TASK_GRPC_PORT": str(port),
    }
    kills = 0
    chance = random.Random()
    while handed.open_ones():
        process = subprocess.Popen([*CELERIAC, "grpc", "--data-dir", str(tmp_path / "data")], env=environment)
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=IMPATIENT) as channel:
                stub: Any = task_pb2_grpc.TaskServiceStub(channel)  # type: ignore[no-untyped-call]
                await asyncio.wait_for(channel.channel_ready(), 30)
                if kills < KILLS:
                    asyncio.get_running_loop().call_later(chance.uniform(0.0, 0.06), process.kill)
                    kills += 1
                await hand_in(stub, handed)
        finally:
            process.kill()
            assert await asyncio.to_thread(process.wait) == -signal.SIGKILL
    assert kills >= KILLS / 2

    async with TaskStore(valkey_url, Settings().store) as store:
        handoff = Handoff(storage)
        cut_off = len(list(handoff.left_over(0)))
        sweeper = HandoffSweeper(store=store, handoff=handoff, grace_s=0)
        await eventually(lambda: _swept(sweeper, handoff), because="all handoffs that were cut off are settled")
        in_storage, sources = found(storage), {**found(incoming), **found(elsewhere)}
        for sha, source in handed.sources.items():
            places = in_storage.get(sha, []) + sources.get(sha, [])
            assert len(places) == 1, (source, places)
        for sha, task_id in handed.answered.items():
            task = await store.get(task_id)
            assert in_storage[sha] == [Path(task.original_file_path)]
        everything = {str(path) for paths in in_storage.values() for path in paths}
        # And the other way round: no task without its file, no folder without its task.
        for name in os.listdir(storage / "videos"):
            assert (await store.get(name)).original_file_path in everything
        tasks = [key async for key in store.redis.scan_iter("task:*")]
        assert len(tasks) == len(os.listdir(storage / "videos"))
    print(f"{kills} kills, {cut_off} handoffs cut off, {len(handed.answered)} of {FILES} answered")


async def _swept(sweeper: HandoffSweeper, handoff: Handoff) -> bool:
    await sweeper.step()
    return not list(handoff.left_over(0))
