"""Threads for plain functions: short functions share one, and a function that waits holds nothing up."""

from __future__ import annotations

import asyncio
import threading

import pytest

from celeriac.threads.daemon_threads import DaemonThreads


async def test_a_function_that_waits_holds_no_other_one_up() -> None:
    threads = DaemonThreads(3, name="unit")
    released = threading.Event()
    waiting = [threads.call(released.wait) for _ in range(2)]
    assert await asyncio.gather(*(threads.call(lambda n=n: n) for n in range(100))) == [*range(100)]  # type: ignore[misc]
    assert not any(one.done() for one in waiting)
    released.set()
    assert await asyncio.gather(*waiting) == [True, True]
    threads.shutdown()


async def test_as_many_functions_wait_at_once_as_there_are_threads() -> None:
    threads = DaemonThreads(4, name="unit")
    together = threading.Barrier(4)
    for _ in range(20):
        assert sorted(await asyncio.gather(*(threads.call(together.wait) for _ in range(4)))) == [0, 1, 2, 3]
    threads.shutdown()


async def test_more_functions_than_threads_run_in_their_order() -> None:
    threads, order = DaemonThreads(1, name="unit"), list[int]()
    await asyncio.gather(*(threads.call(lambda n=n: order.append(n)) for n in range(50)))  # type: ignore[misc]
    assert order == [*range(50)]
    threads.shutdown()


async def test_what_a_function_raises_arrives_and_its_thread_goes_on() -> None:
    threads = DaemonThreads(1, name="unit")

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await threads.call(fail)
    with pytest.raises(ValueError, match="no"):
        threads.submit(fail).result()
    assert threads.submit(lambda: 7).result() == 7
    threads.shutdown()


async def test_a_call_that_was_cancelled_before_its_turn_does_not_run() -> None:
    threads, begun = DaemonThreads(1, name="unit"), list[str]()
    released = threading.Event()
    first = threads.call(released.wait)
    second = threads.call(lambda: begun.append("second"))
    second.cancel()
    released.set()
    await first
    await threads.call(lambda: begun.append("third"))
    assert begun == ["third"]
    threads.shutdown()


async def test_threads_end_when_they_are_told_to_and_have_done_their_work() -> None:
    threads = DaemonThreads(3, name="ending")
    done = [threads.submit(lambda: threading.current_thread()) for _ in range(3)]
    threads.shutdown()
    for thread in {one.result() for one in done}:
        thread.join(30)
        assert not thread.is_alive()
