"""A workflow is accepted at once and stored in steps: what happens if the process dies between two of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from celeriac.model import Claim, NodeDependency, NodeOrders, Status, Submission, When, WorkflowStatus
from celeriac.model import Dependency as Depends
from celeriac.store import keys
from celeriac.store.roles.promoter import Promoter
from celeriac.store.task_store import TaskStore
from celeriac.store.workflows import NewWorkflow, PlannedNode, WorkflowStore


class _Dies(WorkflowStore):
    """A process that dies after the first step."""

    async def go_on(self, workflow_id: str = "") -> None:
        """Do nothing."""


def planned(names: list[str], after: dict[str, list[str]], **fields: Any) -> list[PlannedNode]:
    nodes = []
    for name in names:
        held = sum(name in before for before in after.values())
        nodes.append(
            PlannedNode(
                Submission(
                    task_id=f"id-{name}",
                    type="demo",
                    workflow_id="w",
                    node=name,
                    depends_on=[Depends(f"id-{one}") for one in after.get(name, [])],
                    as_node=NodeOrders(held=held),
                    **fields,
                ),
                [NodeDependency(one, When.COMPLETED) for one in after.get(name, [])],
                [],
            )
        )
    return nodes


NEW = NewWorkflow("test", None, {}, None)


async def steer(store: TaskStore) -> int:
    """Let a promoter go on until nothing is left; returns its steps."""
    promoter = Promoter(store=store)
    for step in range(200):
        if await promoter.step() > 0:
            return step
    raise AssertionError("the promoter does not come to an end")


async def run(store: TaskStore, task_id: str) -> None:
    claim = await store.claim(task_id, worker="w")
    assert isinstance(claim, Claim), claim
    await store.complete(claim, f'"{task_id}"')


async def test_promoters_store_what_a_dead_process_has_not(store: TaskStore) -> None:
    names = [f"n{number}" for number in range(1000)]
    after = {name: [names[place]] for place, name in enumerate(names[1:])}
    workflows = _Dies(store)
    assert await workflows.plan("w", planned(names, after), NEW) == "w"
    left = await store.redis.llen(keys.workflow_plan("w"))
    assert 0 < left < 1000, "one step stores some of them"
    found = await workflows.get("w")
    assert (found.status, found.counts) == (WorkflowStatus.RUNNING, {Status.PENDING: 1, Status.WAITING: 999})
    assert await steer(store) > 1
    assert await store.redis.exists(keys.workflow_plan("w"), keys.STEERING) == 0
    assert (await workflows.get("w")).counts == {Status.PENDING: 1, Status.WAITING: 999}
    assert all(await store.known([f"id-{name}" for name in names]))


async def test_a_node_that_ends_before_its_followers_are_stored_is_kept_for_them(store: TaskStore) -> None:
    names = ["first", *(f"n{number}" for number in range(998)), "last"]
    after = {name: ["first"] for name in names[1:]}
    workflows = _Dies(store)
    await workflows.plan("w", planned(names, after, retention_ms=1), NEW)
    await run(store, "id-first")
    stored = 999 - await store.redis.llen(keys.workflow_plan("w"))
    assert 0 < stored < 999
    await asyncio.sleep(0.05)
    await steer(store)
    assert (await workflows.get("w")).counts == {Status.COMPLETED: 1, Status.PENDING: 999}
    for name in names[1:]:
        await run(store, f"id-{name}")
    assert (await workflows.get("w")).status is WorkflowStatus.COMPLETED
    await asyncio.sleep(0.05)
    assert not any(await store.known([f"id-{name}" for name in names])), "nothing is kept for longer than it may be"


async def test_a_workflow_is_cancelled_that_is_not_all_stored(store: TaskStore) -> None:
    names = [f"n{number}" for number in range(1000)]
    workflows = _Dies(store)
    await workflows.plan("w", planned(names, {}), NEW)
    await workflows.cancel("w")
    assert (await workflows.get("w")).status is WorkflowStatus.RUNNING
    await steer(store)
    found = await workflows.get("w")
    assert (found.status, found.counts) == (WorkflowStatus.CANCELLED, {Status.CANCELLED: 1000})
    assert await store.redis.exists(keys.workflow_orders("w"), keys.STEERING) == 0
    await workflows.retry("w", [f"id-{name}" for name in names])
    await steer(store)
    assert (await workflows.get("w")).counts == {Status.PENDING: 1000}


async def test_a_node_that_is_spawned_in_a_cancelled_workflow_is_cancelled(store: TaskStore) -> None:
    workflows = WorkflowStore(store)
    await workflows.plan("w", planned(["a"], {}), NEW)
    await store.claim("id-a", worker="w")
    await workflows.cancel("w")
    spawned = Submission(task_id="c", type="demo", node="x", as_node=NodeOrders(spawned_by="id-a"))
    await store.submit(spawned)
    await steer(store)
    assert (await store.get("c")).status is Status.CANCELLED
    assert (await store.get("id-a")).cancel_requested


async def test_a_repeated_plan_is_the_same_one(store: TaskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first answer may have been lost."""
    monkeypatch.setattr(store, "unique", lambda: "nonce")
    workflows = WorkflowStore(store)
    for _ in range(2):
        assert await workflows.plan("w", planned(["a"], {}), NEW) == "w"
    added = planned(["b"], {})
    for _ in range(2):
        assert await workflows.plan("w", added, None) == "w"
    assert (await workflows.get("w")).counts == {Status.PENDING: 2}
