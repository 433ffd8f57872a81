"""Group commit: all transitions that a process asks for in one tick of its loop go out together.

The calls of one script become one EVALSHA with many items, and all scripts of a tick become one pipeline. While a
pipeline is on its way, calls gather for the next one. So the batches grow with the load, and an idle process sends
each call at once. One pipeline at a time also keeps the order of what happens to one task: a later tick is sent later,
and inside a tick the scripts run in the order of `ORDER`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from itertools import repeat
from typing import Any

from celeriac.store.server.scripts import Script

log = logging.getLogger(__name__)

#: Most items of one EVALSHA. It bounds how long one call occupies the server (about 20 µs per item).
MAX_ITEMS = 128

#: A task's reports and log lines are written before its end, and its claim before its reports.
ORDER = {
    name: rank
    for rank, name in enumerate(
        [
            "submit",
            "claim",
            "claim_remote",
            "progress",
            "delta",
            "log",
            "note_step",
            "complete",
            "complete_remote",
            "fail",
            "rate_limited",
        ]
    )
}

#: Runs `[(script, arguments)]` in one round trip and returns the replies (exceptions as values, of single items too).
Run = Callable[[Sequence[tuple[Script, list[Any]]]], Awaitable[list[Any]]]

#: Hears the reply to one item, or the error of its batch. What it raises is logged.
Heard = Callable[[Any], None]

_Item = tuple[Iterable[Any], "asyncio.Future[Any] | Heard"]


class Coalescer:
    """Gathers calls of batching scripts. `run` does the round trip; `common` returns a script's leading arguments."""

    def __init__(self, *, run: Run, common: Callable[[Script], list[Any]]) -> None:
        self._run = run
        self._common = common
        self._waiting: dict[Script, list[_Item]] = defaultdict(list)
        self._flusher: asyncio.Task[None] | None = None

    def call(self, script: Script, *values: Any) -> asyncio.Future[Any]:
        """Call `script` with one item; the future gets its reply, or the error of its batch."""
        return self.call_with(script, values)

    def call_with(self, script: Script, values: Iterable[Any]) -> asyncio.Future[Any]:
        """Call `script` as `call` does. `values` is gone through when the item is sent, and again if it is repeated."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.begin(script, values, future)
        return future

    def begin(self, script: Script, values: Iterable[Any], waiter: asyncio.Future[Any] | Heard) -> None:
        """Call `script` with one item, for a future or a function: a function costs less, and hears at once."""
        self._waiting[script].append((values, waiter))
        if self._flusher is None:
            self._flusher = asyncio.get_running_loop().create_task(self._flush())

    def call_each(self, script: Script, items: Sequence[tuple[Any, ...]]) -> asyncio.Future[list[Any]]:
        """Call `script` with each of the items; the future gets their replies in order, errors as values."""
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        replies: list[Any] = [None] * len(items)
        left = len(items)

        def heard(place: int, reply: Any) -> None:
            nonlocal left
            replies[place] = reply
            left -= 1
            if left == 0 and not future.done():
                future.set_result(replies)

        for place, values in enumerate(items):
            self.begin(script, values, partial(heard, place))
        if not items:
            future.set_result(replies)
        return future

    async def drain(self) -> None:
        """Wait until all calls have been answered."""
        while self._flusher is not None:
            await asyncio.wait([self._flusher])

    async def _flush(self) -> None:
        try:
            while self._waiting:
                batches = self._take()
                calls = [
                    (script, [*self._common(script), *(value for values, _ in items for value in values)])
                    for script, items in batches
                ]
                try:
                    replies = await self._run(calls)
                except BaseException as exc:
                    for _, items in batches:
                        _settle(items, exc)
                    if not isinstance(exc, Exception):
                        raise
                    continue
                for (called, items), reply in zip(batches, replies, strict=True):
                    if isinstance(reply, Exception) and len(items) > 1:
                        await self._one_by_one(called, items)
                    else:
                        _settle(items, reply)
        finally:
            self._flusher = None

    async def _one_by_one(self, called: Script, items: Sequence[_Item]) -> None:
        """Run the items of a batch that failed on the server again, one by one: a bad item must not fail the others.

        Items that succeeded in the batch are repeated; every script allows that.
        """
        for item in items:
            try:
                replies = await self._run([(called, [*self._common(called), *item[0]])])
            except Exception as exc:
                _settle([item], exc)
            else:
                _settle([item], replies[0])

    def _take(self) -> list[tuple[Script, list[_Item]]]:
        batches: list[tuple[Script, list[_Item]]] = []
        waiting, self._waiting = self._waiting, defaultdict(list)
        for script in sorted(waiting, key=lambda script: ORDER.get(script.name, len(ORDER))):
            items = waiting[script]
            batches += [(script, items[i : i + MAX_ITEMS]) for i in range(0, len(items), MAX_ITEMS)]
        return batches


def _settle(items: list[_Item], reply: Any) -> None:
    failed = isinstance(reply, BaseException)
    for (_, waiter), answer in zip(items, repeat(reply, len(items)) if failed else reply, strict=True):
        if not isinstance(waiter, asyncio.Future):
            try:
                waiter(answer)
            except Exception:
                # The others have nothing to do with it.
                log.exception("an answer of the store could not be passed on")
        elif waiter.done():
            continue
        elif failed or isinstance(answer, Exception):
            waiter.set_exception(answer)
        else:
            waiter.set_result(answer)
