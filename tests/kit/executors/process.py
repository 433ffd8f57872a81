"""Start executors as processes and call them as `grpc_task` does, with contexts that record."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict

from celeriac.handlers.context import Context
from celeriac.model import Claim
from celeriac.settings import Settings
from celeriac.tasks.registry import Registry
from celeriac.tasks.types.grpc_task import GrpcTaskPayload
from celeriac_proto.grpc_task.v1 import task_pb2, task_pb2_grpc
from celeriac_tasks.grpc_task.handler import GrpcTaskHandler, install
from tests.kit.servers import free_port
from tests.kit.waiting import PATIENCE_S

SCRIPTED = Path(__file__).with_name("scripted.py")
_numbers = itertools.count(1)


class ExecutorProcess:
    """An executor in a process of its own, which prints its port (the last digits of a line) once it serves."""

    def __init__(self, *arguments: str | Path, program: Path = SCRIPTED) -> None:
        self.program = program
        self.arguments = [str(argument) for argument in arguments]
        self.process: asyncio.subprocess.Process | None = None
        self.port = 0

    async def __aenter__(self) -> ExecutorProcess:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()

    async def start(self) -> None:
        """Start it, on the port it had before if it had one, and wait until it serves."""
        self.port = self.port or free_port()
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(self.program),
            f"--port={self.port}",
            *self.arguments,
            stdout=asyncio.subprocess.PIPE,
            # gRPC's own words about refused handshakes belong to no test's output.
            env={**os.environ, "GRPC_VERBOSITY": "NONE"},
        )
        assert self.process.stdout is not None
        line = (await asyncio.wait_for(self.process.stdout.readline(), PATIENCE_S)).decode().strip()
        assert line, f"{self.program.name} ended at its start"
        self.port = int(line.rpartition(":")[2])

    async def kill(self) -> None:
        """Kill it as `kill -9` does."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
        if self.process is not None:
            await self.process.wait()

    async def ask(self, method: str, **data: Any) -> dict[str, Any]:
        """Call an admin method of a scripted executor, past everything that is tested."""
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            stub = task_pb2_grpc.TaskExecutorServiceStub(channel)  # type: ignore[no-untyped-call]
            request = task_pb2.ExecuteTaskRequest(task_type=method, payload=data)
            answers = [answer async for answer in stub.ExecuteTask(request, timeout=PATIENCE_S)]
        found: dict[str, Any] = MessageToDict(answers[-1].result.data)
        return found

    async def seen(self) -> dict[str, Any]:
        """Return what a scripted executor has seen so far."""
        return await self.ask("seen")

    def settings(self, **service: Any) -> Settings:
        """Return settings that know this executor as `svc`."""
        address = service.pop("address", f"127.0.0.1:{self.port}")
        return Settings.model_validate({"grpc_services": {"services": {"svc": {"address": address, **service}}}})


def handler_of(settings: Settings) -> GrpcTaskHandler:
    """Return a handler of `grpc_task` that is configured as in a worker process."""
    return install(settings, Registry())


class Recorder:
    """A progress sink that keeps what it is given, as (percentage, stage, message, timestamp_ms)."""

    def __init__(self) -> None:
        self.reports: list[tuple[float, str, str, int | None]] = []
        self.times: list[float] = []
        #: While cleared, reports are not stored: nobody who waits for one goes on.
        self.storing = asyncio.Event()
        self.storing.set()
        #: What storing a report raises.
        self.problem: Exception | None = None
        self.answers: list[asyncio.Future[None]] = []

    async def _stored(self) -> None:
        await self.storing.wait()
        if self.problem is not None:
            raise self.problem

    def report(self, percentage: float, stage: str, message: str, timestamp_ms: int | None) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        self.reports.append((percentage, stage, message, timestamp_ms))
        self.times.append(loop.time())
        self.answers.append(asyncio.ensure_future(self._stored()))
        return self.answers[-1]

    @property
    def percentages(self) -> list[float]:
        return [report[0] for report in self.reports]


def make_context(
    *,
    attempt: int = 1,
    max_retries: int = 3,
    group: str = "default",
    task_id: str = "",
    timeout_ms: int | None = None,
) -> Context:
    """Return a real context of a claim; its sink is a `Recorder`, see `recorder_of`."""
    claim = Claim(
        task_id=task_id or f"task-{next(_numbers)}",
        fence="1",
        type="grpc_task",
        group=group,
        payload="{}",
        attempt=attempt,
        max_retries=max_retries,
        attempts_allowed=max_retries + 1,
        user_id=None,
        metadata={},
        timeout_ms=timeout_ms,
    )
    return Context(claim, Recorder())


def recorder_of(ctx: Context) -> Recorder:
    """Return the recorder behind a context of `make_context`."""
    sink = ctx._sink
    assert isinstance(sink, Recorder)
    return sink


def play(*script: dict[str, Any], **options: Any) -> GrpcTaskPayload:
    """Return the payload that makes a scripted executor do this."""
    return GrpcTaskPayload.model_validate(
        {"service": "svc", "method": "play", "data": {"script": list(script)}, "options": options}
    )
