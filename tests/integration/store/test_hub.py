"""Live delivery: history and what follows join without gap or double, whatever the connection does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from celeriac.model import Claim, Event, Progress, Submission
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.hub import LiveHub
from tests.kit.servers import ValkeyServer
from tests.kit.waiting import PATIENCE_S, eventually


@pytest.fixture
async def hub(store: TaskStore) -> AsyncIterator[LiveHub]:
    """A hub that listens."""
    listening = LiveHub(store=store)
    await listening.start()
    yield listening
    await listening.stop()


async def running(store: TaskStore, task_id: str = "t") -> Claim:
    await store.submit(Submission(task_id=task_id, type="demo"))
    claim = await store.claim(task_id, worker="w")
    assert isinstance(claim, Claim)
    return claim


async def report(store: TaskStore, claim: Claim, first: int, count: int) -> None:
    for seq in range(first, first + count):
        await store.progress(claim, seq, Progress(seq, "stage", str(seq), seq))


async def watch(hub: LiveHub, seen: list[Event], *, task_id: str = "t", after: str = "0-0", idle_s: float = 15) -> None:
    """Follow a task to its end."""
    async with aclosing(hub.follow(task_id, after, idle_s=idle_s, page=50)) as events:
        async for event in events:
            if event is None:
                continue
            seen.append(event)
            if event.fields.get("status") in ("COMPLETED", "FAILED", "CANCELLED"):
                return


def numbers(events: list[Event]) -> list[int]:
    return [int(event.fields["percentage"]) for event in events if event.kind == "progress"]


async def subscriptions(store: TaskStore, task_id: str = "t") -> int:
    """Return how many connections are subscribed to a task."""
    return int((await store.redis.pubsub_numsub(keys.live(task_id)))[0][1])


async def test_many_followers_see_history_and_what_follows_once_and_in_order(store: TaskStore, hub: LiveHub) -> None:
    claim = await running(store)
    writing = asyncio.create_task(report(store, claim, 1, 600))
    seen: list[list[Event]] = []
    watching = []
    for i in range(30):
        seen.append([])
        watching.append(asyncio.create_task(watch(hub, seen[i])))
        await eventually(lambda i=i: seen[i], because="a follower begins with the history")  # type: ignore[misc]
    assert await subscriptions(store) == 1
    await writing
    await store.complete(claim, "1")
    await asyncio.gather(*watching)
    for events in seen:
        assert numbers(events) == list(range(1, 601))
        assert len({event.id for event in events}) == len(events) == 603


async def test_a_follower_goes_on_where_it_left_off(store: TaskStore, hub: LiveHub) -> None:
    claim = await running(store)
    writing = asyncio.create_task(report(store, claim, 1, 300))
    seen: list[Event] = []
    while len(seen) < 250:
        async with aclosing(hub.follow("t", seen[-1].id if seen else "-")) as events:
            async for event in events:
                assert event is not None
                seen.append(event)
                if len(seen) % 9 == 0:
                    break
    await writing
    await store.complete(claim, "1")
    await watch(hub, seen, after=seen[-1].id)
    assert numbers(seen) == list(range(1, 301))


async def test_the_last_follower_that_leaves_ends_the_subscription(store: TaskStore, hub: LiveHub) -> None:
    await running(store)
    first: list[Event] = []
    second: list[Event] = []
    watching = [asyncio.create_task(watch(hub, seen)) for seen in (first, second)]
    await eventually(lambda: first and second, because="both follow")
    watching[0].cancel()
    await asyncio.gather(watching[0], return_exceptions=True)
    assert await subscriptions(store) == 1
    watching[1].cancel()
    await asyncio.gather(watching[1], return_exceptions=True)

    async def unsubscribed() -> bool:
        return await subscriptions(store) == 0

    await eventually(unsubscribed, because="nobody follows any more")


async def test_followers_that_come_and_go_at_once_leave_the_right_subscription(store: TaskStore, hub: LiveHub) -> None:
    claim = await running(store)
    for seq in range(1, 101):
        seen: list[Event] = []
        watching = asyncio.create_task(watch(hub, seen, idle_s=60))
        await eventually(lambda seen=seen: seen, because="it follows", interval_s=0)  # type: ignore[misc]
        if seq < 100:
            watching.cancel()  # and the next one subscribes while this one unsubscribes
        await report(store, claim, seq, 1)
    await eventually(lambda: numbers(seen) == list(range(1, 101)), because="the last one hears live, not by chance")
    watching.cancel()


async def test_a_follower_that_never_reads_costs_nothing_and_misses_nothing(store: TaskStore, hub: LiveHub) -> None:
    claim = await running(store)
    sleepy = hub.follow("t", page=10)
    first = await anext(sleepy)
    assert first is not None
    await report(store, claim, 1, 500)
    await store.complete(claim, "1")
    seen = [first]
    async with aclosing(sleepy):
        async for event in sleepy:
            assert event is not None
            seen.append(event)
            if event.fields.get("status") == "COMPLETED":
                break
    assert numbers(seen) == list(range(1, 501))


async def test_a_quiet_stream_gives_a_sign_of_life(store: TaskStore, hub: LiveHub) -> None:
    await running(store)
    async with aclosing(hub.follow("t", idle_s=0.05)) as events:
        told = [await anext(events) for _ in range(4)]
    assert [event and event.fields["status"] for event in told] == ["PENDING", "PROCESSING", None, None]


async def test_a_task_that_does_not_exist_yet_can_be_followed(store: TaskStore, hub: LiveHub) -> None:
    seen: list[Event] = []
    watching = asyncio.create_task(watch(hub, seen, idle_s=60))

    async def subscribed() -> bool:
        return await subscriptions(store) == 1

    await eventually(subscribed, because="it listens")
    await store.complete(await running(store), "1")
    await watching
    assert len(seen) == 3


async def test_stopping_ends_every_follow(store: TaskStore, hub: LiveHub) -> None:
    await running(store)
    seen: list[list[Event]] = [[], [], []]
    watching = [asyncio.create_task(watch(hub, events, idle_s=60)) for events in seen]
    await eventually(lambda: all(seen), because="they follow")
    await hub.stop()
    await hub.stop()
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*watching)


async def test_a_cut_connection_is_made_good(store: TaskStore, hub: LiveHub) -> None:
    claim = await running(store)
    seen: list[Event] = []
    # Quiet for longer than the test: only what is heard wakes it.
    watching = asyncio.create_task(watch(hub, seen, idle_s=600))
    for cut in range(5):
        await eventually(lambda cut=cut: len(numbers(seen)) >= cut * 20, because="it hears again")  # type: ignore[misc]
        await store.redis.client_kill_filter(_type="pubsub")
        await report(store, claim, cut * 20 + 1, 20)
    await store.complete(claim, "1")
    async with asyncio.timeout(PATIENCE_S):
        await watching
    assert numbers(seen) == list(range(1, 101))


async def test_followers_outlive_a_restart_of_the_server(own_valkey: ValkeyServer) -> None:
    async with TaskStore(own_valkey.url(), Settings(store_timeout=0.2).store) as store:
        claims = [await running(store, task_id) for task_id in ("old", "new")]
        hub = LiveHub(store=store)
        await hub.start()
        seen: dict[str, list[Event]] = {"old": [], "new": []}
        watching = [asyncio.create_task(watch(hub, seen["old"], task_id="old", idle_s=600))]
        await eventually(lambda: len(seen["old"]) == 2, because="it follows")
        own_valkey.kill()
        # This one comes while the server is away.
        watching.append(asyncio.create_task(watch(hub, seen["new"], task_id="new", idle_s=600)))
        await asyncio.sleep(0)
        await asyncio.to_thread(own_valkey.start)

        async def back() -> bool:
            return await subscriptions(store, "old") + await subscriptions(store, "new") == 2

        await eventually(back, because="both are subscribed again")
        for claim in claims:
            await report(store, claim, 1, 50)
            await store.complete(claim, "1")
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*watching)
        await hub.stop()
        for events in seen.values():
            assert numbers(events) == list(range(1, 51))
            assert len(events) == 53
