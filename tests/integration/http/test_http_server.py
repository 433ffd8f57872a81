"""The API process: ports, signals, gRPC beside HTTP. Real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from celeriac.model import Claim, Progress
from celeriac.store.task_store import TaskStore
from tests.kit.servers import free_port
from tests.kit.waiting import PATIENCE_S, eventually, in_time, serves

PROGRAM = (
    "import sys; from celeriac.settings import load_settings; from celeriac_api.server import main;"
    " sys.exit(main(load_settings(), {}))"
)


@asynccontextmanager
async def api_process(
    redis_url: str, port: int, grpc_port: int, **environment: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run an API process; it is killed at the end if it still runs."""
    settings = {"REDIS_URL": redis_url, "CELERIAC_PORT": str(port), "CELERIAC_GRPC_PORT": str(grpc_port)}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        env={**os.environ, **settings, **environment},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_soon_in_good_order_with_a_stream_open(
    valkey_url: str, store: TaskStore, name: signal.Signals
) -> None:
    port = free_port()
    types = {"noop": {"description": "announced by a worker"}}
    await store.announce_types(types)
    async with (
        api_process(valkey_url, port, free_port()) as process,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client,
    ):
        await eventually(lambda: serves(client, "/readyz"), because="the process serves")
        answer = await client.post("/api/v1/tasks", json={"type": "noop", "payload": {}})
        stream = f"{answer.headers['location']}/progress/stream"
        async with client.stream("GET", stream) as response:
            lines = response.aiter_lines()
            assert await anext(lines) == "retry: 1000"
            process.send_signal(name)
            assert await in_time(process.wait(), 5, because="it ends, with a stream open") == 0
            assert [line async for line in lines if line] == [], "the stream ended as a stream ends"


async def test_a_client_that_does_not_read_cannot_hold_it_up(valkey_url: str, store: TaskStore) -> None:
    port = free_port()
    await store.announce_types({"noop": {}})
    async with (
        api_process(valkey_url, port, free_port()) as process,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client,
    ):
        await eventually(lambda: serves(client, "/readyz"), because="the process serves")
        task_id = (await client.post("/api/v1/tasks", json={"type": "noop", "payload": {}})).json()["task_id"]
        claim = await store.claim(task_id, worker="tester")
        assert isinstance(claim, Claim)
        for n in range(1, 2001):
            await store.progress(claim, n, Progress(1, "s", "x" * 8000, 1))
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(f"GET /api/v1/tasks/{task_id}/progress/stream HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        process.terminate()
        assert await in_time(process.wait(), 6, because="it ends, whoever does not read") == 0
        writer.close()


async def test_a_taken_port_is_said_clearly(valkey_url: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with api_process(valkey_url, port, 0) as process:
            _, said = await asyncio.wait_for(process.communicate(), PATIENCE_S)
            assert process.returncode == 1
            assert f"cannot serve HTTP on 127.0.0.1:{port}: Address already in use" in said.decode()
            assert "--port" in said.decode()
            assert "Traceback" not in said.decode()
        async with api_process(valkey_url, 0, port) as process:
            _, said = await asyncio.wait_for(process.communicate(), PATIENCE_S)
            assert process.returncode == 1
            assert f"cannot serve gRPC on 127.0.0.1:{port}" in said.decode()
            assert "Traceback" not in said.decode()


async def test_a_missing_store_is_said_clearly() -> None:
    async with api_process(f"redis://127.0.0.1:{free_port()}/0", 0, 0, CELERIAC_STORE_TIMEOUT="0.2") as process:
        _, said = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        assert process.returncode == 1
        assert "celeriac api: the store cannot be reached" in said.decode()
        assert "Traceback" not in said.decode()


async def test_two_processes_serve_the_same_tasks_and_grpc_beside(valkey_url: str, store: TaskStore) -> None:
    await store.announce_types({"noop": {}})
    ports, grpc_ports = [free_port(), free_port()], [free_port(), free_port()]
    async with (
        api_process(valkey_url, ports[0], grpc_ports[0]),
        api_process(valkey_url, ports[1], grpc_ports[1]),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports[0]}", timeout=20) as first,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports[1]}", timeout=20) as second,
    ):
        for client in (first, second):
            await eventually(lambda client=client: serves(client, "/readyz"), because="both serve")
        answer = await first.post("/api/v1/tasks", json={"type": "noop", "payload": {}})
        assert (await second.get(answer.headers["location"])).json()["status"] == "pending"
        for port in grpc_ports:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                state = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
                assert state.status == health_pb2.HealthCheckResponse.SERVING
                listed = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
                    iter([reflection_pb2.ServerReflectionRequest(list_services="")])
                )
                reply = await listed.read()
                assert "grpc.health.v1.Health" in [s.name for s in reply.list_services_response.service]
