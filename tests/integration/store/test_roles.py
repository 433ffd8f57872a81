"""Background roles: any number of them at once, each doing what is due once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from celeriac.model import Claim, Delivery, Failure, Refusal, Submission
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.roles.promoter import Promoter
from celeriac.store.roles.reaper import Reaper
from celeriac.store.roles.role import Role
from celeriac.store.roles.sweeper import Sweeper
from celeriac.store.task_store import TaskStore
from tests.kit.life_cycle_state import move_moment, take_ids, take_message
from tests.kit.servers import ValkeyServer
from tests.kit.waiting import eventually

LONG_AGO_MS = 1000
LIST_OF_0 = "default\x06\x169"


@pytest.fixture
def settings() -> Settings:
    """The shortest lease and grace that are allowed."""
    return Settings(lease=1, hint_grace=0.5)


@pytest.fixture
async def started() -> AsyncIterator[list[Role]]:
    """Roles that a test started; they are stopped, twice, after it."""
    roles: list[Role] = []
    yield roles
    for role in roles * 2:
        await role.stop()


async def submit(store: TaskStore, *task_ids: str, **fields: Any) -> None:
    await asyncio.gather(*(store.submit(Submission(task_id=i, type="demo", **fields)) for i in task_ids))


async def claim(store: TaskStore, task_id: str) -> Claim:
    granted = await store.claim(task_id, worker="w")
    assert isinstance(granted, Claim)
    return granted


async def status_events(store: TaskStore, task_id: str) -> list[str]:
    return [event.fields["status"] for event in await store.events(task_id)]


async def test_three_promoters_move_what_is_due_once(store: TaskStore, look: Any, started: list[Role]) -> None:
    ids = [f"t{i}" for i in range(1200)]
    await submit(store, *ids, delay_ms=50)
    await submit(store, "tomorrow", delay_ms=86_400_000)
    started += [Promoter(store=store) for _ in range(3)]
    for role in started:
        await role.start()
    await eventually(lambda: look.zcard(keys.DELAYED) == 1, because="all that is due moves")
    assert sorted(take_ids(look, "default")) == sorted(ids)
    assert await status_events(store, "t7") == ["SCHEDULED", "PENDING"]
    assert (await store.get("tomorrow")).status == "scheduled"


async def test_a_promoter_is_not_late(store: TaskStore, look: Any, started: list[Role]) -> None:
    started.append(Promoter(store=store))
    await started[0].start()
    took_ms = []
    # One of them may come at a moment for which the machine stalls.
    for task_id in ("t0", "t1", "t2"):
        await submit(store, task_id, delay_ms=300)

        async def promoted(task_id: str = task_id) -> bool:
            return (await store.get(task_id)).status == "pending"

        await eventually(promoted, because="its time came")
        scheduled, pending = [int(event.id.split("-")[0]) for event in await store.events(task_id)]
        took_ms.append(pending - scheduled)
    assert min(took_ms) >= 300
    assert sorted(took_ms)[1] < 5000


async def test_three_reapers_take_back_once(store: TaskStore, look: Any, started: list[Role]) -> None:
    ids = [f"t{i}" for i in range(700)]
    await submit(store, *ids)
    take_ids(look, "default")
    await asyncio.gather(*(claim(store, task_id) for task_id in ids))
    started += [Reaper(store=store) for _ in range(3)]
    for role in started:
        await role.start()
    await eventually(lambda: look.zcard(keys.LEASES) == 0, because="nobody renews these")
    assert sorted(take_ids(look, "default")) == sorted(ids)
    assert await status_events(store, "t7") == ["PENDING", "PROCESSING", "PENDING"]


async def test_a_reaper_spares_what_is_renewed(store: TaskStore, look: Any, started: list[Role]) -> None:
    await submit(store, "alive", "dead")
    alive = await claim(store, "alive")
    await claim(store, "dead")
    started.append(Reaper(store=store))
    await started[0].start()

    async def dead_is_back() -> bool:
        # Far in the future: a machine that stalls must not make a dead worker of a living one.
        look.zadd(keys.LEASES, {"alive": 10**13})
        return (await store.get("dead")).status == "pending"

    await eventually(dead_is_back, because="its lease ran out")
    await store.complete(alive, "1")


async def test_a_reaper_ends_what_expired(store: TaskStore, look: Any, started: list[Role]) -> None:
    await submit(store, "soon", expires_in_ms=50)
    await submit(store, "later", expires_in_ms=3_600_000)
    started.append(Reaper(store=store))
    await started[0].start()

    async def failed() -> bool:
        return (await store.get("soon")).status == "failed"

    await eventually(failed, because="it was not started in time")
    assert (await store.get("later")).status == "pending"


async def test_after_a_start_of_the_server_leases_count_from_the_first_look(own_valkey: ValkeyServer) -> None:
    async with TaskStore(own_valkey.url(), Settings(store_timeout=30).store) as store:
        await submit(store, "t")
        await claim(store, "t")
        await store.redis.zadd(keys.LEASES, {"t": LONG_AGO_MS})
        await store.reap(grace_s=3600)
        await store.redis.hset(keys.SERVER, "since_ms", LONG_AGO_MS)
        own_valkey.kill()
        await asyncio.to_thread(own_valkey.start)
        # However short the server was away, and whoever looks: its worker gets the time to renew.
        for _ in range(3):
            assert await store.reap(grace_s=3600) == (0, 0, 0)
        await store.redis.hset(keys.SERVER, "since_ms", LONG_AGO_MS)
        assert await store.reap(grace_s=3600) == (1, 0, 0)


async def test_roles_outlive_an_absence_of_the_server(own_valkey: ValkeyServer, started: list[Role]) -> None:
    async with TaskStore(own_valkey.url(), Settings(lease=4, hint_grace=0.5, store_timeout=0.2).store) as store:
        await submit(store, "scheduled", delay_ms=3_600_000)
        await submit(store, "running", "lost")
        await claim(store, "running")
        await store.redis.zadd(keys.LEASES, {"running": 10**13})
        await store.redis.delete(LIST_OF_0)
        started += [Promoter(store=store), Reaper(store=store), Sweeper(store=store)]
        for role in started:
            await role.start()
        own_valkey.kill()
        await asyncio.sleep(0.7)
        await asyncio.to_thread(own_valkey.start)

        async def there(count: int) -> bool:
            return bool(await store.redis.llen(LIST_OF_0) >= count)

        # The sweeper must look before the others fill the list again.
        await eventually(lambda: there(1), because="what was lost is sent again", timeout_s=40)
        await store.redis.zadd(keys.DELAYED, {"scheduled": LONG_AGO_MS})
        await store.redis.zadd(keys.LEASES, {"running": LONG_AGO_MS})
        await eventually(lambda: there(3), because="due, taken back, and sent again", timeout_s=40)


async def test_a_message_overtaken_by_a_later_one_is_sent_again(store: TaskStore, look: Any) -> None:
    await submit(store, *(f"t{i}" for i in range(10)))
    assert take_message(look, "default") is not None  # t0: popped, and its worker died
    assert take_message(look, "default") is not None
    await claim(store, "t1")
    # On a machine that stalls, half a second may be over by now.
    move_moment(look, "t0", "hinted_ms", 3_600_000)
    assert await store.sweep("default") == [], "the grace has not passed"
    move_moment(look, "t0", "hinted_ms", -3_600_600)
    assert await store.sweep("default") == ["t0"]
    assert take_ids(look, "default") == ["t0", *(f"t{i}" for i in range(2, 10))]


async def test_messages_of_an_empty_list_are_sent_again_in_order(store: TaskStore, look: Any) -> None:
    ids = [f"t{i}" for i in range(10)]
    await submit(store, *ids)
    take_ids(look, "default")
    for task_id in ids:
        look.hset(f"task:{task_id}", "hinted_ms", LONG_AGO_MS)
    assert sorted(await store.sweep("default")) == ids
    assert take_ids(look, "default") == ids


async def test_a_lost_message_is_found_behind_other_priorities_of_its_list(store: TaskStore, look: Any) -> None:
    await submit(store, "five", priority=5)
    assert take_message(look, "default") is not None
    await submit(store, "four", "four-too", priority=4)
    await submit(store, "nine", priority=9)
    look.hset("task:five", "hinted_ms", LONG_AGO_MS)
    assert await store.sweep("default") == []
    taken = [take_message(look, "default"), take_message(look, "default")]
    assert [message and message["headers"]["id"] for message in taken] == ["nine", "four"]
    await claim(store, "four")
    look.hset("task:five", "hinted_ms", LONG_AGO_MS)
    assert await store.sweep("default") == ["five"]


async def test_three_sweepers_send_a_lost_message_once(store: TaskStore, look: Any, started: list[Role]) -> None:
    await submit(store, *(f"t{i}" for i in range(50)))
    look.delete(LIST_OF_0)
    started += [Sweeper(store=store) for _ in range(3)]
    for role in started:
        await role.start()
    await eventually(lambda: look.llen(LIST_OF_0) > 0, because="the grace passed")
    assert sorted(take_ids(look, "default")) == sorted(f"t{i}" for i in range(50))


def a_minute_passes(look: Any) -> None:
    """Move what the sweep looks at into the past."""
    for task_id in look.zrange(keys.waiting("default"), 0, -1):
        move_moment(look, task_id, "hinted_ms", -60_000)
    for name in look.hkeys(keys.group("default")):
        if name.startswith("popped_ms:"):
            look.hincrby(keys.group("default"), name, -60_000)


async def take_and_claim(store: TaskStore, look: Any) -> Claim | Refusal:
    message = take_message(look, "default")
    assert message is not None
    return await store.claim(message["headers"]["id"], worker="w")


async def test_messages_that_just_wait_are_not_sent_again(store: TaskStore, look: Any) -> None:
    """A long queue, all workers busy for long, and all that brings stale and foremost messages about."""
    await submit(store, *(f"t{i}" for i in range(400)), priority=5)
    for task_id in ("t0", "t1", "t2"):  # one message in the old place, one at the end
        await store.cancel(task_id)
        await store.retry(task_id)
    claims = [await take_and_claim(store, look) for _ in range(10)]
    assert [claim.task_id for claim in claims] == [f"t{i}" for i in range(10)]
    a_minute_passes(look)
    assert await store.sweep("default") == [], "a message in an old place proves nothing of those behind it"
    for given_back in claims[4:]:
        assert isinstance(given_back, Claim)
        await store.release(given_back)
    for failed in claims[:2]:
        assert isinstance(failed, Claim)
        await store.fail(failed, Failure("x", "", True), 0)
    await store.promote()
    for _ in range(5):
        a_minute_passes(look)
        assert await store.sweep("default") == [], "nobody took a message since those were put in front"
    assert [(await take_and_claim(store, look)).task_id for _ in range(8)] == [f"t{i}" for i in range(9, 3, -1)] + [
        "t10",
        "t11",
    ]


async def test_a_worker_that_hoards_messages_gets_no_flood_of_them(store: TaskStore, look: Any) -> None:
    await submit(store, "t")
    sent = 0
    for _ in range(200):
        take_ids(look, "default")
        move_moment(look, "t", "hinted_ms", -500)  # half a second later
        sent += len(await store.sweep("default"))
    assert 1 <= sent <= 8


async def test_the_sweep_leaves_alone_what_has_no_message(store: TaskStore, look: Any) -> None:
    await submit(store, "external", delivery=Delivery.EXTERNAL)
    await submit(store, "remote", delivery=Delivery.REMOTE)
    await submit(store, "broker", delivery=Delivery.BROKER)
    for task_id in ("external", "remote", "broker"):
        look.hset(f"task:{task_id}", "hinted_ms", LONG_AGO_MS)
    look.delete("celeriac:outbox")  # published, and lost by the broker
    assert await store.sweep("default", broker_empty=True) == ["broker"]
    assert look.lrange("task:pending", 0, -1) == ["external"]
    assert take_ids(look, "default") == []


async def test_a_step_that_fails_does_not_end_its_role(caplog: pytest.LogCaptureFixture) -> None:
    class Stumbling(Role):
        steps = 0

        async def step(self) -> float:
            self.steps += 1
            if self.steps == 1:
                raise RuntimeError("a bug")
            return 0.01

    role = Stumbling()
    await role.start()
    await eventually(lambda: role.steps > 3, because="the loop goes on")
    await role.stop()
    await role.stop()
    assert "Stumbling: a step failed" in caplog.text


async def test_a_group_that_was_idle_for_long_is_forgotten_until_its_next_task(
    valkey_url: str, settings: Settings, look: Any
) -> None:
    async with TaskStore(valkey_url, settings.model_copy(update={"group_retention": 0.0}).store) as store:

        async def sweep_twice() -> list[str]:
            for group in ("default", "quiet", "held"):
                # The first look notes that it is idle, the second one that it still is.
                await store.sweep(group)
                await store.sweep(group)
            return await store.group_names()

        await submit(store, "t0")
        await submit(store, "t1", group="quiet")
        await store.pause("held")
        assert await sweep_twice() == ["default", "held", "quiet"], "tasks wait, or it is paused"
        for task_id, group in (("t0", "default"), ("t1", "quiet")):
            take_ids(look, group)
            running = await claim(store, task_id)
            assert group in await sweep_twice(), "a task runs"
            await store.complete(running, "1")
        assert await sweep_twice() == ["held"]
        assert not look.exists(keys.group("default"), keys.group("quiet"))
        await submit(store, "t2", group="quiet")
        assert await store.group_names() == ["held", "quiet"]
        assert (await claim(store, "t2")).group == "quiet"
        await store.resume("held")
        assert await sweep_twice() == ["quiet"]


async def test_an_idle_group_is_kept_for_its_time_and_while_a_message_or_a_remote_worker_is_there(
    valkey_url: str, settings: Settings, store: TaskStore, look: Any
) -> None:
    async with TaskStore(valkey_url, settings.model_copy(update={"group_retention": 0.0}).store) as forgetful:
        await submit(store, "t0")
        running = await claim(store, "t0")
        await store.complete(running, "1")
        for _ in range(3):
            # Its message, which nobody took, may be any producer's.
            await forgetful.sweep("default")
        assert await store.group_names() == ["default"]
        take_ids(look, "default")
        look.zadd(keys.gateways("default"), {"gateway": 2**52})
        for _ in range(3):
            await forgetful.sweep("default")
        assert await store.group_names() == ["default"], "remote workers are connected"
        look.delete(keys.gateways("default"))
        for _ in range(3):
            await store.sweep("default")
        assert await store.group_names() == ["default"], "a week has not passed"
        await forgetful.sweep("default")
        assert await store.group_names() == []
