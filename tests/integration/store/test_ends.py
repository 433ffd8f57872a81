"""Waiting for ends: thousands of waiters on one subscription, woken by the store, whatever the connection does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from celeriac.model import Claim, Outcome, Progress, Status, Submission, Task
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from celeriac.store.watching import ends as ends_module
from celeriac.store.watching.ends import End, Ends, TooManyWaitersError
from celeriac.store.watching.hub import LiveHub
from tests.kit.servers import ValkeyServer
from tests.kit.waiting import PATIENCE_S, eventually


@asynccontextmanager
async def listening(store: TaskStore, *, most: int = 10_000) -> AsyncIterator[Ends]:
    """Yield what waits, on a hub of its own."""
    hub = LiveHub(store=store)
    await hub.start()
    ends = Ends(store=store, hub=hub, most=most)
    await ends.start()
    try:
        yield ends
    finally:
        await ends.stop()
        await hub.stop()


@pytest.fixture
async def ends(store: TaskStore) -> AsyncIterator[Ends]:
    async with listening(store) as waiting:
        yield waiting


async def submitted(store: TaskStore, task_id: str, reply_to: str | None = None) -> None:
    await store.submit(Submission(task_id=task_id, type="demo", reply_to=reply_to))


async def complete(store: TaskStore, task_id: str, result: str = "1") -> None:
    claim = await store.claim(task_id, worker="w")
    assert isinstance(claim, Claim)
    await store.complete(claim, result)


async def wait_for(ends: Ends, task_id: str) -> End:
    async with ends.waiting() as wait:
        return await wait.of(task_id, PATIENCE_S)


async def submit_and_wait(ends: Ends, store: TaskStore, task_id: str) -> End:
    async with ends.waiting() as wait:
        wait.expect(task_id)
        answer = await store.submit(Submission(task_id=task_id, type="demo", reply_to=wait.channel))
        return await wait.after(answer, PATIENCE_S)


async def test_a_look_from_before_the_submission_does_not_end_the_wait(store: TaskStore, ends: Ends) -> None:
    """The subscription of a process that has just started causes one, for example."""
    async with ends.waiting() as wait:
        wait.expect("soon")
        await ends.look(["soon"])
        answer = await store.submit(Submission(task_id="soon", type="demo", reply_to=wait.channel))
        waiting = asyncio.create_task(wait.after(answer, PATIENCE_S))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await complete(store, "soon", '"here"')
        end = await waiting
    assert isinstance(end, Task | Outcome)
    assert (end.status, end.result) == (Status.COMPLETED, "here")


async def test_thousands_wait_on_one_subscription(store: TaskStore, ends: Ends) -> None:
    ids = [f"t{number}" for number in range(20)]
    for task_id in ids:
        await submitted(store, task_id)
    waiting = [asyncio.create_task(wait_for(ends, task_id)) for task_id in ids for _ in range(150)]
    own = [asyncio.create_task(submit_and_wait(ends, store, f"own{number}")) for number in range(500)]

    async def all_listen() -> bool:
        heard = await store.redis.pubsub_numsub(*(keys.live(task_id) for task_id in ids))
        return all(count == 1 for _, count in heard) and await store.redis.zcard(keys.waiting("default")) == 520

    await eventually(all_listen, because="all wait")
    # Tests before this one may have left subscribers in other databases.
    mine = str(store.redis.connection_pool.connection_kwargs["db"])
    subscribed = [one for one in await store.redis.client_list() if int(one["sub"]) > 0 and one["db"] == mine]
    assert len(subscribed) == 1
    for task_id in [*ids, *(f"own{number}" for number in range(500))]:
        await complete(store, task_id, f'"{task_id}"')
    found = await asyncio.gather(*waiting)
    assert [(one.task_id, one.result) for one in found if one] == [(i, i) for i in ids for _ in range(150)]
    assert all(isinstance(one, Task) for one in found)
    told = await asyncio.gather(*own)
    assert told == [Outcome(f"own{n}", Status.COMPLETED, f"own{n}") for n in range(500)]
    assert not ends._waiters, "nothing is left behind"
    assert not ends._callers


async def test_nobody_who_does_not_wait_costs_anything(store: TaskStore, ends: Ends) -> None:
    """No channel of a task has listeners, and no record names a process."""
    # Those of a test before this one, if any are left.
    before = set(await store.redis.pubsub_channels("celeriac:live:*"))
    await submitted(store, "t")
    assert set(await store.redis.pubsub_channels("celeriac:live:*")) <= before - {keys.live("t")}
    assert await store.redis.hget(keys.task("t"), "reply_to") is None


async def test_reports_of_progress_do_not_wake(store: TaskStore, ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    await submitted(store, "t")
    waiting = asyncio.create_task(wait_for(ends, "t"))
    await eventually(lambda: store.redis.pubsub_channels(keys.live("t")), because="it listens")
    await eventually(lambda: not ends._wakeups._due, because="it has looked once")
    looked: list[str] = []
    monkeypatch.setattr(ends, "wake", lambda names: looked.extend(names))
    claim = await store.claim("t", worker="w")
    assert isinstance(claim, Claim)
    await store.progress(claim, 1, Progress(50, "half", "", 1))
    # A message that comes after those: the others have been heard.
    await store.redis.publish(keys.live("t"), "")
    await eventually(lambda: looked, because="the last one wakes")
    assert looked == ["t"], "the start and the progress did not"
    monkeypatch.undo()
    await store.complete(claim, "1")
    assert isinstance(await asyncio.wait_for(waiting, PATIENCE_S), Task)


async def test_a_lost_connection_loses_no_end(store: TaskStore, ends: Ends) -> None:
    await submitted(store, "t")
    waiting = asyncio.create_task(wait_for(ends, "t"))
    own = asyncio.create_task(submit_and_wait(ends, store, "own"))
    await eventually(lambda: store.redis.pubsub_channels(keys.live("t")), because="it listens")
    await eventually(lambda: store.redis.zscore(keys.waiting("default"), "own"), because="the other is submitted")
    for _ in range(3):
        await store.redis.client_kill_filter(_type="pubsub", skipme=False)
        await asyncio.sleep(0.05)
    await store.redis.client_kill_filter(_type="pubsub", skipme=False)
    # They end while nobody listens.
    await complete(store, "t")
    await complete(store, "own", "2")
    first, second = await asyncio.gather(asyncio.wait_for(waiting, PATIENCE_S), asyncio.wait_for(own, PATIENCE_S))
    assert first is not None
    assert second is not None
    assert (first.result, second.result) == (1, 2)


async def test_a_store_that_is_killed_delays_an_end(own_valkey: ValkeyServer, settings: Settings) -> None:
    async with TaskStore(own_valkey.url(), settings.store, patience_s=PATIENCE_S) as store, listening(store) as ends:
        await submitted(store, "t")
        waiting = asyncio.create_task(wait_for(ends, "t"))
        own = asyncio.create_task(submit_and_wait(ends, store, "own"))
        await eventually(lambda: store.redis.pubsub_channels(keys.live("t")), because="it listens")
        await eventually(lambda: store.redis.zscore(keys.waiting("default"), "own"), because="the other is submitted")
        # It writes its file every second.
        await asyncio.sleep(1.5)
        own_valkey.kill()
        await asyncio.sleep(0.5)
        own_valkey.start()
        await complete(store, "t")
        await complete(store, "own", "2")
        first, second = await asyncio.gather(asyncio.wait_for(waiting, PATIENCE_S), asyncio.wait_for(own, PATIENCE_S))
        assert first is not None
        assert second is not None
        assert (first.result, second.result) == (1, 2)


async def test_a_message_that_was_lost_is_made_good_by_a_look(
    store: TaskStore, ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ends_module, "LOOK_S", 0.1)
    monkeypatch.setattr(ends, "_heard_event", lambda *_: None)
    monkeypatch.setattr(ends, "_heard_end", lambda *_: None)
    await submitted(store, "t")
    waiting = asyncio.create_task(wait_for(ends, "t"))
    await complete(store, "t")
    assert isinstance(await asyncio.wait_for(waiting, PATIENCE_S), Task)


async def test_messages_of_an_earlier_version_are_understood(store: TaskStore, ends: Ends) -> None:
    await submitted(store, "t")
    waiting = asyncio.create_task(wait_for(ends, "t"))
    await eventually(lambda: store.redis.pubsub_channels(keys.live("t")), because="it listens")
    await store.redis.hset(keys.task("t"), mapping={"status": "COMPLETED", "result": "3"})
    await store.redis.publish(keys.live("t"), "1896076800000-0")
    end = await asyncio.wait_for(waiting, PATIENCE_S)
    assert end is not None
    assert end.result == 3


async def test_places_are_bounded_and_come_back(store: TaskStore) -> None:
    async with listening(store, most=1) as ends, ends.waiting():
        with pytest.raises(TooManyWaitersError):
            async with ends.waiting():
                pass
    async with listening(store, most=1) as ends:
        for _ in range(3):
            async with ends.waiting():
                pass


async def test_all_go_on_when_the_process_stops(store: TaskStore, ends: Ends) -> None:
    await submitted(store, "t")
    waiting = asyncio.create_task(wait_for(ends, "t"))
    await eventually(lambda: ends._waiters, because="it waits")
    ends.let_go()
    assert await asyncio.wait_for(waiting, PATIENCE_S) is None
    assert await asyncio.wait_for(wait_for(ends, "t"), PATIENCE_S) is None, "nobody begins to wait any more"
