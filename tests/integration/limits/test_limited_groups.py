"""A group's limits hold across all its workers, and what they hold goes on by itself: one message per free place."""

from __future__ import annotations

import asyncio
import itertools

import httpx
import pytest
import redis as redis_sync

from celeriac.limits.rules import StartRate
from celeriac.model import Claim, Delivery, Failure, Refusal
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.remote import RemoteTasks
from celeriac.store.roles.promoter import Promoter
from celeriac.store.roles.sweeper import Sweeper
from celeriac.store.task_store import TaskStore
from tests.kit.api.http_serving import claim, serving
from tests.kit.life_cycle_state import assert_consistent, take_ids
from tests.kit.life_cycle_state import submit_all as submit
from tests.kit.remote.claims import claim_next
from tests.kit.waiting import eventually


async def claim_all(store: TaskStore, ids: list[str]) -> list[Claim]:
    """Claim tasks in one batch; returns what was granted."""
    answers = await asyncio.gather(*(store.claim(task_id, worker="w") for task_id in ids))
    refused = {answer.reason for answer in answers if isinstance(answer, Refusal)}
    assert refused <= {"limited"}
    return [answer for answer in answers if isinstance(answer, Claim)]


async def run_messages(store: TaskStore, client: redis_sync.Redis, group: str = "g") -> list[Claim]:
    """Claim what the waiting messages name; returns what was granted."""
    return await claim_all(store, take_ids(client, group))


def held(client: redis_sync.Redis, group: str = "g") -> list[str]:
    """Return the tasks that a limit holds, next first."""
    return [str(member).split("\n")[-1] for member in client.zrange(keys.parked(f"group:{group}"), 0, -1)]


# --- how many run at once


async def test_one_batch_of_claims_is_granted_no_more_than_the_limit(
    store: TaskStore, client: redis_sync.Redis
) -> None:
    ids = [f"t{n}" for n in range(20)]
    await submit(store, *ids)
    await store.limit("g", max_running=3)
    granted = await run_messages(store, client)
    assert [c.task_id for c in granted] == ["t0", "t1", "t2"]
    assert held(client) == ids[3:]
    assert (await store.get("t3")).attempt == 0, "a refused claim burns no attempt"
    assert_consistent(client)


async def test_each_free_place_sends_one_message_of_the_first_that_waits(
    store: TaskStore, client: redis_sync.Redis
) -> None:
    await submit(store, "a", "b", "c", "d", "e", "f")
    await submit(store, "urgent", priority=9)
    await store.limit("g", max_running=2)
    assert take_ids(client, "g") == ["urgent", "a", "b", "c", "d", "e", "f"]
    first, second = await claim_all(store, ["a", "b", "urgent", "c", "d", "e", "f"])
    assert held(client) == ["urgent", "c", "d", "e", "f"]
    await asyncio.gather(store.complete(first, "1"), store.complete(second, "1"))
    assert take_ids(client, "g") == ["urgent", "c"]
    claims = await claim_all(store, ["urgent", "c"])
    await store.fail(claims[0], Failure("x", "x", False), 0)
    assert take_ids(client, "g") == ["d"]
    assert_consistent(client)


async def test_what_comes_to_a_full_group_needs_no_message(store: TaskStore, client: redis_sync.Redis) -> None:
    await store.limit("g", max_running=1)
    await submit(store, "a", "b")
    assert take_ids(client, "g") == ["a"], "one may run, so one message is out"
    running = (await claim_all(store, ["a", "b"]))[0]
    await submit(store, "c")
    assert (take_ids(client, "g"), held(client)) == ([], ["b", "c"])
    await store.complete(running, "1")
    assert (take_ids(client, "g"), held(client)) == (["b"], ["c"])


async def test_every_way_out_of_a_limited_group_lets_the_next_one_go(valkey_url: str, client: redis_sync.Redis) -> None:
    async with TaskStore(valkey_url, Settings().store) as store:
        await store.limit("g", max_running=1)
        ids = ["completed", "failed", "retried", "cancelled", "released", "died", "last"]
        for task_id in ids:
            await submit(store, task_id, max_retries=int(task_id == "retried"))
        left = []
        for _ in ids:
            (granted,) = await run_messages(store, client)
            match granted.task_id:
                case "completed" | "last":
                    await store.complete(granted, "1")
                case "failed":
                    await store.fail(granted, Failure("x", "x", False), 0)
                case "retried":
                    await store.fail(granted, Failure("x", "x", True), 0)
                case "cancelled":
                    await store.cancel("cancelled")
                    await store.settle_cancelled(granted)
                case "released":
                    await store.release(granted)
                    (granted,) = await run_messages(store, client)
                    assert granted.task_id == "released", "it came back to the front"
                    await store.complete(granted, "1")
                case "died":
                    client.zadd(keys.LEASES, {"died": 1})
                    await store.reap()
            left.append(granted.task_id)
        assert (left, held(client)) == (ids, [])
        assert_consistent(client)


async def test_a_cancelled_or_expired_task_that_was_let_go_is_replaced_by_the_next(
    store: TaskStore, client: redis_sync.Redis
) -> None:
    await store.limit("g", max_running=1)
    await submit(store, "a", "b", "c", "d")
    await submit(store, "e", expires_in_ms=3_600_000)
    (running,) = await run_messages(store, client)
    await store.complete(running, "1")
    assert take_ids(client, "g") == ["b"]
    await store.cancel("b")
    assert take_ids(client, "g") == ["c"]
    # One that is held is just gone; a message too many does no harm.
    await store.cancel("d")
    client.zadd(keys.EXPIRING, {"e": 1})
    client.hset(keys.task("e"), "expires_ms", "1")
    assert await store.claim("e", worker="w") == Refusal("e", "expired")
    assert held(client) == []
    await store.complete(await claim(store, "c"), "1")


async def test_what_a_limit_holds_is_not_taken_for_lost_and_what_is_lost_is_sent_again(
    valkey_url: str, client: redis_sync.Redis
) -> None:
    async with TaskStore(valkey_url, Settings(hint_grace=0.5).store) as store:
        await store.limit("g", max_running=1)
        await submit(store, "a", "b", "c")
        (running,) = await run_messages(store, client)
        for task_id in ("b", "c"):
            client.hset(keys.task(task_id), "hinted_ms", "0")
        assert await store.sweep("g") == []
        await store.complete(running, "1")
        assert take_ids(client, "g") == ["b"], "and it dies with who took it"
        client.hset(keys.task("b"), "hinted_ms", "0")
        assert "b" in await store.sweep("g")


async def test_a_higher_limit_and_none_at_all_let_go_on_what_was_held(
    store: TaskStore, client: redis_sync.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celeriac.store.task_store._RESUMED_AT_ONCE", 3)
    ids = [f"t{n}" for n in range(12)]
    await submit(store, *ids)
    await store.limit("g", max_running=1)
    assert len(await run_messages(store, client)) == 1
    await store.limit("g", max_running=3)
    assert len(await run_messages(store, client)) == 2
    await store.limit("g", max_running=2)
    assert (await store.group("g")).running == 3, "what runs goes on"
    # Whoever removes it dies after the first step.
    assert await store.unlimit("g", steps=1) is True
    assert take_ids(client, "g") == ids[3:6]
    await Sweeper(store=store).step()
    assert take_ids(client, "g") == ids[6:]
    assert await store.unlimit("g") is False
    assert client.exists(keys.RULES, keys.RULES_OF, keys.LIMITS_DUE, keys.parked("group:g"), keys.RESUMING) == 0
    assert len(await claim_all(store, ids[3:])) == 9


async def test_a_paused_group_with_a_limit_goes_on_within_the_limit(store: TaskStore, client: redis_sync.Redis) -> None:
    await store.limit("g", max_running=2)
    await submit(store, "a", "b", "c", "d", "e")
    running = await run_messages(store, client)
    await store.pause("g")
    await asyncio.gather(*(store.complete(granted, "1") for granted in running))
    await submit(store, "f")
    assert take_ids(client, "g") == []
    assert await store.claim("c", worker="w") == Refusal("c", "paused")
    await store.resume("g")
    assert {c.task_id for c in await run_messages(store, client)} == {"c", "d"}
    assert held(client) == ["e", "f"]
    await store.pause("g")
    await store.unlimit("g")
    assert take_ids(client, "g") == []
    await store.resume("g")
    assert take_ids(client, "g") == ["e", "f"]


async def test_another_group_is_not_touched(store: TaskStore, client: redis_sync.Redis) -> None:
    await store.limit("g", max_running=1)
    await submit(store, "a", "b")
    await submit(store, "x", "y", "z", group="h")
    assert len(await run_messages(store, client)) == 1
    assert len(await run_messages(store, client, "h")) == 3


# --- how many start per time


def most_within(starts_ms: list[int], per_ms: int) -> int:
    """Return the highest number of starts in any span that is shorter than `per_ms`."""
    starts_ms = sorted(starts_ms)
    return max(sum(start <= other < start + per_ms for other in starts_ms) for start in starts_ms)


async def test_no_second_sees_more_starts_than_the_rate_and_none_waits_for_ever(
    store: TaskStore, client: redis_sync.Redis
) -> None:
    ids = [f"t{n}" for n in range(60)]
    await store.limit("g", rate=StartRate.parse("30/s"))
    await submit(store, *ids)
    promoter = Promoter(store=store)
    await promoter.start()
    try:

        async def all_done() -> bool:
            for granted in await run_messages(store, client):
                await store.complete(granted, "1")
            return (await store.group("g")).waiting == 0

        await eventually(all_done, because="the rate lets all of them start", interval_s=0.005)
    finally:
        await promoter.stop()
    starts = [int((await store.record(task_id))["started_ms"]) for task_id in ids]
    assert most_within(starts, 1000) <= 30
    assert starts == sorted(starts), "in the order of their arrival"


async def test_a_rate_is_kept_within_one_batch_and_counts_every_attempt(
    store: TaskStore, client: redis_sync.Redis
) -> None:
    await store.limit("g", rate=StartRate.parse("1/h"))
    await submit(store, "a", "b", "c", max_retries=3)
    (granted,) = await run_messages(store, client)
    await store.fail(granted, Failure("x", "x", True), 0)
    await store.promote()
    assert await store.claim("a", worker="w") == Refusal("a", "limited")
    assert take_ids(client, "g") == []
    # An hour later, as far as the group knows.
    client.zadd(keys.rates("group:g"), {"": 1})
    client.zadd(keys.LIMITS_DUE, {"group:g\n": 1})
    await store.promote()
    assert len(await run_messages(store, client)) == 1


async def test_changing_a_limit_does_not_give_a_rate_anew(store: TaskStore, client: redis_sync.Redis) -> None:
    await store.limit("g", rate=StartRate.parse("1/h"))
    await submit(store, "a", "b", "c")
    assert len(await run_messages(store, client)) == 1
    await store.limit("g", rate=StartRate.parse("1/h"), note="the same")
    assert len(await run_messages(store, client)) == 0
    await store.limit("g", max_running=2)
    assert len(await run_messages(store, client)) == 1


async def test_a_rate_and_a_limit_of_running_tasks_hold_together(store: TaskStore, client: redis_sync.Redis) -> None:
    await store.limit("g", max_running=1, rate=StartRate.parse("1/h"))
    await submit(store, "a", "b", "c")
    (running,) = await run_messages(store, client)
    await store.complete(running, "1")
    assert take_ids(client, "g") == [], "there is a place, but no start"
    client.zadd(keys.rates("group:g"), {"": 1})
    client.zadd(keys.LIMITS_DUE, {"group:g\n": 1})
    await store.promote()
    assert [c.task_id for c in await run_messages(store, client)] == ["b"]


async def test_a_clock_that_was_set_back_stops_no_group(store: TaskStore, client: redis_sync.Redis) -> None:
    await store.limit("g", rate=StartRate.parse("10/s"))
    seconds, _ = client.time()
    client.zadd(keys.rates("group:g"), {"": (int(seconds) + 3600) * 1000})
    await submit(store, "a")

    async def starts() -> bool:
        await store.promote()
        return bool(await run_messages(store, client))

    await eventually(starts, because="an hour ahead is no more than one start ahead")


# --- other ways to a worker


async def test_remote_workers_get_as_many_as_are_free_and_are_woken_by_the_next_place(
    store: TaskStore, client: redis_sync.Redis
) -> None:
    remote = RemoteTasks(store, "gateway")
    await store.limit("g", max_running=2)
    await submit(store, "a", "b", "c", "d", delivery=Delivery.REMOTE)

    async def take(workers: int) -> list[Claim]:
        grants = await claim_next(remote, "g", [f"w{n}" for n in range(workers)])
        assert grants.left == 0, "nothing more can be had for now, so asking again is in vain"
        return [grant.claim for grant in grants.granted]

    granted = await take(4)
    assert [c.task_id for c in granted] == ["a", "b"]
    assert await take(1) == []
    with client.pubsub(ignore_subscribe_messages=True) as wakes:
        wakes.subscribe(keys.remote_wake("g"))
        wakes.get_message(timeout=1)
        await store.complete(granted[0], "1")
        await eventually(lambda: wakes.get_message(timeout=0.01), because="a place is free")
    assert [c.task_id for c in await take(3)] == ["c"]
    assert_consistent(client)


async def test_tasks_of_either_kind_share_the_places(store: TaskStore, client: redis_sync.Redis) -> None:
    remote = RemoteTasks(store, "gateway")
    await store.limit("g", max_running=1)
    await submit(store, "here")
    await submit(store, "there", delivery=Delivery.REMOTE)
    (grant,) = (await claim_next(remote, "g", ["w"])).granted
    assert await run_messages(store, client) == []
    await store.complete(grant.claim, "1")
    assert [c.task_id for c in await run_messages(store, client)] == ["here"]


async def test_external_processors_are_not_bound_but_count(store: TaskStore, client: redis_sync.Redis) -> None:
    await store.limit("g", max_running=1)
    await submit(store, "here", "too")
    await submit(store, "x", "y", delivery=Delivery.EXTERNAL)
    assert client.lrange(keys.EXTERNAL, 0, -1) == ["y", "x"]
    for task_id in ("x", "y"):
        client.hset(keys.task(task_id), "status", "PROCESSING")
    await store.watch_external(10, 0)
    assert await run_messages(store, client) == []
    client.hset(keys.task("x"), mapping={"status": "COMPLETED", "result": "1"})
    await store.watch_external(10, 0)
    assert take_ids(client, "g") == [], "one of them still runs"
    client.hset(keys.task("y"), "status", "PENDING")
    await store.watch_external(10, 0)
    assert [c.task_id for c in await run_messages(store, client)] == ["here"]


async def test_the_outbox_of_another_broker_gets_one_message_per_place(
    store: TaskStore, client: redis_sync.Redis
) -> None:
    await store.limit("g", max_running=1)
    await submit(store, "a", "b", "c", delivery=Delivery.BROKER)
    (running,) = await claim_all(store, await store.take_outgoing(10, wait_s=1))
    assert client.llen(keys.OUTBOX) == 0
    await store.complete(running, "1")
    assert await store.take_outgoing(10, wait_s=1) == ["b"]


# --- front doors


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("5/s", StartRate(5, 1000)),
        ("100/m", StartRate(100, 60_000)),
        ("10/h", StartRate(10, 3_600_000)),
        (" 1/d ", StartRate(1, 86_400_000)),
    ],
)
def test_a_rate_is_read_and_written(text: str, rate: StartRate) -> None:
    assert StartRate.parse(text) == rate
    assert str(rate) == text.strip()


async def test_groups_are_limited_over_http(valkey_url: str) -> None:
    async with serving(Settings(redis_url=valkey_url)) as url, httpx.AsyncClient(timeout=60, base_url=url) as http:
        path = "/api/v1/groups/default/limits"
        wanted = {"max_running": 5, "rate": "100/m", "note": "the bank asked for it"}
        answer = await http.put(path, json=wanted)
        limits = answer.json()["limits"]
        assert (answer.status_code, limits) == (200, {**wanted, "at": limits["at"]})
        assert (await http.get("/api/v1/groups/default")).json()["limits"] == limits
        # It replaces what was set: what is not given is no limit.
        answer = await http.put(path, json={"rate": "5/s"})
        assert (answer.json()["limits"]["max_running"], answer.json()["limits"]["rate"]) == (None, "5/s")
        removed = await http.delete(path)
        assert (removed.status_code, removed.json()["limits"]) == (200, None)
        assert (await http.delete(path)).status_code == 200
        for bad in (
            *({"max_running": value} for value in (0, -1, 1.5, "many", 10**9)),
            *({"rate": value} for value in ("10/x", "0/m", "-1/s", "m", 10, "999999/s")),
            *({}, {"note": "only this"}, {"max_runing": 5}),
        ):
            answer = await http.put(path, json=bad)
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request"), bad
        unknown = await http.put("/api/v1/groups/defualt/limits", json={"max_running": 1})
        assert (unknown.status_code, unknown.json()["code"]) == (404, "group_not_found")


def test_a_span_as_long_as_the_rate_never_holds_one_start_too_many() -> None:
    """The rule of store/lua/shared/limits.lua, checked for all starts as early as it allows."""
    for rate in (StartRate(1, 1000), StartRate(7, 1000), StartRate(100, 60_000), StartRate(9_999, 1000)):
        early = min(rate.per_ms / 20, 100)
        every = -(-(rate.per_ms + early) * 1024 // rate.starts) / 1024
        next_start, now, starts = 0.0, 0.0, []
        for _ in range(2 * rate.starts + 2):
            now = max(now, -(-(next_start - early) // 1))
            starts.append(now)
            next_start = max(next_start, now) + every
        assert all(later - first >= rate.per_ms for first, later in zip(starts, starts[rate.starts :], strict=False))
        assert all(a <= b for a, b in itertools.pairwise(starts))
