"""An event loop in a thread: starting, waiting, stopping, forks, and the end of the interpreter."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import CancelledError, Future

import pytest

from celeriac.threads.forking import call_after_fork, keep_inherited
from celeriac.threads.loop_thread import LoopThread


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    made = LoopThread("test-loop")
    yield made
    made.stop()


async def name_of_thread() -> str:
    return threading.current_thread().name


def test_any_thread_runs_coroutines_on_the_one_loop(thread: LoopThread) -> None:
    thread.start()
    thread.start()
    names: list[str] = []
    callers = [threading.Thread(target=lambda: names.append(thread.wait(name_of_thread()))) for _ in range(5)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert names == ["test-loop"] * 5
    assert thread.submit(name_of_thread()).result(5) == "test-loop"


def test_what_a_coroutine_raises_is_raised_to_the_caller(thread: LoopThread) -> None:
    async def work() -> None:
        raise LookupError("not there")

    thread.start()
    with pytest.raises(LookupError, match="not there"):
        thread.wait(work())


@pytest.mark.filterwarnings("error")
def test_a_loop_that_is_not_running_says_so(thread: LoopThread) -> None:
    for call in (thread.submit, thread.wait):
        with pytest.raises(RuntimeError, match="'test-loop' is not running"):
            call(name_of_thread())
    gc.collect()  # a coroutine that was not closed would warn here


@pytest.mark.filterwarnings("error")
def test_waiting_on_the_loop_itself_is_refused(thread: LoopThread) -> None:
    async def work() -> None:
        thread.wait(name_of_thread())

    thread.start()
    with pytest.raises(RuntimeError, match="await the coroutine there"):
        thread.wait(work())


def test_waiting_may_end_in_time_and_cancels_the_coroutine(thread: LoopThread) -> None:
    ended = threading.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    thread.start()
    with pytest.raises(TimeoutError):
        thread.wait(work(), 0.5)
    assert ended.wait(5)


def test_a_coroutine_cannot_end_the_loop_or_the_process(thread: LoopThread, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        asyncio.get_running_loop().create_task(leave())
        await asyncio.sleep(0.01)

    async def leave() -> None:
        raise SystemExit(3)

    thread.start()
    thread.wait(work())
    assert thread.wait(name_of_thread()) == "test-loop"
    assert "tried to end the process" in caplog.text


def test_stopping_cancels_what_runs_releases_who_waits_and_closes_the_loop(thread: LoopThread) -> None:
    ended: list[str] = []

    async def wait_for_ever() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("task")

    async def items() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            ended.append("generator")

    async def read_one() -> AsyncIterator[int]:
        reading = items()
        await anext(reading)
        return reading

    thread.start()
    loop = thread.loop
    waiting: Future[None] = thread.submit(wait_for_ever())
    reading = thread.wait(read_one())
    thread.stop()
    thread.stop()
    assert ended == ["task", "generator"]
    with pytest.raises(CancelledError):
        waiting.result(5)
    assert loop.is_closed()
    assert not thread.running
    del reading


def test_it_may_be_started_again(thread: LoopThread) -> None:
    for _ in range(3):
        thread.start()
        assert thread.wait(name_of_thread()) == "test-loop"
        thread.stop()


def test_abandoning_leaves_what_runs_and_late_calls_are_no_error(thread: LoopThread) -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("cancelled")

    thread.start()
    loop = thread.loop
    left = thread.submit(work())
    thread.stop(abandon=True)
    loop.call_soon_threadsafe(ended.append, "called")
    assert ended == []
    assert not left.done()
    loop.call_soon(loop.stop)
    loop.run_forever()  # lets the loop end in good order, for this test's sake
    loop.run_until_complete(_cancel_all())
    loop.close()


async def _cancel_all() -> None:
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()


def test_a_blocked_loop_does_not_block_the_stop(caplog: pytest.LogCaptureFixture) -> None:
    thread = LoopThread("stuck")
    go_on = threading.Event()

    async def block() -> None:
        go_on.wait(30)

    thread.start()
    thread.submit(block())
    began = time.monotonic()
    thread.stop(0.1)
    assert time.monotonic() - began < 5
    assert "'stuck' did not end" in caplog.text
    go_on.set()


def test_a_signal_handler_may_stop_it_while_the_main_thread_waits() -> None:
    code = """
import asyncio, signal, threading, os
from celeriac.threads.loop_thread import LoopThread
thread = LoopThread("x")
def handle(*_):
    thread.stop()
    raise SystemExit(7)
signal.signal(signal.SIGTERM, handle)
thread.start()
threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
thread.wait(asyncio.sleep(60))
"""
    assert run(code) == (7, "")


def in_child(check: Callable[[], bool]) -> bool:
    """Fork, and return what `check` says in the child."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if check() else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_starts_a_loop_of_its_own_and_the_parents_goes_on(thread: LoopThread) -> None:
    thread.start()
    server_side: list[asyncio.StreamWriter] = []

    async def serve() -> asyncio.Server:
        return await asyncio.start_server(lambda _, writer: server_side.append(writer), "127.0.0.1", 0)

    async def connect(port: int) -> asyncio.StreamReader:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        opened.append(writer)
        return reader

    opened: list[asyncio.StreamWriter] = []
    server = thread.wait(serve())
    reader = thread.wait(connect(server.sockets[0].getsockname()[1]))

    def check() -> bool:
        if thread.running:
            return False
        thread.stop()
        thread.start()
        again = thread.wait(name_of_thread()) == "test-loop"
        keep_inherited(*opened)  # without this its finaliser would close the parent's connection
        opened.clear()
        gc.collect()
        thread.stop()
        return again

    assert in_child(check)
    assert thread.running

    async def say() -> None:
        server_side[0].write(b"hello\n")
        await server_side[0].drain()

    thread.wait(say(), 5)
    assert thread.wait(reader.readline(), 5) == b"hello\n", "the child did not take the parent's connections apart"
    thread.wait(close(server))


async def close(server: asyncio.Server) -> None:
    server.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_lock_that_another_thread_held_at_the_fork_does_not_stop_the_child(thread: LoopThread) -> None:
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with thread._lock:
            held.set()
            release.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(5)

    def check() -> bool:
        thread.start()
        return thread.wait(name_of_thread()) == "test-loop"

    assert in_child(check)
    release.set()
    holder.join()


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_lets_the_objects_that_live_forget() -> None:
    class Owner:
        calls = 0

        def after_fork(self) -> None:
            self.calls += 1
            Owner.calls += 1

    kept, gone = Owner(), Owner()
    call_after_fork(kept)
    call_after_fork(gone)
    del gone
    gc.collect()
    assert in_child(lambda: kept.calls == 1 and Owner.calls == 1)
    assert kept.calls == 0


def run(code: str) -> tuple[int, str]:
    """Run a program; return its exit code and what it wrote to standard error."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore::ResourceWarning", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


def test_the_interpreter_ends_in_time_and_without_a_word_while_the_loop_works() -> None:
    code = """
import asyncio
from celeriac.threads.loop_thread import LoopThread
async def work():
    while True:
        await asyncio.sleep(0)
thread = LoopThread("busy")
thread.start()
for _ in range(3):
    thread.submit(work())
"""
    began = time.monotonic()
    assert run(code) == (0, "")
    assert time.monotonic() - began < 30


def test_an_exit_handler_may_still_use_it() -> None:
    code = """
import asyncio, atexit
from celeriac.threads.loop_thread import LoopThread
thread = LoopThread("x")
thread.start()
atexit.register(lambda: print(thread.wait(asyncio.sleep(0.01, "said"))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "said\n"
