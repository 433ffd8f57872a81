"""Tasks that are nodes of a workflow: how one begins, and what the changes of its tasks do to it; on a real server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from celeriac.errors import NodeExistsError, TaskNotFoundError
from celeriac.model import Claim, Dependency, Failure, NodeDependency, NodeOrders, Status, Submission, When
from celeriac.store import keys
from celeriac.store.task_store import TaskStore


async def spawn(store: TaskStore, task_id: str, parent: str, name: str, **more: Any) -> Status:
    orders = NodeOrders(spawned_by=parent)
    return (await store.submit(Submission(task_id=task_id, type="demo", node=name, as_node=orders, **more))).status


async def join(store: TaskStore, task_id: str, workflow: str, node: str, **orders: Any) -> None:
    await store.submit(
        Submission(task_id=task_id, type="demo", workflow_id=workflow, node=node, as_node=NodeOrders(**orders))
    )


async def claim(store: TaskStore, task_id: str) -> Claim:
    found = await store.claim(task_id, worker="w")
    assert isinstance(found, Claim)
    return found


async def record(store: TaskStore, workflow: str) -> dict[str, str]:
    return dict(await store.redis.hgetall(keys.workflow(workflow)))


async def nodes(store: TaskStore, workflow: str) -> dict[str, Any]:
    found = await store.redis.hgetall(keys.workflow_nodes(workflow))
    return {name: json.loads(text) for name, text in found.items()}


async def states(store: TaskStore, workflow: str) -> dict[str, str]:
    found = await store.redis.hgetall(keys.workflow_states(workflow))
    return {name: text.split("\n")[0] for name, text in found.items()}


async def test_a_task_that_spawns_another_one_begins_a_workflow_with_both(store: TaskStore) -> None:
    await store.submit(Submission(task_id="p", type="report", user_id="7"))
    parent = await claim(store, "p")
    await spawn(store, "c", "p", "x", user_id="7")
    task = await store.get("c")
    assert (task.workflow_id, task.node) == ("p", "report/x")
    assert ((await store.get("p")).workflow_id, (await store.get("p")).node) == ("p", "report")
    assert await states(store, "p") == {"report": "PROCESSING", "report/x": "PENDING"}
    found = await record(store, "p")
    assert (found["name"], found["status"], found["user_id"]) == ("report", "RUNNING", "7")

    await store.complete(parent, "1")
    child = await claim(store, "c")
    assert (child.workflow_id, child.node) == ("p", "report/x")
    assert (await record(store, "p"))["status"] == "RUNNING"
    await spawn(store, "g", "c", "y")
    assert (await store.get("g")).node == "report/x/y", "a child spawns below its own node"
    await store.complete(child, "1")
    await store.complete(await claim(store, "g"), "1")
    found = await record(store, "p")
    assert (found["status"], found["n:COMPLETED"], "finished_ms" in found) == ("COMPLETED", "3", True)
    for key in (keys.workflow, keys.workflow_nodes, keys.workflow_states, keys.workflow_events):
        assert await store.redis.pttl(key("p")) > 0, key


async def test_a_second_attempt_that_spawns_again_adds_nothing(store: TaskStore) -> None:
    await store.submit(Submission(task_id="p", type="report"))
    await claim(store, "p")
    await spawn(store, "c", "p", "x")
    before = await record(store, "p")
    await spawn(store, "c", "p", "x")
    assert await record(store, "p") == before
    assert len(await nodes(store, "p")) == 2
    with pytest.raises(NodeExistsError):
        await spawn(store, "d", "p", "x")
    with pytest.raises(TaskNotFoundError):
        await spawn(store, "d", "nobody", "x")


async def test_nodes_of_one_name_are_numbered_where_that_is_wanted(store: TaskStore) -> None:
    for task_id in ("a", "b", "c"):
        await join(store, task_id, "w", "add", numbered=True, workflow_name="sum")
    await join(store, "d", "w", "body", after=[NodeDependency("add"), NodeDependency("add#2", When.ENDED)])
    assert {name: node["task_id"] for name, node in (await nodes(store, "w")).items()} == {
        "add": "a", "add#2": "b", "add#3": "c", "body": "d",
    }  # fmt: skip
    assert (await nodes(store, "w"))["body"]["after"] == [["add", "completed"], ["add#2", "ended"]]
    assert (await record(store, "w"))["name"] == "sum"


async def test_a_node_names_the_parents_in_its_workflow(store: TaskStore) -> None:
    await store.submit(Submission(task_id="other", type="demo"))
    await join(store, "a", "w", "first")
    await store.submit(
        Submission(
            task_id="b",
            type="demo",
            workflow_id="w",
            node="second",
            depends_on=[Dependency("a", When.ENDED), Dependency("other")],
        )
    )
    assert (await nodes(store, "w"))["second"]["after"] == [["first", "ended"]]
    await store.complete(await claim(store, "a"), '"r"')
    parents = await store.parents([Dependency("a")])
    assert (parents["a"].workflow_id, parents["a"].node) == ("w", "first")


@pytest.mark.parametrize(
    ("ends", "status"),
    [
        ({"a": "complete", "b": "complete"}, "COMPLETED"),
        ({"a": "complete", "b": "fail"}, "FAILED"),
        ({"a": "cancel", "b": "complete"}, "FAILED"),
        ({"a": "expire", "b": "complete"}, "FAILED"),
    ],
)
async def test_a_workflow_ends_with_its_last_node(store: TaskStore, ends: dict[str, str], status: str) -> None:
    for task_id in ends:
        await join(store, task_id, "w", task_id)
    for task_id, end in ends.items():
        assert (await record(store, "w"))["status"] == "RUNNING"
        if end == "cancel":
            await store.cancel(task_id)
        elif end == "expire":
            await store.redis.hset(keys.task(task_id), "expires_ms", 1)
            await store.claim(task_id, worker="w")
        elif end == "fail":
            await store.fail(await claim(store, task_id), Failure("broken", "it broke", retryable=False), 0)
        else:
            await store.complete(await claim(store, task_id), "1")
    assert (await record(store, "w"))["status"] == status


async def test_a_handler_of_failures_that_is_not_needed_does_not_fail_its_workflow(store: TaskStore) -> None:
    await join(store, "a", "w", "build")
    await store.submit(
        Submission(task_id="b", type="demo", workflow_id="w", node="clean", depends_on=[Dependency("a", When.FAILED)])
    )
    await store.complete(await claim(store, "a"), "1")
    assert (await store.get("b")).status is Status.CANCELLED
    found = await record(store, "w")
    assert (found["status"], found["unmet"]) == ("COMPLETED", "1")


async def test_a_node_that_is_run_again_opens_its_workflow_again(store: TaskStore) -> None:
    await join(store, "a", "w", "only")
    await store.fail(await claim(store, "a"), Failure("broken", "it broke", retryable=False), 0)
    assert (await record(store, "w"))["status"] == "FAILED"
    await store.retry("a")
    found = await record(store, "w")
    assert (found["status"], found["n:FAILED"], found["n:PENDING"], "finished_ms" in found) == (
        "RUNNING",
        "0",
        "1",
        False,
    )
    assert await store.redis.pttl(keys.workflow("w")) == -1
    await store.complete(await claim(store, "a"), "1")
    events = [fields for _, fields in await store.redis.xrange(keys.workflow_events("w"))]
    assert events[0] == {"kind": "begin"}
    assert [event["status"] for event in events[1:]] == [
        *("PENDING", "PROCESSING", "FAILED", "FAILED"),
        *("PENDING", "PROCESSING", "COMPLETED", "COMPLETED"),
    ]
    assert [event["kind"] for event in events].count("done") == 2


async def test_a_deleted_node_stays_in_its_workflow(store: TaskStore) -> None:
    await store.submit(Submission(task_id="a", type="demo", user_id="7", workflow_id="w", node="only"))
    await store.complete(await claim(store, "a"), "1")
    await store.remove("a", user_id="7")
    assert await states(store, "w") == {"only": "COMPLETED"}
    assert (await record(store, "w"))["status"] == "COMPLETED"


async def test_a_lost_worker_and_a_retry_show_in_the_workflow(store: TaskStore) -> None:
    await join(store, "a", "w", "only")
    first = await claim(store, "a")
    assert await store.fail(first, Failure("broken", "it broke", retryable=True), 60_000) is Status.RETRYING
    assert await states(store, "w") == {"only": "RETRYING"}
    state = (await store.redis.hget(keys.workflow_states("w"), "only")).split("\n")
    assert state[3:] == ["1", "broken", "it broke"]
