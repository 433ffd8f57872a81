"""Random graphs with steps, sleeps, signals and children, while everything is killed: all ends as the graph says."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from tests.kit.chaos.running_platform import RunningPlatform, final_states
from tests.kit.chaos.workflow_types import STEPS
from tests.kit.waiting import eventually

pytestmark = pytest.mark.timeout(400)

_WORKFLOWS = 5
_NODES = 16
_KILLS = 10
_WHO_IS_KILLED = ("worker", "api", "beat", "valkey-server")


@pytest.fixture
async def platform(tmp_path: Path) -> AsyncIterator[RunningPlatform]:
    running = RunningPlatform(
        tmp_path,
        {
            "imports": ["tests.kit.chaos.workflow_types"],
            "up": {"workers": 2},
            # Each sleep is one that holds no worker.
            "worker": {"suspend_after": 0, "threads": 8},
        },
    )
    await running.start()
    yield running
    running.stop()


def _random_graph(chance: random.Random, marks: Path) -> dict[str, dict[str, Any]]:
    """Return nodes, each after some of those before it."""
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("chaos.quick", {}),
        ("chaos.quick", {"fails": True}),
        ("chaos.steps", {"marks": str(marks)}),
        ("chaos.steps_in_thread", {"marks": str(marks)}),
        ("chaos.calls", {}),
        ("sleep", {"for": "300ms"}),
        ("wait", {"signal": "go", "timeout": "2m"}),
    ]
    nodes: dict[str, dict[str, Any]] = {}
    for number in range(_NODES):
        task_type, payload = chance.choice(kinds)
        after = [
            {"node": before, "when": chance.choice(["completed", "completed", "ended", "failed"])}
            for before in chance.sample(sorted(nodes), min(len(nodes), chance.randrange(4)))
        ]
        on_unmet = chance.choice(["cancel", "cancel", "run", "fail"])
        node: dict[str, Any] = {"type": task_type, "payload": payload}
        nodes[f"n{number}"] = {**node, "after": after, "on_unmet": on_unmet} if after else node
    return nodes


def _expected(nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return how each node ends, by the rules of docs/tasks.md."""
    ends: dict[str, str] = {}
    for name, node in nodes.items():
        met = {
            "completed": lambda end: end == "completed",
            "failed": lambda end: end == "failed",
            "ended": lambda end: True,
        }
        unmet = any(not met[one["when"]](ends[one["node"]]) for one in node.get("after", ()))
        if unmet and node["on_unmet"] != "run":
            ends[name] = "cancelled" if node["on_unmet"] == "cancel" else "failed"
        else:
            ends[name] = "failed" if node["payload"].get("fails") else "completed"
    return ends


async def _until_answered(client: httpx.AsyncClient, method: str, path: str, **request: Any) -> httpx.Response:
    """Send a request until an API that lives answers that it was accepted, or that nothing is to be done."""

    async def answered() -> httpx.Response | None:
        try:
            answer = await client.request(method, path, **request)
        except httpx.TransportError:
            return None
        return answer if answer.status_code != 503 else None

    found: httpx.Response = await eventually(answered, because=f"{path} is answered", timeout_s=60)
    return found


async def _answer_all_waits(client: httpx.AsyncClient) -> None:
    """Send the signal `go` to whoever waits for it, for ever."""
    while True:
        with suppress(httpx.TransportError):
            for wait in (await client.get("/api/v1/waits", params={"limit": 100})).json().get("items", ()):
                await client.post(f"/api/v1/tasks/{wait['task_id']}/signals/go", json="went")
        await asyncio.sleep(0.2)


async def _kill_one_after_another(platform: RunningPlatform, chance: random.Random) -> None:
    for _ in range(_KILLS):
        await asyncio.sleep(chance.uniform(0.5, 2))
        with suppress(ProcessLookupError):  # it has not been started again yet
            platform.kill(chance.choice(_WHO_IS_KILLED))


@pytest.mark.parametrize("seed", [1, 2])
async def test_random_graphs_end_as_they_say_whatever_is_killed(
    platform: RunningPlatform, tmp_path: Path, seed: int
) -> None:
    chance, marks = random.Random(seed), tmp_path / "marks"
    marks.touch()
    async with platform.client() as client:
        graphs = [_random_graph(chance, marks) for _ in range(_WORKFLOWS)]
        helping = [
            asyncio.create_task(_answer_all_waits(client)),
            asyncio.create_task(_kill_one_after_another(platform, chance)),
        ]
        accepted: list[tuple[str, dict[str, dict[str, Any]]]] = []
        for number, nodes in enumerate(graphs):
            answer = await _until_answered(
                *(client, "POST", "/api/v1/workflows"),
                json={"name": f"random-{seed}-{number}", "nodes": nodes},
                headers={"Idempotency-Key": f"{seed}-{number}"},
            )
            assert answer.status_code in (200, 202), answer.text
            accepted.append((answer.json()["workflow_id"], nodes))
            await asyncio.sleep(0.5)

        async def ended(workflow_id: str) -> dict[str, Any] | None:
            found = (await _until_answered(client, "GET", f"/api/v1/workflows/{workflow_id}")).json()
            return found if found["status"] != "running" else None

        ends = [
            await eventually(lambda one=one: ended(one), because=f"{one} ends", timeout_s=150, interval_s=0.3)
            for one, _ in accepted
        ]
        await helping[1]
        helping[0].cancel()
        for (_, nodes), found in zip(accepted, ends, strict=True):
            expected = _expected(nodes)
            assert {name: found["nodes"][name]["status"] for name in nodes} == expected
            assert found["status"] == ("failed" if "failed" in expected.values() else "completed")
            _assert_in_order(nodes, found["nodes"])
        await _assert_that_no_step_ran_again(client, ends, marks.read_text())
    async with platform.store() as store:
        tasks = [node["task_id"] for found in ends for node in found["nodes"].values()]
        assert {tuple(await final_states(store, task)) for task in tasks} <= {
            ("COMPLETED",), ("FAILED",), ("CANCELLED",)
        }  # fmt: skip
        await eventually(lambda: _nothing_is_held(store), because="no slot, lease or wait is held by what has ended")


def _assert_in_order(nodes: Mapping[str, Mapping[str, Any]], found: Mapping[str, Mapping[str, Any]]) -> None:
    for name, node in nodes.items():
        for one in node.get("after", ()):
            started = found[name]["started_at"]
            if started is not None:
                assert found[one["node"]]["finished_at"] <= started, f"{name} started before {one['node']} had ended"


async def _assert_that_no_step_ran_again(client: httpx.AsyncClient, ends: list[dict[str, Any]], marks: str) -> None:
    """Compare what steps left behind with what is stored: a run may be lost, but none begins after its end is kept."""
    runs: dict[tuple[str, str], list[tuple[float, str]]] = defaultdict(list)
    for line in marks.splitlines():
        task_id, name, at, value = line.split()
        runs[task_id, name].append((float(at), value))
    counted: Counter[str] = Counter()
    for found in ends:
        for node in found["nodes"].values():
            if node["status"] != "completed" or not node["type"].startswith("chaos.steps"):
                continue
            stored = (await _until_answered(client, "GET", f"/api/v1/tasks/{node['task_id']}/steps")).json()["items"]
            assert len(stored) == (STEPS if node["type"] == "chaos.steps" else 2)
            record = (await _until_answered(client, "GET", f"/api/v1/tasks/{node['task_id']}")).json()
            for step in stored:
                ran = runs[node["task_id"], step["name"]]
                assert step["result"] in [value for _, value in ran]
                assert step["result"] in record["result"]
                # The clock of the store has milliseconds.
                noted = datetime.fromisoformat(step["finished_at"]).timestamp() + 0.002
                assert max(at for at, _ in ran) <= noted, f"{step['name']} of {node['task_id']} ran again"
                counted[node["type"]] += 1
    assert counted, "no graph had steps that ended"


async def _nothing_is_held(store: TaskStore) -> bool:
    return not any([await store.redis.zcard(key) for key in (keys.LEASES, keys.SUSPENDED, keys.WAITS)])
