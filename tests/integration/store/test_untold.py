"""Ended tasks of which Celery is to be told: which ones are noted, who has them, and when they are given up."""

from __future__ import annotations

import uuid
from datetime import timedelta

from celeriac.model import Failure, Refusal, Status, Submission
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.task_store import TaskStore, UntoldEnd
from tests.kit.waiting import eventually

MESSAGE = '{"headers":{"retries": 0}}'
BROKEN = Failure("broken", "boom", False)


async def celery_task(store: TaskStore, task_id: str, *, message: str | None = MESSAGE, retries: int = 0) -> str:
    submission = Submission(
        task_id=task_id, type="t", group="g", payload="{}", max_retries=retries, celery_message=message
    )
    return (await store.submit(submission)).task_id


async def claimed(store: TaskStore, task_id: str) -> None:
    assert not isinstance(await store.claim(task_id, worker="w"), Refusal)


async def untold(store: TaskStore) -> list[str]:
    return list(await store.redis.zrange(keys.UNTOLD, 0, -1))


async def test_only_ends_that_celery_cares_for_and_does_not_know_are_noted(store: TaskStore) -> None:
    await store.cancel(await celery_task(store, "cancelled"))
    await store.cancel(await celery_task(store, "not celery's", message=None))
    for task_id, known in (("told", False), ("untold", True)):
        claim = await store.claim(await celery_task(store, task_id), worker="w")
        assert not isinstance(claim, Refusal)
        await store.fail(claim, BROKEN, 0, untold=known)
    claim = await store.claim(await celery_task(store, "completed"), worker="w")
    assert not isinstance(claim, Refusal)
    await store.complete(claim, "1")
    assert sorted(await untold(store)) == ["cancelled", "untold"]


async def test_an_end_is_one_workers_until_its_lease_runs_out(store: TaskStore, valkey_url: str) -> None:
    await store.cancel(await celery_task(store, "a"))
    async with TaskStore(valkey_url, Settings(tell_lease=8).store) as hasty:
        (first,) = await hasty.take_untold(10)
        assert first.task_id == "a"
        assert await store.take_untold(10) == []
        (second,) = await eventually(lambda: store.take_untold(10), because="the first one seems to be dead")
        # It lives after all, and what it says does not count any more.
        await hasty.told(first)
    assert await untold(store) == ["a"]
    await store.told(second)
    assert await untold(store) == []


async def test_an_end_that_nobody_can_tell_comes_again_later_until_it_is_given_up(
    store: TaskStore, valkey_url: str
) -> None:
    await store.cancel(await celery_task(store, "a"))
    (end,) = await store.take_untold(10)
    ended_at = (await store.get("a")).finished_at
    assert ended_at is not None
    # The pause is as long as the time since the end.
    assert await store.tell_later(end, ended_at - timedelta(seconds=8))
    assert await store.take_untold(10) == [], "not at once"
    (end,) = await eventually(lambda: store.take_untold(10), because="after a pause")
    async with TaskStore(valkey_url, Settings(tell_within=1).store) as hasty:
        assert not await hasty.tell_later(end, ended_at)
    assert await untold(store) == []


async def test_what_no_worker_took_for_so_long_is_given_up(store: TaskStore, valkey_url: str) -> None:
    async with TaskStore(valkey_url, Settings(tell_within=1).store) as hasty:
        await hasty.cancel(await celery_task(store, "old"))

        async def forgotten() -> bool:
            await hasty.cancel(await celery_task(store, str(uuid.uuid4())))
            return "old" not in await untold(store)

        await eventually(forgotten, because="each new end drops the old ones")
        assert await untold(store)


async def test_a_task_that_is_run_again_has_no_end_to_tell(store: TaskStore) -> None:
    await store.cancel(await celery_task(store, "a"))
    (end,) = await store.take_untold(10)
    await store.retry("a")
    assert await untold(store) == []
    await store.cancel("a")
    # The worker that took the end before has nothing to do with this one.
    await store.told(UntoldEnd(*end))
    assert await untold(store) == ["a"]


async def test_a_lost_attempt_goes_back_or_fails_or_is_cancelled(store: TaskStore) -> None:
    async def lose(task_id: str, *, worker: str = "w", again: bool = True) -> Status | None:
        lost = await store.lose(task_id, worker=worker, code="worker_lost", message="gone", again=again)
        return None if lost is None else lost.status

    task_id = await celery_task(store, "a", retries=1)
    assert await lose(task_id) is None, "it waits"
    await claimed(store, task_id)
    assert await lose(task_id, worker="another") is None
    assert await lose(task_id) is Status.PENDING
    await claimed(store, task_id)
    assert await lose(task_id) is Status.FAILED
    task = await store.get(task_id)
    assert task.error == Failure("worker_lost", "gone", True)

    task_id = await celery_task(store, "b", retries=1)
    await claimed(store, task_id)
    assert await lose(task_id, again=False) is Status.FAILED

    task_id = await celery_task(store, "c", retries=1)
    await claimed(store, task_id)
    await store.cancel(task_id)
    assert await lose(task_id) is Status.CANCELLED
    assert await untold(store) == ["a", "b", "c"]
