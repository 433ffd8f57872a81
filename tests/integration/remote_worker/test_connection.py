"""The Python remote worker over connections that break, close and drain, as the test decides."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from celeriac import RemoteTask, RemoteWorker, WorkerRefusedError
from tests.kit.remote.node_packages import PROGRAMS, node, node_folder
from tests.kit.remote.scripted_gateway import Visit, scripted_gateway, working
from tests.kit.waiting import PATIENCE_S, eventually


async def echo(task: RemoteTask) -> Any:
    return task.data


async def test_a_worker_that_is_not_wanted_stops_with_the_reason() -> None:
    async with scripted_gateway() as gateway, working(RemoteWorker(gateway.url, echo)) as running:
        visit = await gateway.visit()
        await visit.socket.close(1008, "the token has expired")
        with pytest.raises(WorkerRefusedError, match="the token has expired"):
            await asyncio.wait_for(running, PATIENCE_S)


@pytest.mark.parametrize("code", [1001, 1012, 4000])
async def test_a_worker_comes_back_after_every_other_end(code: int) -> None:
    async with scripted_gateway() as gateway, working(RemoteWorker(gateway.url, echo)):
        visit = await gateway.visit()
        await visit.socket.close(code, "bye")
        visit = await gateway.visit()
        await visit.give("t", data=7)
        assert (await visit.hear("task_complete"))["result"] == 7


@pytest.mark.parametrize("body", ["nothing here\n", '{"status": 404, "detail": "nothing here"}'])
async def test_an_address_without_a_gateway_is_said_and_not_tried_for_ever(body: str) -> None:
    from websockets.asyncio.server import serve

    async def nobody(_: Any) -> None: ...

    def not_found(connection: Any, _: Any) -> Any:
        return connection.respond(404, body)

    async with serve(nobody, "127.0.0.1", 0, process_request=not_found) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(WorkerRefusedError, match=r"HTTP 404: nothing here$"):
            await asyncio.wait_for(RemoteWorker(f"http://127.0.0.1:{port}", echo).run_async(), PATIENCE_S)


async def test_a_result_that_was_finished_while_the_connection_was_away_is_offered_again() -> None:
    go = asyncio.Event()

    async def slow(task: RemoteTask) -> str:
        await go.wait()
        return "done"

    async with scripted_gateway() as gateway, working(RemoteWorker(gateway.url, slow)):
        visit = await gateway.visit()
        await visit.give("t")
        await visit.give("u")
        visit.socket.transport.abort()
        go.set()
        visit = await gateway.visit(ready=False)
        first = await visit.hear()
        second = await visit.hear()
        assert {first["taskId"], second["taskId"]} == {"t", "u"}
        assert (await visit.hear())["type"] == "ready"
        # It is not this worker's any more; given again, it need not run again.
        await visit.say(type="error", taskId="t", message="not yours")
        go.clear()
        await visit.give("t")
        assert (await visit.hear("task_complete"))["taskId"] == "t"


async def test_a_task_that_outlives_its_connection_goes_on_when_it_is_given_again() -> None:
    go, runs = asyncio.Event(), []

    async def slow(task: RemoteTask) -> int:
        runs.append(task.id)
        await go.wait()
        return len(runs)

    async with scripted_gateway() as gateway, working(RemoteWorker(gateway.url, slow, concurrency=2)):
        visit = await gateway.visit(ready=False)
        assert (await visit.hear())["concurrency"] == 2
        await visit.give("t")
        await eventually(lambda: runs == ["t"], because="the task runs")
        visit.socket.transport.abort()
        visit = await gateway.visit(ready=False)
        # One of its two places is taken by what still runs.
        assert await visit.hear() == {"type": "ready"}
        await visit.give("t")
        go.set()
        assert (await visit.hear("task_complete"))["result"] == 1


async def test_a_cancelled_run_that_has_not_stopped_does_not_answer_for_the_next_one() -> None:
    stubborn, begun = threading.Event(), []

    def slow(task: RemoteTask) -> str:
        begun.append(task.attempt)
        if task.attempt == 1:
            stubborn.wait(20)
            task.raise_if_cancelled()
        return f"attempt {task.attempt}"

    async with scripted_gateway() as gateway, working(RemoteWorker(gateway.url, slow, concurrency=2)):
        visit = await gateway.visit()
        await visit.give("t")
        await eventually(lambda: begun == [1], because="the first run is on its way")
        await visit.say(type="cancel", taskId="t", reason="timeout")
        await visit.socket.close(4000, "a task that was taken back is still being kept")
        visit = await gateway.visit()
        for attempt in (2, 3):
            await visit.say(type="task", taskId="t", attempt=attempt, payload={"model": "default"})
            if attempt == 2:
                await visit.say(type="cancel", taskId="t", reason="cancelled")
                assert (await visit.hear("task_error"))["code"] == "cancelled"
        await visit.say(type="ping")
        assert (await visit.hear())["type"] == "pong"
        stubborn.set()
        while (answer := await visit.hear())["type"] == "ready":
            pass
        assert (answer["type"], answer.get("result")) == ("task_complete", "attempt 3")


async def test_after_a_drain_of_the_server_it_finishes_and_connects_again() -> None:
    go = asyncio.Event()

    async def slow(task: RemoteTask) -> str:
        await go.wait()
        return "done"

    async with scripted_gateway() as gateway, working(RemoteWorker(gateway.url, slow)):
        visit = await gateway.visit()
        await visit.give("t")
        await visit.say(type="drain", message="restart", reconnect=True)
        go.set()
        assert (await visit.hear("task_complete"))["result"] == "done"
        assert await visit.gone() == 1000
        await gateway.visit()


async def test_stopping_finishes_what_runs_and_takes_nothing_new() -> None:
    go = asyncio.Event()

    async def slow(task: RemoteTask) -> str:
        await go.wait()
        return "done"

    async with scripted_gateway() as gateway:
        worker = RemoteWorker(gateway.url, slow)
        async with working(worker) as running:
            visit = await gateway.visit()
            await visit.give("t")
            worker.stop()
            assert (await visit.hear())["type"] == "drain"
            assert (await visit.hear())["type"] == "ping"
            await visit.say(type="pong")
            go.set()
            assert (await visit.hear())["type"] == "task_complete"
            assert await visit.gone() == 1000
            await asyncio.wait_for(running, PATIENCE_S)


async def test_a_task_that_was_on_its_way_when_the_worker_said_that_it_leaves_is_done_too() -> None:
    async def quick(task: RemoteTask) -> str:
        return "done"

    async with scripted_gateway() as gateway:
        worker = RemoteWorker(gateway.url, quick)
        async with working(worker) as running:
            visit = await gateway.visit()
            worker.stop()
            await leaves_with_what_is_on_its_way(visit)
            await asyncio.wait_for(running, PATIENCE_S)


async def leaves_with_what_is_on_its_way(visit: Visit) -> None:
    """Be a server that gave a task in the moment in which the worker said that it leaves."""
    await visit.hear("drain")
    await visit.hear("ping")
    await visit.give("late", data={})
    await visit.say(type="pong")
    assert (await visit.hear("task_complete"))["taskId"] == "late"
    assert await visit.gone() == 1000


async def test_a_server_that_does_not_answer_keeps_no_worker_from_leaving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celeriac.remote_worker.worker._ANSWER_S", 0.2)

    async def never(task: RemoteTask) -> None:
        raise AssertionError

    async with scripted_gateway() as gateway:
        worker = RemoteWorker(gateway.url, never)
        async with working(worker) as running:
            visit = await gateway.visit()
            worker.stop()
            assert await visit.gone() == 1000
            await asyncio.wait_for(running, PATIENCE_S)


async def test_the_javascript_worker_too_does_what_was_on_its_way_when_it_leaves(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    program = shutil.copy(PROGRAMS / "remote_handlers.mjs", node_folder(tmp_path_factory))
    async with scripted_gateway() as gateway:
        process = subprocess.Popen([node(), str(program), gateway.url, "g", "2"])
        try:
            visit = await gateway.visit()
            process.send_signal(signal.SIGTERM)
            await leaves_with_what_is_on_its_way(visit)
            await eventually(lambda: process.poll() == 0, because="the worker ends")
        finally:
            process.kill()
            process.wait()


async def test_cancel_reaches_coroutines_and_threads() -> None:
    looked = threading.Event()

    async def in_the_loop(task: RemoteTask) -> None:
        await asyncio.Event().wait()

    def in_a_thread(task: RemoteTask) -> None:
        task.progress(1, "begun")
        while not task.cancelled:
            looked.wait(0.01)
        task.raise_if_cancelled()

    for handler in (in_the_loop, in_a_thread):
        async with scripted_gateway() as gateway, working(RemoteWorker(gateway.url, handler)):
            visit = await gateway.visit()
            await visit.give("t")
            if handler is in_a_thread:
                await visit.hear("progress")
            await visit.say(type="cancel", taskId="t", reason="cancelled")
            answer = await visit.hear("task_error")
            assert (answer["error"], answer["code"], answer["retryable"]) == ("cancelled", "cancelled", False)


async def test_progress_and_parts_keep_their_order_from_loop_and_thread() -> None:
    async def in_the_loop(task: RemoteTask) -> str:
        await task.progress(50, "half", stage="writing")
        for part in ("a", "b", "c"):
            await task.delta(part)
        task.progress(75)
        task.progress(100.5, "all")
        return "abc"

    def in_a_thread(task: RemoteTask) -> str:
        task.progress(50, "half", stage="writing")
        for part in ("a", "b", "c"):
            task.delta(part)
        task.progress(75)
        task.progress(100.5, "all")
        return "abc"

    for handler in (in_the_loop, in_a_thread):
        async with scripted_gateway() as gateway, working(RemoteWorker(gateway.url, handler)):
            visit = await gateway.visit()
            await visit.give("t")
            heard = []
            while not heard or heard[-1]["type"] != "task_complete":
                heard.append(await visit.hear())
            assert heard[0]["type"] == "progress"
            assert [message["content"] for message in heard if message["type"] == "delta"] == ["a", "b", "c"]
            # Of reports in quick succession the last one is what counts.
            reports = [message["percentage"] for message in heard if message["type"] == "progress"]
            assert reports[-1] == 100


async def test_neither_nonsense_nor_pings_disturb_it() -> None:
    async with scripted_gateway() as gateway, working(RemoteWorker(gateway.url, echo)):
        visit = await gateway.visit()
        for text in ("no json", "[]", '{"type": 7}', '{"type":"task"}', '{"type":"new in 2031"}'):
            await visit.socket.send(text)
        await visit.socket.send(b"\x00\xff")
        await visit.say(type="ping")
        assert await visit.hear() == {"type": "pong"}
        await visit.give("t", data=None)
        assert (await visit.hear())["result"] is None


async def test_a_server_that_answers_no_ping_is_left() -> None:
    async with (
        scripted_gateway() as gateway,
        working(RemoteWorker(gateway.url, echo, heartbeat_s=0.1, reconnect_max_s=0.1)),
    ):
        visit = await gateway.visit()
        visit.socket.transport.pause_reading()
        await gateway.visit()
        visit.socket.transport.abort()


async def test_the_javascript_worker_keeps_results_leaves_when_drained_and_stops_when_refused(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    program = shutil.copy(PROGRAMS / "remote_handlers.mjs", node_folder(tmp_path_factory))
    said = (tmp_path / "said").open("wb")
    async with scripted_gateway() as gateway:
        process = subprocess.Popen([node(), str(program), gateway.url, "g", "2"], stdout=said, stderr=said)
        try:
            visit = await gateway.visit(ready=False)
            assert await visit.hear() == {"type": "ready", "concurrency": 2, "models": ["m"], "name": "tester"}
            # The short one lasts until the connection is away.
            for task_id, seconds in (("long", 60), ("short", 2)):
                await visit.give(task_id, data={"sleep_s": seconds})
                await visit.hear("progress")
            visit.socket.transport.abort()
            # What ended meanwhile comes first or as soon as it has ended; one place is still taken.
            visit = await gateway.visit(ready=False)
            heard = [await visit.hear()]
            while heard[-1]["type"] != "task_complete":
                heard.append(await visit.hear())
            assert heard[-1]["taskId"] == "short"
            # Given again, neither runs a second time.
            await visit.give("short", data={"sleep_s": 60})
            assert (await visit.hear("task_complete"))["taskId"] == "short"
            await visit.give("long", data={"sleep_s": 60})
            await visit.say(type="drain", message="restart", reconnect=True)
            await visit.say(type="cancel", taskId="long", reason="cancelled")
            assert (await visit.hear("task_error"))["code"] == "cancelled"
            assert await visit.gone() == 1000
            visit = await gateway.visit()
            # The answer of a run that was cancelled is not that of the next one, which begins after it.
            payload = {"model": "m", "data": {"stubborn_s": 0.5}}
            await visit.say(type="task", taskId="stubborn", attempt=1, payload=payload)
            await visit.hear("progress")
            await visit.say(type="cancel", taskId="stubborn", reason="timeout")
            await visit.say(type="task", taskId="stubborn", attempt=2, payload=payload)
            while (answer := await visit.hear())["type"] in ("ready", "progress", "log"):
                pass
            assert (answer["type"], answer.get("result", {}).get("attempt")) == ("task_complete", 2)
            await visit.socket.close(1008, "the token has expired")
            await eventually(lambda: process.poll() is not None, because="the worker ends")
            assert "the token has expired" in (tmp_path / "said").read_text()
        finally:
            said.close()
            process.kill()
            process.wait()
