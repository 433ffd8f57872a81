"""Runs of the `file_process` handler in the test's own process, with its real child processes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from celeriac.handlers.context import Context
from celeriac.model import Claim
from celeriac.settings import Settings
from celeriac.tasks.registry import registry
from celeriac.tasks.types.file_process import FilePayload
from celeriac.tasks.types.processors import FileJob, JobLimits
from celeriac_tasks.files.handler import FileProcessHandler, install


def job_of(
    source: Path,
    folder: Path,
    *,
    ffmpeg: str | None = None,
    report: Callable[[float, str, str], None] = lambda *_: None,
) -> FileJob:
    """Return a run of a processor's function in the test's own process."""
    limits = JobLimits(
        memory_bytes=2**31,
        cpu_s=60,
        max_output_bytes=2**30,
        max_open_files=1000,
        max_pixels=10**8,
        max_duration_s=1e5,
        threads=1,
        ffmpeg=ffmpeg,
    )
    return FileJob(source=source, folder=folder, limits=limits, report=report)


class Reports:
    """Keeps a run's progress reports."""

    def __init__(self) -> None:
        self.all: list[tuple[float, str, str]] = []

    def report(self, percentage: float, stage: str, message: str, timestamp_ms: int | None) -> Awaitable[None]:
        """Keep one report."""
        del timestamp_ms
        self.all.append((percentage, stage, message))
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        stored.set_result(None)
        return stored


class FileRun:
    """One attempt at a file that was handed over, or that the payload names."""

    def __init__(self, original: Path | None = None, *, task_id: str = "task-1", **processing: Any) -> None:
        settings: Settings | None = processing.pop("settings", None)
        if settings is None:
            settings = Settings.model_validate({"files": processing.pop("files", {"processing": processing})})
        self.reports = Reports()
        path = None if original is None else str(original)
        claim = Claim(task_id, "f", "file_process", "default", "{}", 1, 0, 1, None, {}, original_file_path=path)
        self.context = Context(claim, self.reports)
        self.handler: FileProcessHandler = install(settings, registry)

    async def __call__(self, processor: str, options: dict[str, Any] | None = None, **payload: Any) -> dict[str, Any]:
        """Run a processor and return the task's result."""
        document = {"processor": processor, "options": options or {}, **payload}
        return await self.handler(FilePayload.model_validate(document), self.context)
