"""What Prometheus reads, parsed as it parses it."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from celeriac.limits.rules import By, LimitRule, StartRate
from celeriac.model import Delivery, Failure, Submission
from celeriac.settings import GroupSettings, Settings
from celeriac.settings.engine import TypeSettings
from celeriac.store import keys
from celeriac.store.counts import MAX_NAMED
from celeriac.store.notified import NotifiedTasks
from celeriac.store.remote import RemoteTasks
from celeriac.store.task_store import TaskStore
from tests.kit.api.http_serving import claim, submit
from tests.kit.remote.claims import claim_next
from tests.kit.waiting import eventually

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    groups = {name: GroupSettings() for name in ("media", "mail", "celery", "remote", "foreign")}
    types = {name: TypeSettings() for name in ("demo", "report")}
    # Nobody renews the claims of these tests, nor the presence of their worker, however slow the machine.
    return Settings(redis_url=valkey_url, lease=600.0, groups=groups, types=types)


async def read(client: httpx.AsyncClient, scope: str = "platform") -> Samples:
    answer = await client.get("/metrics", params={"scope": scope})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


async def test_each_transition_is_counted_once_with_its_group_and_type(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    of = {"group": "media", "type": "http_test.echo"}
    done, broken, again, waiting = [await submit(client, queue="media", max_retries=1) for _ in range(4)]
    await store.complete(await claim(store, done), "1")
    await store.fail(await claim(store, broken), Failure("broken", "", False), 0)
    await store.fail(await claim(store, again), Failure("broken", "", True), 60_000)
    await submit(client, queue="media", delay="60s")

    samples = await read(client)
    assert value(samples, "celeriac_tasks_submitted_total", **of) == 5
    assert value(samples, "celeriac_tasks_started_total", **of) == 3
    assert value(samples, "celeriac_tasks_finished_total", status="completed", **of) == 1
    assert value(samples, "celeriac_tasks_finished_total", status="failed", **of) == 1
    assert value(samples, "celeriac_task_retries_total", **of) == 1
    assert value(samples, "celeriac_task_wait_seconds_count", group="media") == 3
    assert value(samples, "celeriac_task_run_seconds_count", **of) == 3
    assert value(samples, "celeriac_task_run_seconds_bucket", le="+Inf", **of) == 3
    assert value(samples, "celeriac_queue_depth", group="media") == 1
    assert value(samples, "celeriac_queue_unserved", group="media") == 1
    assert value(samples, "celeriac_tasks_running", group="media") == 0
    assert value(samples, "celeriac_tasks_delayed") == 2
    assert await store.cancel(waiting) == "cancelled"
    assert value(await read(client), "celeriac_tasks_finished_total", status="cancelled", **of) == 1


async def test_what_a_worker_serves_is_not_unserved(client: httpx.AsyncClient, store: TaskStore) -> None:
    await submit(client, queue="media")
    await store.renew("w1", [], {"kind": "celery", "groups": "media", "started_ms": "1"})
    samples = await read(client)
    assert value(samples, "celeriac_queue_depth", group="media") == 1
    assert value(samples, "celeriac_queue_unserved", group="media") == 0


async def test_what_holds_a_group_back_shows(client: httpx.AsyncClient, store: TaskStore) -> None:
    await submit(client, queue="media")
    await store.limit("media", max_running=5, rate=None)
    await store.limit("mail", max_running=None, rate=StartRate.parse("10/s"))
    await store.pause("mail")
    samples = await read(client)
    assert [value(samples, "celeriac_group_paused", group=name) for name in ("media", "mail")] == [0, 1]
    assert [value(samples, "celeriac_group_limit_running", group=name) for name in ("media", "mail")] == [5, None]
    assert value(samples, "celeriac_queue_depth", group="mail") == 0
    await store.resume("mail")
    await store.unlimit("media")
    samples = await read(client)
    assert value(samples, "celeriac_group_limit_running", group="media") is None
    assert value(samples, "celeriac_group_paused", group="mail") == 0


async def test_each_rule_has_figures_and_its_keys_have_none(client: httpx.AsyncClient, store: TaskStore) -> None:
    await store.set_rule(LimitRule("customers", group="media", by=By.KEY, max_running=1))
    await store.set_rule(LimitRule("turns", group="media", by=By.KEY, fair=True))
    await store.limit("mail", max_running=5)
    for n in range(3):
        await store.submit(Submission(f"c{n}", "demo", group="media", key="c7" if n else "c8"))
    await claim(store, "c1")
    samples = await read(client)

    def figures(limit: str) -> list[float | None]:
        names = ("waiting", "running", "parked", "max_running")
        return [value(samples, f"celeriac_limit_{name}", limit=limit) for name in names]

    assert figures("customers") == [2, 1, 1, 1]
    assert figures("turns") == [2, 1, 0, None]
    assert figures("group:mail") == [0, 0, 0, 5]
    assert value(samples, "celeriac_limits") == 3
    assert not {"c7", "c8"} & {text for _, labels in samples for _, text in labels}


async def test_metrics_name_a_bounded_number_of_rules(client: httpx.AsyncClient, store: TaskStore) -> None:
    for n in range(MAX_NAMED + 5):
        await store.set_rule(LimitRule(f"r{n:03}", group=f"g{n}", max_running=1))
    await store.limit("a", max_running=1)
    samples = await read(client)
    named = {text for name, labels in samples for label, text in labels if name == "celeriac_limit_waiting"}
    assert named == {f"r{n:03}" for n in range(MAX_NAMED)}
    assert value(samples, "celeriac_limits") == MAX_NAMED + 6


async def test_every_kind_of_start_is_counted_with_its_wait(client: httpx.AsyncClient, store: TaskStore) -> None:
    await store.submit(Submission("by-celery", "demo", group="celery"))
    await claim(store, "by-celery")
    await store.submit(Submission("by-a-remote-worker", "remote", group="remote", delivery=Delivery.REMOTE))
    await claim_next(RemoteTasks(store, "gateway"), "remote", ["w"])
    program = NotifiedTasks(store, holder="program", name="program")
    await program.register("by-its-program", task_type="report", user_id=None)
    await program.start("by-its-program")
    for task_id, status in (("by-a-processor", "PROCESSING"), ("already-ended", "COMPLETED")):
        await store.submit(Submission(task_id, "file_process", group="foreign", delivery=Delivery.EXTERNAL))
        await store.redis.hset(keys.task(task_id), "status", status)
    await store.watch_external(10, 0)

    samples = await read(client)
    its_group = store.settings.notifications.group
    starts = {("celery", "demo"): 1, ("remote", "remote"): 1, (its_group, "report"): 1, ("foreign", "file_process"): 2}
    for (group, task_type), number in starts.items():
        assert value(samples, "celeriac_tasks_started_total", group=group, type=task_type) == number
        # When a task began that had ended at the first look is not known.
        assert value(samples, "celeriac_task_wait_seconds_count", group=group) == 1
    records = [await store.get(task_id) for task_id in ("by-celery", "by-a-remote-worker", "by-a-processor")]
    assert {(task.status, task.attempt, task.started_at is None) for task in records} == {("processing", 1, False)}


async def test_durations_fall_into_the_buckets_that_hold_them(client: httpx.AsyncClient, store: TaskStore) -> None:
    claimed = await claim(store, await submit(client))
    # A start of 20 seconds ago, as the record tells it.
    started_ms = int((await store.record(claimed.task_id))["started_ms"]) - 20_000
    await store.redis.hset(keys.task(claimed.task_id), "started_ms", started_ms)
    await store.complete(claimed, "1")
    samples = await read(client)
    of = {"group": "default", "type": "http_test.echo"}
    assert value(samples, "celeriac_task_run_seconds_bucket", le="10.0", **of) == 0
    assert value(samples, "celeriac_task_run_seconds_bucket", le="30.0", **of) == 1
    assert 20 <= (value(samples, "celeriac_task_run_seconds_sum", **of) or 0) < 30


async def test_repeated_calls_count_once_and_batches_count_each(client: httpx.AsyncClient, store: TaskStore) -> None:
    of = {"group": "default", "type": "demo"}
    await asyncio.gather(*(store.submit(Submission(task_id=f"t{i}", type="demo")) for i in range(50)))
    claims = await asyncio.gather(*(claim(store, f"t{i}") for i in range(50)))
    await asyncio.gather(*(store.complete(claimed, "1") for claimed in claims for _ in range(2)))
    await asyncio.gather(*(store.submit(Submission(task_id=f"t{i}", type="demo")) for i in range(50)))
    samples = await read(client)
    assert value(samples, "celeriac_tasks_submitted_total", **of) == 50
    assert value(samples, "celeriac_tasks_started_total", **of) == 50
    assert value(samples, "celeriac_tasks_finished_total", status="completed", **of) == 50
    assert value(samples, "celeriac_task_run_seconds_count", **of) == 50


async def test_a_worker_that_died_shows_as_an_expired_lease(client: httpx.AsyncClient, store: TaskStore) -> None:
    claimed = await claim(store, await submit(client))
    await store.redis.zadd(keys.LEASES, {claimed.task_id: 1})
    await store.reap(limit=10)
    of = {"group": "default", "type": "http_test.echo"}
    assert value(await read(client), "celeriac_leases_expired_total", **of) == 1


async def test_a_process_tells_of_itself_and_of_its_connections(client: httpx.AsyncClient, store: TaskStore) -> None:
    task_id = await submit(client)
    async with client.stream("GET", f"/api/v1/tasks/{task_id}/progress/stream") as stream:
        assert stream.status_code == 200
        samples = await read(client, "process")
        assert value(samples, "celeriac_api_open_connections", kind="stream") == 1
        assert value(samples, "celeriac_api_open_connections", kind="request") == 1
        assert (value(samples, "process_resident_memory_bytes") or 0) > 1_000_000
        assert not any(name.startswith("celeriac_tasks") for name, _ in samples)

    async def closed() -> bool:
        return value(await read(client, "process"), "celeriac_api_open_connections", kind="stream") == 0

    await eventually(closed, because="a stream that its reader left is not counted any more")
    assert (
        value(await read(client, "all"), "celeriac_tasks_submitted_total", group="default", type="http_test.echo") == 1
    )


async def test_names_that_callers_made_up_are_together_other(client: httpx.AsyncClient, store: TaskStore) -> None:
    before = len((await client.get("/metrics", params={"scope": "platform"})).content)
    for begin in range(0, 3000, 500):
        names = [f"{begin + i}" for i in range(500)]
        await asyncio.gather(*(store.submit(Submission(name, f"type{name}", group=f"group{name}")) for name in names))
    await submit(client, queue="media")
    text = await client.get("/metrics", params={"scope": "platform"})
    assert len(text.content) < before + 20_000
    samples = await read(client)
    assert value(samples, "celeriac_tasks_submitted_total", group="other", type="other") == 3000
    assert value(samples, "celeriac_tasks_submitted_total", group="media", type="http_test.echo") == 1
    assert {group for _, of in samples for name, group in of if name == "group"} == {"media", "other"}
    assert value(samples, "celeriac_groups") == 3001
    assert (value(samples, "celeriac_queue_depth", group="other") or 0) >= 999
    # An operator limited one: it has figures of its own from now on.
    await store.limit("group7", max_running=5)
    samples = await read(client)
    assert value(samples, "celeriac_group_limit_running", group="group7") == 5
    assert value(samples, "celeriac_queue_depth", group="group7") == 1


async def test_one_group_is_read_by_its_name_and_a_long_list_of_groups_is_cut(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    await asyncio.gather(*(store.submit(Submission(f"t{i}", "demo", group=f"g{i:04}")) for i in range(1200)))
    await store.pause("zz-paused")
    listed = (await client.get("/api/v1/groups")).json()
    names = [group["name"] for group in listed["groups"]]
    assert (len(names), listed["left_out"]) == (1000, 1200 + 7 - 1000)
    assert {"default", "media", "mail", "zz-paused", "g0000"} <= set(names)
    assert names == sorted(names)
    assert (await client.get("/api/v1/groups/g1199")).json()["waiting"] == 1
    assert (await client.get("/api/v1/groups/zz-paused")).json()["paused"] is not None
    assert (await client.get("/api/v1/groups/nobody")).status_code == 404


async def test_names_of_strangers_cannot_fill_the_store(client: httpx.AsyncClient, store: TaskStore) -> None:
    await store.redis.hset(keys.COUNTS, mapping={f"s\x1f{i}\x1fx": 1 for i in range(20_000)})
    await submit(client, queue="one-more")
    assert await store.redis.hlen(keys.COUNTS) == 20_000
    assert (await client.get("/metrics", params={"scope": "nobody"})).status_code == 422


async def test_a_firing_says_how_late_it_was(client: httpx.AsyncClient, store: TaskStore) -> None:
    seconds, micros = await store.redis.time()
    slot_ms = seconds * 1000 + micros // 1000 - 3000
    for _ in range(2):  # the second one is known already
        await store.submit(Submission(task_id="t", type="demo", trigger="schedule", scheduled_at_ms=slot_ms))
    await store.submit(Submission(task_id="by-hand", type="demo", trigger="manual", scheduled_at_ms=slot_ms))
    samples = await read(client)
    assert value(samples, "celeriac_schedule_lateness_seconds_count", group="default") == 1
    assert value(samples, "celeriac_schedule_lateness_seconds_bucket", group="default", le="2.5") == 0
    assert (value(samples, "celeriac_schedule_lateness_seconds_sum", group="default") or 0) >= 3
