"""What a foreign program deletes holds no place and no turn for ever."""

from __future__ import annotations

import pytest
import redis as redis_sync

from celeriac.limits.rules import By, LimitRule
from celeriac.model import Claim, Delivery, Submission
from celeriac.store import keys
from celeriac.store.remote import RemoteTasks
from celeriac.store.roles.sweeper import Sweeper
from celeriac.store.task_store import TaskStore
from tests.kit.remote.claims import claim_next
from tests.kit.waiting import eventually

RULES = {
    "group:g": LimitRule("group:g", group="g", max_running=1),
    "by-key": LimitRule("by-key", group="g", by=By.KEY, max_running=1),
    "fair": LimitRule("fair", group="g", by=By.KEY, fair=True),
    "ordered": LimitRule("ordered", type="demo", by=By.KEY, ordered=True),
}


@pytest.mark.parametrize("delivery", [Delivery.CELERY, Delivery.REMOTE])
@pytest.mark.parametrize("runs", [True, False])
@pytest.mark.parametrize("name", RULES)
async def test_a_deleted_record_gives_its_place_back(
    store: TaskStore, client: redis_sync.Redis, name: str, runs: bool, delivery: Delivery
) -> None:
    await store.set_rule(RULES[name])
    for task_id in ("first", "second"):
        await store.submit(Submission(task_id, "demo", group="g", key="k", delivery=delivery))
    remote, sweeper = RemoteTasks(store, "gateway"), Sweeper(store=store)

    async def start(task_id: str) -> bool:
        if delivery is Delivery.CELERY:
            return isinstance(await store.claim(task_id, worker="w"), Claim)
        return [grant.claim.task_id for grant in (await claim_next(remote, "g", ["w"])).granted] == [task_id]

    if runs:
        assert await start("first")
        assert name == "fair" or not await start("second")
    client.delete(keys.task("first"))

    async def goes_on() -> bool:
        client.zadd(keys.LEASES, {"first": 1}, xx=True)
        await store.reap()
        await sweeper.step()
        return await start("second")

    await eventually(goes_on, because="nothing that is there holds it")
    for key in (keys.permits, keys.out, keys.queued, keys.arrivals, keys.holders, keys.parked):
        left = [member for member in client.zrange(key(name), 0, -1) if str(member).endswith("first")]
        assert not left, f"{key(name)} has what is gone"


async def test_what_is_noted_as_held_and_is_not_goes_on(store: TaskStore, client: redis_sync.Redis) -> None:
    await store.limit("g", max_running=1)
    for n in range(3):
        await store.submit(Submission(f"t{n}", "demo", group="g", delivery=Delivery.REMOTE))
    client.delete(keys.parked("group:g"))
    sweeper = Sweeper(store=store)

    async def all_wait_for_workers() -> bool:
        await sweeper.step()
        return client.zcard(keys.remote("g")) == 3

    await eventually(all_wait_for_workers, because="nothing holds them")
