"""An executor that does what the payload says, and tells what it has seen.

`play` runs the steps in `data.script`, each an object with one key:

    {"progress": {"percentage": 40, "stage": "s", "message": "m", "timestamp_ms": 1}}
    {"sleep_s": 0.2}   {"hang": true}   {"exit": 3}   {"end": true}
    {"result": {…data…}, "status": 1}   {"error": {"code": "c", "message": "m", "retryable": true}}
    {"abort": "UNAVAILABLE", "details": "text", "trailers": {"name": "value"}}
    {"empty": true}   {"result_bytes": 1000}

`wait_for` answers once `data.streams` calls of it are open at the same time. `seen` answers with what
came in so far, `health` sets what HealthCheck answers to `data.status` after `data.delay_s`, also for checks under way.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from celeriac_proto.grpc_task.v1 import task_pb2 as pb
from celeriac_proto.grpc_task.v1 import task_pb2_grpc
from celeriac_tasks.grpc_task.struct_json import struct_to


class Scripted(task_pb2_grpc.TaskExecutorServiceServicer):
    def __init__(self, *, has_health: bool, token: str | None) -> None:
        self.has_health, self.token = has_health, token
        self.health_status: int = pb.HEALTH_STATUS_HEALTHY
        self.health_delay_s = 0.0
        self.health_checks = 0
        self.requests: list[dict[str, Any]] = []
        self.cancels: list[dict[str, Any]] = []
        self.running: list[str] = []
        self.dropped: list[str] = []
        self.gathered, self.all_there = 0, asyncio.Event()

    async def ExecuteTask(self, request: pb.ExecuteTaskRequest, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        data = struct_to(request.payload)
        if request.task_type == "seen":
            yield _result(self._seen())
        elif request.task_type == "health":
            self.health_status, self.health_delay_s = int(data["status"]), data.get("delay_s", 0.0)
            yield _result({})
        else:
            await self._admit(context)
            self.requests.append(
                {
                    "task_id": request.task_id,
                    "task_type": request.task_type,
                    "payload": data,
                    "metadata": dict(request.metadata),
                    "options": {
                        "timeout_ms": request.options.timeout_ms,
                        "enable_progress": request.options.enable_progress,
                        "progress_interval_ms": request.options.progress_interval_ms,
                    },
                    "time_remaining_s": context.time_remaining(),
                    "header": dict(context.invocation_metadata()).get("x-test", ""),
                }
            )
            self.running.append(request.task_id)
            try:
                steps = self._gather(data) if request.task_type == "wait_for" else self._play(data, context)
                async for message in steps:
                    yield message
            except asyncio.CancelledError:
                self.dropped.append(request.task_id)
                raise
            finally:
                self.running.remove(request.task_id)

    async def CancelTask(self, request: pb.CancelTaskRequest, context: Any) -> pb.CancelTaskResponse:  # noqa: N802
        await self._admit(context)
        running = request.task_id in self.running
        self.cancels.append({"task_id": request.task_id, "while_running": running})
        return pb.CancelTaskResponse(success=running)

    async def HealthCheck(self, request: pb.HealthCheckRequest, context: Any) -> pb.HealthCheckResponse:  # noqa: N802
        await self._admit(context)
        self.health_checks += 1
        if not self.has_health:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no health here")
        loop = asyncio.get_running_loop()
        began = loop.time()
        while (left_s := began + self.health_delay_s - loop.time()) > 0:
            await asyncio.sleep(min(left_s, 0.02))
        return pb.HealthCheckResponse(status=self.health_status, message="as the test said")  # type: ignore[arg-type]

    async def _admit(self, context: Any) -> None:
        if self.token and dict(context.invocation_metadata()).get("authorization") != f"Bearer {self.token}":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "no valid token")

    async def _play(self, data: dict[str, Any], context: Any) -> AsyncIterator[Any]:
        for step in data.get("script", []):
            if "progress" in step:
                yield pb.ExecuteTaskResponse(progress=pb.Progress(**step["progress"]))
            elif "result" in step:
                yield _result(step["result"], step.get("status", pb.TASK_STATUS_COMPLETED))
            elif "result_bytes" in step:
                yield _result({"text": "x" * step["result_bytes"]})
            elif "error" in step:
                yield pb.ExecuteTaskResponse(error=pb.ErrorDetail(**step["error"]))
            elif "empty" in step:
                yield pb.ExecuteTaskResponse()
            elif "sleep_s" in step:
                await asyncio.sleep(step["sleep_s"])
            elif "hang" in step:
                await asyncio.Event().wait()
            elif "exit" in step:
                os._exit(step["exit"])
            elif "abort" in step:
                trailers = tuple(step.get("trailers", {}).items())
                await context.abort(grpc.StatusCode[step["abort"]], step.get("details", ""), trailers)
            elif "end" in step:
                return

    async def _gather(self, data: dict[str, Any]) -> AsyncIterator[Any]:
        self.gathered += 1
        if self.gathered >= data["streams"]:
            self.all_there.set()
        yield pb.ExecuteTaskResponse(progress=pb.Progress(percentage=50, stage="waiting"))
        await self.all_there.wait()
        yield _result({"gathered": self.gathered})

    def _seen(self) -> dict[str, Any]:
        return {
            "health_checks": self.health_checks,
            "requests": self.requests,
            "cancels": self.cancels,
            "running": self.running,
            "dropped": self.dropped,
        }


def _result(data: dict[str, Any], status: int = pb.TASK_STATUS_COMPLETED) -> pb.ExecuteTaskResponse:
    return pb.ExecuteTaskResponse(result=pb.TaskResult(task_id="another", status=status, data=data))  # type: ignore[arg-type]


async def serve(arguments: argparse.Namespace) -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    service = Scripted(has_health=not arguments.no_health, token=arguments.token)
    task_pb2_grpc.add_TaskExecutorServiceServicer_to_server(service, server)  # type: ignore[no-untyped-call]
    address = f"127.0.0.1:{arguments.port}"
    if arguments.cert:
        credentials = grpc.ssl_server_credentials(
            [(arguments.key.read_bytes(), arguments.cert.read_bytes())],
            root_certificates=arguments.client_ca.read_bytes() if arguments.client_ca else None,
            require_client_auth=arguments.client_ca is not None,
        )
        port = server.add_secure_port(address, credentials)
    else:
        port = server.add_insecure_port(address)
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--no-health", action="store_true")
    parser.add_argument("--token")
    for name in ("--cert", "--key", "--client-ca"):
        parser.add_argument(name, type=Path)
    sys.exit(asyncio.run(serve(parser.parse_args())))
