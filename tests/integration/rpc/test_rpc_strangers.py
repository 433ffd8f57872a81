"""gRPC calls of strangers: nothing is decoded before the caller is known, and what is open to everybody is bounded."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from celeriac.access.principal import Scope
from celeriac.store.task_store import TaskStore
from tests.kit.api.access import SECRET
from tests.kit.api.file_services import file_settings, rpc_serving
from tests.kit.tokens import token_of
from tests.kit.waiting import eventually

GARBAGE = [b"\xff\xff", b"\x08", b"\n\xff\xff\xff\xff\x0f", b"\n\x04\xff\xfe\xfd\xfc"]
#: Whether the method streams its requests, whether it streams its answers, whether it is open.
METHODS = {
    "/task.TaskService/CreateTask": (False, False, False),
    "/task.TaskService/GetTaskStatus": (False, False, False),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": (True, True, False),
    "/grpc.health.v1.Health/Check": (False, False, True),
    "/grpc.health.v1.Health/Watch": (False, True, True),
}


async def code_of(channel: grpc.aio.Channel, method: str, sent: bytes, metadata: Any = None) -> grpc.StatusCode:
    """Send one message as it is, and return how the call ends."""
    streams_requests, streams_answers, _ = METHODS[method]
    if streams_requests:
        call: Any = channel.stream_stream(method)(iter([sent]), metadata=metadata, timeout=20)
    elif streams_answers:
        call = channel.unary_stream(method)(sent, metadata=metadata, timeout=20)
    else:
        call = channel.unary_unary(method)(sent, metadata=metadata, timeout=20)
    code: grpc.StatusCode = await call.code()
    return code


@pytest.mark.parametrize("on", [True, False])
async def test_a_message_that_cannot_be_read_is_refused_quietly(
    store: TaskStore, tmp_path: Path, on: bool, caplog: pytest.LogCaptureFixture
) -> None:
    settings = file_settings(tmp_path, access={"jwt_secret": SECRET} if on else {})
    caplog.set_level("INFO")
    async with rpc_serving(store, settings) as (_, channel, _intake):
        known = (("authorization", f"Bearer {token_of(settings, user_id='7', scopes=list(Scope))}"),) if on else None
        for method, (streams_requests, _, is_open) in METHODS.items():
            for sent in GARBAGE:
                assert await code_of(channel, method, sent, known) is grpc.StatusCode.INVALID_ARGUMENT, (method, sent)
                if on and not is_open and not streams_requests:
                    assert await code_of(channel, method, sent) is grpc.StatusCode.UNAUTHENTICATED, (method, sent)
    assert not [record for record in caplog.records if record.exc_info or "Exception" in record.getMessage()]


async def test_a_large_message_is_not_taken_in(store: TaskStore, tmp_path: Path) -> None:
    settings = file_settings(tmp_path)
    async with rpc_serving(store, settings) as (_, channel, _intake):
        for method, (_, _, is_open) in METHODS.items():
            sent = b"\n" + b"\x80\x80\x08" + b"a" * 128 * 1024
            assert await code_of(channel, method, sent) is grpc.StatusCode.RESOURCE_EXHAUSTED, (method, is_open)


async def test_streams_of_health_are_bounded_for_each_address(store: TaskStore, tmp_path: Path) -> None:
    settings = file_settings(
        tmp_path,
        access={"trusted_proxies": ["127.0.0.1"]},
        server={"max_health_watches_per_address": 3, "max_grpc_streams": 50},
    )
    async with rpc_serving(store, settings) as (_, channel, _intake):
        stub = health_pb2_grpc.HealthStub(channel)

        def watch(address: str) -> Any:
            request = health_pb2.HealthCheckRequest()
            return stub.Watch(request, metadata=(("x-forwarded-for", address),), timeout=60)

        calls = [watch("2001:db8::1"), watch("2001:db8::2"), watch("2001:db8::ffff:3"), watch("192.0.2.1")]
        for call in calls:
            assert (await call.read()).status == health_pb2.HealthCheckResponse.SERVING
        assert await watch("2001:db8::4").code() is grpc.StatusCode.RESOURCE_EXHAUSTED, "one network of one machine"
        calls[0].cancel()

        async def there_is_room() -> bool:
            calls.append(watch("2001:db8::5"))
            try:
                return isinstance(await calls[-1].read(), health_pb2.HealthCheckResponse)
            except grpc.aio.AioRpcError:
                return False

        await eventually(there_is_room, because="a stream that ended frees its place")
        for call in calls:
            call.cancel()


async def test_calls_of_open_methods_have_a_rate_for_each_address(store: TaskStore, tmp_path: Path) -> None:
    settings = file_settings(tmp_path, server={"open_rate": 0.001}, access={"trusted_proxies": ["127.0.0.1"]})
    async with rpc_serving(store, settings) as (_, channel, _intake):
        stub = health_pb2_grpc.HealthStub(channel)

        async def check(address: str) -> grpc.StatusCode:
            code: grpc.StatusCode = await stub.Check(
                health_pb2.HealthCheckRequest(), metadata=(("x-forwarded-for", address),)
            ).code()
            return code

        assert await check("192.0.2.1") is grpc.StatusCode.RESOURCE_EXHAUSTED
    settings = file_settings(tmp_path, server={"open_rate": 5}, access={"trusted_proxies": ["127.0.0.1"]})
    async with rpc_serving(store, settings) as (_, channel, _intake):
        stub = health_pb2_grpc.HealthStub(channel)
        codes = await asyncio.gather(*(check("192.0.2.1") for _ in range(100)))
        assert codes.count(grpc.StatusCode.OK) >= 10
        assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) >= 50
        assert await check("192.0.2.2") is grpc.StatusCode.OK


async def test_a_connection_carries_a_bounded_number_of_calls(store: TaskStore, tmp_path: Path) -> None:
    settings = file_settings(tmp_path, server={"max_grpc_streams": 2})
    async with rpc_serving(store, settings) as (_, channel, _intake):
        stub = health_pb2_grpc.HealthStub(channel)
        held = [stub.Watch(health_pb2.HealthCheckRequest(), timeout=60) for _ in range(2)]
        for call in held:
            await call.read()
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=0.5)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED, "the client keeps it back"
        held[0].cancel()
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=20)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        held[1].cancel()
