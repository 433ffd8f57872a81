"""Connections to the store that go silent without being closed, as behind a router that forgot them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from celeriac.model import Claim, Delivery, LeaseState, Progress, Status, Submission
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.remote import RemoteTasks
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.standings import server_ms
from celeriac_api.gateway.connection import WorkerConnection
from celeriac_api.gateway.group_workers import GroupWorkers
from tests.kit.flaky_proxy import FlakyProxy
from tests.kit.waiting import eventually
from tests.kit.workers.engine_workers import runs, submit, workers_on

#: Long enough that a slow moment of the machine does not end a lease.
LEASE_S = 9.0


@pytest.fixture
async def proxy(valkey_url: str) -> AsyncIterator[FlakyProxy]:
    async with FlakyProxy(valkey_url) as between:
        yield between


@pytest.fixture
async def behind(proxy: FlakyProxy, valkey_url: str) -> AsyncIterator[TaskStore]:
    """A worker's store, whose connections the proxy may silence."""
    url = proxy.url.replace("http:", "redis:") + "/" + valkey_url.rsplit("/", 1)[1]
    async with TaskStore(url, Settings(lease=LEASE_S).store, patience_s=60) as connected:
        yield connected


async def claimed(store: TaskStore, task_id: str) -> Claim:
    claim = await store.claim(task_id, worker="w")
    assert isinstance(claim, Claim), claim
    return claim


async def left_s(store: TaskStore, task_id: str) -> float:
    """Return how long the lease of a task still holds, by the server's clock."""
    seconds, micros = await store.redis.time()
    until = await store.redis.zscore(keys.LEASES, task_id)
    return (float(until) - 1000 * int(seconds) - int(micros) / 1000) / 1000


async def test_a_renewal_whose_connection_went_silent_is_repeated_over_another_one_long_before_the_lease_ends(
    store: TaskStore, behind: TaskStore, proxy: FlakyProxy
) -> None:
    await store.submit(Submission(task_id="t", type="demo", max_retries=0))
    mine = await claimed(behind, "t")
    assert await behind.renew("w", [mine]) == [LeaseState.HELD]
    until_ms = await store.redis.zscore(keys.LEASES, "t")
    proxy.silence_all()
    assert await behind.renew("w", [mine]) == [LeaseState.HELD]
    # By the server's clock it was renewed while the lease before it still held.
    assert 0 < await store.redis.zscore(keys.LEASES, "t") - until_ms < 1000 * LEASE_S


async def test_a_renewal_waits_for_nothing_else(store: TaskStore, behind: TaskStore, proxy: FlakyProxy) -> None:
    await store.submit(Submission(task_id="t", type="demo", max_retries=0))
    mine = await claimed(behind, "t")
    assert await behind.renew("w", [mine]) == [LeaseState.HELD]
    proxy.silence_all()
    waiting = behind.report(mine, 1, Progress(50))
    assert await behind.renew("w", [mine]) == [LeaseState.HELD]
    # What waited is asked again before the lease would have ended, and counts once.
    assert await waiting == "ok"
    assert [event.kind for event in await store.events("t")] == ["status", "status", "progress"]
    assert await left_s(store, "t") > 0


async def test_a_claim_whose_answer_got_lost_is_granted_again_with_its_whole_lease(
    store: TaskStore, behind: TaskStore, proxy: FlakyProxy
) -> None:
    await store.submit(Submission(task_id="t", type="demo", max_retries=0))
    await behind.ping()
    proxy.lose_answers = 1
    fence = behind.unique()
    # As a claim that was granted some time ago, of which the worker has not heard.
    behind.unique = lambda: fence  # type: ignore[method-assign]
    first = await claimed(behind, "t")
    await store.redis.zadd(keys.LEASES, {"t": await store.redis.zscore(keys.LEASES, "t") - 8000})
    assert await left_s(store, "t") < 2
    before_ms = await server_ms(store)
    assert await claimed(behind, "t") == first
    assert await store.redis.zscore(keys.LEASES, "t") >= before_ms + 1000 * LEASE_S


async def test_a_grant_for_a_remote_worker_that_got_lost_is_asked_for_again(
    store: TaskStore, proxy: FlakyProxy, valkey_url: str
) -> None:
    url = proxy.url.replace("http:", "redis:") + "/" + valkey_url.rsplit("/", 1)[1]
    # As in the API: its patience ends before a silent connection is given up.
    async with TaskStore(url, Settings(lease=LEASE_S).store) as impatient:
        given: list[Claim] = []
        working = WorkerConnection("w", "gpu", "somewhere", 0, send=nothing, buffer=10, heard_at=0, ready=True)
        workers = GroupWorkers(
            "gpu",
            RemoteTasks(impatient, "here"),
            give=lambda _, grant: given.append(grant.claim),
            return_=lambda grant: given.append(grant.claim),
            lease_s=LEASE_S,
        )
        workers.connections.add(working)
        workers.update(working)
        # The connection that claims go over is open.
        assert await impatient.call("time_out", "nobody") == ""
        await store.submit(Submission("t", "remote", group="gpu", delivery=Delivery.REMOTE, max_retries=0))
        proxy.mute_all()
        muted_ms = await server_ms(store)
        workers.wake()
        await eventually(lambda: given, because="the grant that got lost is there")
        assert (await store.get("t")).attempt == 1
        # The lease of the first grant would end earlier.
        assert await store.redis.zscore(keys.LEASES, "t") > muted_ms + 1000 * LEASE_S + 500
        await impatient.complete(given[0], "1")


async def nothing(_: object) -> None:
    """Send no message: no task is given."""


async def test_what_runs_stays_its_workers_while_connections_go_silent_again_and_again(
    tmp_path: Path, store: TaskStore, proxy: FlakyProxy, valkey_url: str
) -> None:
    url = proxy.url.replace("http:", "redis:") + "/" + valkey_url.rsplit("/", 1)[1]
    async with workers_on(tmp_path, url) as workers:
        worker = await workers.start(store, lease=LEASE_S)
        ids = [await submit(store, "sleeps", {"s": 600}, max_retries=0) for _ in range(20)]
        for task_id in ids:
            await runs(store, task_id)
        for _ in range(3):
            renewed = {task_id: await store.redis.zscore(keys.LEASES, task_id) for task_id in ids}
            proxy.silence_all()
            for task_id, before in renewed.items():

                async def held(task_id: str = task_id, before: float = before) -> bool:
                    now = await store.redis.zscore(keys.LEASES, task_id)
                    assert now is not None, (await store.get(task_id), worker.said())
                    return bool(now > before)

                await eventually(held, because="its lease is renewed over another connection")
        for task_id in ids:
            task = await store.get(task_id)
            assert (task.status, task.attempt) == (Status.PROCESSING, 1)
