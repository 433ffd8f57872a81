"""`celeriac grpc`: a process that serves gRPC alone, found by the variables of docs/task-service.md."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc

from celeriac_proto.task import task_pb2, task_pb2_grpc
from tests.kit.servers import free_port
from tests.kit.waiting import PATIENCE_S


async def test_it_serves_the_task_service_by_the_variables_of_the_contract(tmp_path: Path, valkey_url: str) -> None:
    address, port = urlsplit(valkey_url), free_port()
    temp = tmp_path / "upload.mp4"
    temp.write_bytes(b"a film")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("REDIS_", "CELERIAC_"))}
    environment |= {
        "TASK_GRPC_PORT": str(port),
        "REDIS_ADDR": f"{address.hostname}:{address.port}",
        "REDIS_DB": address.path.strip("/"),
        "REDIS_PASSWORD": "",
        "LOCAL_STORAGE_PATH": "./store: 1",
        "ALLOWED_FILE_ROOTS": f"/nowhere{os.pathsep}{tmp_path}",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "celeriac", "grpc", env=environment, cwd=tmp_path, stdin=asyncio.subprocess.PIPE
    )
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await asyncio.wait_for(channel.channel_ready(), PATIENCE_S)
            stub: Any = task_pb2_grpc.TaskServiceStub(channel)  # type: ignore[no-untyped-call]
            answer = await stub.CreateTask(task_pb2.CreateTaskRequest(temp_file_path=str(temp)))
            state = await stub.GetTaskStatus(task_pb2.GetTaskStatusRequest(task_id=answer.task_id))
            assert state.status == task_pb2.PENDING
        assert (tmp_path / "store: 1" / "videos" / answer.task_id / "original.mp4").exists()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_taken_port_is_one_clear_line(tmp_path: Path, valkey_url: str) -> None:
    async with await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "celeriac", "grpc", "--port", str(port), "--data-dir", str(tmp_path),
            env={**os.environ, "REDIS_URL": valkey_url}, stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, words = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 1
    assert f"{port}: is the port taken?" in words.decode()
    assert "Traceback" not in words.decode()
