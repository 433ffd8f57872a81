"""The worker's side of a processor's child process: starts it, relays its reports, and ends its process group."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Final

from celeriac.errors import RateLimited, TaskError
from celeriac.settings import WELL_KNOWN
from celeriac_tasks.files.protocol import MAX_LINE, Done, Failed, Reported, Request, decode_line
from celeriac_tasks.files.refusals import (
    OutOfMemoryError,
    OutOfTimeError,
    ProcessorCrashedError,
    TooLargeError,
)

#: How much of the end of the child's standard error is kept (bytes).
_KEPT_STDERR: Final = 16 * 1024
#: The platform's own environment variables: addresses and secrets that a processor must not see.
_NOT_FOR_CHILDREN: Final = {*WELL_KNOWN, "REDIS_ADDR", "REDIS_PASSWORD", "REDIS_DB", "JWT_SECRET"}

Report = Callable[[float, str, str], Awaitable[None]]


async def run_in_child(request: Request, report: Report) -> Done:
    """Run a processor in a separate process and return its outputs and facts; raises a `TaskError` if it fails.

    When this returns, raises or is cancelled, the process and all processes that it started have ended.
    """
    process = await _started()
    tail = _Tail()
    errors = asyncio.ensure_future(_keep(process.stderr, tail))
    try:
        await _send(process, request)
        answer = await _follow(process, report)
    except ValueError as exc:  # an invalid line, or one that is too long
        raise ProcessorCrashedError(f"the processor's process sent an invalid message: {exc}") from exc
    finally:
        await _ended(process)
        # A process that left the session may still hold the other end of the pipe.
        await asyncio.wait([errors], timeout=1)
        errors.cancel()
    if isinstance(answer, Done):
        return answer
    if isinstance(answer, Failed):
        raise _error_of(answer)
    raise _crash(process.returncode or 0, tail.text())


async def _started() -> asyncio.subprocess.Process:
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "celeriac_tasks.files.child",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=_environment(), start_new_session=True, limit=MAX_LINE,
        )
    )  # fmt: skip
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        await _ended(await starting)
        raise


def _environment() -> dict[str, str]:
    own = {
        name: value
        for name, value in os.environ.items()
        if name not in _NOT_FOR_CHILDREN and not name.startswith("CELERIAC_")
    }
    # The child can import everything that this process can import, such as the processor's module.
    return {**own, "PYTHONPATH": os.pathsep.join(os.path.abspath(entry) for entry in sys.path)}


async def _send(process: asyncio.subprocess.Process, request: Request) -> None:
    assert process.stdin is not None
    if process.stdin.is_closing():
        return  # the child has already ended; the caller checks how
    with contextlib.suppress(ConnectionError):  # likewise
        process.stdin.write(request.encode())
        await process.stdin.drain()
        process.stdin.close()


async def _follow(process: asyncio.subprocess.Process, report: Report) -> Done | Failed | None:
    assert process.stdout is not None
    answer: Done | Failed | None = None
    while line := await process.stdout.readline():
        if not line.endswith(b"\n"):
            break  # the child died while it wrote this line
        said = decode_line(line)
        if isinstance(said, Reported):
            await report(said.percentage, said.stage, said.message)
        else:
            answer = said
    await process.wait()
    return answer


class _Tail:
    """Keeps the end of a text that may be long."""

    def __init__(self) -> None:
        self._bytes = b""

    def add(self, more: bytes) -> None:
        self._bytes = (self._bytes + more)[-_KEPT_STDERR:]

    def text(self) -> str:
        return self._bytes.decode(errors="replace").strip()


async def _keep(stream: asyncio.StreamReader | None, tail: _Tail) -> None:
    assert stream is not None
    while more := await stream.read(_KEPT_STDERR):
        tail.add(more)


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Kill the whole session; its leader may have ended and left other processes running."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _error_of(failed: Failed) -> TaskError:
    if failed.retry_after_s is not None:
        return RateLimited(failed.message, retry_after=failed.retry_after_s)
    error = TaskError(failed.message, code=failed.code)
    error.retryable = failed.retryable
    return error


def _crash(returncode: int, said: str) -> TaskError:
    last = said.splitlines()[-1][:500] if said else ""
    if returncode == -signal.SIGXCPU:
        return OutOfTimeError("the processor used more CPU time than the limit allows (files.processing.cpu_time)")
    if returncode == -signal.SIGXFSZ:
        return TooLargeError("the output is larger than the limit allows (files.processing.max_output_bytes)")
    if returncode == -signal.SIGKILL or "MemoryError" in last or "Cannot allocate memory" in last:
        # The platform did not kill it, so the kernel did, because memory ran out.
        return OutOfMemoryError(f"the processor was killed because memory ran out{f': {last}' if last else ''}")
    how = f"by {_signal_name(-returncode)}" if returncode < 0 else f"with exit code {returncode}"
    return ProcessorCrashedError(f"the processor's process ended {how}{f': {last}' if last else ''}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
