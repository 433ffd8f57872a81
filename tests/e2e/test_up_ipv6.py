"""A platform whose every address is one of IPv6: API, gRPC, store, executor, remote worker, clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import httpx
import pytest

from celeriac import AsyncClient, RemoteTask, RemoteWorker
from celeriac_proto.task import task_pb2, task_pb2_grpc
from tests.kit.remote.scripted_gateway import working
from tests.kit.servers import ValkeyServer
from tests.kit.up.running_up import RunningUp
from tests.kit.waiting import eventually


@pytest.fixture
def store_of_ipv6(tmp_path: Path) -> Iterator[ValkeyServer]:
    server = ValkeyServer(tmp_path / "valkey", host="::1")
    server.start()
    yield server
    server.kill()


@pytest.mark.parametrize("host", ["::1", "[::1]"])
async def test_a_platform_on_ipv6_is_ready_and_serves(tmp_path: Path, store_of_ipv6: ValkeyServer, host: str) -> None:
    url = store_of_ipv6.url()
    # A proxy leads to the outside world: nothing on this machine is asked through it.
    proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    with RunningUp(tmp_path / "data", "--host", host, REDIS_URL=url, **proxies) as up:
        await up.ready()
        found = up.run_json
        api, rpc = urlsplit(found["http"]), urlsplit(found["grpc"])
        assert (api.hostname, rpc.hostname) == ("::1", "::1")
        assert found["ready_at"] is not None
        assert f"HTTP on [::1]:{api.port} " in up.text
        assert f"gRPC on [::1]:{rpc.port} " in up.text
        assert f"  gRPC        [::1]:{rpc.port}\n" in up.text

        async with AsyncClient(found["http"]) as client:
            handle = await client.submit("celeriac.demo", {"seconds": 0.1})
            assert await handle.result(timeout=30)
        code, _, err = await up.cli("status", handle.id)
        assert code == 0, err
        async with grpc.aio.insecure_channel(f"[::1]:{rpc.port}") as channel:
            stub = task_pb2_grpc.TaskServiceStub(channel)
            answer = await stub.GetTaskStatus(task_pb2.GetTaskStatusRequest(task_id=handle.id))
            assert answer.status == task_pb2.COMPLETED

        async def answer_it(task: RemoteTask) -> str:
            return "hello"

        async with httpx.AsyncClient(base_url=found["http"], trust_env=False, timeout=60) as http:
            for name in (f"[::1]:{api.port}", "[::1]", "[0:0:0:0:0:0:0:1]", "localhost"):
                assert (await http.get("/healthz", headers={"Host": name})).status_code == 200, name
            assert (await http.get("/healthz", headers={"Host": "evil.example"})).status_code == 421
            async with working(RemoteWorker(f"ws://[::1]:{api.port}/ws", answer_it, group="six")):

                async def listed() -> dict[str, Any] | None:
                    workers = (await http.get("/api/v1/workers")).json()["workers"]
                    return next((worker for worker in workers if worker["kind"] == "remote"), None)

                worker = await eventually(listed, because="the remote worker is listed")
                assert worker["host"] == "::1"
        assert await up.stop() == 0
