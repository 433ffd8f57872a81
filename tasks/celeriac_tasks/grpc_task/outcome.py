"""Turns an executor's answer, or the status that ended its stream, into the task's result or error."""

from __future__ import annotations

from typing import Any, Final

import grpc

from celeriac.errors import ExecutorLostError, RateLimited, SkipRetry, TaskError, TaskTimeoutError
from celeriac_proto.grpc_task.v1 import task_pb2
from celeriac_tasks.grpc_task.struct_json import struct_to

#: gRPC's own text, on either side, for a message above a size limit (status RESOURCE_EXHAUSTED).
_TOO_LARGE: Final = "message larger than max"
#: The trailing metadata by which a server says when to try again (gRFC A6).
_PUSHBACK: Final = "grpc-retry-pushback-ms"
#: The statuses of streams whose server stops or is gone.
_LOST: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def result_of(service: str, result: task_pb2.TaskResult) -> dict[str, Any]:
    """Return the data of a completed task; raises `TaskError` or `SkipRetry` for any other status."""
    data = struct_to(result.data)
    match result.status:
        case task_pb2.TASK_STATUS_COMPLETED:
            return data
        case task_pb2.TASK_STATUS_FAILED:
            raise TaskError(_said(data) or f"gRPC service {service!r} reported a failure", code="task_failed")
        case task_pb2.TASK_STATUS_CANCELLED:
            raise SkipRetry(_said(data) or f"gRPC service {service!r} cancelled the task", code="cancelled_by_service")
        case status:
            raise TaskError(
                f"gRPC service {service!r} sent a result without a known status ({status})", code="invalid_result"
            )


def error_of(service: str, error: task_pb2.ErrorDetail) -> TaskError:
    """Return the exception for an executor's `ErrorDetail`: `TaskError` if it is retryable, else `SkipRetry`."""
    kind = TaskError if error.retryable else SkipRetry
    message = (
        error.message or f"gRPC service {service!r} reported an error without a message (code: {error.code or 'none'})"
    )
    return kind(message, code=error.code or "task_failed")


def status_error(service: str, method: str, failure: grpc.aio.AioRpcError, timeout_s: float) -> TaskError:
    """Return the exception for the status that ended a stream."""
    status = failure.code()
    details = failure.details() or ""
    pushback_ms = _pushback_ms(failure)
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        return TaskTimeoutError(f"gRPC service {service!r} did not finish {method!r} within {timeout_s:g} s")
    if status is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE in details:
        # Another attempt would produce the same message again.
        return SkipRetry(f"gRPC service {service!r}: {details}", code="too_large")
    if pushback_ms is not None and status in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE):
        return RateLimited(
            f"gRPC service {service!r}: {details or 'too many requests'}", retry_after=pushback_ms / 1000
        )
    # For every other status the stream had neither a result nor an error, so the attempt is retried
    # (docs/grpc-task.md): an executor that is being deployed may not have a method yet, or a token may be renewed.
    # To fail for good, an executor answers with `ErrorDetail`.
    code = status.name.lower()
    kind = ExecutorLostError if status in _LOST else TaskError
    return kind(f"gRPC service {service!r}: {details or code}", code=code)


def _pushback_ms(failure: grpc.aio.AioRpcError) -> int | None:
    """Return how long the service asks its callers to wait (ms), None if it does not ask for that."""
    for name, value in failure.trailing_metadata() or ():
        if name == _PUSHBACK and isinstance(value, str) and value.isascii() and value.isdigit():
            return int(value[:15])
    return None


def _said(data: dict[str, Any]) -> str | None:
    """Return the explanation in the data of a failed result, if there is one."""
    return next((text for key in ("error", "message") if isinstance(text := data.get(key), str) and text), None)
