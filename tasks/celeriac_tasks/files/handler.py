"""The handler of `file_process`: runs a task's processors on its file."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from celeriac import json_text
from celeriac.errors import InvalidSubmissionError, SettingsError, SkipRetry
from celeriac.files.names import media_type_of
from celeriac.files.roots import AllowedRoots
from celeriac.handlers.context import Context
from celeriac.settings import FilesSettings, ProcessingSettings, Settings, configuration_files
from celeriac.tasks.registry import Registry
from celeriac.tasks.types.file_process import FILE_PROCESS, FilePayload, Plan, Step, plan_of
from celeriac.tasks.types.processors import JobLimits
from celeriac_tasks.files import processors as built_in
from celeriac_tasks.files.process import Report, run_in_child
from celeriac_tasks.files.protocol import Request
from celeriac_tasks.files.refusals import OutOfTimeError, refusal_of
from celeriac_tasks.files.source import Source, source_of
from celeriac_tasks.files.workplace import Workplace, check_outputs

T = TypeVar("T")


class FileProcessHandler:
    """Runs `file_process` tasks, each step in a child process. It is stateless, so any number may run at once."""

    def __init__(self, files: FilesSettings, *, roots: AllowedRoots) -> None:
        self._files = files
        self._roots = roots
        self._processing = files.processing

    async def __call__(self, payload: FilePayload, ctx: Context) -> dict[str, Any]:
        """Run the task and return its result; raises a `TaskError` if it fails.

        `result_file_path` is the path of the result. `files` has every output by its name, with path, size and media
        type. `facts` has what the processor found out; for a chain, the facts of each step are under its processor.
        """
        try:
            plan = plan_of(payload, self._processing.chains)
        except InvalidSubmissionError as exc:
            raise SkipRetry(str(exc), code="invalid_payload") from exc
        try:
            async with asyncio.timeout(self._processing.timeout):
                return await self._process(plan, payload, ctx)
        except TimeoutError as exc:
            limit = f"{self._processing.timeout:g} s"
            raise OutOfTimeError(f"processing took longer than {limit} (files.processing.timeout)") from exc
        except OSError as exc:
            raise refusal_of(exc) from exc

    async def _process(self, plan: Plan, payload: FilePayload, ctx: Context) -> dict[str, Any]:
        source = await asyncio.to_thread(source_of, payload, ctx, self._files, self._roots)
        workplace = Workplace(source.folder, ctx.task_id)
        try:
            await _to_the_end(workplace.open)
            facts, outputs = await self._run(plan, source, workplace, ctx)
            if not outputs:
                # Written to a file so that a client which reads only the record's `result_file_path` finds the facts.
                text = json_text.write_bytes(facts, "facts", indent=True)
                outputs = [await asyncio.to_thread(workplace.write, "result.json", text)]
            published = await _to_the_end(workplace.publish, outputs)
            about = {path.name: _about(path) for path in published}
            places = await _to_the_end(source.share, ctx.task_id, published)
        except BaseException:
            await _to_the_end(workplace.withdraw)
            raise
        finally:
            await _to_the_end(workplace.remove)
            await _to_the_end(source.close)
        ctx.result_file_path = places[0]
        return {
            "processor": payload.processor,
            "result_file_path": places[0],
            "files": {name: {"path": place, **about[name]} for name, place in zip(about, places, strict=True)},
            "facts": facts,
        }

    async def _run(
        self, plan: Plan, source: Source, workplace: Workplace, ctx: Context
    ) -> tuple[dict[str, Any], list[Path]]:
        facts: dict[str, Any] = {}
        outputs: list[Path] = []
        for number, step in enumerate(plan.steps):
            folder = await asyncio.to_thread(workplace.step_folder)
            path = outputs[0] if step.of == "result" and outputs else source.path
            done = await run_in_child(self._request(step, path, folder), _reporting(plan.steps, number, ctx))
            outputs += check_outputs(folder, done.outputs, outputs)
            facts.update({step.processor.name: done.facts} if plan.chain else done.facts)
        return facts, outputs

    def _request(self, step: Step, source: Path, folder: Path) -> Request:
        return Request(
            processor=step.processor.name,
            target=step.processor.target,
            options=step.options.model_dump(mode="json"),
            source=str(source.absolute()),
            folder=str(folder.absolute()),
            limits=limits_of(self._processing),
            parent_pid=os.getpid(),
        )


def install(settings: Settings, registry: Registry) -> FileProcessHandler:
    """Give `file_process` its handler in `registry` and return it; raises `SettingsError` for an invalid chain.

    A worker process runs at most `files.processing.concurrency` of these tasks at once, by default one per CPU.
    """
    built_in.load()
    for name in settings.files.processing.chains:
        try:
            plan_of(FilePayload(processor=name), settings.files.processing.chains)
        except InvalidSubmissionError as exc:
            raise SettingsError(f"files.processing.chains.{name}: {exc}") from exc
    handler = FileProcessHandler(settings.files, roots=AllowedRoots.of(settings, configuration=configuration_files()))
    concurrency = settings.files.processing.concurrency or os.cpu_count() or 1
    registry.add(replace(FILE_PROCESS, handler=handler.__call__, concurrency=concurrency))
    return handler


def limits_of(processing: ProcessingSettings) -> JobLimits:
    """Return the limits that the settings set for one run."""
    return JobLimits(
        memory_bytes=processing.memory,
        cpu_s=max(1, round(processing.cpu_time)),
        max_output_bytes=processing.max_output_bytes,
        max_open_files=processing.max_open_files,
        max_pixels=processing.max_pixels,
        max_duration_s=processing.max_duration,
        threads=processing.threads,
        ffmpeg=None if processing.ffmpeg is None else str(processing.ffmpeg),
    )


def _reporting(steps: Sequence[Step], number: int, ctx: Context) -> Report:
    """Return a report function that maps a step's progress to its share of the whole plan."""
    weights = [step.processor.weight for step in steps]
    before, own, whole = sum(weights[:number]), weights[number], sum(weights)

    async def report(percentage: float, stage: str, message: str) -> None:
        overall = (before * 100 + own * percentage) / whole
        stored = asyncio.ensure_future(_awaited(ctx.progress(round(overall, 1), stage, message)))
        # A report that cannot be stored is dropped; the runner decides whether the claim still holds.
        stored.add_done_callback(lambda done: done.cancelled() or done.exception())
        # `wait`, not `await`: cancelling this run must not cancel a report that the store already has.
        await asyncio.wait([stored])

    return report


async def _awaited(report: Awaitable[None]) -> None:
    await report


async def _to_the_end(function: Callable[..., T], *arguments: Any) -> T:
    """Run `function` in a thread and wait for its end, even if this coroutine is cancelled meanwhile."""
    running = asyncio.ensure_future(asyncio.to_thread(functools.partial(function, *arguments)))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise


def _about(path: Path) -> dict[str, Any]:
    return {
        "size": path.stat().st_size,
        "media_type": media_type_of(path.name) or "application/octet-stream",
    }
