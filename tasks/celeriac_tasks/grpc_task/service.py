"""One executor as this process sees it: a channel, its health and the calls."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final, cast

import grpc
import structlog
from google.protobuf.message import EncodeError

from celeriac.errors import SkipRetry, TaskError
from celeriac.handlers.context import Context
from celeriac.settings import ResolvedGrpcService
from celeriac.tasks.types.grpc_task import GrpcTaskPayload
from celeriac_proto.grpc_task.v1 import task_pb2, task_pb2_grpc
from celeriac_tasks.grpc_task.channel import call_metadata, open_channel
from celeriac_tasks.grpc_task.health import Health
from celeriac_tasks.grpc_task.outcome import error_of, result_of, status_error
from celeriac_tasks.grpc_task.progress import MAX_ON_THEIR_WAY, ProgressRelay
from celeriac_tasks.grpc_task.start_gate import StartGate, Turn
from celeriac_tasks.grpc_task.struct_json import struct_from

log = structlog.get_logger("celeriac.tasks.types.grpc_task")

#: An executor that needs longer to answer a health check counts as unhealthy.
HEALTH_TIMEOUT_S: Final = 5.0
#: How long the CancelTask call may take; the task ends as cancelled either way.
CANCEL_TIMEOUT_S: Final = 2.0
#: How long a stream may stay open after its result, so that the executor can end it properly.
LINGER_S: Final = 0.2

#: A call of gRPC's own health protocol (grpc/health/v1/health.proto); an empty request is a valid one.
STANDARD_HEALTH: Final = "/grpc.health.v1.Health/Check"
#: What a call ends with that no server has answered.
_NO_ANSWER: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)

Stream = grpc.aio.UnaryStreamCall[task_pb2.ExecuteTaskRequest, task_pb2.ExecuteTaskResponse]


class ExecutorService:
    """The service `name`. It belongs to the loop that created it, and holds any number of concurrent streams.

    It has one channel and so one connection to one server, even if the name resolves to several servers:
    CancelTask has to reach the server that runs the task.
    """

    def __init__(self, *, name: str, service: ResolvedGrpcService, max_result_bytes: int, progress_buffer: int) -> None:
        self._name = name
        self._max_reports = min(MAX_ON_THEIR_WAY, progress_buffer)
        self._service = service
        self._metadata = call_metadata(service)
        self._channel = open_channel(service, max_result_bytes=max_result_bytes)
        # The generated stub does not have annotations; it accepts any channel.
        self._stub = cast(Any, task_pb2_grpc.TaskExecutorServiceStub)(self._channel)
        self._health = Health(
            service=name,
            probe=self._probe,
            interval_s=service.health_check_interval,
            retry_delay_s=service.retry_delay,
        )
        self._starts = StartGate(self._answers)
        self._farewells: set[asyncio.Task[None]] = set()

    async def execute(self, payload: GrpcTaskPayload, ctx: Context) -> dict[str, Any]:
        """Run one attempt and return the result's data; raises a `TaskError` if it fails.

        A cancellation drops the stream. If a caller cancelled the task (`stop_reason` "cancel"), the executor
        receives CancelTask first. For any other reason it does not, because the same task may already run there
        again for another worker.
        """
        timeout_ms = payload.options.timeout_ms or max(1, round(self._service.timeout * 1000))
        if ctx.timeout_s is not None:
            # The attempt ends then, whatever timeout the call has, so the executor should know how long it has.
            timeout_ms = min(timeout_ms, max(1, round(ctx.timeout_s * 1000)))
        request = self._request(payload, ctx, timeout_ms)
        await self._health.require()
        turn = await self._starts.enter()
        with self._health.in_use():
            stream: Stream = self._stub.ExecuteTask(request, timeout=timeout_ms / 1000, metadata=self._metadata)
            relay = ProgressRelay(
                ctx.progress,
                interval_s=(payload.options.progress_interval_ms or 0) / 1000,
                window=self._max_reports,
            )
            # A separate asyncio task reads the stream: gRPC drops a stream whose reader is cancelled, and CancelTask
            # has to arrive while the executor still runs the task.
            reading = asyncio.create_task(self._read(stream, turn, relay, payload, timeout_ms / 1000))
            reading.add_done_callback(_take_note)
            try:
                await asyncio.wait((reading,))
            except asyncio.CancelledError:
                if ctx.stop_reason == "cancel" and not reading.done():
                    await self._say_cancelled(ctx.task_id)
                raise
            finally:
                turn.answered()
                relay.close()
                stream.cancel()
                reading.cancel()
            return reading.result()

    async def close(self) -> None:
        """Stop the checks, let running CancelTask calls finish, and close the channel."""
        await self._health.close()
        await self._starts.close()
        if self._farewells:
            await asyncio.wait(self._farewells)
        await self._channel.close()

    def _request(self, payload: GrpcTaskPayload, ctx: Context, timeout_ms: int) -> task_pb2.ExecuteTaskRequest:
        try:
            request = task_pb2.ExecuteTaskRequest(
                task_id=ctx.task_id,
                task_type=payload.method,
                payload=struct_from(payload.data),
                metadata={
                    "service": payload.service,
                    "queue": ctx.group,
                    "retry_count": str(ctx.attempt - 1),
                    "max_retry": str(ctx.max_retries),
                },
                options=task_pb2.TaskOptions(
                    timeout_ms=timeout_ms,
                    enable_progress=payload.options.enable_progress,
                    progress_interval_ms=payload.options.progress_interval_ms or 0,
                ),
            )
        except (ValueError, EncodeError) as exc:
            raise SkipRetry(f"the payload does not fit a protobuf Struct: {exc}", code="invalid_payload") from exc
        return request

    async def _read(
        self,
        stream: Stream,
        turn: Turn,
        relay: ProgressRelay,
        payload: GrpcTaskPayload,
        timeout_s: float,
    ) -> dict[str, Any]:
        """Relay the stream's progress until its result or error; later messages are ignored."""
        ending: task_pb2.ExecuteTaskResponse | None = None
        failure: grpc.aio.AioRpcError | None = None
        # The call began before this task did, and gRPC sends what was begun in its order.
        turn.sent()
        try:
            async for message in stream:
                turn.answered()
                # gRPC logs a message that it cannot parse, and yields None for it.
                kind = None if message is None else message.WhichOneof("event")
                if kind == "progress" and payload.options.enable_progress:
                    progress = message.progress
                    await relay.report(progress.percentage, progress.stage, progress.message, progress.timestamp_ms)
                elif kind in ("result", "error"):
                    ending = message
                    break
        except grpc.aio.AioRpcError as exc:
            failure = exc
        await relay.flush()
        if failure is not None:
            if failure.code() is grpc.StatusCode.UNAVAILABLE:
                self._health.forget()
            raise status_error(self._name, payload.method, failure, timeout_s) from failure
        if ending is None:
            raise TaskError(
                f"gRPC service {self._name!r} ended the stream with neither result nor error", code="no_result"
            )
        await _linger(stream)
        if ending.WhichOneof("event") == "error":
            raise error_of(self._name, ending.error)
        return result_of(self._name, ending.result)

    async def _say_cancelled(self, task_id: str) -> None:
        """Send CancelTask and wait for the answer; a second cancellation ends the wait, not the call."""
        farewell = asyncio.create_task(self._cancel_task(task_id))
        self._farewells.add(farewell)
        farewell.add_done_callback(self._farewells.discard)
        await asyncio.shield(farewell)

    async def _cancel_task(self, task_id: str) -> None:
        request = task_pb2.CancelTaskRequest(task_id=task_id, reason="cancelled by request")
        try:
            answer = await self._stub.CancelTask(request, timeout=CANCEL_TIMEOUT_S, metadata=self._metadata)
        except grpc.aio.AioRpcError as exc:
            # The stream is dropped next, which the executor notices as well.
            log.info("CancelTask failed", service=self._name, task_id=task_id, status=exc.code().name)
        else:
            log.debug("CancelTask answered", service=self._name, task_id=task_id, success=answer.success)

    async def _probe(self) -> str | None:
        request = task_pb2.HealthCheckRequest(service=self._name)
        try:
            answer = await self._stub.HealthCheck(request, timeout=HEALTH_TIMEOUT_S, metadata=self._metadata)
        except grpc.aio.AioRpcError as exc:
            if exc.code() is grpc.StatusCode.UNIMPLEMENTED:
                return None
            return f"{exc.code().name.lower()}: {exc.details() or 'no details'}"
        if answer.status == task_pb2.HEALTH_STATUS_HEALTHY:
            return None
        return answer.message or "it says so"

    async def _answers(self) -> bool:
        """Ask what any gRPC server answers at once, if only that it does not know the call; returns whether it did."""
        ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(STANDARD_HEALTH)
        try:
            await ask(b"", timeout=HEALTH_TIMEOUT_S, metadata=self._metadata)
        except grpc.aio.AioRpcError as exc:
            return exc.code() not in _NO_ANSWER
        return True


async def _linger(stream: Stream) -> None:
    """Give the executor a moment to end the stream after its result; ignore further messages."""
    with suppress(TimeoutError, grpc.aio.AioRpcError):
        async with asyncio.timeout(LINGER_S):
            async for _ in stream:
                pass


def _take_note(reading: asyncio.Task[dict[str, Any]]) -> None:
    """Read the outcome, so that asyncio does not report an exception as never retrieved after a cancellation."""
    if not reading.cancelled():
        reading.exception()
