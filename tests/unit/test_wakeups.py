"""The engine under the live feeds: wake-ups that coalesce, and readers that read on from a position."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from celeriac.errors import StoreUnavailableError
from celeriac.store.watching.wakeups import FeedPage, FeedReader, Listener, Wakeups, read_on, read_pages
from tests.kit.waiting import eventually

PAGE = 3


class Stream:
    """A stream of numbers in memory, with one channel."""

    def __init__(self, held: Iterable[int] = ()) -> None:
        self.items = list(held)
        self.closed = False
        self.away = False
        self.reads = 0
        self.listeners: list[Listener] = []

    async def listen(self, channel: str, listener: Listener) -> Callable[[], None]:
        self.listeners.append(listener)
        listener(None)
        return lambda: self.listeners.remove(listener)

    def add(self, *items: int, wake: bool = True) -> None:
        self.items += items
        if wake:
            self.wake()

    def wake(self) -> None:
        for listener in self.listeners:
            listener("new")

    async def read(self, after: str) -> FeedPage[int]:
        await asyncio.sleep(0)
        self.reads += 1
        if self.away:
            raise StoreUnavailableError("away")
        start = int(after)
        page = self.items[start : start + PAGE]
        return FeedPage(page, str(start + len(page)), more=len(page) == PAGE, ended=-1 in page)

    def follow(self, after: str = "0", idle_s: float = 60) -> AsyncGenerator[int | None, None]:
        return read_on(self, ["channel"], self.read, after, idle_s=idle_s)


async def test_what_is_held_comes_first_and_then_what_is_new_each_once() -> None:
    stream = Stream(range(10))
    seen: list[int | None] = []

    async def follow() -> None:
        async for item in stream.follow():
            seen.append(item)

    following = asyncio.create_task(follow())
    await eventually(lambda: len(seen) == 10, because="it was held")
    for item in range(10, 20):
        stream.add(item)
        await asyncio.sleep(0)
    await eventually(lambda: len(seen) == 20, because="it is live")
    stream.add(-1)
    await following
    assert seen == [*range(20), -1]
    assert stream.listeners == []


async def test_what_is_added_between_the_read_and_the_wait_is_not_missed() -> None:
    stream = Stream([1])
    async with aclosing(stream.follow()) as items:
        assert await anext(items) == 1
        # The consumer still has the first item in hand: the reader does not wait yet.
        stream.add(2)
        assert await asyncio.wait_for(anext(items), 5) == 2


async def test_a_consumer_that_takes_nothing_costs_one_page() -> None:
    stream = Stream()
    async with aclosing(stream.follow()) as items:
        stream.add(0)
        assert await anext(items) == 0
        for item in range(1, 1000):
            stream.add(item)
        assert stream.reads == 1
        assert [await anext(items) for _ in range(999)] == list(range(1, 1000))
        assert stream.reads <= 2 + 999 // PAGE


async def test_a_quiet_reader_and_one_whose_store_is_away_yield_none_and_keep_their_place() -> None:
    stream = Stream([1])
    async with aclosing(stream.follow(idle_s=0.01)) as items:
        assert [await anext(items) for _ in range(3)] == [1, None, None]
        stream.away = True
        stream.add(2)
        assert await anext(items) is None
        stream.away = False
        assert await anext(items) == 2


async def test_closing_the_channels_ends_a_reader() -> None:
    stream = Stream([1])
    following = asyncio.create_task(_all(stream.follow()))
    await eventually(lambda: stream.reads == 1, because="it reads")
    stream.closed = True
    stream.wake()
    assert await following == [1]


async def _all(items: AsyncGenerator[Any, None]) -> list[Any]:
    return [item async for item in items]


async def test_catching_up_is_bounded_and_says_what_is_left() -> None:
    stream = Stream(range(10))
    assert await read_pages(stream.read, "0", most=2) == FeedPage([0, 1, 2, 3, 4, 5], "6", more=True)
    assert await read_pages(stream.read, "6", most=2) == FeedPage([6, 7, 8, 9], "10")


@given(st.lists(st.one_of(st.sampled_from("abcdef"), st.integers(0, 4))))
def test_each_name_that_was_woken_is_taken_once_in_order(steps: list[str | int]) -> None:
    async def play() -> None:
        wakeups, due = Wakeups(), list[str]()
        for step in steps:
            if isinstance(step, str):
                wakeups.wake([step])
                due += [step] if step not in due else []
            else:
                assert wakeups.take(step) == due[:step]
                due = due[step:]
            assert await wakeups.wait(0) is bool(due)
        assert wakeups.take() == due

    asyncio.run(play())


class Reader(FeedReader):
    """Notes its looks; the first of them fail."""

    def __init__(self, *, failures: int = 0, every_s: float | None = None) -> None:
        super().__init__(at_once=2)
        self.looks: list[list[str]] = []
        self._failures = failures
        self._every_s = every_s

    @property
    def every_s(self) -> float | None:
        return self._every_s

    async def followed(self) -> list[str]:
        return ["x", "y", "z"]

    async def look(self, names: Sequence[str]) -> None:
        self.looks.append(list(names))
        if self._failures:
            self._failures -= 1
            raise StoreUnavailableError("away")


async def test_a_shared_reader_reads_what_was_woken_so_many_at_once() -> None:
    reader = Reader()
    reader.wake(["a", "b", "a", "c"])
    await reader.start()
    await eventually(lambda: reader.looks == [["a", "b"], ["c"]], because="all are read")
    await reader.stop()


async def test_a_shared_reader_repeats_a_look_that_failed() -> None:
    reader = Reader(failures=1)
    reader.wake(["a"])
    await reader.start()
    await eventually(lambda: reader.looks == [["a"], ["a"]], because="the store is back")
    await reader.stop()


async def test_a_shared_reader_looks_at_all_feeds_now_and_then_also_while_one_is_busy() -> None:
    reader = Reader(every_s=0.05)
    await reader.start()

    def busy() -> bool:
        reader.wake(["a"])
        return sum("z" in names for names in reader.looks) >= 3

    await eventually(busy, because="a busy feed does not keep the others from being looked at")
    await reader.stop()
