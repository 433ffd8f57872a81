"""An executor for `grpc_task`: a gRPC server whose methods do the work of tasks.

It uses nothing of Celeriac except the protocol, `grpc_task/v1/task.proto`. Start it, add it to `grpc_services` in
the configuration, and submit tasks with `"method": "count"` or another of METHODS.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict

from celeriac_proto.grpc_task.v1 import task_pb2, task_pb2_grpc

#: A method yields any number of `Progress`, and finally a result (its data) or an `ErrorDetail`.
Step = task_pb2.Progress | task_pb2.ErrorDetail | dict[str, Any]


async def echo(
    data: dict[str, Any], request: task_pb2.ExecuteTaskRequest, cancelled: asyncio.Event
) -> AsyncIterator[Step]:
    """Return the input."""
    yield data


async def count(
    data: dict[str, Any], request: task_pb2.ExecuteTaskRequest, cancelled: asyncio.Event
) -> AsyncIterator[Step]:
    """Report progress for `seconds` (5) in `steps` (10)."""
    seconds, steps = float(data.get("seconds", 5)), int(data.get("steps", 10))
    if not (0 <= seconds <= 3600 and 1 <= steps <= 100_000):
        raise ValueError("seconds must be 0 to 3600, steps 1 to 100000")
    for step in range(1, steps + 1):
        try:
            await asyncio.wait_for(cancelled.wait(), timeout=seconds / steps)
        except TimeoutError:
            yield task_pb2.Progress(percentage=100 * step / steps, stage="counting", message=f"{step} of {steps}")
        else:
            return
    yield {"counted": steps}


async def flaky(
    data: dict[str, Any], request: task_pb2.ExecuteTaskRequest, cancelled: asyncio.Event
) -> AsyncIterator[Step]:
    """Fail the first `failures` (2) attempts with a retryable error, then complete."""
    attempts_before = int(request.metadata.get("retry_count", "0"))
    if attempts_before < int(data.get("failures", 2)):
        yield task_pb2.ErrorDetail(code="not_yet", message=f"attempt {attempts_before + 1} fails", retryable=True)
    else:
        yield {"attempts": attempts_before + 1}


async def broken(
    data: dict[str, Any], request: task_pb2.ExecuteTaskRequest, cancelled: asyncio.Event
) -> AsyncIterator[Step]:
    """Fail for good, because another attempt would not help."""
    yield task_pb2.ErrorDetail(code="broken", message="this method never works", retryable=False)


METHODS: dict[str, Callable[[dict[str, Any], task_pb2.ExecuteTaskRequest, asyncio.Event], AsyncIterator[Step]]] = {
    "echo": echo,
    "count": count,
    "flaky": flaky,
    "broken": broken,
}


class Executor(task_pb2_grpc.TaskExecutorServiceServicer):
    """Serves the three calls of the protocol."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Event] = {}

    async def ExecuteTask(  # noqa: N802
        self, request: task_pb2.ExecuteTaskRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[task_pb2.ExecuteTaskResponse]:
        """Run the method named by `task_type`, and stream its progress and its result."""
        method = METHODS.get(request.task_type)
        if method is None:
            yield _error("unknown_method", f"there is no method {request.task_type!r}; known are: {', '.join(METHODS)}")
            return
        cancelled = self._running[request.task_id] = asyncio.Event()
        started_at = time.monotonic()

        def result(status: task_pb2.TaskStatus, data: dict[str, Any]) -> task_pb2.ExecuteTaskResponse:
            duration_ms = round((time.monotonic() - started_at) * 1000)
            return task_pb2.ExecuteTaskResponse(
                result=task_pb2.TaskResult(task_id=request.task_id, status=status, data=data, duration_ms=duration_ms)
            )

        try:
            async for step in method(MessageToDict(request.payload), request, cancelled):
                if isinstance(step, task_pb2.Progress):
                    step.task_id, step.timestamp_ms = request.task_id, round(time.time() * 1000)
                    yield task_pb2.ExecuteTaskResponse(progress=step)
                elif isinstance(step, task_pb2.ErrorDetail):
                    yield task_pb2.ExecuteTaskResponse(error=step)
                else:
                    yield result(task_pb2.TASK_STATUS_COMPLETED, step)
            if cancelled.is_set():
                yield result(task_pb2.TASK_STATUS_CANCELLED, {"message": "cancelled"})
        except (TypeError, ValueError) as exc:
            yield _error("invalid_input", str(exc))
        finally:
            # Another worker may have sent the same task again meanwhile; then the entry belongs to that call.
            if self._running.get(request.task_id) is cancelled:
                del self._running[request.task_id]

    async def CancelTask(  # noqa: N802
        self, request: task_pb2.CancelTaskRequest, context: grpc.aio.ServicerContext
    ) -> task_pb2.CancelTaskResponse:
        """Stop a task that runs here."""
        cancelled = self._running.get(request.task_id)
        if cancelled is None:
            return task_pb2.CancelTaskResponse(success=False, message="no such task runs here")
        cancelled.set()
        return task_pb2.CancelTaskResponse(success=True)

    async def HealthCheck(  # noqa: N802
        self, request: task_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> task_pb2.HealthCheckResponse:
        """Report that this executor can take work."""
        return task_pb2.HealthCheckResponse(
            status=task_pb2.HEALTH_STATUS_HEALTHY, details={"running": str(len(self._running))}
        )


def _error(code: str, message: str) -> task_pb2.ExecuteTaskResponse:
    return task_pb2.ExecuteTaskResponse(error=task_pb2.ErrorDetail(code=code, message=message, retryable=False))


async def serve(host: str, port: int) -> int:
    """Serve until SIGTERM or Ctrl-C, then give running tasks five seconds; return the exit code."""
    # Without this, a second server on a taken port would start and silently share its connections.
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    task_pb2_grpc.add_TaskExecutorServiceServicer_to_server(Executor(), server)
    try:
        port = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError:
        print(f"python_service: cannot listen on {host}:{port}; is the port taken? (--port)", file=sys.stderr)
        return 1
    await server.start()
    print(f"python_service: serving grpc_task.v1 on {host}:{port}", flush=True)
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    await stop.wait()
    await server.stop(grace=5)
    return 0


def main() -> int:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description="An example executor for grpc_task.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=50061, help="0 chooses a free port")
    arguments = parser.parse_args()
    return asyncio.run(serve(arguments.host, arguments.port))


if __name__ == "__main__":
    sys.exit(main())
