"""Charts of SQLite: buckets that were counted are kept, and are counted again when a task in them has changed.

SQLite works in the process that asks, and sorts each task of a span for each chart. Nearly all of a span is over, and
does not change. The stamps of its minutes say so in the same state of the database (`database/minute_table.py`).
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar, cast

from sqlalchemy import func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from celeriac.database.minute_table import MINUTE_MS, minutes
from celeriac.database.task_tables import tasks
from celeriac.history.stats import Bucket, Durations, buckets_of, statements
from celeriac.history.stats_parts import Part, name_of

#: How many numbers are kept at most: about 25 MB.
MOST_NUMBERS: Final = 300_000

_c: Final = tasks.c
_T = TypeVar("_T")


@dataclass(slots=True)
class Share:
    """The tasks of one type or group that ended in one bucket."""

    ended: Counter[str] = field(default_factory=Counter)
    run: Durations = field(default_factory=Durations)
    wait: Durations = field(default_factory=Durations)


@dataclass(frozen=True, slots=True)
class _Kept(Generic[_T]):
    """What was counted of a bucket, when its stamps had this sum, and how many numbers it has."""

    value: _T
    stamp: int
    numbers: int


class KeptBuckets:
    """The buckets of one database; belongs to one event loop. Spans must consist of whole minutes.

    A connection must see one state of the database from the first statement on, as SQLite's do.
    """

    def __init__(self, most_numbers: int = MOST_NUMBERS) -> None:
        self._most = most_numbers
        #: How many numbers are kept.
        self.numbers = 0
        #: (what is counted, size, begin) → what was counted; the one that was not used for longest is the first.
        self._kept: OrderedDict[tuple[str, int, int], _Kept[Any]] = OrderedDict()

    async def buckets(self, connection: AsyncConnection, start_ms: int, end_ms: int, bucket_ms: int) -> list[Bucket]:
        """Return the buckets of a chart of all tasks. They are shared: they must not be changed."""

        async def count(start_ms: int, end_ms: int) -> list[Bucket]:
            replies = [
                (await connection.execute(statement)).all() for statement in statements(start_ms, end_ms, bucket_ms)
            ]
            return buckets_of(start_ms, end_ms, bucket_ms, *replies)

        def numbers(bucket: Bucket) -> int:
            return len(bucket.run.histogram) + len(bucket.wait.histogram)

        return await self._all(connection, "", range(start_ms, end_ms, bucket_ms), count, numbers)

    async def parts(
        self, connection: AsyncConnection, by: str, start_ms: int, end_ms: int, bucket_ms: int, *, most: int
    ) -> list[Part]:
        """Return the parts with the most tasks that ended, at most `most`; `by` is one of `DIVISIONS`."""

        async def count(start_ms: int, end_ms: int) -> list[dict[str, Share]]:
            return await _shares(connection, by, start_ms, end_ms, bucket_ms)

        def numbers(shares: Mapping[str, Share]) -> int:
            return sum(1 + len(one.run.histogram) + len(one.wait.histogram) for one in shares.values())

        of_buckets = await self._all(connection, by, range(start_ms, end_ms, bucket_ms), count, numbers)
        ended = Counter[str]()
        for shares in of_buckets:
            for name, one in shares.items():
                ended[name] += one.ended.total()
        parts = []
        for name in sorted(ended, key=lambda name: (-ended[name], name))[:most]:
            part = Part(name, [0] * len(of_buckets))
            for place, shares in enumerate(of_buckets):
                if (share := shares.get(name)) is not None:
                    part.counts[place] = share.ended.total()
                    part.ended.update(share.ended)
                    part.run.merge(share.run)
                    part.wait.merge(share.wait)
            parts.append(part)
        return parts

    async def _all(
        self,
        connection: AsyncConnection,
        kind: str,
        places: range,
        count: Callable[[int, int], Awaitable[Sequence[_T]]],
        numbers: Callable[[_T], int],
    ) -> list[_T]:
        """Return all buckets that begin at `places`; `count` reads those that are not kept."""
        stamps = await _stamps(connection, places)
        found: dict[int, _T] = {}
        for at in places:
            kept = self._kept.get((kind, places.step, at))
            if kept is not None and kept.stamp == stamps.get(at, 0):
                self._kept.move_to_end((kind, places.step, at))
                found[at] = cast("_T", kept.value)
        for start_ms, end_ms in _gaps(places, found):
            values = await count(start_ms, end_ms)
            for at, value in zip(range(start_ms, end_ms, places.step), values, strict=True):
                found[at] = value
                self._keep((kind, places.step, at), _Kept(value, stamps.get(at, 0), 1 + numbers(value)))
        return [found[at] for at in places]

    def _keep(self, key: tuple[str, int, int], kept: _Kept[Any]) -> None:
        if before := self._kept.pop(key, None):
            self.numbers -= before.numbers
        self._kept[key] = kept
        self.numbers += kept.numbers
        while self.numbers > self._most:
            _, oldest = self._kept.popitem(last=False)
            self.numbers -= oldest.numbers


def of_whole_minutes(start_ms: int, bucket_ms: int) -> bool:
    """Return whether the buckets from `start_ms` on have stamps."""
    return start_ms % MINUTE_MS == 0 and bucket_ms % MINUTE_MS == 0


async def _stamps(connection: AsyncConnection, places: range) -> dict[int, int]:
    """Return the sum of the stamps of each bucket that has any, by its begin."""
    c = minutes.c
    place = ((c.minute * literal(MINUTE_MS) - literal(places.start)) // literal(places.step)).label("place")
    found = (
        select(place, func.sum(c.stamp))
        .where(c.minute >= places.start // MINUTE_MS, c.minute < (places[-1] + places.step) // MINUTE_MS)
        .group_by(place)
    )
    return {places[number]: int(stamp) for number, stamp in await connection.execute(found)}


def _gaps(places: range, found: Mapping[int, Any]) -> Iterator[tuple[int, int]]:
    """Yield the spans of buckets that were not found: begin and end (ms)."""
    start_ms = None
    for at in places:
        if at not in found and start_ms is None:
            start_ms = at
        elif at in found and start_ms is not None:
            yield start_ms, at
            start_ms = None
    if start_ms is not None:
        yield start_ms, places[-1] + places.step


async def _shares(
    connection: AsyncConnection, by: str, start_ms: int, end_ms: int, bucket_ms: int
) -> list[dict[str, Share]]:
    """Return the shares of each bucket by type or group."""
    found: list[dict[str, Share]] = [{} for _ in range(start_ms, end_ms, bucket_ms)]
    bucket = ((_c.finished_ms - literal(start_ms)) // literal(bucket_ms)).label("bucket")
    name = name_of(by, sqlite=True)

    def counted(length: Any, *groups: Any) -> Any:
        return (
            select(bucket, name, *groups, func.count(), func.sum(length), func.max(length))
            .where(_c.finished_ms.is_not(None), _c.finished_ms >= start_ms, _c.finished_ms < end_ms)
            .group_by(bucket, name, *groups)
        )

    for row in await connection.execute(counted(_c.run_ms, _c.status, _c.run_class)):
        place, one, status, run_class, number, run_ms, longest = row
        share = found[place].setdefault(one, Share())
        share.ended[status] += number
        if run_class is not None:
            share.run.add(run_class, number, int(run_ms), longest)
    for place, one, wait_class, number, wait_ms, longest in await connection.execute(
        counted(_c.wait_ms, _c.wait_class)
    ):
        if wait_class is not None:
            found[place][one].wait.add(wait_class, number, int(wait_ms), longest)
    return found
