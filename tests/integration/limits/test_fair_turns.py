"""Keys take turns, however many tasks each has waiting: counted in starts, not in seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import redis as redis_sync

from celeriac.limits.rules import By, LimitRule, SortKeys
from celeriac.model import Claim, Delivery, Submission
from celeriac.settings import GroupSettings, Settings
from celeriac.store.remote import RemoteTasks
from celeriac.store.rules import read_keys
from celeriac.store.task_store import TaskStore
from tests.kit.life_cycle_state import take_ids, take_message
from tests.kit.remote.claims import claim_next

FAIR = LimitRule("fair", group="g", by=By.KEY, fair=True)
#: Takes one more task of the group, if one may start.
Take = Callable[[], Coroutine[Any, Any, Claim | None]]


@pytest.fixture
def settings() -> Settings:
    """So many tasks may wait."""
    return Settings(groups={"g": GroupSettings(max_queue_length=200_000)})


async def load(store: TaskStore, count: int, delivery: Delivery) -> None:
    """Submit so many tasks of the key `big`."""
    for first in range(0, count, 1000):
        numbers = range(first, min(first + 1000, count))
        await asyncio.gather(*(store.submit(task(f"big-{n}", "big", delivery)) for n in numbers))


def task(task_id: str, key: str | None, delivery: Delivery = Delivery.CELERY, **more: Any) -> Submission:
    """Return a submission to the group."""
    return Submission(task_id, "demo", group="g", key=key, delivery=delivery, **more)


def taker(store: TaskStore, client: redis_sync.Redis, delivery: Delivery) -> Take:
    """Return what takes the group's next task as a worker does: by its message, or by asking for it."""
    remote = RemoteTasks(store, "gateway")

    async def take() -> Claim | None:
        if delivery is Delivery.REMOTE:
            granted = (await claim_next(remote, "g", ["w"])).granted
            return granted[0].claim if granted else None
        message = take_message(client, "g")
        claim = message and await store.claim(message["headers"]["id"], worker="w")
        return claim if isinstance(claim, Claim) else None

    return take


@pytest.mark.parametrize(
    ("delivery", "count", "most"),
    [
        (Delivery.CELERY, 20_000, 2),
        (Delivery.CELERY, 2000, None),
        (Delivery.REMOTE, 5000, 2),
        (Delivery.REMOTE, 2000, None),
    ],
)
async def test_a_key_with_many_waiting_tasks_delays_anothers_first_task_by_one_turn_at_most(
    store: TaskStore, client: redis_sync.Redis, delivery: Delivery, count: int, most: int | None
) -> None:
    await store.set_rule(FAIR)
    if most is not None:
        await store.limit("g", max_running=most)
    await load(store, count, delivery)
    take = taker(store, client, delivery)
    running = [claim for _ in range(5) if (claim := await take())]
    assert len(running) == (most or 5)
    # What does not end keeps its place; the next one of the large key may be under way.
    await store.submit(task("small", "small", delivery))
    started: list[str] = []
    while "small" not in started and len(started) < 10:
        await store.complete(running.pop(0), "1")
        claim = await take()
        assert claim is not None, "there is room for one"
        started.append(claim.task_id)
        running.append(claim)
    assert started.index("small") <= 1, f"{started} started first"
    # The queue itself is short, whatever waits.
    assert len(take_ids(client, "g")) <= 2
    (largest, *_) = await read_keys(store, FAIR, sort=SortKeys.WAITING, limit=1)
    assert largest.key == "big"


@pytest.mark.parametrize("most", [1, 3, None])
async def test_keys_are_served_in_turn_while_all_of_them_wait(
    store: TaskStore, client: redis_sync.Redis, most: int | None
) -> None:
    await store.set_rule(FAIR)
    if most is not None:
        await store.limit("g", max_running=most)
    for key, count in (("a", 30), ("b", 5), ("c", 10)):
        for n in range(count):
            await store.submit(task(f"{key}{n}", key))
    take, started = taker(store, client, Delivery.CELERY), []
    while claim := await take():
        started.append(claim.task_id)
        await store.complete(claim, "1")
    assert len(started) == 45
    for key, count in (("a", 30), ("b", 5), ("c", 10)):
        assert [i for i in started if i[0] == key] == [f"{key}{n}" for n in range(count)], "in order within a key"
    # While all three wait, no key is two turns ahead of another.
    for end in range(1, 15):
        served = [sum(i[0] == key for i in started[:end]) for key in "abc"]
        assert max(served) - min(served) <= 2, started[:end]


async def test_what_has_a_higher_priority_goes_first_and_keys_take_turns_within_it(
    store: TaskStore, client: redis_sync.Redis
) -> None:
    await store.set_rule(FAIR)
    await store.limit("g", max_running=1)
    await store.submit(task("first", "a"))
    running = await store.claim("first", worker="w")
    assert isinstance(running, Claim)
    for key, priority in (("a", 0), ("a", 9), ("b", 0), ("b", 9)):
        for n in range(2):
            await store.submit(task(f"{key}{priority}{n}", key, priority=priority))
    take, started = taker(store, client, Delivery.CELERY), []
    take_ids(client, "g")
    claim: Claim | None = running
    while claim:
        started.append(claim.task_id)
        await store.complete(claim, "1")
        claim = await take()
    assert {i[1] for i in started[1:5]} == {"9"}
    assert {i[0] for i in started[1:3]} == {i[0] for i in started[5:7]} == {"a", "b"}
