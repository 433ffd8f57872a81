"""The gRPC task service (docs/task-service.md), as a client with nothing but the .proto sees it."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status.rpc_status import from_call

from celeriac.files.service import Files
from celeriac.files.sweeping import HandoffSweeper
from celeriac.model import Claim, Failure, Status
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac_proto.task import task_pb2, task_pb2_grpc
from tests.kit.api.file_services import content, file_settings, rpc_serving
from tests.kit.servers import ValkeyServer
from tests.kit.waiting import eventually


class Service:
    """The service as a client has it, and the folders it works on."""

    def __init__(self, address: str, channel: grpc.aio.Channel, intake: Files, folder: Path) -> None:
        self.address, self.channel, self.intake, self.store, self.folder = (
            address,
            channel,
            intake,
            intake.store,
            folder,
        )
        self.stub: Any = task_pb2_grpc.TaskServiceStub(channel)  # type: ignore[no-untyped-call]

    def temp(self, name: str, data: bytes = b"a film") -> Path:
        path = self.folder / "temp" / name
        path.write_bytes(data)
        return path

    async def create(self, path: object) -> str:
        answer = await self.stub.CreateTask(task_pb2.CreateTaskRequest(temp_file_path=str(path)))
        return str(answer.task_id)

    async def status(self, task_id: str) -> Any:
        return await self.stub.GetTaskStatus(task_pb2.GetTaskStatusRequest(task_id=task_id))

    async def claim(self, task_id: str) -> Claim:
        claimed = await self.store.claim(task_id, worker="tester")
        assert isinstance(claimed, Claim)
        return claimed


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return file_settings(tmp_path)


@pytest.fixture
async def service(store: TaskStore, settings: Settings, tmp_path: Path) -> AsyncIterator[Service]:
    async with rpc_serving(store, settings) as served:
        yield Service(*served, tmp_path)


async def test_create_task_takes_the_file_over_and_makes_a_task_of_it(service: Service) -> None:
    temp = service.temp("upload.mp4")
    task_id = await service.create(temp)
    assert str(uuid.UUID(task_id, version=4)) == task_id
    original = service.folder / "storage" / "videos" / task_id / "original.mp4"
    assert original.read_bytes() == b"a film"
    assert not temp.exists()
    record = await service.store.redis.hgetall(f"task:{task_id}")
    assert (record["task_id"], record["status"], record["queue"]) == (task_id, "PENDING", "default")
    assert record["type"] == "file_process"
    assert record["original_file_path"] == str(original)
    assert datetime.fromisoformat(record["created_at"]).tzinfo is not None
    assert len(await service.store.redis.keys("default*")) == 1
    state = await service.status(task_id)
    assert state.status == task_pb2.PENDING
    assert (state.result_file_path, state.error_message) == ("", "")
    assert state.created_at == record["created_at"]
    assert state.updated_at == record["updated_at"]


@pytest.mark.parametrize(
    ("name", "kept"),
    [("a.mp4", "original.mp4"), ("a.MOV", "original.mp4"), ("upload-1", "original.mp4"), ("x.tmp", "original.mp4"),
     ("a.png", "original.png"), ("a.JPEG", "original.jpeg"), ("sound.mp3", "original.mp3")],
)  # fmt: skip
async def test_a_video_is_original_mp4_and_other_media_keep_their_extension(
    service: Service, name: str, kept: str
) -> None:
    task_id = await service.create(service.temp(name))
    assert os.listdir(service.folder / "storage" / "videos" / task_id) == [kept]


async def test_the_states_of_a_task_are_those_of_the_contract(service: Service) -> None:
    done, failed, cancelled = [await service.create(service.temp(f"{n}.mp4")) for n in range(3)]
    claim = await service.claim(done)
    assert claim.original_file_path.endswith("original.mp4")
    assert (await service.status(done)).status == task_pb2.PROCESSING
    await service.store.complete(claim, '{"result_file_path":"/r.mp4"}', result_file_path="/r.mp4")
    state = await service.status(done)
    assert (state.status, state.result_file_path, state.error_message) == (task_pb2.COMPLETED, "/r.mp4", "")

    claim = await service.claim(failed)
    assert await service.store.fail(claim, Failure("x", "try again", True), 60_000) is Status.RETRYING
    state = await service.status(failed)
    assert (state.status, state.error_message) == (task_pb2.PENDING, "")
    await service.store.promote()
    await service.store.cancel(failed, "no time")
    state = await service.status(failed)
    assert (state.status, state.result_file_path, state.error_message) == (task_pb2.FAILED, "", "no time")

    await service.store.cancel(cancelled)
    assert (await service.status(cancelled)).status == task_pb2.FAILED


async def test_what_a_foreign_producer_wrote_is_answered(service: Service) -> None:
    record = {
        "task_id": "foreign", "status": "COMPLETED", "original_file_path": "/a", "result_file_path": "/b",
        "error_message": "", "created_at": "2024-05-01T10:00:00+02:00", "updated_at": "2024-05-01T08:00:01Z",
    }  # fmt: skip
    await service.store.redis.hset("task:foreign", mapping=record)
    await service.store.redis.lpush("task:pending", "foreign")
    state = await service.status("foreign")
    assert (state.status, state.result_file_path) == (task_pb2.COMPLETED, "/b")
    assert (state.created_at, state.updated_at) == ("2024-05-01T08:00:00.000Z", "2024-05-01T08:00:01.000Z")


@pytest.mark.parametrize("task_id", ["none", "pending", "00000000-0000-4000-8000-000000000000"])
async def test_an_unknown_task_is_not_found(service: Service, task_id: str) -> None:
    await service.store.redis.lpush("task:pending", "x")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.status(task_id)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_what_cannot_be_taken_over_is_refused_with_its_code_and_stays(service: Service) -> None:
    temp = service.folder / "temp"
    secret = service.folder / "secret"
    secret.write_text("secret")
    (temp / "folder").mkdir()
    (temp / "leaves").symlink_to(secret)
    os.mkfifo(temp / "fifo")
    before = content(service.folder)
    invalid = ["", temp, temp / "folder", temp / "leaves", temp / "fifo", secret, f"{temp}/../secret", "/etc/passwd"]
    cases = [(path, grpc.StatusCode.INVALID_ARGUMENT, "FILE_NOT_ALLOWED") for path in invalid]
    cases.append((temp / "none.mp4", grpc.StatusCode.NOT_FOUND, "FILE_NOT_FOUND"))
    for path, code, reason in cases:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.create(path)
        assert caught.value.code() is code, path
        status = from_call(caught.value)
        assert status is not None
        info = ErrorInfo()
        assert status.details[0].Unpack(info)
        assert (info.reason, info.domain) == (reason, "celeriac")
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            bad = BadRequest()
            assert status.details[1].Unpack(bad)
            assert bad.field_violations[0].field == "temp_file_path"
    assert content(service.folder) == before


async def test_the_original_of_another_task_cannot_be_taken_over(tmp_path: Path, store: TaskStore) -> None:
    settings = file_settings(tmp_path, files={"allowed_roots": [tmp_path]})
    async with rpc_serving(store, settings) as served:
        service = Service(*served, tmp_path)
        task_id = await service.create(service.temp("a.mp4"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.create(tmp_path / "storage" / "videos" / task_id / "original.mp4")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_with_a_full_queue_the_file_stays_where_it_was(tmp_path: Path, store: TaskStore) -> None:
    settings = file_settings(tmp_path, max_queue_length=1)
    full = TaskStore(_url(store), settings.store)
    async with full, rpc_serving(full, settings) as served:
        service = Service(*served, tmp_path)
        await service.create(service.temp("a.mp4"))
        second = service.temp("b.mp4")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.create(second)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert second.read_bytes() == b"a film"
        assert len(os.listdir(tmp_path / "storage" / "videos")) == 1
        assert not os.listdir(tmp_path / "storage" / ".handoff")


async def test_with_the_store_away_the_file_stays_where_it_was(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path / "valkey")
    server.start()
    settings = file_settings(tmp_path, store_timeout=0.3)
    async with TaskStore(server.url(), settings.store) as store, rpc_serving(store, settings) as served:
        service = Service(*served, tmp_path)
        server.kill()
        temp = service.temp("a.mp4")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.create(temp)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.status(str(uuid.uuid4()))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert temp.read_bytes() == b"a film"
        assert not os.listdir(tmp_path / "storage" / "videos")


async def test_a_submission_that_arrives_after_all_is_cancelled(service: Service) -> None:
    task_id = await service.create(service.temp("a.mp4"))
    # As after an answer that was lost: the file went back, its journal entry says that no task must come of it.
    (service.folder / "storage" / ".handoff" / f"{task_id}.void").symlink_to("0 0 0 0 original.mp4 /x")
    sweeper = HandoffSweeper(store=service.store, handoff=service.intake.handoff)
    await sweeper.step()
    assert (await service.store.get(task_id)).status is Status.CANCELLED
    assert not os.listdir(service.folder / "storage" / ".handoff")


async def test_of_many_calls_for_one_file_one_gets_it(service: Service) -> None:
    temp = service.temp("a.mp4")
    answers = await asyncio.gather(*(service.create(temp) for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(answer, str) for answer in answers) == 1
    codes = {answer.code() for answer in answers if isinstance(answer, grpc.aio.AioRpcError)}
    assert codes <= {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.ABORTED}
    assert len(os.listdir(service.folder / "storage" / "videos")) == 1


async def test_a_caller_that_hangs_up_leaves_no_half_handoff(service: Service) -> None:
    async def hasty(path: Path, timeout_s: float) -> None:
        with pytest.raises(grpc.aio.AioRpcError):
            await service.stub.CreateTask(task_pb2.CreateTaskRequest(temp_file_path=str(path)), timeout=timeout_s)

    paths = [service.temp(f"{n}.mp4") for n in range(20)]
    await asyncio.gather(*(hasty(path, 0.0005 * (n % 5)) for n, path in enumerate(paths)), return_exceptions=True)
    handoff = service.folder / "storage" / ".handoff"
    await eventually(lambda: not handoff.exists() or not os.listdir(handoff), because="what was begun ends")
    videos = service.folder / "storage" / "videos"
    for task_id in os.listdir(videos) if videos.exists() else []:
        assert (await service.store.get(task_id)).original_file_path == str(videos / task_id / "original.mp4")
    handed_over = len(os.listdir(videos)) if videos.exists() else 0
    assert handed_over + sum(path.exists() for path in paths) == len(paths)


async def test_a_group_of_an_external_processor_gets_the_id_in_its_list(tmp_path: Path, store: TaskStore) -> None:
    settings = file_settings(tmp_path, groups={"default": {"processor": "external"}})
    async with rpc_serving(store, settings) as served:
        service = Service(*served, tmp_path)
        ids = [await service.create(service.temp(f"{n}.mp4")) for n in range(2)]
        assert await store.redis.keys("default*") == []
        assert await store.redis.rpop("task:pending") == ids[0]
        await store.redis.hset(f"task:{ids[0]}", mapping={"status": "FAILED", "error_message": "broken"})
        state = await service.status(ids[0])
        assert (state.status, state.error_message) == (task_pb2.FAILED, "broken")


async def test_a_client_with_nothing_but_an_address_can_explore_and_call(service: Service) -> None:
    target = service.channel
    stub = health_pb2_grpc.HealthStub(target)
    for name in ("", "task.TaskService"):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    task_id = await service.create(service.temp("a.mp4"))
    assert await asyncio.to_thread(_explore, service.address, task_id) == 0


def _explore(address: str, task_id: str) -> int:
    """Ask by reflection what there is, and call it with messages made of what was answered; returns the status."""
    with grpc.insecure_channel(address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert "task.TaskService" in database.get_services()
        pool = descriptor_pool.DescriptorPool(database)
        method = pool.FindServiceByName("task.TaskService").FindMethodByName("GetTaskStatus")
        request_class = message_factory.GetMessageClass(method.input_type)
        answer_class = message_factory.GetMessageClass(method.output_type)
        call = channel.unary_unary(
            "/task.TaskService/GetTaskStatus",
            request_serializer=request_class.SerializeToString,
            response_deserializer=answer_class.FromString,
        )
        answer: Any = call(request_class(task_id=task_id), timeout=60)
        return int(answer.status)


def _url(store: TaskStore) -> str:
    options = store.redis.connection_pool.connection_kwargs
    return f"redis://{options['host']}:{options['port']}/{options['db']}"
