"""Answers are bounded in bytes (`max_page_bytes`); nothing is lost by that: the rest is on the next page or counted."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest

from celeriac import json_text
from celeriac.model import Claim, LogLine, Progress, Submission
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from tests.kit.api.http_serving import claim, submit
from tests.kit.tokens import token_of

#: The longest text of a report, and the bound of the answers: some of them fit.
LONG, MOST = 8000, 50_000
MOMENT_MS = 1_896_076_800_000


@pytest.fixture
def settings(valkey_url: str, tmp_path: Path) -> Settings:
    # Nobody renews the claims of these tests, however slow the machine.
    return Settings.model_validate(
        {
            "redis_url": valkey_url,
            "data_dir": tmp_path,
            "lease": 600,
            "max_page_bytes": MOST,
            "retention": "1h",
        }
    )


async def report(store: TaskStore, mine: Claim, number: int, length: int = LONG) -> None:
    assert await store.report(mine, number, Progress(number % 100, "s" * length, str(number), MOMENT_MS)) == "ok"


async def pages_of(client: httpx.AsyncClient, path: str, limit: int) -> list[list[dict[str, Any]]]:
    pages, cursor = [], None
    while not pages or cursor is not None:
        query = {"limit": limit} | ({} if cursor is None else {"cursor": cursor})
        answer = (await client.get(path, params=query)).raise_for_status()
        assert len(answer.content) < 4 * MOST
        pages.append(answer.json()["items"])
        cursor = answer.json()["next_cursor"]
    return pages


async def test_a_timeline_of_long_reports_goes_on_with_the_next_page(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    task_id = await submit(client)
    mine = await claim(store, task_id)
    for number in range(600):
        await report(store, mine, number + 1, length=LONG if number in range(100, 130) else 1)
    for limit in (1000, 7, 50):
        pages = await pages_of(client, f"/api/v1/tasks/{task_id}/events", limit)
        said = [event["message"] for page in pages for event in page if event["kind"] == "progress"]
        assert said == [str(number + 1) for number in range(600)], limit
        assert all(pages)
    short = await submit(client)
    await claim(store, short)
    assert [len(page) for page in await pages_of(client, f"/api/v1/tasks/{short}/events", 1)] == [1, 1]


async def test_a_log_of_long_lines_goes_on_with_the_next_page(client: httpx.AsyncClient, store: TaskStore) -> None:
    task_id = await submit(client)
    mine = await claim(store, task_id)
    for number in range(1, 41):
        line = LogLine("info", str(number), {"data": "d" * 3000}, MOMENT_MS)
        assert await store.log(mine, number, line) == "ok"
    pages = await pages_of(client, f"/api/v1/tasks/{task_id}/log", 1000)
    assert [line["message"] for page in pages for line in page] == [str(number) for number in range(1, 41)]
    assert len(pages) > 1


async def test_what_runs_is_listed_up_to_a_length_and_the_rest_is_counted(
    client: httpx.AsyncClient, store: TaskStore
) -> None:
    for _ in range(450):
        mine = await claim(store, await submit(client))
        await report(store, mine, 1, length=1000)
    answer = (await client.get("/api/v1/running", params={"limit": 1000})).json()
    assert (len(answer["tasks"]), answer["left_out"]) == (200, 250)
    answer = (await client.get("/api/v1/running", params={"limit": 100})).json()
    assert (len(answer["tasks"]), answer["left_out"]) == (100, 0)


async def test_a_long_list_of_own_tasks_leaves_out_results_and_then_tasks(
    client: httpx.AsyncClient, store: TaskStore, settings: Settings
) -> None:
    shown = {"Authorization": f"Bearer {token_of(settings, user_id='7', scopes=())}"}

    async def listed() -> tuple[list[dict[str, Any]], int]:
        answer = (await client.get("/api/task/tasks", headers=shown)).raise_for_status().json()
        return answer["data"], answer["count"]

    async def begun() -> Claim:
        submission = Submission(str(uuid.uuid4()), "http_test.echo", max_retries=0, user_id="7")
        return await claim(store, (await store.submit(submission)).task_id)

    for _ in range(130):
        await store.complete(await begun(), json_text.write("z" * 600))
    data, count = await listed()
    assert (len(data), count) == (130, 130)
    assert [task for task in data if task.get("result_left_out")] == data[100:]
    assert all(task["result"] == "z" * 600 for task in data[:100])
    for _ in range(150):
        await report(store, await begun(), 1, length=1000)
    data, count = await listed()
    assert (len(data), count) == (100, 280)
    assert {task["status"] for task in data} == {"progress"}
