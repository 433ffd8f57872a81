"""Names that callers make up cost nothing: each is bounded, is let go of, and delays nobody."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from celeriac.errors import GroupLimitError, InvalidSubmissionError, TaskNotFoundError
from celeriac.model import Claim, Delivery, Failure, Submission, Submitted
from celeriac.settings import GroupSettings, Settings
from celeriac.store import keys
from celeriac.store.counts import counts_of, merged, read_labels, read_state
from celeriac.store.labels import MAX_LABELS, OTHER, least_used, make_room
from celeriac.store.remote import RemoteTasks
from celeriac.store.roles.sweeper import Sweeper
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.activity import running_tasks
from celeriac.store.watching.standings import standings
from tests.kit.life_cycle_state import take_ids
from tests.kit.waiting import PATIENCE_S, eventually

MALLORY, ALICE = "user:mallory", "user:alice"


@pytest.fixture
def settings() -> Settings:
    """Room for few groups, which are forgotten at once."""
    return Settings(
        max_groups=6, max_user_groups=4, group_retention=0.0, group_idle=0.0, groups={"reports": GroupSettings()}
    )


async def submit(store: TaskStore, task_id: str, group: str, maker: str | None = MALLORY, **more: Any) -> Submitted:
    return await store.submit(Submission(task_id, more.pop("type", "demo"), group=group, maker=maker, **more))


async def outcomes(store: TaskStore, *calls: tuple[str, str | None], **more: Any) -> list[int | str]:
    """Submit to groups at once; return the limit and whose it is for each that was refused, else `ok`."""
    made = await asyncio.gather(
        *(submit(store, f"{group}-{maker}-{i}", group, maker, **more) for i, (group, maker) in enumerate(calls)),
        return_exceptions=True,
    )
    found: list[int | str] = []
    for one in made:
        assert isinstance(one, Submitted | GroupLimitError), one
        found.append("ok" if isinstance(one, Submitted) else f"{'own' if one.own else 'all'} {one.limit}")
    return found


async def claimed(store: TaskStore, task_id: str) -> Claim:
    granted = await store.claim(task_id, worker="w")
    assert isinstance(granted, Claim)
    return granted


async def sweep_all(store: TaskStore) -> None:
    for _ in range(3):
        for group in await store.group_names():
            await store.sweep(group)


async def test_a_caller_makes_a_bounded_number_of_groups_and_a_refused_one_leaves_nothing(
    store: TaskStore, look: Any
) -> None:
    mine = [(f"m{i}", MALLORY) for i in range(6)]
    assert await outcomes(store, *mine, ("m0", MALLORY)) == [*["ok"] * 4, "own 4", "own 4", "ok"]
    assert await outcomes(store, ("a0", ALICE), ("a1", ALICE), ("a2", ALICE)) == ["ok", "ok", "all 6"]
    # Groups that are there, configured ones and callers who may make any number.
    free: list[tuple[str, str | None]] = [("a1", MALLORY), ("reports", MALLORY), ("default", MALLORY), ("new", None)]
    assert await outcomes(store, *free) == ["ok"] * 4
    assert look.smembers(keys.GROUPS) == {"m0", "m1", "m2", "m3", "a0", "a1", "reports", "default", "new"}
    assert not any(look.exists(keys.waiting(name), name, keys.group(name)) for name in ("m4", "m5", "a2"))
    assert look.hgetall(keys.MADE) == {MALLORY: "4", ALICE: "2"}


@pytest.mark.parametrize("scheduled", [False, True])
async def test_a_group_takes_its_room_until_it_is_forgotten(store: TaskStore, look: Any, scheduled: bool) -> None:
    more = {"delay_ms": 50} if scheduled else {}
    mine = [(f"m{i}", MALLORY) for i in range(5)]
    assert await outcomes(store, *mine, **more) == [*["ok"] * 4, "own 4"]
    await sweep_all(store)
    assert await outcomes(store, ("late", MALLORY), **more) == ["own 4"], "its tasks still wait"
    if scheduled:
        await asyncio.sleep(0.1)
        assert (await store.promote())[0] == 4
    for i in range(4):
        await store.complete(await claimed(store, f"m{i}-{MALLORY}-{i}"), "1")
        take_ids(look, f"m{i}")
    await sweep_all(store)
    assert look.smembers(keys.GROUPS) == set()
    assert (look.exists(keys.MAKERS, keys.MADE, keys.AWAKE), look.keys(keys.group("*"))) == (0, [])
    assert await outcomes(store, *[(f"n{i}", MALLORY) for i in range(4)]) == ["ok"] * 4


async def test_a_task_that_is_to_be_retried_keeps_its_group(store: TaskStore, look: Any) -> None:
    await submit(store, "t", "m0")
    await store.fail(await claimed(store, "t"), Failure("x", "", True), 60_000)
    take_ids(look, "m0")
    await sweep_all(store)
    assert look.smembers(keys.GROUPS) == {"m0"}
    await store.cancel("t")
    await sweep_all(store)
    assert look.smembers(keys.GROUPS) == set()


async def test_a_retry_takes_room_too_if_its_group_was_forgotten(store: TaskStore, look: Any) -> None:
    for i in range(4):
        await submit(store, f"t{i}", f"old{i}")
        await store.cancel(f"t{i}")
        take_ids(look, f"old{i}")
    await sweep_all(store)
    assert await outcomes(store, *[(f"m{i}", MALLORY) for i in range(3)]) == ["ok"] * 3
    assert await store.retry("t0", maker=MALLORY) == "pending"
    with pytest.raises(GroupLimitError, match="'old1' would be new, and you have made 4 groups"):
        await store.retry("t1", maker=MALLORY)
    assert (await store.get("t1")).status == "cancelled"
    assert await store.retry("t2") == "pending", "an operator's needs no room"
    assert look.hgetall(keys.MADE) == {MALLORY: "4"}


async def test_groups_that_workers_serve_need_no_room(store: TaskStore, look: Any) -> None:
    await outcomes(store, *[(f"m{i}", MALLORY) for i in range(4)])
    gateway = RemoteTasks(store, "gateway")
    await gateway.note_presence("gpu", 1, worker="W1", facts={"kind": "remote", "groups": "gpu"})
    await store.renew("w1", [], {"kind": "celery", "groups": "mail,media", "started_ms": "1"})
    remote = await submit(store, "r", "gpu", delivery=Delivery.REMOTE)
    assert remote.created
    assert await outcomes(store, ("mail", MALLORY), ("media", MALLORY), ("medi", MALLORY)) == ["ok", "ok", "own 4"]


async def test_an_idle_group_sleeps_and_a_task_or_a_foreign_message_wakes_it(store: TaskStore, look: Any) -> None:
    where = store.redis.connection_pool.connection_kwargs
    url = f"redis://{where['host']}:{where['port']}/{where.get('db', 0)}"
    async with TaskStore(url, Settings(group_idle=0.0).store) as other:
        heard = look.pubsub()
        heard.subscribe(keys.AWAKE)
        heard.get_message(timeout=PATIENCE_S)
        await submit(other, "t", "m0")
        assert heard.get_message(timeout=PATIENCE_S)["data"] == "m0"
        take_ids(look, "m0")
        await other.complete(await claimed(other, "t"), "1")
        sweeper = Sweeper(store=other)
        for _ in range(3):
            await sweeper.step()
        assert (look.smembers(keys.AWAKE), look.smembers(keys.GROUPS)) == (set(), {"m0"})
        await submit(other, "t2", "m0")
        assert heard.get_message(timeout=PATIENCE_S)["data"] == "m0"
        take_ids(look, "m0")
        await other.cancel("t2")
        for _ in range(3):
            await sweeper.step()
        assert look.smembers(keys.AWAKE) == set()
        look.lpush("m0", "a message of a plain producer")
        await sweeper.step()
        assert look.smembers(keys.AWAKE) == {"m0"}
        heard.close()


async def test_counts_name_a_bounded_number_of_groups_and_types_and_the_rest_is_other(
    store: TaskStore, look: Any
) -> None:
    await store.announce_types({"demo": {"group": "default"}})
    wanted = MAX_LABELS + 50
    await asyncio.gather(
        *(submit(store, f"g{i}", f"g{i}", None) for i in range(wanted)),
        *(submit(store, f"y{i}", "reports", None, type=f"type{i}") for i in range(wanted)),
    )
    counts = counts_of(look.hgetall(keys.COUNTS)).counters["submitted"]
    assert sum(counts.values()) == 2 * wanted
    assert len({group for group, _ in counts} - {OTHER}) <= MAX_LABELS
    assert len({task_type for _, task_type in counts} - {OTHER}) <= MAX_LABELS
    assert sum(number for (group, _), number in counts.items() if group == OTHER) >= 50

    assert await make_room(store) > 0
    after = counts_of(look.hgetall(keys.COUNTS)).counters["submitted"]
    assert sum(after.values()) == 2 * wanted, "nothing is lost"
    assert look.scard(keys.LABEL_GROUPS) < MAX_LABELS
    assert look.sismember(keys.LABEL_TYPES, "demo")
    await submit(store, "again", "newcomer", None)
    assert counts_of(look.hgetall(keys.COUNTS)).counters["submitted"][("newcomer", "demo")] == 1

    labels = await read_labels(store)
    shown = merged(counts_of(look.hgetall(keys.COUNTS)), labels)
    assert {group for group, _ in shown.counters["submitted"]} == {"reports", OTHER}
    assert {task_type for _, task_type in shown.counters["submitted"]} == {"demo", OTHER}
    assert sum(shown.counters["submitted"].values()) == 2 * wanted + 1
    state = await read_state(store, labels)
    assert set(state.groups) == {"reports", OTHER}
    assert state.groups[OTHER].waiting == wanted + 1
    assert state.known_groups == wanted + 2


def test_the_least_used_names_lose_their_counts() -> None:
    fields = {f"s\x1fg{i}\x1ft": str(i) for i in range(MAX_LABELS)}
    labels = [f"g{i}" for i in range(MAX_LABELS)]
    gone = least_used(fields, labels, "groups", {"g0", OTHER})
    assert gone[:2] == ["g1", "g2"]
    assert "g0" not in gone
    assert len(gone) == 50


async def test_a_key_that_is_not_a_record_is_no_task_and_disturbs_no_other(
    store: TaskStore, look: Any, settings: Settings
) -> None:
    await submit(store, "good", "reports")
    await submit(store, "bad", "reports")
    look.delete(keys.task("bad"))
    look.lpush(keys.task("bad"), "something of somebody else")
    for call in (store.get("bad"), store.cancel("bad"), store.retry("bad"), store.remove("bad", user_id="u")):
        with pytest.raises(TaskNotFoundError):
            await call
    assert await store.owner("bad") == (False, None)
    with pytest.raises(InvalidSubmissionError, match="'bad' cannot be an id"):
        await submit(store, "bad", "reports")
    claims = (store.claim("bad", worker="w"), store.claim("good", worker="w"))
    assert [type(one) for one in await asyncio.gather(*claims, return_exceptions=True)][1] is Claim
    found = await standings(store, ["bad", "good"])
    assert found[0] is None
    assert found[1] is not None
    look.zadd(keys.running("reports"), {"bad": 1})
    assert [task.task_id for task in (await running_tasks(store, 10, most_bytes=1_000_000))[0]] == ["good"]
    for index in (keys.DELAYED, keys.LEASES, keys.EXPIRING, keys.DEADLINES, keys.WATCHED):
        look.zadd(index, {"bad": 1})
    await store.promote()
    await store.reap()
    await store.watch_external(10, 0)
    await store.sweep("reports")
    assert [look.zscore(index, "bad") for index in (keys.DELAYED, keys.LEASES, keys.EXPIRING, keys.DEADLINES)] == [
        None
    ] * 4
    # What is left is not consistent, as `look` would find.
    look.flushdb()


#: What is there however many names were used: fixed keys, and settings of operators.
LASTING = {
    *(keys.SEQ, keys.EVENTS, keys.COUNTS, keys.LABEL_GROUPS, keys.LABEL_TYPES, keys.SERVER),
    *(keys.RULES, keys.GROUPS, keys.WORKERS, keys.MODELS, keys.TYPES),
}


async def test_every_name_that_a_caller_makes_up_is_gone_when_its_work_is(valkey_url: str, look: Any) -> None:
    short = {"keep": 1, "group": "default"}
    settings = Settings.model_validate(
        {
            "retention": "1s", "group_retention": 0, "group_idle": 0, "idempotency_ttl": "1s", "lease": 1,
            "notifications": short, "dispatch": {"presence": "2s"}, "max_global_events": 1000,
        }
    )  # fmt: skip
    number = 120
    async with TaskStore(valkey_url, settings.store) as store:
        gateway = RemoteTasks(store, "gateway")
        for i in range(number):
            name = f"name{i}"
            more = {"user_id": name, "tags": (name,), "idempotency_key": name, "type": name, "metadata": {name: name}}
            await submit(store, f"a{i}", name, f"user:{name}", **more)
            await submit(store, f"b{i}", f"later{i}", f"user:{name}", delay_ms=3_600_000, user_id=name)
            await submit(store, f"c{i}", f"remote{i}", None, delivery=Delivery.REMOTE, user_id=name)
            facts = {"kind": "remote", "groups": f"remote{i}", "models": f'["{name}"]'}
            await gateway.note_presence(f"remote{i}", 1, worker=f"W{i}", facts=facts, models=[name])
            await store.renew(f"w{i}", [], {"kind": "celery", "groups": name, "started_ms": "1"})
            await store.nudge(f"w{i}")
            await store.set_checkpoint(f"a{i}", "{}")
            await store.pause(name)
            await store.limit(name, max_running=1)
        assert look.dbsize() > 5 * number
        for i in range(number):
            await store.resume(f"name{i}")
            await store.unlimit(f"name{i}")
            take_ids(look, f"name{i}")
            await store.complete(await claimed(store, f"a{i}"), "1")
            await store.cancel(f"b{i}")
            await store.cancel(f"c{i}")
            await gateway.note_presence(f"remote{i}", 0, worker=f"W{i}")
            await store.retire(f"w{i}")

        async def only_what_lasts() -> bool:
            await sweep_all(store)
            left = {key for key in look.scan_iter(count=1000) if not key.startswith("celeriac:checkpoint:")}
            # Nudges that no worker takes.
            return not {key for key in left - LASTING if not key.startswith(keys.nudge(""))}

        await eventually(only_what_lasts, because="nothing is left of the names", timeout_s=20, interval_s=0.3)
        assert look.hlen(keys.COUNTS) <= 60 * MAX_LABELS
        assert (look.scard(keys.GROUPS), look.zcard(keys.MODELS), look.zcard(keys.WORKERS)) == (0, 0, 0)
        assert all(look.pttl(key) > 0 for key in look.scan_iter(count=1000) if key not in LASTING)
        look.flushdb()
