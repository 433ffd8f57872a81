"""Calls of one tick travel together: their order, their errors, and a server that forgets or dies meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from celeriac.errors import QueueFullError, StoreUnavailableError
from celeriac.model import Claim, Failure, Progress, Refusal, Submission, Submitted
from celeriac.settings import GroupSettings, Settings
from celeriac.store import keys
from celeriac.store.server.channel import StoreChannel
from celeriac.store.task_store import TaskStore
from tests.kit.servers import ValkeyServer
from tests.kit.waiting import eventually


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A server that the test may kill."""
    server = ValkeyServer(tmp_path / "valkey", appendfsync="everysec")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def killed_valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """As `celeriac up` has it: with `everysec` a server may answer before it writes (docs/decisions/0013)."""
    server = ValkeyServer(tmp_path / "killed")
    server.start()
    yield server
    server.kill()


def submission(task_id: str, **fields: object) -> Submission:
    return Submission(task_id=task_id, type="demo", **fields)  # type: ignore[arg-type]


async def test_submissions_of_one_tick_keep_their_order(store: TaskStore) -> None:
    ids = [f"t{i}" for i in range(1000)]
    await asyncio.gather(*(store.submit(submission(task_id)) for task_id in ids))
    assert await store.redis.zrange(keys.waiting("default"), 0, -1) == ids


async def test_many_submissions_of_one_tick_are_few_calls(store: TaskStore) -> None:
    await store.submit(submission("warm"))
    await store.redis.config_resetstat()
    await asyncio.gather(*(store.submit(submission(f"t{i}")) for i in range(256)))
    info = await store.redis.info("commandstats")
    assert info["cmdstat_fcall"]["calls"] == 2


async def test_calls_of_one_tick_go_in_the_order_of_a_life(store: TaskStore) -> None:
    claims = []
    for i in range(20):
        await store.submit(submission(f"t{i}"))
        claim = await store.claim(f"t{i}", worker="w")
        assert isinstance(claim, Claim)
        claims.append(claim)
    ends = [store.complete(claim, "1") for claim in claims]
    reports = [store.progress(claim, 1, Progress(50)) for claim in claims]
    assert set(await asyncio.gather(*ends, *reports)) == {None, False}
    for claim in claims:
        assert [event.kind for event in await store.events(claim.task_id)] == ["status"] * 2 + ["progress", "status"]


async def test_one_refused_submission_does_not_disturb_its_neighbours(valkey_url: str) -> None:
    settings = Settings(groups={"full": GroupSettings(max_queue_length=1)})
    async with TaskStore(valkey_url, settings.store) as store:
        await store.submit(submission("first", group="full"))
        answers = await asyncio.gather(
            *(store.submit(submission(f"t{i}", group="full" if i == 5 else "default")) for i in range(10)),
            return_exceptions=True,
        )
        assert [type(answer) for answer in answers] == [Submitted] * 5 + [QueueFullError] + [Submitted] * 4


async def test_one_item_that_breaks_its_script_does_not_disturb_its_neighbours(store: TaskStore) -> None:
    for i in range(10):
        await store.submit(submission(f"t{i}"))
    await store.redis.set("task:foreign", "a string of another program")
    ids = [*(f"t{i}" for i in range(5)), "foreign", *(f"t{i}" for i in range(5, 10)), "nobody"]
    answers = await asyncio.gather(*(store.claim(i, worker="w") for i in ids), return_exceptions=True)
    assert [type(answer) for answer in answers] == [Claim] * 5 + [StoreUnavailableError] + [Claim] * 5 + [Refusal]
    assert {(await store.get(f"t{i}")).attempt for i in range(10)} == {1}
    # What a batch gathers for its indexes is written also when one of its items fails.
    assert await store.redis.zcard(keys.LEASES) == 10
    assert await store.redis.zcard(keys.running("default")) == 10
    assert await store.redis.zcard(keys.waiting("default")) == 0


async def test_a_caller_that_gives_up_does_not_disturb_the_others(store: TaskStore) -> None:
    calls = [asyncio.create_task(store.submit(submission(f"t{i}"))) for i in range(10)]
    await asyncio.sleep(0)
    calls[3].cancel()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(answer, Submitted) for answer in answers] == [True] * 3 + [False] + [True] * 6


async def test_forgotten_scripts_are_given_again_in_the_order_of_a_life(store: TaskStore) -> None:
    await store.submit(submission("t"))
    claim = await store.claim("t", worker="w")
    assert isinstance(claim, Claim)
    await store.progress(claim, 1, Progress(1))
    await store.redis.function_flush()
    ending = store.complete(claim, "1")
    report = store.progress(claim, 2, Progress(2))
    await asyncio.gather(ending, report)
    assert [event.kind for event in await store.events("t")] == ["status", "status", "progress", "progress", "status"]


async def test_what_was_answered_is_there_after_kill_9_and_a_repeat_makes_no_double(
    killed_valkey: ValkeyServer,
) -> None:
    async with TaskStore(killed_valkey.url(), Settings(store_timeout=30).store) as store:
        answered: list[str] = []
        stop = asyncio.Event()

        async def submit(lane: int) -> None:
            number = 0
            while not stop.is_set():
                answer = await store.submit(submission(f"t{lane}-{number}"))
                assert answer.created, "the store repeated it, and recognised it"
                answered.append(answer.task_id)
                number += 1

        def reached(goal: int) -> bool:
            return len(answered) >= goal

        lanes = [asyncio.create_task(submit(lane)) for lane in range(20)]
        for killed in range(3):
            goal = len(answered) + 200
            await eventually(partial(reached, goal), because=f"it accepts work, killed {killed} times")
            killed_valkey.kill()
            await asyncio.to_thread(killed_valkey.start)
        goal = len(answered) + 200
        await eventually(partial(reached, goal), because="it accepts work again")
        stop.set()
        await asyncio.gather(*lanes)

        assert len(answered) == len(set(answered))
        # Lets go of the pooled connection that the kills cut.
        assert len(await store.groups()) == 1
        waiting = await store.redis.zrange(keys.waiting("default"), 0, -1)
        assert sorted(waiting) == sorted(answered)
        assert await store.redis.llen("default\x06\x169") == len(answered)
        assert await store.redis.xlen(keys.EVENTS) == len(answered)


async def test_a_store_that_stays_away_is_reported_in_time(own_valkey: ValkeyServer) -> None:
    async with TaskStore(own_valkey.url(), Settings(store_timeout=0.5).store) as store:
        await store.submit(submission("t"))
        own_valkey.kill()
        started = asyncio.get_running_loop().time()
        for call in (store.submit(submission("u")), store.get("t"), store.cancel("t"), store.ping()):
            with pytest.raises(StoreUnavailableError):
                await call
        assert asyncio.get_running_loop().time() - started < 30


async def test_a_claim_whose_answer_got_lost_is_granted_when_it_is_repeated(killed_valkey: ValkeyServer) -> None:
    async with TaskStore(killed_valkey.url(), Settings(store_timeout=30).store) as store:
        for i in range(200):
            await store.submit(submission(f"t{i}"))
        claiming = [asyncio.create_task(store.claim(f"t{i}", worker="w")) for i in range(200)]
        await asyncio.sleep(0)
        killed_valkey.kill()
        await asyncio.to_thread(killed_valkey.start)
        claims = await asyncio.gather(*claiming)
        assert all(isinstance(claim, Claim) and claim.attempt == 1 for claim in claims)


async def test_a_full_memory_refuses_and_loses_nothing(own_valkey: ValkeyServer) -> None:
    async with TaskStore(own_valkey.url(), Settings(store_timeout=0.5).store) as store:
        await store.submit(submission("running"))
        claim = await store.claim("running", worker="w")
        assert isinstance(claim, Claim)
        await store.redis.config_set("maxmemory", 1)
        with pytest.raises(StoreUnavailableError, match="maxmemory"):
            await store.submit(submission("t"))
        assert await store.redis.exists(keys.task("t")) == 0
        await store.redis.config_set("maxmemory", 0)
        assert await store.fail(claim, Failure("x", "", True), 0) == "retrying"


async def test_fsync_waits_until_the_disk_has_it(own_valkey: ValkeyServer) -> None:
    async with TaskStore(own_valkey.url(), Settings(durability="fsync").store) as store:
        await asyncio.gather(*(store.submit(submission(f"t{i}")) for i in range(50)))
        info = await store.redis.info("commandstats")
        assert info["cmdstat_waitaof"]["calls"] >= 1
        assert info["cmdstat_waitaof"]["failed_calls"] == 0
        await store.redis.function_flush()
        # The first wait came before anything was written: the script was not there.
        before = info["cmdstat_waitaof"]["calls"]
        await store.submit(submission("after"))
        assert (await store.redis.info("commandstats"))["cmdstat_waitaof"]["calls"] == before + 2


async def test_fsync_waits_at_every_door(own_valkey: ValkeyServer) -> None:
    settings = Settings(durability="fsync").store
    channel = StoreChannel(own_valkey.url(), settings)
    async with TaskStore(own_valkey.url(), settings) as store:

        async def waits() -> int:
            found = (await store.redis.info("commandstats")).get("cmdstat_waitaof", {"calls": 0})
            return int(found["calls"])

        async def fail_and_retry() -> object:
            claim = await store.claim("t", worker="w")
            assert isinstance(claim, Claim)
            await store.fail(claim, Failure("x", "", False), 0)
            return await store.retry("t")

        for door in (
            lambda: asyncio.to_thread(channel.submit, submission("t")),
            lambda: asyncio.to_thread(channel.submit_again, submission("t")),
            fail_and_retry,
        ):
            before = await waits()
            await door()
            assert await waits() > before


async def test_fsync_on_a_server_that_leaves_it_to_the_kernel_says_what_to_set(own_valkey: ValkeyServer) -> None:
    async with TaskStore(own_valkey.url(), Settings(durability="fsync").store, patience_s=0.1) as store:
        await store.redis.config_set("appendfsync", "no")
        with pytest.raises(StoreUnavailableError, match="set it to everysec or always"):
            await store.submit(submission("t"))


async def test_fsync_without_an_append_only_file_refuses(own_valkey: ValkeyServer) -> None:
    async with TaskStore(own_valkey.url(), Settings(durability="fsync").store) as store:
        await store.redis.config_set("appendonly", "no")
        with pytest.raises(StoreUnavailableError, match="fsync"):
            await store.submit(submission("t"))
