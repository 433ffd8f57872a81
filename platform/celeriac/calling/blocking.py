"""The thread on which the work of blocking calls is done, one for the whole process.

Connections live on its event loop, so any thread and any other event loop may use them. It begins with the first call,
and anew in a forked child.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from typing import Any, Final, TypeVar

from celeriac.errors import BlockingCallError
from celeriac.threads.loop_thread import LoopThread
from celeriac.threads.os_threads import wait_for

T = TypeVar("T")

_THREAD: Final = LoopThread("celeriac-calls")
_END: Final = object()


def block_on(work: Coroutine[Any, Any, T], *, call: str = "", instead: str = "") -> T:
    """Do `work` on the thread, wait for it, and return its result.

    If the wait is interrupted, the work is cancelled. Raises `BlockingCallError` on a running event loop, which names
    the call and what to await instead. An interactive shell such as Jupyter may block its loop, and so may work that is
    short at any time, for which `instead` is "".
    """
    if instead and on_running_loop() and not _in_interactive_shell():
        work.close()
        raise BlockingCallError(call, instead)
    _THREAD.start()
    future = _THREAD.submit(work)
    try:
        wait_for(future)
    except BaseException:
        future.cancel()
        raise
    return future.result()


async def awaited(work: Coroutine[Any, Any, T]) -> T:
    """Do `work` on the thread, and return its result to the caller's event loop; to cancel one cancels the other."""
    _THREAD.start()
    return await asyncio.wrap_future(_THREAD.submit(work))


def finish(work: Coroutine[Any, Any, object], timeout_s: float) -> None:
    """Do `work` on the thread as the process ends, for at most so long, if the thread runs."""
    if not _THREAD.running:
        work.close()
        return
    with contextlib.suppress(Exception):
        _THREAD.wait(work, timeout_s)


def block_on_each(items: AsyncGenerator[T], *, call: str, instead: str) -> Iterator[T]:
    """Yield the items of a generator that runs on the thread; see `block_on`."""
    try:
        while (item := block_on(_next(items), call=call, instead=instead)) is not _END:
            yield item  # type: ignore[misc]
    finally:
        _close(items)


async def awaited_each(items: AsyncGenerator[T]) -> AsyncIterator[T]:
    """Yield the items of a generator that runs on the thread to the caller's event loop."""
    try:
        while (item := await awaited(_next(items))) is not _END:
            yield item  # type: ignore[misc]
    finally:
        _close(items)


async def _next(items: AsyncGenerator[T]) -> T | object:
    return await anext(items, _END)


def _close(items: AsyncGenerator[Any]) -> None:
    # Nobody waits for this: the garbage collector may close the caller's iterator, in any thread.
    with contextlib.suppress(RuntimeError):
        _THREAD.submit(_closed(items))


async def _closed(items: AsyncGenerator[Any]) -> None:
    await items.aclose()


def on_running_loop() -> bool:
    """Whether the caller is on a running event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _in_interactive_shell() -> bool:
    """Whether this process is IPython's or Jupyter's, where a cell that waits may block the loop that runs it."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None
