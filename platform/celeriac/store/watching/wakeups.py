"""The engine under all live feeds: a message only wakes, and the reader reads on from its own position.

- A reader subscribes first and reads afterwards. So what is held joins what is live without a gap.
- Its position moves only over what was read. So nothing comes twice, and a wake-up that got lost is made good by the
  next look.
- Wake-ups coalesce, and one page is read at a time. So a slow reader costs no memory: what it has not read yet waits
  in the store.
- While the store is away, a reader pauses and keeps its position.

`read_on` serves one consumer at its own pace. `FeedReader` is one loop that reads many feeds for many consumers.
`read_pages` catches up once, within a bound.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, Protocol, TypeVar

from celeriac.errors import StoreRefusedError, StoreUnavailableError
from celeriac.store.patience import PAUSE_S
from celeriac.store.roles.role import Role

T = TypeVar("T")

#: Called with the text of each message, and with None when messages may have been missed.
Listener = Callable[[str | None], None]


@dataclass(frozen=True, slots=True)
class FeedPage(Generic[T]):
    """What one look from a position brought."""

    items: Sequence[T]
    #: Where to read on.
    position: str
    #: There is more to read right now.
    more: bool = False
    #: Nothing will follow.
    ended: bool = False


#: Reads one page of a feed, from after a position on.
ReadPage = Callable[[str], Awaitable[FeedPage[T]]]


class Channels(Protocol):
    """Where a reader hears of what is new; `LiveHub` is the real one."""

    @property
    def closed(self) -> bool:
        """Whether all readers should end: the process is about to stop."""
        ...

    async def listen(self, channel: str, listener: Listener) -> Callable[[], None]:
        """Call `listener` for each message; returns what ends that."""
        ...


class Wakeups:
    """The names of the feeds that should be read: each name once, however often it was woken."""

    def __init__(self) -> None:
        self._due: dict[str, None] = {}
        self._any = asyncio.Event()

    def wake(self, names: Iterable[str]) -> None:
        """Have these feeds read soon."""
        self._due.update(dict.fromkeys(names))
        if self._due:
            self._any.set()

    def take(self, most: int | None = None) -> list[str]:
        """Return up to `most` names in the order in which they were woken; they count as read."""
        names = list(islice(self._due, most))
        for name in names:
            del self._due[name]
        if not self._due:
            self._any.clear()
        return names

    async def wait(self, within_s: float | None) -> bool:
        """Wait until a name is there to take; returns False if none came within the time (None: no limit)."""
        try:
            async with asyncio.timeout(within_s):
                await self._any.wait()
        except TimeoutError:
            return False
        return True


async def read_on(
    channels: Channels, names: Sequence[str], read: ReadPage[T], after: str, *, idle_s: float
) -> AsyncGenerator[T | None, None]:
    """Yield what follows the position `after`: what is held, then live, each item once and in order.

    A message on one of the channels `names` wakes the reader. Yields None after `idle_s` quiet seconds and while the
    store is away. Ends after a page that says so, and when the channels close. Errors of `read` other than
    `StoreUnavailableError` end it too, and so does a refusal that would come again (`StoreRefusedError`).
    """
    wakeups = Wakeups()
    with contextlib.ExitStack() as listening:
        for name in names:
            listening.callback(await channels.listen(name, lambda _: wakeups.wake(names)))
        while not channels.closed:
            wakeups.take()
            try:
                page = await read(after)
            except StoreRefusedError:
                raise
            except StoreUnavailableError:
                yield None
                await asyncio.sleep(PAUSE_S)
                continue
            for item in page.items:
                yield item
            after = page.position
            if page.ended:
                return
            if not page.more and not await wakeups.wait(idle_s):
                yield None


async def read_pages(read: ReadPage[T], after: str, *, most: int) -> FeedPage[T]:
    """Return what follows a position, from at most `most` pages as one; its `more` says whether that was not all."""
    items: list[T] = []
    for _ in range(most):
        page = await read(after)
        items += page.items
        after = page.position
        if not page.more:
            return FeedPage(items, after, ended=page.ended)
    return FeedPage(items, after, more=True)


class FeedReader(Role):
    """One loop that reads the feeds that were woken, many in one look, and looks at all of them now and then.

    A look that failed is repeated after a pause, with the feeds that were woken meanwhile.
    """

    pause_after_failure_s = PAUSE_S

    def __init__(self, *, at_once: int) -> None:
        super().__init__()
        self._at_once = at_once
        self._wakeups = Wakeups()
        self._looked_at_s = float("-inf")

    def wake(self, names: Iterable[str]) -> None:
        """Have these feeds read soon. It may be called before `start`."""
        self._wakeups.wake(names)

    @property
    def every_s(self) -> float | None:
        """Seconds between two looks at all feeds; None while only wake-ups count."""
        return None

    async def followed(self) -> Iterable[str]:
        """Return the feeds to look at every `every_s`. What else is due as often can be done here."""
        return ()

    @abstractmethod
    async def look(self, names: Sequence[str]) -> None:
        """Read these feeds from their positions on, and pass on what came. A feed with more is woken again."""

    async def step(self) -> float:
        """Wait for a wake-up or for the time, and look once."""
        now_s = asyncio.get_running_loop().time()
        left_s = None if self.every_s is None else self._looked_at_s + self.every_s - now_s
        all_due = left_s is not None and left_s <= 0
        if all_due or not await self._wakeups.wait(left_s):
            self.wake(await self.followed())
            all_due = True
        names = self._wakeups.take(self._at_once)
        try:
            if names:
                await self.look(names)
        except BaseException:
            self.wake(names)
            raise
        if all_due:
            self._looked_at_s = asyncio.get_running_loop().time()
        return 0
