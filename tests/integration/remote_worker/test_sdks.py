"""Both SDKs, in processes of their own, against the real gateway."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from celeriac.access.principal import Scope
from celeriac.settings import AccessSettings, Settings
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from tests.kit.api.http_serving import serving
from tests.kit.command_line import REPOSITORY
from tests.kit.remote.node_packages import PROGRAMS, node, node_folder
from tests.kit.tokens import token_of
from tests.kit.waiting import eventually

#: Returns a command line from the API's URL, the group and the concurrency.
Command = Callable[[str, str, int], list[str]]


def python_command(handler: str) -> Command:
    def command(url: str, group: str, concurrency: int) -> list[str]:
        target = f"tests.kit.remote.remote_handlers:{handler}"
        options = [
            "--url",
            url,
            "--group",
            group,
            "--concurrency",
            str(concurrency),
            "--model",
            "m",
            "--name",
            "tester",
        ]
        return [sys.executable, "-m", "celeriac", "remote-worker", target, *options]

    return command


@pytest.fixture(params=["python", "python in threads", "javascript"])
def command(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Command:
    """The command line of a worker, of each kind."""
    if request.param == "javascript":
        folder = node_folder(tmp_path_factory)
        program = shutil.copy(PROGRAMS / "remote_handlers.mjs", folder)
        return lambda url, group, concurrency: [node(), str(program), url, group, str(concurrency)]
    return python_command("handle" if request.param == "python" else "handle_in_thread")


@asynccontextmanager
async def running(command: list[str], folder: Path, **environment: str) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Run a program beside the test; what it said is in `folder/said`."""
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(REPOSITORY), **environment},
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    dispatch = {"cancel_grace": 5, "drain_grace": 2, "poll_interval": 0.2}
    return Settings.model_validate({"redis_url": valkey_url, "dispatch": dispatch})


@pytest.fixture
async def http(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(settings) as url, httpx.AsyncClient(timeout=60, base_url=url) as client:
        yield client


async def workers(http: httpx.AsyncClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await http.get("/api/v1/workers")).json()["workers"]
    return found


async def submit(http: httpx.AsyncClient, data: Any, **fields: Any) -> str:
    body = {"type": "remote", "queue": "gpu", "payload": {"model": "m", "data": data}, **fields}
    answer = await http.post("/api/v1/tasks", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


async def record(http: httpx.AsyncClient, task_id: str, *statuses: str) -> dict[str, Any]:
    """Return the record once it has one of these statuses (default: a final one)."""

    async def look() -> dict[str, Any] | None:
        found: dict[str, Any] = (await http.get(f"/api/v1/tasks/{task_id}")).json()
        return found if found["status"] in (statuses or ("completed", "failed", "cancelled")) else None

    found: dict[str, Any] = await eventually(look, because=f"{task_id} is {statuses or 'final'}")
    return found


async def log_of(http: httpx.AsyncClient, task_id: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Return level, message and data of each line of a task's log."""
    lines = (await http.get(f"/api/v1/tasks/{task_id}/log", params={"limit": 1000})).json()["items"]
    return [(line["level"], line["message"], line["data"]) for line in lines]


async def test_a_worker_that_logs_more_than_goes_out_says_how_much_it_left_out(
    http: httpx.AsyncClient, command: Command, tmp_path: Path
) -> None:
    async with running(command(str(http.base_url), "gpu", 1), tmp_path):
        task_id = await submit(http, {"lines": 5000})
        assert (await record(http, task_id))["status"] == "completed"
        numbers = [data["n"] for _, message, data in await log_of(http, task_id) if message == "a line"]
        assert numbers == sorted(set(numbers))
        assert numbers


async def test_a_worker_answers_reports_fails_and_is_cancelled(
    http: httpx.AsyncClient, command: Command, tmp_path: Path
) -> None:
    async with running(command(str(http.base_url), "gpu", 4), tmp_path):

        async def present() -> bool:
            return [(worker["groups"], worker["concurrency"]) for worker in await workers(http)] == [(["gpu"], 4)]

        await eventually(present, because="the worker is connected, and has said what it can")
        echo = await record(http, await submit(http, {"n": [1, "é", None]}))
        assert echo["result"] == {"echo": {"n": [1, "é", None]}, "model": "m", "attempt": 1}
        assert (echo["progress"]["message"], echo["progress"]["stage"]) == ("begun", "first")
        parts = await record(http, await submit(http, {"parts": ["a", "b"] * 50}))
        assert parts["status"] == "completed"

        failed = await record(http, await submit(http, {"fail": "no luck"}))
        assert failed["error"]["message"].endswith("Error: no luck")
        skipped = await record(http, await submit(http, {"skip": "no use"}, max_retries=5))
        assert skipped["error"] == {"code": "no_use", "message": "no use", "retryable": False}
        assert skipped["attempt"] == 1

        begun, why = await log_of(http, failed["task_id"])
        assert begun == ("info", "begun with care", {"password": "***", "odd": "{1}"})
        assert why[:2] == ("warning", "attempt failed")
        assert "no luck" in why[2]["error"]
        # It begins in the handler, not in what called it.
        assert "remote_handlers" in why[2]["traceback"].splitlines()[1]
        assert [line[1:] for line in await log_of(http, skipped["task_id"])][1:] == [
            ("attempt failed", {"error": "no use"})
        ]
        for later in (0.2, 0):
            limited = await record(http, await submit(http, {"later": later}, max_retries=0))
            assert (limited["status"], limited["result"]["attempt"]) == ("completed", 1)
            said = [line for line in await log_of(http, limited["task_id"]) if line[0] == "warning"]
            told = {"code": "rate_limited", "error": "too many", "retry_after_s": later}
            assert said == [("warning", "somebody else's service says to come back later", told)]
        bad = await record(http, await submit(http, {"nonsense": 1}))
        assert bad["error"]["code"] == "bad_result"

        # Four at once; the fifth waits for a place.
        ids = [await submit(http, {"sleep_s": 60}) for _ in range(5)]
        for task_id in ids[:4]:
            await record(http, task_id, "processing")
        assert (await record(http, ids[4], "pending"))["status"] == "pending"
        for task_id in ids:
            assert (await http.post(f"/api/v1/tasks/{task_id}/cancel")).status_code in (200, 202)
        for task_id in ids:
            assert (await record(http, task_id))["status"] == "cancelled"
        # It noticed, and so has room again.
        assert (await record(http, await submit(http, {"again": 1})))["status"] == "completed"


async def test_a_worker_that_is_asked_to_stop_finishes_what_runs(
    http: httpx.AsyncClient, store: TaskStore, command: Command, tmp_path: Path
) -> None:
    async def takes_tasks() -> bool:
        ids = [worker["worker_id"] for worker in await workers(http)]
        return "1" in [await store.redis.hget(keys.worker(worker_id), "ready") for worker_id in ids]

    async with running(command(str(http.base_url), "gpu", 1), tmp_path) as process:
        task_id = await submit(http, {"sleep_s": 2})
        await record(http, task_id, "processing")
        await eventually(takes_tasks, because="the worker is there")
        process.send_signal(signal.SIGTERM)

        async def leaves() -> bool:
            return not await takes_tasks()

        await eventually(leaves, because="it says that it takes no more")
        later = await submit(http, {"never": "taken"})
        assert (await record(http, task_id))["status"] == "completed"
        await eventually(lambda: process.poll() is not None, because=f"it ends: {(tmp_path / 'said').read_text()}")
        assert process.returncode == 0
        assert (await record(http, later, "pending"))["status"] == "pending"


async def test_a_worker_survives_a_restart_of_the_server(settings: Settings, command: Command, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        async with serving(settings) as url, httpx.AsyncClient(timeout=60, base_url=url) as http:
            await stack.enter_async_context(running(command(url, "gpu", 1), tmp_path))
            await eventually(lambda: workers(http), because="the worker is connected")
        async with (
            serving(settings, port=http.base_url.port or 0) as url,
            httpx.AsyncClient(timeout=60, base_url=url) as http,
        ):
            done = await record(http, await submit(http, {"n": 1}))
            assert done["status"] == "completed", (tmp_path / "said").read_text()


async def test_a_group_that_cannot_be_ends_the_worker_with_the_reason(
    http: httpx.AsyncClient, command: Command, tmp_path: Path
) -> None:
    async with running(command(str(http.base_url), "no group!", 1), tmp_path) as process:
        await eventually(lambda: process.poll() is not None, because="the worker ends")
        assert process.returncode != 0
        assert "refuses this worker" in (tmp_path / "said").read_text()


async def test_a_worker_shows_its_token_and_ends_where_it_is_not_worth_anything(
    settings: Settings, command: Command, tmp_path: Path
) -> None:
    guarded = settings.model_copy(update={"access": AccessSettings(jwt_secret="an access secret of at least 32 bytes")})
    token = token_of(guarded, user_id="7", scopes=list(Scope))
    said = tmp_path / "said"
    async with (
        serving(guarded) as url,
        httpx.AsyncClient(timeout=60, base_url=url, headers={"Authorization": f"Bearer {token}"}) as http,
    ):
        async with running(command(url, "gpu", 1), tmp_path, CELERIAC_TOKEN=token):
            done = await record(http, await submit(http, {"n": 1}))
            assert done["status"] == "completed", said.read_text()
        for bad in (
            token_of(guarded, user_id="7", scopes=[Scope.READ]),
            "nonsense",
            "",
        ):
            async with running(command(url, "gpu", 1), tmp_path, CELERIAC_TOKEN=bad) as process:
                await eventually(process.poll, because=f"the worker ends; it said {said.read_text()}")
                assert process.returncode != 0
                assert "refuses this worker" in said.read_text()


@pytest.mark.parametrize("example", ["remote_worker_python", "remote_worker_node"])
async def test_the_workers_without_an_sdk_take_task_after_task(
    http: httpx.AsyncClient, example: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    address = f"{str(http.base_url).replace('http', 'ws')}/ws?group=gpu"
    if example == "remote_worker_node":
        program = shutil.copy(
            REPOSITORY / "examples" / example / "worker.js", node_folder(tmp_path_factory) / "by_hand.js"
        )
        line = [node(), str(program), address]
    else:
        line = [sys.executable, str(REPOSITORY / "examples" / example / "worker.py"), address]
    async with running(line, tmp_path):
        for n in range(3):
            assert (await record(http, await submit(http, {"n": n})))["result"] == {"echo": {"n": n}}
        assert (await record(http, await submit(http, {"fail": "no luck"})))["error"]["message"] == "no luck"


@pytest.mark.parametrize("language", ["python", "javascript"])
async def test_the_workers_with_the_sdk_write_word_by_word(
    http: httpx.AsyncClient, language: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = REPOSITORY / "examples/remote_worker_sdk"
    if language == "python":
        line = [sys.executable, str(folder / "worker.py"), str(http.base_url), "gpu"]
    else:
        program = shutil.copy(folder / "worker.js", node_folder(tmp_path_factory) / "with_sdk.js")
        line = [node(), str(program), str(http.base_url), "gpu"]
    async with running(line, tmp_path):
        payload = {"messages": [{"role": "user", "content": "how are you"}]}
        body = {"type": "remote", "queue": "gpu", "payload": payload}
        task_id = (await http.post("/api/v1/tasks", json=body)).json()["task_id"]
        done = await record(http, task_id)
        assert done["result"] == {"content": "how are you"}
        assert (done["progress"]["percentage"], done["progress"]["message"]) == (100, "3 of 3 words")
        assert (await record(http, await submit(http, {})))["error"]["code"] == "no_messages"
