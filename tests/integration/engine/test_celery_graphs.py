"""Celery's canvas as graphs: chains, groups and chords are workflows, and the body of a failed chord is cancelled."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from celeriac.errors import InvalidSubmissionError
from celeriac.model import Status
from celeriac.settings import Settings
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from tests.kit.waiting import eventually
from tests.kit.workers.celery_processes import BOTH, evaluate, publish, publish_chain
from tests.kit.workers.engine_workers import Workers, ended, workers_on_a_server

MODULE = "tests.kit.workers.celery_plain"
ADD, TOTAL, BREAKS = f"{MODULE}.add", f"{MODULE}.total_of", f"{MODULE}.breaks"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def workers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workers]:
    """One server and one worker for all tests of this file."""
    async with workers_on_a_server(tmp_path_factory.mktemp("graphs")) as (started, store):
        worker = await started.start(store, **BOTH)
        yield started
        assert worker.alive, worker.said()


@pytest.fixture
async def store(workers: Workers) -> AsyncIterator[TaskStore]:
    async with TaskStore(workers.redis_url, Settings().store) as connected:
        yield connected


@dataclass
class Graph:
    """A workflow as the store has it: its record, and by node the task, the names that it comes after, the status."""

    record: dict[str, str]
    tasks: dict[str, str]
    after: dict[str, list[str]]
    status: dict[str, str]
    conditions: set[str]


async def graph(store: TaskStore, workflow: str) -> Graph:
    # All of one moment: a record that has ended beside a status from before would be nothing that ever was.
    async with store.redis.pipeline(transaction=True) as pipe:
        for key in (keys.workflow(workflow), keys.workflow_nodes(workflow), keys.workflow_states(workflow)):
            pipe.hgetall(key)
        record, nodes, states = await pipe.execute()
    found = {name: json.loads(text) for name, text in nodes.items()}
    return Graph(
        record,
        {name: node["task_id"] for name, node in found.items()},
        {name: [one for one, _ in node["after"]] for name, node in found.items()},
        {name: text.split("\n")[0] for name, text in states.items()},
        {when for node in found.values() for _, when in node["after"]},
    )


async def whole(store: TaskStore, workflow: str, status: str, nodes: int) -> Graph:
    """Return the graph once it has ended with so many nodes."""

    async def done() -> Graph | None:
        seen = await graph(store, workflow)
        return seen if (seen.record.get("status"), len(seen.tasks)) == (status, nodes) else None

    found = await eventually(done, because=f"the workflow {workflow} ends: {await graph(store, workflow)}")
    assert found is not None
    for node, task_id in found.tasks.items():
        task = await store.get(task_id)
        assert (task.workflow_id, task.node) == (workflow, node)
        assert found.status[node] == task.status.stored
    return found


async def known(store: TaskStore, task_id: str) -> bool:
    return (await store.known([task_id]))[0]


async def workflow_of(store: TaskStore, task_id: str) -> str:
    await eventually(lambda: known(store, task_id), because="its turn comes")
    workflow = (await ended(store, task_id)).workflow_id
    assert workflow is not None
    return workflow


async def test_a_chain_is_a_workflow_with_the_id_of_its_first_task(workers: Workers, store: TaskStore) -> None:
    ids = await publish_chain(workers, "add.s(1, 2) | add.s(10) | total_of.si([1])")
    found = await whole(store, ids[0], "COMPLETED", 3)
    assert found.tasks == {ADD: ids[0], f"{ADD}#2": ids[1], TOTAL: ids[2]}
    assert found.after == {ADD: [], f"{ADD}#2": [ADD], TOTAL: [f"{ADD}#2"]}
    assert found.record["name"] == ADD


async def test_a_plain_call_and_an_end_of_a_task_with_an_errback_are_no_workflows(
    workers: Workers, store: TaskStore
) -> None:
    plain, watched = await publish(workers, "add.delay(1)", "add.apply_async((1,), link_error=note_failure.s())")
    for task_id in (plain, watched):
        task = await ended(store, task_id)
        assert (task.workflow_id, task.node) == (None, None)


async def test_a_group_is_a_workflow(workers: Workers, store: TaskStore) -> None:
    (group,) = await evaluate(workers, "group(add.s(n) for n in range(3)).apply_async().id")
    found = await whole(store, group, "COMPLETED", 3)
    assert found.after == {ADD: [], f"{ADD}#2": [], f"{ADD}#3": []}


async def test_the_body_of_a_chord_comes_after_all_of_its_header(workers: Workers, store: TaskStore) -> None:
    (body,) = await publish(workers, "chord([add.s(n, 1, 0.2) for n in range(4)])(total_of.s())")
    workflow = await workflow_of(store, body)
    found = await whole(store, workflow, "COMPLETED", 5)
    header = [ADD, f"{ADD}#2", f"{ADD}#3", f"{ADD}#4"]
    assert found.after == {**{name: [] for name in header}, TOTAL: header}
    assert found.tasks[TOTAL] == body
    assert "finished_ms" in found.record


async def test_a_chain_of_all_kinds_is_one_graph(workers: Workers, store: TaskStore) -> None:
    chained = "chain(add.s(1), group(add.s(1), add.s(2)), total_of.s(), group(add.s(5), chain(add.s(6), add.s(7))))"
    (first,) = await evaluate(workers, f"({chained}).apply_async().parent.parent.parent.id")
    found = await whole(store, first, "COMPLETED", 7)
    assert found.after == {
        ADD: [],
        f"{ADD}#2": [ADD],
        f"{ADD}#3": [ADD],
        TOTAL: [f"{ADD}#2", f"{ADD}#3"],
        f"{ADD}#4": [TOTAL],
        f"{ADD}#5": [TOTAL],
        f"{ADD}#6": [f"{ADD}#5"],
    }
    assert found.conditions == {"completed"}


@pytest.mark.parametrize(
    ("expression", "after"),  # by name: how many nodes each one comes after
    [
        ("group(CHAINS).apply_async().id", {ADD: [0, 0, 1, 1]}),
        ("chord([CHAINS], total_of.s()).apply_async().parent.id", {ADD: [0, 0, 1, 1], TOTAL: [2]}),
        (
            "chord([chord([add.s(1), add.s(2)], total_of.s()), add.s(4)], total_of.s()).apply_async().parent.id",
            {ADD: [0, 0, 0], TOTAL: [2, 2]},
        ),
        (
            "group(chain(chord([add.s(1), add.s(2)], total_of.s()), add.s(7)), add.s(4)).apply_async().id",
            {ADD: [0, 0, 0, 1], TOTAL: [2]},
        ),
    ],
)
async def test_what_is_nested_belongs_to_the_outermost_group(
    workers: Workers, store: TaskStore, expression: str, after: dict[str, list[int]]
) -> None:
    chains = "chain(add.s(1), add.s(2)), chain(add.s(3), add.s(4))"
    (group,) = await evaluate(workers, expression.replace("CHAINS", chains))
    found = await whole(store, group, "COMPLETED", sum(map(len, after.values())))
    counted: dict[str, list[int]] = {}
    for node, before in found.after.items():
        counted.setdefault(node.partition("#")[0], []).append(len(before))
    assert {name: sorted(counts) for name, counts in counted.items()} == after


async def test_a_callback_follows_its_task(workers: Workers, store: TaskStore) -> None:
    (first,) = await publish(workers, "add.apply_async((1,), link=[add.s(2), add.s(3)])")
    found = await whole(store, first, "COMPLETED", 3)
    assert found.after == {ADD: [], f"{ADD}#2": [ADD], f"{ADD}#3": [ADD]}


async def test_a_canvas_that_a_handler_publishes_is_below_its_task(workers: Workers, store: TaskStore) -> None:
    (parent,) = await publish(workers, "publishes_canvas.delay(2)")
    found = await whole(store, parent, "COMPLETED", 6)
    own = f"{MODULE}.publishes_canvas"
    assert found.tasks[own] == parent
    assert found.after[f"{own}/{TOTAL}"] == [f"{own}/{ADD}", f"{own}/{ADD}#2"]
    assert found.after[f"{own}/{ADD}#3"] == []
    assert found.after[f"{own}/{ADD}#4"] == [f"{own}/{ADD}#3"]


@pytest.mark.parametrize(
    ("expression", "after"),
    [
        ("chord([add.s(1), breaks.s('odd')], total_of.s())", {TOTAL: {ADD, BREAKS}}),
        ("chord([breaks.s('odd'), add.s(1, 1, 0.5)], total_of.s())", {TOTAL: {ADD, BREAKS}}),
        ("chord([chain(breaks.s('odd'), add.si(1)), add.s(1)], total_of.s())", {TOTAL: {ADD, f"{ADD}#2"}}),
        ("chord([chain(breaks.s('odd'), add.si(1)), add.s(1, 1, 1)], total_of.s())", {TOTAL: {ADD, f"{ADD}#2"}}),
        ("chord([add.s(1), breaks.s('odd')], total_of.s() | add.s(1))", {f"{ADD}#2": {ADD, BREAKS}}),
        (
            "chord([add.s(1), breaks.s('odd')], group(total_of.s(), total_of.s()))",
            {TOTAL: {ADD, BREAKS}, f"{TOTAL}#2": {ADD, BREAKS}},
        ),
    ],
)
async def test_a_header_that_failed_cancels_the_body(
    workers: Workers, store: TaskStore, expression: str, after: dict[str, set[str]]
) -> None:
    ((state, text, *ids),) = await evaluate(
        workers,
        "(lambda r: [str(r.get(timeout=30, propagate=False)), r.state if hasattr(r, 'state') else '',"
        f" *(one.id for one in [*links_of(r), *getattr(r, 'results', [])])])({expression}.apply_async())",
    )
    assert text in ("FAILURE", ""), "Celery says what it always said"
    assert "odd" in state

    async def body() -> str | None:
        found = await store.known(ids)
        return next((task_id for task_id, is_known in zip(ids, found, strict=True) if is_known), None)

    found_body = await eventually(body, because="the body gets a record")
    assert found_body is not None
    workflow = await workflow_of(store, found_body)
    found = await whole(store, workflow, "FAILED", 2 + len(after) + ("chain" in expression))
    for body, before in after.items():
        task = await store.get(found.tasks[body])
        assert task.status is Status.CANCELLED
        assert task.error is not None
        assert task.error.code == "dependency_failed"
        # Where the task that failed ends last, the body is published at its end, and so comes after it too.
        assert before <= set(found.after[body]) <= before | {BREAKS}
        assert any(task_id in task.error.message for task_id in (*found.tasks.values(),))
        with pytest.raises(InvalidSubmissionError, match="publish the chord again"):
            await store.retry(task.task_id)


async def test_an_errback_comes_after_the_end_of_the_task_that_failed(workers: Workers, store: TaskStore) -> None:
    chained = "chain(breaks.s('odd').set(link_error=note_failure.s()), add.s(1))"
    (first,) = await evaluate(workers, f"({chained}).apply_async().parent.id")
    found = await whole(store, first, "FAILED", 2)
    assert found.after == {f"{MODULE}.breaks": [], f"{MODULE}.note_failure": [f"{MODULE}.breaks"]}
    assert found.conditions == {"ended"}


async def test_a_long_chain_and_a_wide_chord(workers: Workers, store: TaskStore) -> None:
    (body, first) = await evaluate(
        workers,
        "chord([add.si(n) for n in range(300)], total_of.s()).apply_async().id",
        "links_of(chain(add.si(n) for n in range(100)).apply_async())[-1].id",
    )
    wide = await whole(store, await workflow_of(store, body), "COMPLETED", 301)
    assert wide.after[TOTAL] == [ADD, *(f"{ADD}#{number}" for number in range(2, 301))]
    long = await whole(store, first, "COMPLETED", 100)
    assert long.after[f"{ADD}#100"] == [f"{ADD}#99"]


async def test_a_workflow_that_is_full_takes_no_further_calls_as_nodes(
    workers: Workers, store: TaskStore, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with workers_on_a_server(tmp_path_factory.mktemp("full")) as (started, other):
        few = {**BOTH, "workflows__max_nodes": 2}
        await started.start(other, **few)
        ids = await publish_chain(started, "add.s(1) | add.s(1) | add.s(1) | add.s(1)", workflows__max_nodes=2)
        nodes = [(await ended(other, task_id)).node for task_id in ids]
        assert nodes == [ADD, f"{ADD}#2", None, None]
