"""Another broker than Redis: the record comes first, the message follows through the outbox."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection

from celeriac.model import Delivery, Status
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac_tasks.adoption.adopting import own_app
from celeriac_tasks.engine.brokers.broker import Broker
from celeriac_tasks.engine.brokers.outbox import OutboxPublisher
from tests.kit.waiting import eventually
from tests.kit.workers.celery_processes import (
    BOTH,
    PLAIN,
    celery_command,
    evaluate,
    output_of,
    publish,
    publish_as_stranger,
    publish_chain,
)
from tests.kit.workers.engine_workers import Workers, check_one_end, ended, ran, runs, statuses, submit
from tests.kit.workers.rabbitmq import URL, broker_group, need_rabbitmq


@pytest.fixture(scope="module", autouse=True)
def rabbitmq() -> None:
    """All of these tests need it."""
    need_rabbitmq()


@pytest.fixture
def group() -> Iterator[str]:
    """A group of the test's own."""
    with broker_group() as name:
        yield name


@pytest.fixture
def broker(valkey_url: str) -> Broker:
    return Broker(own_app(lambda: Settings(redis_url=valkey_url, broker_url=URL)))


def serving(group: str, **settings: Any) -> dict[str, Any]:
    """Return the settings of a worker of one group on RabbitMQ."""
    return {**BOTH, "broker_url": URL, "worker__groups": group, **settings}


async def submit_here(store: TaskStore, group: str, kind: str, payload: dict[str, Any], **more: Any) -> str:
    return await submit(store, kind, payload, group=group, delivery=Delivery.BROKER, **more)


async def test_a_submission_runs(workers: Workers, store: TaskStore, group: str) -> None:
    early = await submit_here(store, group, "add", {"numbers": [1, 2]})
    await workers.start(store, **serving(group))
    late = await submit_here(store, group, "add_sync", {"numbers": [3]})
    delayed = await submit_here(store, group, "noop", {"d": 1}, delay_ms=500)
    failing = await submit_here(store, group, "fails", {"how": "odd", "until": 2})
    assert (await ended(store, early)).result == {"sum": 3}
    assert (await ended(store, late)).result == {"sum": 3}
    assert (await ended(store, delayed)).result == {"d": 1}
    task = await ended(store, failing)
    assert (task.status, task.attempt) == (Status.COMPLETED, 2)
    assert await store.redis.llen("celeriac:outbox") == 0


async def test_a_limit_holds_here_too(workers: Workers, store: TaskStore, group: str) -> None:
    await store.limit(group, max_running=2)
    await workers.start(store, **serving(group))
    # The first one goes on until another one has begun.
    ids = [await submit_here(store, group, "counts_running", {"beside": 2} if n == 0 else {}) for n in range(20)]
    seen = []
    for task_id in ids:
        assert (await ended(store, task_id)).status is Status.COMPLETED
        seen += [int(text) for text in await ran(store, task_id)]
    assert (len(seen), max(seen)) == (20, 2)


async def test_a_worker_of_all_groups_follows_new_ones_here_too(workers: Workers, store: TaskStore, group: str) -> None:
    await workers.start(store, **serving("*"))
    assert (await ended(store, await submit_here(store, group, "noop", {}))).status is Status.COMPLETED
    workers.kill_all()
    with Connection(URL) as connection:
        # Which a worker of all groups begins with.
        connection.default_channel.queue_delete("default", if_unused=True, if_empty=True)


async def test_an_idle_group_is_let_go_of_and_served_again_here_too(
    workers: Workers, store: TaskStore, group: str, tmp_path: Path
) -> None:
    await workers.start(store, **serving("*", group_idle=0.5, worker__follow_interval=0.2))

    async def served(yes: bool) -> None:
        async def so() -> bool:
            return (group in (await store.workers())[0].groups) is yes

        await eventually(so, because=f"the worker has a queue of it: {yes}")

    for n in range(2):
        gate = tmp_path / f"gate {n}"
        running = await submit_here(store, group, "add", {"numbers": [1], "gate": str(gate)})
        await served(True)
        gate.touch()
        assert (await ended(store, running)).status is Status.COMPLETED
        await served(False)
    workers.kill_all()
    with Connection(URL) as connection:
        connection.default_channel.queue_delete("default", if_unused=True, if_empty=True)


async def test_plain_celery_calls_have_a_record_before_their_message(
    workers: Workers, store: TaskStore, group: str
) -> None:
    settings = {"broker_url": URL}
    simple, later = await publish(
        workers,
        f"add.apply_async((1, 2), queue={group!r})",
        f"add.apply_async((1, 2), queue={group!r}, countdown=1)",
        **settings,
    )
    task = await store.get(simple)
    assert (task.status, task.group, task.payload) == (Status.PENDING, group, {"args": [1, 2], "kwargs": {}})
    assert (await store.get(later)).status is Status.SCHEDULED
    on = f".set(queue={group!r})"
    chained = await publish_chain(workers, f"add.s(1, 2){on} | add.s(10){on}", **settings)
    (registered,) = await publish(
        workers, f"app.tasks['noop'].apply_async(kwargs={{'x': 1}}, queue={group!r})", **settings
    )
    await workers.start(store, **serving(group))
    assert (await ended(store, simple)).result == 3
    assert (await ended(store, later)).result == 3
    assert [(await ended(store, task_id)).result for task_id in chained] == [3, 13]
    assert (await ended(store, registered)).result == {"x": 1}


async def test_a_strangers_message_is_adopted(workers: Workers, store: TaskStore, group: str, broker: Broker) -> None:
    with broker_group() as other:
        await adopt_a_strangers_messages(workers, store, group, other)
    assert await broker.is_empty(group)
    await broker.close()


async def adopt_a_strangers_messages(workers: Workers, store: TaskStore, group: str, other: str) -> None:
    """Have a worker run what a stranger published to a group, and kill it when it has acknowledged that."""
    worker = await workers.start(store, **serving(f"{group},{other}"))
    now = {"name": f"{PLAIN}.add", "args": [1], "task_id": f"{group}-now"}
    later = {"name": f"{PLAIN}.add", "args": [2], "task_id": f"{group}-later", "countdown": 8}
    await publish_as_stranger(workers, now, now, later, broker=URL, queue=group)
    for name in ("now", "later"):
        await eventually(lambda name=name: store.redis.exists(f"task:{group}-{name}"), because="it arrives")
    assert (await ended(store, f"{group}-now")).result == 1
    assert (await store.get(f"{group}-later")).status is not Status.FAILED
    assert (await ended(store, f"{group}-later")).result == 2
    assert "SCHEDULED" in await statuses(store, f"{group}-later"), "not in a worker's memory"
    assert await ran(store, f"{group}-now") == ["start 0", "1 + 0"]
    # The acknowledgement follows the end of the task, before the worker takes what is published after that.
    for _ in range(2):
        assert (await ended(store, await submit_here(store, other, "noop", {}))).status is Status.COMPLETED
    worker.kill()
    # What was not acknowledged would be back now.
    await asyncio.sleep(0.3)


async def test_what_a_killed_worker_ran_goes_on_elsewhere(workers: Workers, store: TaskStore, group: str) -> None:
    worker = await workers.start(store, **serving(group))
    work = {"s": 300, "again_s": 1}
    ids = [await submit_here(store, group, "sleeps_again", work, max_retries=3) for _ in range(20)]
    for task_id in ids:
        await runs(store, task_id)
    worker.kill()
    await workers.start(store, **serving(group))
    for task_id in ids:
        assert (await ended(store, task_id)).status is Status.COMPLETED
        check_one_end(await statuses(store, task_id))
        assert await ran(store, task_id) == ["start 1", "start 2", "end 2"]


async def test_what_a_publisher_took_along_when_it_died_is_published_again(
    workers: Workers, store: TaskStore, group: str
) -> None:
    lost = await submit_here(store, group, "add", {"numbers": [1]})
    assert await store.take_outgoing(10, wait_s=1) == [lost]
    await workers.start(store, **serving(group))
    assert (await ended(store, lost)).status is Status.COMPLETED
    assert await ran(store, lost) == ["attempt 1"]


async def test_waiting_behind_a_busy_worker_is_not_taken_for_lost(
    workers: Workers, store: TaskStore, group: str, broker: Broker
) -> None:
    await workers.start(store, "--concurrency", "1", **serving(group, hint_grace=6))
    running = await submit_here(store, group, "sleeps", {"s": 12})
    await runs(store, running)
    ids = [await submit_here(store, group, "add", {"numbers": [1]}) for _ in range(20)]
    for task_id in ids:
        assert (await ended(store, task_id)).status is Status.COMPLETED
    hints = [int((await store.record(task_id))["hints"]) for task_id in ids]
    # One may be in the worker's own buffer, which the broker does not count.
    assert sum(hints) <= 1, "no message went out twice"
    assert await broker.is_empty(group)
    await broker.close()


async def test_what_the_broker_did_not_take_stays_in_the_outbox(store: TaskStore, valkey_url: str, group: str) -> None:
    task_id = await submit_here(store, group, "noop", {})
    away = Broker(own_app(lambda: Settings(redis_url=valkey_url, broker_url="amqp://guest:guest@127.0.0.1:1//")))
    publisher = OutboxPublisher(store=store, broker=away)
    assert await publisher.step() > 0, "it tries again, but not at once"
    assert not await away.is_empty(group), "nobody knows"
    assert await store.redis.lrange("celeriac:outbox", 0, -1) == [task_id]
    await publisher.stop()


async def test_any_number_of_publishers_publish_each_message_once(
    store: TaskStore, valkey_url: str, group: str, broker: Broker
) -> None:
    ids = [await submit_here(store, group, "noop", {}) for _ in range(500)]
    app = own_app(lambda: Settings(redis_url=valkey_url, broker_url=URL))
    publishers = [OutboxPublisher(store=store, broker=Broker(app)) for _ in range(3)]
    for publisher in publishers:
        await publisher.start()
    await eventually(lambda: count(group, 500), because="all are published")
    assert await store.redis.llen("celeriac:outbox") == 0
    await asyncio.gather(*(publisher.stop() for publisher in publishers))
    assert not await broker.is_empty(group)
    await broker.close()
    with Connection(URL) as connection:
        found = [connection.default_channel.basic_get(group, no_ack=True).headers["id"] for _ in ids]
    assert sorted(found) == sorted(ids)


async def test_a_purge_cancels_what_waits_in_the_store_and_at_the_broker(
    workers: Workers, store: TaskStore, group: str, broker: Broker
) -> None:
    call = f"add.apply_async((1, 2), queue={group!r})"
    publisher = OutboxPublisher(store=store, broker=broker)
    purged: list[str] = []
    for at_the_broker in (False, True):
        ids = await publish(workers, *[call] * 3, broker_url=URL)
        if at_the_broker:
            await publisher.step()
            await eventually(lambda: count(group, 3), because="the broker has them")
        environment = workers.environment(**BOTH, broker_url=URL)
        said = await output_of(celery_command("purge", "-f", "-Q", group), environment)
        assert "Purged 3 messages from 1 known task queue" in said
        purged += ids
    await publisher.stop()
    purged += await publish(workers, *[call] * 3, broker_url=URL)
    command = celery_command("worker", "--purge", "-Q", group)
    worker = await workers.start_command(store, command, **BOTH, broker_url=URL)
    assert "purge: Erased 3 messages" in worker.said()
    assert [(await store.get(task_id)).status for task_id in purged] == [Status.CANCELLED] * 9
    (later,) = await publish(workers, call, broker_url=URL)
    assert (await ended(store, later)).result == 3
    assert [await ran(store, task_id) for task_id in purged] == [[]] * 9


async def test_a_countdown_waits_in_the_store_with_quorum_queues_too(
    workers: Workers, store: TaskStore, monkeypatch: pytest.MonkeyPatch, group: str
) -> None:
    monkeypatch.setenv("EXCHANGES", group)
    monkeypatch.setenv("QUORUM", "1")
    exchanges = "tests.kit.workers.celery_exchanges"
    program = f"from {exchanges} import *\nprint(looks.apply_async((1,), queue=f'{{P}}-quorum', countdown=60).id)"
    environment = workers.environment(imports=[exchanges], broker_url=URL)
    task_id = (await output_of([sys.executable, "-c", program], environment)).strip()
    task = await store.get(task_id)
    assert (task.status, task.group) == (Status.SCHEDULED, f"{group}-quorum")


async def test_a_new_queue_is_of_the_type_that_celery_is_configured_for(
    store: TaskStore, valkey_url: str, group: str
) -> None:
    app = own_app(lambda: Settings(redis_url=valkey_url, broker_url=URL))
    app.conf.task_create_missing_queue_type = "quorum"
    publisher = OutboxPublisher(store=store, broker=Broker(app))
    await submit_here(store, group, "noop", {})
    await publisher.step()
    with Connection(URL) as connection:
        # As a worker declares it, which RabbitMQ refuses if anything is different.
        assert app.amqp.queues[group](connection.default_channel).declare() == group
        assert connection.default_channel.basic_get(group, no_ack=True) is not None
        connection.default_channel.exchange_delete(group)
    await publisher.stop()


async def test_a_queue_that_somebody_declared_otherwise_is_used_as_it_is(
    store: TaskStore, group: str, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    with Connection(URL) as connection:
        connection.default_channel.queue_declare(group, durable=True, auto_delete=False, arguments={"x-max-length": 9})
        publisher = OutboxPublisher(store=store, broker=broker)
        await submit_here(store, group, "noop", {})
        await publisher.step()
        await publisher.stop()
        assert connection.default_channel.basic_get(group, no_ack=True) is not None
    assert "is used as it is" in caplog.text


async def count(group: str, expected: int) -> bool:
    def messages() -> int:
        with Connection(URL) as connection:
            return int(connection.default_channel.queue_declare(group, durable=True, auto_delete=False).message_count)

    return await asyncio.to_thread(messages) == expected


async def test_tasks_are_replaced_on_another_broker(workers: Workers, store: TaskStore, group: str) -> None:
    module = "tests.kit.workers.celery_replacing"
    shop = {"SHOP_RESULTS": workers.redis_url, "SHOP_BROKER": URL, "SHOP_QUEUE": group}
    command = [sys.executable, "-m", "celery", "-A", module, "worker", "-P", "threads", "-c", "4", "--without-mingle"]
    await workers.start_command(store, command, environment={**workers.environment(imports=[]), **shop})
    expressions = (
        "becomes.delay('retried')",
        "becomes.delay('nested chain')",
        "becomes.delay('chord to chain')",
        "chord([becomes.si('group'), becomes.si('task')], shows.s()).delay()",
        "chord([adds_to_chord.si(1), add.si(1, 1)], total_of.s()).delay()",
        "becomes.delay('failing chain')",
    )
    found = await evaluate(
        workers, *(f"{one}.get(timeout=20)" for one in expressions), module=module, variables=shop, imports=[]
    )
    assert found == [[1, 1], [13, 0], [5, 0], [[[2, 3], [1, 0]], 0], 1004, ["ValueError", "link"]]
