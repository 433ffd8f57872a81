"""A worker of all groups: it lets go of idle ones, hears of new ones at once, and no number of names delays others."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from tests.kit.waiting import eventually
from tests.kit.workers.engine_workers import Workers, ended, submit


async def took_s(store: TaskStore, group: str) -> float:
    """Return how long a task of a group waited for its start, by the store's clock."""
    task = await ended(store, await submit(store, "noop", group=group), timeout_s=60)
    assert task.started_at is not None
    return (task.started_at - task.created_at).total_seconds()


async def test_an_idle_group_is_let_go_of_and_its_next_task_is_heard_of_at_once(
    workers: Workers, store: TaskStore
) -> None:
    # It looks once an hour: all that it hears of later was told to it.
    await workers.start(store, group_idle=0.5, worker__follow_interval=3600, groups={"configured": {}})
    await took_s(store, "default")

    async def asleep() -> bool:
        return not await store.redis.sismember(keys.AWAKE, "guest")

    for _ in range(3):
        await took_s(store, "guest")
        await eventually(asleep, because="nothing waits there")
    (worker,) = await store.workers()
    assert worker.follows
    assert {"default", "configured"} <= set(worker.groups)
    # It serves every group, also one that sleeps.
    assert (await store.group("guest")).workers == 1


async def test_a_guest_that_idles_is_not_shown_any_more(workers: Workers, store: TaskStore, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    await workers.start(store, group_idle=0.3, worker__follow_interval=0.2)

    async def shown(yes: bool) -> None:
        async def so() -> bool:
            return ("guest" in (await store.workers())[0].groups) is yes

        await eventually(so, because=f"it is shown: {yes}")

    running = await submit(store, "add_sync", {"numbers": [1], "gate": str(gate)}, group="guest")
    await shown(True)
    gate.touch()
    await ended(store, running)
    await shown(False)


async def test_thousands_of_names_delay_no_other_task(workers: Workers, store: TaskStore) -> None:
    async def waiting() -> int:
        return sum(await store.read(*(("ZCARD", keys.waiting(f"g{number}")) for number in range(1500))))

    await workers.start(store, "--concurrency", "20")
    await took_s(store, "default")
    quiet = sorted([await took_s(store, "default") for _ in range(5)])[2]
    while True:
        flood = [submit(store, "noop", group=f"g{number}") for number in range(1500)]
        await asyncio.gather(*flood)
        busy = sorted([await took_s(store, "default") for _ in range(5)])[2]
        if await waiting() > 0:
            # The others still waited meanwhile; all may have run if this process stood still.
            break
    # Before, it waited for a turn of all of them.
    assert busy < max(100 * quiet, 3.0)

    async def drained() -> bool:
        return await waiting() == 0

    began = time.monotonic()
    await eventually(drained, because="each of them has its turn too", timeout_s=120, interval_s=0.5)
    print(f"1,500 groups took {time.monotonic() - began:.1f} s; default waited {busy:.3f} s, alone {quiet:.3f} s")
