"""Groups whose tasks a foreign program processes: it pops ids from a list and writes hashes, nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from celeriac.model import Delivery, Event, Status, Submission
from celeriac.store.roles.external import ExternalWatcher
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.hub import LiveHub
from tests.kit.waiting import PATIENCE_S, eventually

LIST = "task:pending"


@pytest.fixture
async def watcher(store: TaskStore) -> AsyncIterator[ExternalWatcher]:
    role = ExternalWatcher(store=store)
    await role.start()
    yield role
    await role.stop()


async def handed_out(store: TaskStore) -> str:
    """Submit a task to an external group, as `CreateTask` does."""
    submission = Submission(
        task_id=str(uuid4()), type="file_process", group="foreign", delivery=Delivery.EXTERNAL,
        original_file_path="/storage/original.mp4",
    )  # fmt: skip
    return (await store.submit(submission)).task_id


async def statuses(store: TaskStore, task_id: str) -> list[str]:
    return [event.fields["status"] for event in await store.events(task_id) if event.kind == "status"]


async def test_a_program_that_only_knows_list_and_hash_is_followed(store: TaskStore, watcher: ExternalWatcher) -> None:
    task_id = await handed_out(store)
    assert await store.redis.rpop(LIST) == task_id
    await store.redis.hset(f"task:{task_id}", "status", "PROCESSING")
    await eventually(lambda: _status(store, task_id, "PROCESSING"), because="the watcher sees that it began")
    stats = await store.group("foreign")
    assert (stats.waiting, stats.running) == (0, 1)

    await store.redis.hset(
        f"task:{task_id}", mapping={"status": "COMPLETED", "result_file_path": "/storage/result.mp4"}
    )
    await eventually(lambda: _status(store, task_id, "COMPLETED"), because="the watcher sees that it ended")
    task = await store.get(task_id)
    assert task.status is Status.COMPLETED
    assert task.result == {"result_file_path": "/storage/result.mp4"}
    assert task.result_file_path == "/storage/result.mp4"
    assert task.finished_at is not None
    assert (await store.group("foreign")).running == 0
    assert await store.redis.pttl(f"task:{task_id}") > 0
    assert await statuses(store, task_id) == ["PENDING", "PROCESSING", "COMPLETED"]
    assert await store.redis.zcard("celeriac:external") == 0


async def test_a_failure_that_skips_processing_is_followed(store: TaskStore, watcher: ExternalWatcher) -> None:
    task_id = await handed_out(store)
    await store.redis.hset(f"task:{task_id}", mapping={"status": "FAILED", "error_message": "no such codec"})
    await eventually(lambda: _status(store, task_id, "FAILED"), because="the watcher sees that it failed")
    task = await store.get(task_id)
    assert task.error is not None
    assert (task.error.code, task.error.message) == ("failed", "no such codec")
    assert (await store.group("foreign")).waiting == 0


async def test_who_follows_the_task_live_hears_of_its_end(store: TaskStore, watcher: ExternalWatcher) -> None:
    task_id = await handed_out(store)
    hub = LiveHub(store=store)
    await hub.start()

    async def until_its_end() -> list[Event]:
        seen: list[Event] = []
        async for event in hub.follow(task_id, after="0-0"):
            if event is not None:
                seen.append(event)
                if event.fields.get("status") == "COMPLETED":
                    return seen
        return seen

    following = asyncio.create_task(until_its_end())
    await store.redis.hset(f"task:{task_id}", "status", "COMPLETED")
    seen = await asyncio.wait_for(following, PATIENCE_S)
    assert [event.fields["status"] for event in seen] == ["PENDING", "COMPLETED"]
    await hub.stop()


async def test_a_cancelled_task_is_in_no_list_and_not_followed_any_more(
    store: TaskStore, watcher: ExternalWatcher
) -> None:
    task_id = await handed_out(store)
    await store.cancel(task_id)
    assert await store.redis.llen(LIST) == 0
    await eventually(lambda: _watched(store, 0), because="the watcher lets go of it")
    assert await statuses(store, task_id) == ["PENDING", "CANCELLED"]
    await store.retry(task_id)
    assert await store.redis.lrange(LIST, 0, -1) == [task_id]
    assert await _watched(store, 1)


async def test_one_that_is_given_back_waits_again(store: TaskStore, watcher: ExternalWatcher) -> None:
    task_id = await handed_out(store)
    await store.redis.hset(f"task:{task_id}", "status", "PROCESSING")
    await eventually(lambda: _status(store, task_id, "PROCESSING"), because="it began")
    await store.redis.hset(f"task:{task_id}", "status", "PENDING")
    await eventually(lambda: _status(store, task_id, "PENDING"), because="it was given back")
    stats = await store.group("foreign")
    assert (stats.waiting, stats.running) == (1, 0)


async def test_all_of_many_are_followed_not_only_the_oldest(store: TaskStore, watcher: ExternalWatcher) -> None:
    ids = await asyncio.gather(*(handed_out(store) for _ in range(1300)))
    async with store.redis.pipeline(transaction=False) as pipe:
        for task_id in ids[500:]:
            pipe.hset(f"task:{task_id}", "status", "COMPLETED")
        await pipe.execute()
    await eventually(lambda: _watched(store, 500), because="every task that ended is seen")


async def test_a_hash_that_a_foreign_producer_wrote_is_read(store: TaskStore) -> None:
    record = {"status": "processing", "created_at": "2024-01-01T00:00:00.123456789Z", "updated_at": "yesterday"}
    await store.redis.hset("task:foreign-1", mapping=record)
    task = await store.get("foreign-1")
    assert (task.task_id, task.status) == ("foreign-1", Status.PROCESSING)
    assert task.created_at.year == 2024
    assert task.updated_at == task.created_at


async def _status(store: TaskStore, task_id: str, status: str) -> bool:
    return (await statuses(store, task_id))[-1] == status


async def _watched(store: TaskStore, count: int) -> bool:
    return bool(await store.redis.zcard("celeriac:external") == count)
