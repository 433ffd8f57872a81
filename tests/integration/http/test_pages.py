"""The pages as HTTP serves them: files, headers, and the stream that feeds them."""

from __future__ import annotations

import asyncio
import json
import re
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from celeriac.access.principal import Scope
from celeriac.model import Progress
from celeriac.settings import PagesSettings, Settings
from celeriac.store.task_store import TaskStore
from celeriac_api.pages.assets import assets
from tests.kit.api.access import client_of, header, settings_of
from tests.kit.api.http_serving import claim, serving, submit
from tests.kit.waiting import eventually


@pytest.fixture
def api_settings(valkey_url: str) -> Settings:
    return Settings(redis_url=valkey_url, pages=PagesSettings(live_interval=0.05, live_tasks=5, live_watchers=2))


@pytest.fixture
async def client(api_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(api_settings) as url, httpx.AsyncClient(timeout=60, base_url=url) as connected:
        yield connected


@asynccontextmanager
async def watching(client: httpx.AsyncClient, **headers: str) -> AsyncIterator[list[tuple[str, str | None, Any]]]:
    """Follow `/live`; yields a list that fills with (kind, id, data)."""
    heard: list[tuple[str, str | None, Any]] = []

    async def read() -> None:
        async with client.stream("GET", "/api/v1/live", headers=headers, timeout=30) as answer:
            assert answer.status_code == 200, await answer.aread()
            kind, event_id = "", None
            async for line in answer.aiter_lines():
                name, _, text = line.partition(": ")
                if name == "event":
                    kind, event_id = text, None
                elif name == "id":
                    event_id = text
                elif name == "data":
                    heard.append((kind, event_id, json.loads(text)))

    reading = asyncio.create_task(read())
    try:
        await eventually(lambda: reading.done() or any(kind == "state" for kind, _, _ in heard), because="it begins")
        yield heard
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def told(heard: list[tuple[str, str | None, Any]]) -> dict[str, Any]:
    """Return the last record that was told of each task."""
    return {
        task["task_id"]: task
        for kind, _, data in heard
        if kind == "tasks"
        for task in reversed(data["tasks"])
    }  # fmt: skip


#: A script or a style in a page, apart from those that it names and from data.
INLINE = re.compile(r"<(script|style)(?![^>]*(?: src=| type=.application/json))[^>]*>(.+?)</\1>", re.DOTALL)


async def test_pages_allow_nothing_from_elsewhere_and_nothing_inline_but_what_they_hold(
    client: httpx.AsyncClient,
) -> None:
    for path in ("/dashboard", "/docs", "/dashboard/static/app.js"):
        answer = await client.get(path)
        policy = answer.headers["content-security-policy"]
        assert answer.status_code == 200
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        if path.endswith(".js"):
            continue
        held = INLINE.findall(answer.text)
        hashes = [f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for _, text in held]
        assert len(hashes) == (4 if path == "/dashboard" else 0)
        assert re.findall(r"'sha256-[^']+'", policy) == hashes


def test_no_file_of_the_pages_names_another_host() -> None:
    for name, asset in assets().items():
        text = asset.body.decode()
        hosts = set(re.findall(r"https?://([\w.-]+)", text)) - {"www.w3.org"}
        assert not hosts, f"{name} names {hosts}"
        assert " style=" not in text or not name.endswith(".html")


async def test_a_file_that_the_browser_has_is_not_sent_again(client: httpx.AsyncClient) -> None:
    first = await client.get("/dashboard/static/base.css")
    again = await client.get("/dashboard/static/base.css", headers={"If-None-Match": f"W/{first.headers['etag']}"})
    plain = await client.get("/dashboard/static/base.css", headers={"Accept-Encoding": "identity"})
    assert (again.status_code, again.content) == (304, b"")
    assert plain.content == first.content
    assert plain.headers["etag"] != first.headers["etag"]


@pytest.mark.parametrize("path", ["nothing.js", "../assets.py", "%2e%2e/assets.py", "views", "", "app.py"])
async def test_only_files_of_the_pages_are_served(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(f"/dashboard/static/{path}")).status_code == 404


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("tasks", "tasks"),
        ("tasks?status=failed&type=a%20b", "tasks?status=failed&type=a%20b"),
        ("tasks/8f1c", "tasks/8f1c"),
        ("groups", "groups"),
    ],
)
async def test_an_address_without_its_hash_leads_to_the_view(client: httpx.AsyncClient, typed: str, meant: str) -> None:
    answer = await client.get(f"/dashboard/{typed}")
    assert (answer.status_code, answer.headers["location"]) == (307, f"/dashboard#/{meant}")


async def test_changes_are_pushed_with_their_latest_state(client: httpx.AsyncClient, store: TaskStore) -> None:
    async with watching(client) as heard:
        task_id = await submit(client, tags=["red"])
        claimed = await claim(store, task_id)
        await store.progress(claimed, 1, Progress(40, "half", "way"))
        await eventually(
            lambda: told(heard).get(task_id, {}).get("progress", {}).get("percentage") == 40, because="it is told"
        )
        await store.complete(claimed, "{}")
        await eventually(lambda: told(heard)[task_id]["status"] == "completed", because="its end is told")
        assert "payload" not in told(heard)[task_id]
        await eventually(
            lambda: any(rate["completed"] == 1 for kind, _, data in heard if kind == "rates" for rate in data["rates"]),
            because="it is counted",
        )


async def test_who_comes_back_is_told_what_changed_meanwhile(client: httpx.AsyncClient) -> None:
    async with watching(client) as heard:
        first = await submit(client)
        await eventually(lambda: first in told(heard), because="the first is told")
        position = next(event_id for kind, event_id, _ in reversed(heard) if kind == "tasks")
    second = await submit(client)
    async with watching(client, **{"Last-Event-ID": str(position)}) as heard:
        await eventually(lambda: second in told(heard), because="the second is told")
        assert first not in told(heard)


async def test_a_flood_is_told_in_part_and_what_is_left_out_is_counted(client: httpx.AsyncClient) -> None:
    async with watching(client) as heard:
        tasks = [{"type": "http_test.echo", "payload": {}} for _ in range(200)]
        await client.post("/api/v1/tasks/batch", json={"tasks": tasks})

        def number() -> int:
            return sum(len(data["tasks"]) + data["left_out"] for kind, _, data in heard if kind == "tasks")

        await eventually(lambda: number() == 200, because="each change is told or counted")
        assert all(len(data["tasks"]) <= 5 for kind, _, data in heard if kind == "tasks")


async def test_watchers_are_limited_and_a_place_becomes_free(client: httpx.AsyncClient) -> None:
    async with watching(client), watching(client):
        refused = await client.get("/api/v1/live")
        assert (refused.status_code, refused.json()["code"]) == (503, "too_many_watchers")

    async def free() -> bool:
        async with client.stream("GET", "/api/v1/live") as answer:
            return answer.status_code == 200

    await eventually(free, because="who left makes room")


async def test_a_user_cannot_take_the_places_of_all_watchers(valkey_url: str, tmp_path: Path) -> None:
    pages = PagesSettings(live_watchers=6, live_watchers_per_user=2, live_watchers_for_admins=2)
    settings = settings_of(valkey_url, tmp_path).model_copy(update={"pages": pages})
    lines: list[AsyncIterator[str]] = []
    async with client_of(settings) as client, AsyncExitStack() as open_ones:

        async def watch(user: str, scope: Scope) -> int:
            asked = client.stream("GET", "/api/v1/live", headers=header(settings, user, scope))
            answer = await open_ones.enter_async_context(asked)
            if answer.status_code == 200:
                lines.append(answer.aiter_lines())
                await anext(lines[-1])
            return answer.status_code

        assert [await watch("7", Scope.READ) for _ in range(3)] == [200, 200, 503], "one user"
        assert [await watch("8", Scope.READ) for _ in range(2)] == [200, 200]
        assert await watch("9", Scope.READ) == 503, "the rest is for admins"
        assert [await watch("root", Scope.ADMIN) for _ in range(2)] == [200, 200]
        assert await watch("chief", Scope.ADMIN) == 503


async def test_nothing_is_read_while_nobody_watches(client: httpx.AsyncClient, store: TaskStore) -> None:
    async with watching(client):
        pass

    async def reads() -> int:
        stats = await store.redis.info("commandstats")
        return int(stats.get("cmdstat_xrevrange", {}).get("calls", 0))

    async def quiet() -> bool:
        before = await reads()
        await asyncio.sleep(0.3)
        return await reads() == before

    await eventually(quiet, because="reading ends with the last watcher")


async def test_what_runs_is_listed_from_the_store(client: httpx.AsyncClient, store: TaskStore) -> None:
    first, second = await submit(client), await submit(client)
    await claim(store, first)
    listed = (await client.get("/api/v1/running")).json()["tasks"]
    assert [(task["task_id"], task["worker"]) for task in listed] == [(first, "tester")]
    assert second not in str(listed)


async def test_a_page_of_what_runs_is_the_users_own_whatever_others_run(
    valkey_url: str, tmp_path: Path, store: TaskStore
) -> None:
    settings = settings_of(valkey_url, tmp_path)
    mine = header(settings, "7", Scope.READ, Scope.SUBMIT)
    theirs = header(settings, "8", Scope.READ, Scope.SUBMIT)
    async with client_of(settings) as client:
        started = []
        for headers, queue in ((mine, "a"), (mine, "b"), (theirs, "a"), (theirs, "b"), (theirs, "a")):
            document = {"type": "http_test.echo", "payload": {}, "queue": queue}
            answer = await client.post("/api/v1/tasks", json=document, headers=headers)
            started.append((await claim(store, answer.json()["task_id"])).task_id)
        await client.post("/api/v1/tasks", json={"type": "http_test.echo", "payload": {}}, headers=mine)

        async def running(headers: dict[str, str], limit: int) -> list[str]:
            page = await client.get("/api/v1/running", params={"limit": limit}, headers=headers)
            return [task["task_id"] for task in page.json()["tasks"]]

        assert await running(mine, 2) in (started[1::-1], started[:2])
        assert set(await running(theirs, 100)) == set(started[2:])
        assert len(await running(header(settings, "root", Scope.ADMIN), 4)) == 4
        assert await running(header(settings, "9", Scope.READ), 4) == []
