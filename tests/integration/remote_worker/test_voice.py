"""What a remote worker says: when it connects, how each task ended, and why it is refused."""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
from typing import Any

import pytest
from websockets.asyncio.server import serve

from celeriac import RemoteTask, RemoteWorker, SkipRetry
from celeriac.terminal.task_lines import TaskLines
from tests.kit.remote.scripted_gateway import scripted_gateway, working
from tests.kit.waiting import eventually

ID = "1ce9a18f-6be8-4eb8-a457-408492f4b84f"


async def handle(task: RemoteTask) -> Any:
    if task.data == "refuse":
        raise SkipRetry("not this one")
    if task.data == "fail":
        raise ConnectionError("refused\x1b[2J")
    return task.data


@pytest.mark.parametrize(
    ("data", "answer", "said"),
    [
        ("fine", "task_complete", r"✓ \d+ ms"),
        ("fail", "task_error", r"✗ ConnectionError: refused\[2J — may run again"),
        ("refuse", "task_error", r"✗ not this one — failed"),
    ],
)
async def test_each_task_has_one_line(data: str, answer: str, said: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="celeriac.remote_worker")
    written: list[str] = []
    lines = TaskLines(written.append, most=10, as_json=False)
    async with (
        scripted_gateway() as gateway,
        working(RemoteWorker(gateway.url, handle, group="gpu", task_lines=lines)),
    ):
        visit = await gateway.visit()
        await visit.give(ID, data=data)
        await visit.hear(answer)
        await eventually(lambda: written, because="the task has ended")
        await visit.socket.close(1012, "bye")
        await gateway.visit()
        await eventually(lambda: caplog.text.count("connected as") >= 2, because="it says that it is back")
    assert [bool(re.fullmatch(rf"\d\d:\d\d:\d\d gpu remote 1ce9a18f {said}", line)) for line in written] == [True]
    assert "Traceback" not in caplog.text


async def test_a_script_is_told_in_one_sentence_why_it_is_refused() -> None:
    async def nobody(_: Any) -> None: ...

    def refuse(connection: Any, _: Any) -> Any:
        return connection.respond(401, '{"status": 401, "detail": "this is not a valid token"}')

    async with serve(nobody, "127.0.0.1", 0, process_request=refuse) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        script = f"from celeriac import RemoteWorker; RemoteWorker({url!r}, print).run()"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, out) == (2, b"")
    assert re.fullmatch(r"celeriac: the gateway at ws://\S+ refuses this worker: HTTP 401: .*token\n", err.decode())


async def test_a_script_without_logging_sees_what_happens() -> None:
    async with scripted_gateway() as gateway:
        script = f"from celeriac import RemoteWorker; RemoteWorker({gateway.url!r}, lambda task: 1).run()"
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stderr=subprocess.PIPE)
        visit = await gateway.visit()
        await visit.give(ID, data=1)
        await visit.hear("task_complete")
        process.terminate()
        await visit.hear("drain")
        _, err = await asyncio.wait_for(process.communicate(), 60)
    assert re.search(r"^\d\d:\d\d:\d\d connected as ", err.decode(), re.M)
    assert re.search(r"^\d\d:\d\d:\d\d default remote 1ce9a18f ✓ \d+ ms$", err.decode(), re.M)


async def test_a_notebook_is_told_what_to_call() -> None:
    with pytest.raises(RuntimeError, match=r"use `await worker\.run_async\(\)`"):
        RemoteWorker("http://127.0.0.1:1", handle).run()
