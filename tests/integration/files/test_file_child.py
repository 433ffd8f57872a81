"""The child process of a processor: what it may do to itself, and what it cannot do to its worker."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

import tests.kit.files.rough_processors  # noqa: F401 - registers itself
from celeriac.errors import RateLimited, TaskError
from tests.kit.children import children_with
from tests.kit.command_line import REPOSITORY
from tests.kit.files.file_runs import FileRun
from tests.kit.files.media_files import video
from tests.kit.waiting import eventually

MIB = 1024**2


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """A text that was handed over."""
    folder = tmp_path / "task-1"
    folder.mkdir()
    path = folder / "original.txt"
    path.write_text("one two three")
    return path


async def failure(run: FileRun, how: str, **options: Any) -> TaskError:
    with pytest.raises(TaskError) as caught:
        await run("rough", {"how": how, **options})
    return caught.value


async def test_a_processor_of_somebodys_own(original: Path) -> None:
    run = FileRun(original)
    result = await run("capitals")
    assert result["facts"] == {"words": 3, "share": 0.75}
    assert result["result_file_path"] == str(original.with_name("result.txt"))
    assert {path.name: path.read_text() for path in original.parent.iterdir()} == {
        "original.txt": "one two three",
        "result.txt": "ONE TWO THREE",
        "second.txt": "more",
    }
    assert run.reports.all == [(50, "counting", "")]


@pytest.mark.parametrize(
    ("how", "code", "says"),
    [
        ("segfault", "processor_crashed", "SIGSEGV"),
        ("abort", "processor_crashed", "SIGABRT"),
        ("exit", "processor_crashed", "exit code 3"),
        ("exits", "processor_crashed", "exit code 4"),
        ("killed", "out_of_memory", "memory"),
        ("memory", "out_of_memory", "memory"),
        ("cpu", "timeout", "CPU"),
        ("large", "too_large", "max_output_bytes"),
        ("files", "processor_failed", "Too many open files"),
        ("raises", "processor_failed", "ValueError: two"),
        ("skips", "my_code", "no, thanks"),
        ("no output", "processor_failed", "never.txt"),
        ("link", "processor_failed", "link.txt"),
        ("facts too large", "processor_failed", "to an output file"),
        ("odd facts", "bad_result", "facts.shares[1] is NaN; JSON has no such number"),
        ("no facts", "processor_failed", "mapping"),
        ("import", "processor_unavailable", "celeriac_has_no_such_module"),
    ],
)
async def test_a_processor_that_ends_badly_fails_its_task_and_leaves_nothing(
    original: Path, how: str, code: str, says: str
) -> None:
    # On a slow machine one second is gone before a processor has asked for too much of anything else.
    cpu_time = 1 if code == "timeout" else 60
    error = await failure(FileRun(original, memory=256 * MIB, cpu_time=cpu_time, max_output_bytes=MIB), how)
    assert (error.code, error.retryable) == (code, code in ("processor_failed", "processor_unavailable"))
    assert says in error.message
    assert list(original.parent.iterdir()) == [original]


async def test_a_processor_that_is_told_to_come_back_later_says_so(original: Path) -> None:
    error = await failure(FileRun(original), "limited")
    assert isinstance(error, RateLimited)
    assert (error.message, error.retry_after_s) == ("too many", 7.5)


async def test_what_a_processor_prints_is_no_answer(original: Path) -> None:
    assert (await FileRun(original)("rough", {"how": "prints"}))["facts"] == {"how": "prints"}


async def test_secrets_of_the_worker_do_not_reach_a_processor(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDIS_URL", "REDIS_PASSWORD", "CELERIAC_HOST", "JWT_SECRET", "DATABASE_URL"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setenv("MY_MODEL", "x")
    facts = (await FileRun(original)("rough", {"how": "environment"}))["facts"]
    assert facts["core"] == 0
    assert "MY_MODEL" in facts["names"]
    assert not {"REDIS_URL", "REDIS_PASSWORD", "CELERIAC_HOST", "JWT_SECRET", "DATABASE_URL"} & set(facts["names"])


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def noted(note: Path) -> list[int]:
    """Return the processes of a run, once they are there."""
    said: str = await eventually(lambda: note.exists() and note.read_text(), because="the processor runs")
    return [int(pid) for pid in said.split()]


@pytest.mark.parametrize("how", ["cancelled", "timeout"])
async def test_a_stopped_run_takes_all_its_processes_along(original: Path, tmp_path: Path, how: str) -> None:
    note = tmp_path / "pids"
    run = FileRun(original, timeout=12 if how == "timeout" else 600)
    running = asyncio.create_task(run("rough", {"how": "sleeps", "note": str(note)}))
    pids = await noted(note)
    if how == "cancelled":
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    else:
        with pytest.raises(TaskError) as caught:
            await running
        assert (caught.value.code, caught.value.retryable) == ("timeout", False)
    await eventually(lambda: all(gone(pid) for pid in pids), because="parent and child are gone", timeout_s=5)
    assert list(original.parent.iterdir()) == [original]


async def test_a_run_that_is_cancelled_before_it_began_leaves_nothing(original: Path, tmp_path: Path) -> None:
    for delay_s in (0, 0.001, 0.005, 0.02, 0.1):
        # One that does not end by itself, however quickly its process starts.
        options = {"how": "sleeps", "note": str(tmp_path / "pids")}
        running = asyncio.create_task(FileRun(original)("rough", options))
        await asyncio.sleep(delay_s)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert list(original.parent.iterdir()) == [original]
    assert children_with("files.child") == []


LONELY = """
import asyncio, sys
from pathlib import Path
from tests.kit.files.file_runs import FileRun
asyncio.run(FileRun(Path(sys.argv[1]))("transcode", {"preset": "slower"}))
"""


async def test_a_killed_worker_leaves_no_ffmpeg_and_the_next_attempt_clears_up(tmp_path: Path) -> None:
    folder = tmp_path / "task-1"
    folder.mkdir()
    source = video(folder / "original.mp4", seconds=30, size="1280x720")
    worker = subprocess.Popen([sys.executable, "-c", LONELY, str(source)], cwd=REPOSITORY, stderr=subprocess.DEVNULL)
    try:
        below = psutil.Process(worker.pid)

        def working() -> list[psutil.Process]:
            family = below.children(recursive=True)
            return family if any("libx264" in child.cmdline() for child in family) else []

        family = await eventually(working, because="ffmpeg works", timeout_s=30)
    finally:
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
    await eventually(lambda: all(gone(child.pid) for child in family), because="nothing is left", timeout_s=5)
    assert len(list(folder.iterdir())) == 2, "the original, and what was left behind"
    await FileRun(source)("checksum")
    assert sorted(path.name for path in folder.iterdir()) == ["original.mp4", "result.json"]


async def test_ffmpeg_that_cannot_be_found_may_be_elsewhere(tmp_path: Path) -> None:
    source = video(tmp_path / "original.mp4", seconds=1)
    with pytest.raises(TaskError) as caught:
        await FileRun(source, ffmpeg="/nowhere/ffmpeg")("probe")
    assert (caught.value.code, caught.value.retryable) == ("processor_unavailable", True)


async def test_limits_hold_for_ffmpeg_too(tmp_path: Path) -> None:
    source = video(tmp_path / "original.mp4", seconds=20, size="640x360")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"max_output_bytes": 60_000}, "too_large"),
        ({"cpu_time": 1}, "timeout"),
    ]
    for limits, code in cases:
        with pytest.raises(TaskError) as caught:
            await FileRun(source, threads=1, **limits)("transcode", {"preset": "slower"})
        assert (caught.value.code, caught.value.retryable) == (code, False), caught.value.message
        assert os.listdir(tmp_path) == [source.name]


async def test_a_video_that_needs_too_much_memory(tmp_path: Path) -> None:
    source = video(tmp_path / "original.mp4", seconds=1, size="3840x2160")
    with pytest.raises(TaskError) as caught:
        await FileRun(source, memory=160 * MIB)("transcode")
    assert caught.value.code == "out_of_memory", caught.value.message
