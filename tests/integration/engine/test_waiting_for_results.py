"""`AsyncResult.get()`: one subscription for as long as a process waits, and nothing that gets lost."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from celery.exceptions import TimeoutError as CeleryTimeoutError
from redis.exceptions import ConnectionError as RedisConnectionError

from celeriac.model import Claim, Failure
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.server.listener import Question, StateListener
from celeriac.store.task_store import TaskStore
from celeriac_tasks.adoption.adopting import own_app
from celeriac_tasks.engine.results import RecordBackend, RecordConsumer
from tests.kit.flaky_proxy import FlakyProxy
from tests.kit.waiting import PATIENCE_S, eventually
from tests.kit.workers.celery_processes import BOTH, PLAIN, output_of
from tests.kit.workers.engine_workers import Workers


class Caller:
    """A program with a Celery app; the test itself is the worker."""

    def __init__(self, url: str, store: TaskStore) -> None:
        self.store = store
        self.app = own_app(lambda: Settings(redis_url=url))
        self.task = self.app.task(name="waited", shared=False)(_nothing)

    async def call(self, *, waits: bool = True) -> tuple[Any, asyncio.Future[Any]]:
        """Publish a call; return its result, and what `get` will return, which waits already."""
        result = await asyncio.to_thread(self.task.delay)
        getting = asyncio.ensure_future(asyncio.to_thread(result.get, timeout=PATIENCE_S))
        if waits:
            await self.listens(result.id)
        return result, getting

    async def listens(self, task_id: str) -> None:
        """Wait until the store has heard that somebody waits for a task."""

        async def heard() -> bool:
            return bool((await self.store.redis.pubsub_numsub(keys.live(task_id)))[0][1])

        await eventually(heard, because="it waits")

    async def claim(self, task_id: str) -> Claim:
        """Begin to run a task."""
        claim = await self.store.claim(task_id, worker="w")
        assert isinstance(claim, Claim)
        return claim

    async def end(self, claim: Claim, value: Any) -> None:
        """End a task, as a worker does."""
        state = self.app.backend.success_with_end(claim.task_id, value, None)
        await self.store.complete(claim, "null", celery_state=state)


def _nothing() -> None:
    """Is never called."""


@pytest.fixture
def caller(valkey_url: str, store: TaskStore) -> Caller:
    """A program on the test's store."""
    return Caller(valkey_url, store)


async def test_a_result_comes_with_one_message_and_nothing_is_read_for_it(caller: Caller, store: TaskStore) -> None:
    for value in ("first", "second"):
        result, getting = await caller.call()
        await store.redis.config_resetstat()
        await caller.end(await caller.claim(result.id), value)
        assert await getting == value
        stats = await store.redis.info("commandstats")
        assert stats["cmdstat_publish"]["calls"] == 2, "one says that it runs, and one how it ended"
        assert not {"cmdstat_hgetall", "cmdstat_get", "cmdstat_unsubscribe"} & stats.keys()


async def test_of_a_task_that_has_succeeded_only_its_state_is_read(caller: Caller, store: TaskStore) -> None:
    result = await asyncio.to_thread(caller.task.delay)
    await caller.end(await caller.claim(result.id), "there")
    await store.redis.config_resetstat()
    assert await asyncio.to_thread(result.get, timeout=PATIENCE_S) == "there"
    stats = await store.redis.info("commandstats")
    assert (stats["cmdstat_hget"]["calls"], stats["cmdstat_get"]["calls"]) == (1, 1)
    assert "cmdstat_hgetall" not in stats


async def test_a_long_result_is_read(caller: Caller) -> None:
    result, getting = await caller.call()
    await caller.end(await caller.claim(result.id), "x" * 70_000)
    assert await getting == "x" * 70_000


async def test_a_task_that_ended_before_anybody_waits_has_its_result(caller: Caller) -> None:
    result = await asyncio.to_thread(caller.task.delay)
    await caller.end(await caller.claim(result.id), [1])
    assert await asyncio.to_thread(result.get, timeout=0) == [1]


async def test_an_end_between_the_subscription_and_the_question_is_not_lost(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, asked = asyncio.get_running_loop(), StateListener.ask

    async def ended(task_id: str) -> None:
        await caller.end(await caller.claim(task_id), "just now")

    def ask(listener: StateListener, record: str, key: str) -> Question:
        asyncio.run_coroutine_threadsafe(ended(record.removeprefix("task:")), loop).result(PATIENCE_S)
        return asked(listener, record, key)

    monkeypatch.setattr(StateListener, "ask", ask)
    _, getting = await caller.call(waits=False)
    assert await getting == "just now"


async def test_a_state_from_before_the_wait_is_told_as_on_stock_celery_where_the_caller_listens_already(
    caller: Caller,
) -> None:
    result = await asyncio.to_thread(caller.task.delay)
    claim = await caller.claim(result.id)
    await asyncio.to_thread(caller.app.backend.store_result, result.id, {"done": 1}, "PROGRESS")
    heard: list[Any] = []
    getting = asyncio.ensure_future(asyncio.to_thread(result.get, timeout=PATIENCE_S, on_message=heard.append))
    await eventually(lambda: heard, because="it hears what was stored before")
    await caller.end(claim, "done")
    assert await getting == "done"
    assert [(meta["status"], meta["result"]) for meta in heard] == [("PROGRESS", {"done": 1}), ("SUCCESS", "done")]


async def test_a_state_that_comes_together_with_the_answer_is_told(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = await asyncio.to_thread(caller.task.delay)
    claim = await caller.claim(result.id)
    asked = StateListener.ask

    def ask(listener: StateListener, record: str, key: str) -> Question:
        question = asked(listener, record, key)
        # Another thread, so that its backend is another one.
        with ThreadPoolExecutor(1) as reporter:
            reporter.submit(lambda: caller.app.backend.store_result(result.id, {"done": 1}, "PROGRESS")).result()
        return question

    monkeypatch.setattr(StateListener, "ask", ask)
    heard: list[Any] = []
    getting = asyncio.ensure_future(asyncio.to_thread(result.get, timeout=PATIENCE_S, on_message=heard.append))
    await eventually(lambda: heard, because="it hears what was stored meanwhile")
    await caller.end(claim, "done")
    assert await getting == "done"
    assert [(meta["status"], meta["result"]) for meta in heard] == [("PROGRESS", {"done": 1}), ("SUCCESS", "done")]


async def test_a_state_that_comes_as_a_message_and_in_the_answer_is_told_once(caller: Caller) -> None:
    result = await asyncio.to_thread(caller.task.delay)
    claim = await caller.claim(result.id)
    heard: list[Any] = []
    with ThreadPoolExecutor(1) as waits, ThreadPoolExecutor(1) as reports:
        # It gives up, and goes on to listen.
        with pytest.raises(CeleryTimeoutError):
            await asyncio.wrap_future(waits.submit(result.get, timeout=0.3))
        for number in (1, 2):
            reports.submit(lambda n=number: caller.app.backend.store_result(result.id, n, "PROGRESS")).result()
        getting = waits.submit(result.get, timeout=PATIENCE_S, on_message=heard.append)
        await eventually(lambda: len(heard) >= 2, because="it hears what was stored")
        await caller.end(claim, "done")
        assert await asyncio.wrap_future(getting) == "done"
    assert [meta["result"] for meta in heard] == [1, 2, "done"]


async def test_an_error_in_what_hears_messages_loses_none_of_them(caller: Caller) -> None:
    def fail(meta: dict[str, Any]) -> None:
        raise RuntimeError(meta["status"])

    result = await asyncio.to_thread(caller.task.delay)
    getting = asyncio.ensure_future(asyncio.to_thread(result.get, timeout=PATIENCE_S, on_message=fail))
    await caller.listens(result.id)
    claim = await caller.claim(result.id)
    await asyncio.to_thread(caller.app.backend.store_result, result.id, 1, "PROGRESS")
    await caller.end(claim, "done")
    with pytest.raises(RuntimeError, match="PROGRESS"):
        await getting
    assert await asyncio.to_thread(result.get, timeout=PATIENCE_S) == "done"


async def test_an_end_while_the_connection_is_lost_is_found(caller: Caller, store: TaskStore) -> None:
    result, getting = await caller.call()
    claim = await caller.claim(result.id)
    await store.redis.client_kill_filter(_type="pubsub", skipme=False)
    await caller.end(claim, "found")
    assert await getting == "found"
    # The next wait is over the new connection.
    result, getting = await caller.call()
    await caller.end(await caller.claim(result.id), "again")
    assert await getting == "again"


async def test_who_waits_gets_a_result_although_celery_has_lost_who_waits(caller: Caller) -> None:
    """Celery loses somebody if another object of the same task is collected just when the wait begins."""
    result, getting = await caller.call()
    assert any(result.id in waiting for waiting in result.backend._pending_results)
    for waiting in result.backend._pending_results:
        waiting.pop(result.id, None)
    await caller.end(await caller.claim(result.id), "found")
    assert await getting == "found"


async def test_a_connection_that_its_pool_has_closed_is_replaced(caller: Caller) -> None:
    caller.app.conf.result_backend_thread_safe = True
    for value in ("first", "second"):
        result, getting = await caller.call()
        claim = await caller.claim(result.id)
        caller.app.backend.client.connection_pool.disconnect()
        await caller.end(claim, value)
        assert await getting == value
        caller.app.backend.client.connection_pool.disconnect()


def test_a_connection_that_another_thread_is_just_closing_is_a_lost_one(caller: Caller) -> None:
    listener = StateListener(caller.app.backend.client.connection_pool)
    listener.subscribe("live:1")
    # The driver takes these away one after the other.
    listener.connection._parser._sock = None
    with pytest.raises(RedisConnectionError):
        listener.read()
    listener.close()


@pytest.mark.timeout(90)
async def test_a_connection_that_has_gone_silent_is_replaced(valkey_url: str, store: TaskStore) -> None:
    async with FlakyProxy(valkey_url) as proxy:
        url = proxy.url.replace("http:", "redis:") + "/" + valkey_url.rsplit("/", 1)[1]
        caller = Caller(url, store)
        result, getting = await caller.call()
        await caller.end(await caller.claim(result.id), "before")
        assert await getting == "before"
        proxy.silence_all()
        result, getting = await caller.call(waits=False)
        await caller.listens(result.id)
        await caller.end(await caller.claim(result.id), "after")
        assert await getting == "after"


async def test_over_version_2_of_the_protocol_the_record_is_read(
    caller: Caller, store: TaskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_version_3 = RecordBackend._get_pool
    monkeypatch.setattr(RecordBackend, "_get_pool", lambda backend, **given: of_version_3(backend, protocol=2, **given))
    for value in ("first", "second"):
        await store.redis.config_resetstat()
        result, getting = await caller.call()
        await caller.end(await caller.claim(result.id), value)
        assert await getting == value
        assert "cmdstat_hgetall" in await store.redis.info("commandstats")


async def test_channels_that_nobody_listens_to_any_more_are_left_together(caller: Caller, store: TaskStore) -> None:
    caller.app.conf.result_backend_thread_safe = True
    ids = []
    for number in range(150):
        result, getting = await caller.call()
        ids.append(keys.live(result.id))
        await caller.end(await caller.claim(result.id), number)
        assert await getting == number
        assert sum(count for _, count in await store.redis.pubsub_numsub(*ids)) <= 2


async def test_several_threads_wait_over_one_connection(valkey_url: str, store: TaskStore) -> None:
    caller = Caller(valkey_url, store)
    caller.app.conf.result_backend_thread_safe = True
    results = await asyncio.gather(*(caller.call() for _ in range(4)))
    assert len({id(result.backend.result_consumer) for result, _ in results}) == 1
    for number, (result, _) in enumerate(results):
        await caller.end(await caller.claim(result.id), number)
    assert await asyncio.gather(*(getting for _, getting in results)) == list(range(4))


async def test_a_fork_has_a_connection_of_its_own(workers: Workers, store: TaskStore) -> None:
    await workers.start(store, **BOTH)
    program = f"""
import os
from {PLAIN} import *
print(add.delay(1, 2).get(timeout=60), flush=True)
left = add.delay(3, 4)
left.then(lambda _: None)
child = os.fork()
if not child:
    print([add.delay(5, n).get(timeout=60) for n in range(3)], flush=True)
    os._exit(0)
print(os.waitpid(child, 0)[1], left.get(timeout=60), add.delay(7, 8).get(timeout=60))
"""
    said = await output_of([sys.executable, "-c", program], workers.environment(**BOTH))
    assert said.splitlines()[-3:] == ["3", "[5, 6, 7]", "0 7 15"]


async def test_threads_that_make_the_first_calls_of_a_process_at_once_all_have_their_results(
    workers: Workers, store: TaskStore
) -> None:
    await workers.start(store, **BOTH)
    program = f"""
from concurrent.futures import ThreadPoolExecutor
from {PLAIN} import *
with ThreadPoolExecutor(20) as pool:
    print(sum(pool.map(lambda n: add.delay(n, 1).get(timeout=60), range(20))))
"""
    for _ in range(3):
        assert await output_of([sys.executable, "-c", program], workers.environment(**BOTH)) == "210\n"


def test_it_is_our_consumer(caller: Caller) -> None:
    assert type(caller.app.backend.result_consumer) is RecordConsumer


async def test_the_first_failure_of_a_chain_is_raised_also_if_all_has_failed_already(caller: Caller) -> None:
    first, second = [await asyncio.to_thread(caller.task.delay) for _ in range(2)]
    second.parent = first
    # As in a wait that begins just before: nothing has failed when `get` looks for the first time.
    second._maybe_reraise_parent_error, looks = _but_not_first(second._maybe_reraise_parent_error)
    for result, error in ((first, ValueError("first")), (second, KeyError("second"))):
        claim = await caller.claim(result.id)
        await asyncio.to_thread(caller.app.backend.store_result, result.id, error, "FAILURE")
        await caller.store.fail(claim, Failure("failed", str(error), False), 0)
    with pytest.raises(ValueError, match="first"):
        await asyncio.to_thread(second.get, timeout=PATIENCE_S)
    assert looks == [1, 2]


def _but_not_first(function: Callable[[], Any]) -> tuple[Callable[[], Any], list[int]]:
    calls: list[int] = []

    def later() -> Any:
        calls.append(len(calls) + 1)
        return function() if len(calls) > 1 else None

    return later, calls
