"""Types of tasks that submit themselves: from scripts, threads, forks, event loops, notebooks, and tasks."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.kit.command_line import REPOSITORY, clean_environment
from tests.kit.up.running_up import RunningUp

HERE = "there is nothing to submit tasks to: run `celeriac up` in this folder or in one above it, or set CELERIAC_URL"


@pytest.fixture(scope="module", params=["the store", "the API"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Project:
    """A folder with tasks, in which `celeriac up` runs, and a folder in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.below = folder / "notebooks" / "drafts"
        self.below.mkdir(parents=True)
        shutil.copy(REPOSITORY / "tests/kit/up/typed_project.py", folder / "mytasks.py")
        (folder / "celeriac.yaml").write_text("imports: [mytasks]\n")
        self.environ: dict[str, str] = {}

    async def run(self, *arguments: str, **environ: str) -> str:
        """Run Python in the folder below, and return what it printed."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            cwd=self.below,
            env=clean_environment(PYTHONPATH=str(self.folder), **{**self.environ, **environ}),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await asyncio.wait_for(process.communicate(), 120)
        return out.decode()

    async def code(self, code: str, **environ: str) -> str:
        """Run a program that has imported the tasks."""
        return await self.run("-c", "from mytasks import *\n" + textwrap.dedent(code), **environ)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Project]:
    project = Project(tmp_path_factory.mktemp("typed"))
    with RunningUp(project.folder / ".celeriac", cwd=project.folder) as up:
        await up.ready()
        yield project
        assert await up.stop(signal.SIGINT) == 0


@pytest.fixture
def project(running: Project, way: str) -> Project:
    if way == "the API":
        run_file = (running.folder / ".celeriac" / "run.json").read_text()
        running.environ = {"CELERIAC_URL": json.loads(run_file)["http"]}
    else:
        running.environ = {}
    return running


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_script_submits_its_own_tasks(project: Project) -> None:
    assert (await project.run("../../mytasks.py")).splitlines() == [
        "10 True completed",
        "['written'] ['a report']",
        "3 10 None",
        "5",
        "cancelled",
    ]


async def test_handlers_submit_to_the_store_of_their_worker(project: Project) -> None:
    said = await project.code(
        """
        print(within.run(1), within_thread.run(2))
        try:
            blocks.run(3)
        except Exception as exc:
            print(type(exc).__name__, exc)
        """
    )
    first, second = said.splitlines()
    assert first == "10 4"
    assert second.startswith("TaskFailedError")
    assert "report.run() would block the running event loop: use await report.arun()" in second


async def test_a_result_of_another_type_is_an_error_that_names_it(project: Project) -> None:
    said = await project.code(
        """
        try:
            broken.run(3)
        except Exception as exc:
            print(type(exc).__name__, exc)
        """
    )
    assert said.startswith("InvalidResultError the result of task '")
    assert "is not what 'broken' says that it returns: result" in said


async def test_threads_share_the_connection(project: Project) -> None:
    said = await project.code(
        """
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(16) as pool:
            print(sum(found.pages for found in pool.map(lambda n: report.run(n, pages=n), range(100))))
        """
    )
    assert said.strip() == "4950"


async def test_a_forked_child_and_its_parent_go_on(project: Project) -> None:
    said = await project.code(
        """
        import os, sys
        handle = report.options(delay="1h").submit(1)
        print(report.run(1).pages, flush=True)
        for _ in range(3):
            if (child := os.fork()) == 0:
                print(report.run(2, pages=2).pages, handle.status, flush=True)
                os._exit(0)
            os.waitpid(child, 0)
        print(report.run(3, pages=3).pages, handle.status, handle.cancel())
        """
    )
    assert said.splitlines() == ["10", *["2 scheduled"] * 3, "3 scheduled cancelled"]


async def test_an_event_loop_awaits_and_is_told_what_to_await(project: Project) -> None:
    said = await project.code(
        """
        import asyncio
        async def main():
            handle = await report.asubmit(customer=7)
            print(handle.status in ("pending", "processing", "completed"))
            for blocking in (lambda: report.submit(1), lambda: report.delay(1), lambda: report.run(1), handle.result,
                             handle.wait, handle.cancel, handle.retry, handle.record, lambda: next(handle.progress()),
                             lambda: next(handle.log())):
                try:
                    blocking()
                except RuntimeError as exc:
                    print(exc)
            print((await handle.aresult(60)).pages, handle.status, (await handle.await_done()).status)
            print([one.stage async for one in handle.aprogress()], [one.message async for one in handle.alog()])
            print(sum([one.pages for one in await asyncio.gather(*(report.arun(n, pages=n) for n in range(100)))]))
            late = await report.options(delay="1h").asubmit(1)
            print(late.status, await late.acancel(), await late.astatus(), await late.aretry())
        asyncio.run(main())
        asyncio.run(main())
        """
    )
    block = "would block the running event loop: use"
    once = [
        "True",
        *(f"report.{call}() {block} await report.{twin}()" for call, twin in
          (("submit", "asubmit"), ("delay", "asubmit"), ("run", "arun"))),
        *(f"{call}() {block} await {twin}()" for call, twin in
          (("result", "aresult"), ("wait", "await_done"), ("cancel", "acancel"), ("retry", "aretry"),
           ("record", "arecord"))),
        *(f"{call}() {block} async for … in a{call}()" for call in ("progress", "log")),
        "10 completed completed",
        "['written'] ['a report']",
        "4950",
        "scheduled cancelled cancelled pending",
    ]  # fmt: skip
    assert said.splitlines() == once * 2


async def test_a_wait_that_is_interrupted_or_cancelled_leaves_the_task_alone(project: Project) -> None:
    said = await project.code(
        """
        import asyncio, signal, threading, os
        handle = report.options(delay="1h").submit(1)
        # A shell that runs the tests in the background has them ignore it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
            handle.result()
        except KeyboardInterrupt:
            print("interrupted", handle.status)
        async def main():
            try:
                await asyncio.wait_for(handle.aresult(), 0.2)
            except TimeoutError:
                print("in time", await handle.astatus())
        asyncio.run(main())
        try:
            handle.result(timeout=0.1)
        except TimeoutError as exc:
            print(exc)
        handle.cancel()
        """
    )
    first, second, third = said.splitlines()
    assert (first, second) == ("interrupted scheduled", "in time scheduled")
    assert "is still scheduled after 0.1 s" in third


CELLS = [
    "from mytasks import *",
    "handle = report.submit(customer=7)\nprint(handle.result(60).pages, handle.status)",
    "print((await (await report.asubmit(8, pages=2)).aresult(60)).pages)",
    "print(report.run(1).pages, [one.stage for one in handle.progress()])",
]


async def test_cells_of_a_notebook_block_and_await(project: Project) -> None:
    manager = pytest.importorskip("jupyter_client").manager
    environ = clean_environment(PYTHONPATH=str(project.folder), **project.environ)

    def run() -> list[str]:
        kernel, client = manager.start_new_kernel(cwd=str(project.below), env=environ)
        printed: list[str] = []

        def hear(message: dict[str, Any]) -> None:
            content = message["content"]
            printed.extend(content.get("text", "").splitlines() or content.get("traceback", []))

        try:
            for cell in CELLS:
                client.execute_interactive(cell, output_hook=hear, timeout=60)
        finally:
            client.stop_channels()
            kernel.shutdown_kernel(now=True)
        return printed

    assert await asyncio.to_thread(run) == ["10 completed", "2", "10 ['written']"]


async def test_nothing_that_runs_is_one_sentence(tmp_path: Path) -> None:
    project = Project(tmp_path)
    said = await project.code(
        """
        import asyncio
        for call in (lambda: report.submit(1), lambda: asyncio.run(report.asubmit(1))):
            try:
                call()
            except Exception as exc:
                print(type(exc).__name__, exc)
        """
    )
    assert said.splitlines() == [f"SettingsError {HERE} to the address of an API or REDIS_URL to that of a store"] * 2


async def test_a_platform_that_is_started_again_is_found_again(tmp_path: Path) -> None:
    project = Project(tmp_path)
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-uc",
        "from mytasks import *\nfor line in iter(input, 'end'):\n    print(report.run(int(line)).customer)\n",
        cwd=project.below,
        env=clean_environment(PYTHONPATH=str(project.folder)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert program.stdin is not None
    assert program.stdout is not None
    for number in (b"1\n", b"2\n"):
        with RunningUp(project.folder / ".celeriac", cwd=project.folder) as up:
            await up.ready()
            program.stdin.write(number)
            assert await asyncio.wait_for(program.stdout.readline(), 60) == number
            assert await up.stop() == 0
    program.stdin.write(b"end\n")
    assert await asyncio.wait_for(program.wait(), 30) == 0


async def test_the_end_of_a_process_says_nothing(project: Project) -> None:
    assert (await project.code("print(report.submit(1).id != '')")).splitlines() == ["True"]
