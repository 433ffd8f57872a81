"""`file_process` in real worker processes: bad files next to good ones, cancellation, killed workers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from celeriac.model import Status, Task
from celeriac.store.task_store import TaskStore
from tests.kit.files.media_files import HOSTILE, MAX_PIXELS, picture, video
from tests.kit.waiting import eventually
from tests.kit.workers.engine_workers import TYPES, Workers, check_one_end, ended, statuses, submit, workers_on

IMPORTS = [TYPES, "tests.kit.files.rough_processors"]


@pytest.fixture
async def workers(valkey_url: str, tmp_path: Path) -> AsyncIterator[Workers]:
    async with workers_on(tmp_path, valkey_url) as started:
        yield started


async def process(store: TaskStore, original: Path, processor: str, options: Any = None, **more: Any) -> str:
    """Submit a task for a file that was handed over."""
    payload = {"processor": processor, "options": options or {}}
    return await submit(store, "file_process", payload, original_file_path=str(original), **more)


def folder(tmp_path: Path, name: str) -> Path:
    own = tmp_path / "videos" / name
    own.mkdir(parents=True)
    return own


def files(task: Task) -> set[str]:
    return set(task.result["files"])


async def test_bad_files_fail_their_tasks_while_others_go_on(
    store: TaskStore, workers: Workers, tmp_path: Path
) -> None:
    worker = await workers.start(store, imports=IMPORTS, files={"processing": {"max_pixels": MAX_PIXELS}})
    kinds = [
        "zero bytes",
        "a pipe",
        "text as mp4",
        "data cut off",
        "a playlist of /etc/passwd",
        "a png bomb",
        "a gif bomb",
    ]
    bad = {}
    for number, kind in enumerate(kinds):
        make, processor, code = HOSTILE[kind]
        bad[await process(store, make(folder(tmp_path, f"bad-{number}")), processor)] = code
    for how, code in (("segfault", "processor_crashed"), ("killed", "out_of_memory"), ("abort", "processor_crashed")):
        bad[await process(store, picture(folder(tmp_path, how) / "original.png"), "rough", {"how": how})] = code
    good = await process(store, video(folder(tmp_path, "good") / "original.mp4"), "video", priority=9)
    others = [await submit(store, "add", {"numbers": [n, 1]}) for n in range(20)]
    for number, task_id in enumerate(others):
        assert (await ended(store, task_id)).result == {"sum": number + 1}
    made = await ended(store, good, timeout_s=60)
    assert made.status is Status.COMPLETED, made.error
    assert files(made) == {"result.mp4", "thumbnail.jpg"}
    result = str(tmp_path / "videos" / "good" / "result.mp4")
    assert made.result_file_path == made.result["result_file_path"] == result
    found = {task_id: await ended(store, task_id, timeout_s=60) for task_id in bad}
    assert {task_id: task.error.code for task_id, task in found.items() if task.error} == bad
    for task_id, task in found.items():
        assert (task.status, task.attempt) == (Status.FAILED, 1)
        assert task.result_file_path is None
        check_one_end(await statuses(store, task_id))
    assert worker.alive


async def test_heavy_tasks_wait_for_a_slot_and_hold_up_no_others(
    store: TaskStore, workers: Workers, tmp_path: Path
) -> None:
    # Messages are sent again soon, while the second task waits: it must run once.
    worker = await workers.start(store, imports=IMPORTS, hint_grace=0.5, files={"processing": {"concurrency": 1}})
    note = tmp_path / "pids"
    first = await process(
        store, picture(folder(tmp_path, "1") / "original.png"), "rough", {"how": "sleeps", "note": str(note)}
    )
    await eventually(lambda: note.exists(), because="the first one runs")
    second = await process(store, picture(folder(tmp_path, "2") / "original.png"), "thumbnail", max_retries=0)
    third = await process(store, picture(folder(tmp_path, "3") / "original.png"), "image")
    assert (await ended(store, await submit(store, "add", {"numbers": [1, 2]}))).result == {"sum": 3}
    await eventually(lambda: _hints(store, third, 2), because="the message of a task that waits for long is sent again")
    assert (await store.get(second)).status is Status.PENDING
    pids = [int(pid) for pid in note.read_text().split()]
    await store.cancel(first)
    assert (await ended(store, first)).status is Status.CANCELLED
    await eventually(lambda: not any(psutil.pid_exists(pid) for pid in pids), because="nothing of it runs on")
    assert sorted(path.name for path in (tmp_path / "videos" / "1").iterdir()) == ["original.png"]
    assert (await ended(store, second)).status is Status.FAILED
    assert files(await ended(store, third)) == {"result.png"}
    assert (await statuses(store, third)).count("PROCESSING") == 1
    assert worker.alive


async def _hints(store: TaskStore, task_id: str, least: int) -> bool:
    return int(await store.redis.hget(f"task:{task_id}", "hints") or 0) >= least


@pytest.mark.parametrize("how", ["killed", "shut down"])
async def test_another_worker_takes_over_a_transcoding(
    store: TaskStore, workers: Workers, tmp_path: Path, how: str
) -> None:
    original = video(folder(tmp_path, "task") / "original.mp4", seconds=20, size="640x360")
    settings = {"imports": IMPORTS, "worker__shutdown_grace": 0}
    worker = await workers.start(store, **settings)
    task_id = await process(store, original, "transcode", {"preset": "slower"})

    async def transcoding() -> list[psutil.Process]:
        family = psutil.Process(worker.process.pid).children(recursive=True)
        return family if (await store.get(task_id)).progress.stage == "transcoding" else []

    family = await eventually(transcoding, because="ffmpeg works")
    if how == "killed":
        worker.process.kill()
    else:
        worker.process.terminate()
    await worker.gone(within_s=20)
    await eventually(lambda: not any(child.is_running() for child in family), because="nothing of it runs on")
    assert not original.with_name("result.mp4").exists()
    await workers.start(store, **settings)
    task = await ended(store, task_id)
    assert task.status is Status.COMPLETED, task.error
    assert task.result["facts"]["duration_s"] == pytest.approx(20, abs=0.3)
    assert task.attempt == (2 if how == "killed" else 1)
    assert sorted(path.name for path in original.parent.iterdir()) == ["original.mp4", "result.mp4"]
    events = [event.fields for event in await store.events(task_id, count=1000) if event.kind == "progress"]
    assert len({fields["percentage"] for fields in events}) > 2, "percentages were live"
