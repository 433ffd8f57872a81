"""The child process that runs one processor once: sets its limits, runs it, reports the outcome.

`process.py` starts it as `python -m celeriac_tasks.files.child`. It sets the limits before it imports the
processor's module, and ffmpeg inherits them.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import shlex
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from celeriac import json_text
from celeriac.errors import JsonError
from celeriac.handlers.rate_limited import rate_limited_by
from celeriac.tasks.types.processors import FileJob, JobLimits, Processor, processors
from celeriac_tasks.files.parent_death import die_with_parent
from celeriac_tasks.files.protocol import Request, encode_line
from celeriac_tasks.files.refusals import BadFactsError, ProcessorUnavailableError, refusal_of

#: The shortest time between two reports of the same stage (seconds).
_REPORT_INTERVAL_S: Final = 0.25
#: Address space that a process maps besides its data: code, libraries, stacks, reserved ranges (bytes).
_ADDRESS_SPACE_BESIDES: Final = 4 * 1024**3
_MAX_TEXT: Final = 2000


def main() -> int:
    """Run the request from standard input; returns the exit code, which is 0 even if the run reported a failure."""
    # The lines for the worker get their own descriptor; output that libraries print goes to standard error.
    lines = os.dup(1)
    os.dup2(2, 1)
    request = Request.decode(sys.stdin.buffer.read())
    die_with_parent(request.parent_pid)
    take_limits(request.limits)
    reports = _Reports(lines)
    try:
        line = _run(request, reports)
    except Exception as exc:
        refusal = refusal_of(exc)
        if refusal is not exc:
            sys.excepthook(type(exc), exc, exc.__traceback__)
        message = str(refusal.message)[:_MAX_TEXT] or type(exc).__name__
        told = rate_limited_by(refusal)
        retry_after_s = None if told is None else told.retry_after_s
        line = encode_line("failed", str(refusal.code), message, bool(refusal.retryable), retry_after_s)
    _write(lines, line)
    return 0


def take_limits(limits: JobLimits) -> None:
    """Set the system's resource limits for this process and the processes that it starts."""
    for number, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_DATA, limits.memory_bytes),
        (resource.RLIMIT_AS, limits.memory_bytes + _ADDRESS_SPACE_BESIDES),
        (resource.RLIMIT_FSIZE, limits.max_output_bytes),
        (resource.RLIMIT_NOFILE, limits.max_open_files),
    ):
        _, hard = resource.getrlimit(number)
        capped = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with contextlib.suppress(ValueError, OSError):  # the system does not have this limit
            resource.setrlimit(number, (capped, capped))
    # The soft limit sends SIGXCPU; the hard limit sends SIGKILL, which does not tell the reason.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_s, limits.cpu_s + 5))
    # If the machine runs out of memory, the kernel should kill this process and not the worker.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _run(request: Request, reports: _Reports) -> bytes:
    processor = _imported(request)
    options = processor.options.model_validate(request.options)
    job = FileJob(
        source=Path(request.source), folder=Path(request.folder), limits=request.limits, report=reports.report
    )
    assert processor.function is not None
    try:
        facts = processor.function(job, options)
    except ImportError as exc:
        raise _unavailable(processor, exc) from exc
    if not isinstance(facts, Mapping):
        raise TypeError(f"a processor returns its facts as a mapping, not {type(facts).__name__}")
    return encode_line("done", job.outputs, _checked(dict(facts)))


def _imported(request: Request) -> Processor:
    module, _, _ = request.target.partition(":")
    importlib.import_module(module)
    processor = processors.get(request.processor)
    if processor is None or processor.function is None or processor.target != request.target:
        raise RuntimeError(f"the module {module} does not register a processor {request.processor!r}")
    return processor


def _unavailable(processor: Processor, exc: ImportError) -> ProcessorUnavailableError:
    advice = f": run pip install {shlex.quote(processor.requires)}" if processor.requires else ""
    return ProcessorUnavailableError(f"the processor {processor.name!r} cannot run on this worker ({exc}){advice}")


def _checked(facts: dict[str, Any]) -> dict[str, Any]:
    """Return facts as they are; raises `BadFactsError` if they are not JSON."""
    try:
        json_text.write_bytes(facts, "facts")
    except JsonError as exc:
        raise BadFactsError(f"the facts cannot be written as JSON: {exc}") from exc
    return facts


class _Reports:
    """Writes progress lines, at most one per interval unless the stage changes."""

    def __init__(self, lines: int) -> None:
        self._lines = lines
        self._stage: str | None = None
        self._next_at = 0.0

    def report(self, percentage: float, stage: str, message: str) -> None:
        now = time.monotonic()
        if stage == self._stage and now < self._next_at:
            return
        self._stage, self._next_at = stage, now + _REPORT_INTERVAL_S
        bounded = min(max(float(percentage), 0.0), 100.0) if percentage == percentage else 0.0
        _write(self._lines, encode_line("progress", bounded, stage[:_MAX_TEXT], message[:_MAX_TEXT]))


def _write(descriptor: int, line: bytes) -> None:
    while line:
        line = line[os.write(descriptor, line) :]


if __name__ == "__main__":
    sys.exit(main())
