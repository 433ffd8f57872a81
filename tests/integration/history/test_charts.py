"""Charts, counts and the histogram say what a plain count of the same tasks says, whatever happens to the tasks."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import pytest
from sqlalchemy import delete, event, select

from celeriac.database.engine import reading, writing
from celeriac.database.minute_table import MINUTE_MS, minutes
from celeriac.database.task_tables import tasks
from celeriac.history.chart_record import Span, chart_record, part_records, slow_records, span_of
from celeriac.history.durations import class_of, middle_of
from celeriac.history.history import History
from celeriac.history.kept_buckets import KeptBuckets
from celeriac.history.minute_stamps import MinuteStamps
from celeriac.history.pruner import Pruner
from celeriac.history.rows import row_of
from celeriac.history.stats import StatsOptions
from celeriac.history.writing import Writer
from celeriac.model import Event, Status, rfc3339, utc_from_ms
from celeriac.settings import Settings
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.feed import FeedEntry
from celeriac.store.watching.standings import server_ms
from celeriac.task_filter import TaskFilter

BEGIN_MS = 1_896_076_800_000
HOUR_MS = 60 * MINUTE_MS
#: What tasks of this file are about.
LENGTH_MS = 3 * HOUR_MS
ENDED = ("COMPLETED", "FAILED", "CANCELLED")
OPEN = ("PENDING", "PROCESSING", "SCHEDULED")
EVERYTHING: StatsOptions = {"task_type": None, "queue": None, "user_id": None, "key": None}
SPANS = [
    span_of(utc_from_ms(BEGIN_MS), utc_from_ms(BEGIN_MS + LENGTH_MS), "5m"),
    span_of(utc_from_ms(BEGIN_MS + 90 * MINUTE_MS), utc_from_ms(BEGIN_MS + 120 * MINUTE_MS + 1), "1m"),
    span_of(utc_from_ms(BEGIN_MS), utc_from_ms(BEGIN_MS + 1), "1d"),
]


class World:
    """Tasks that are written into a history, and their records."""

    def __init__(self, history: History, seed: int) -> None:
        self.records: dict[str, dict[str, str]] = {}
        self.history = history
        self.chance = random.Random(seed)
        self._writer = Writer(history.engine, progress="last")

    async def write(self, records: Iterable[dict[str, str]]) -> None:
        """Write records, as a recorder does; an older state changes nothing."""
        given = list(records)
        await self._writer.write({record["task_id"]: row_of(record) for record in given}, [])
        for record in given:
            before = self.records.get(record["task_id"])
            if before is None or int(record["rev"]) > int(before["rev"]):
                self.records[record["task_id"]] = record

    async def add(self, number: int) -> None:
        """Write new tasks; most of them have ended."""
        pick = self.chance.choice
        new = []
        for _ in range(number):
            created_ms = BEGIN_MS + self.chance.randrange(LENGTH_MS)
            record = {
                "task_id": f"{self.chance.getrandbits(64):016x}", "rev": "1", "payload": "{}", "attempt": "1",
                "type": f"type{self.chance.randrange(4)}", "queue": pick(("default", "media", "Ünï")),
                "status": pick(OPEN), "created_at": at(created_ms), "updated_at": at(created_ms),
                "user_id": pick(("ada", "bob")), "key": pick(("k", "l")),
            }  # fmt: skip
            new.append(self.ended(record, created_ms) if self.chance.random() < 0.8 else record)
        await self.write(new)

    def ended(self, record: dict[str, str], after_ms: int) -> dict[str, str]:
        """Return the next state of a task: it has ended. Some never started, of some it is not known since when."""
        started_ms = after_ms + self.chance.randrange(0, 3000)
        finished_ms = started_ms + self.chance.choice((0, 1, 7, 250, 100_000, 2_000_000)) + self.chance.randrange(9)
        record = {**record, "rev": str(int(record["rev"]) + 1), "status": self.chance.choice(ENDED)}
        record |= {"finished_at": at(finished_ms), "updated_at": at(finished_ms)}
        if self.chance.random() < 0.9:
            record["started_at"] = at(started_ms)
            if self.chance.random() < 0.9:
                record["pending_ms"] = str(after_ms + self.chance.randrange(-5, 5))
        return record

    def some(self, statuses: Sequence[str], most: int) -> list[dict[str, str]]:
        """Return up to `most` tasks with one of the statuses."""
        found = [record for record in self.records.values() if record["status"] in statuses]
        return self.chance.sample(found, min(most, len(found)))

    async def finish(self) -> None:
        """Let tasks end late: in minutes that are long over."""
        await self.write(self.ended(record, ms(record["created_at"])) for record in self.some(OPEN, 20))

    async def run_again(self) -> None:
        """Retry ended tasks: they have not ended any more."""
        gone = ("finished_at", "started_at", "pending_ms")
        again = []
        for record in self.some(ENDED, 15):
            kept = {name: value for name, value in record.items() if name not in gone}
            again.append({**kept, "rev": str(int(record["rev"]) + 1), "status": "PENDING"})
        await self.write(again)

    async def repeat(self) -> None:
        """Write states again that are recorded, and states that are older."""
        old = [{**record, "rev": "0", "status": "FAILED"} for record in self.some(ENDED, 10)]
        await self.write([*old, *self.some(OPEN, 10)])

    async def forget(self) -> None:
        """Delete tasks, as the pruner does."""
        gone = [record["task_id"] for record in self.some((*ENDED, *OPEN), 10)]
        stamps = MinuteStamps(self.history.engine)
        async with writing(self.history.engine) as connection:
            await stamps.deleted(connection, await stamps.moments(connection, gone))
            await connection.execute(delete(tasks).where(tasks.c.task_id.in_(gone)))
        for task_id in gone:
            del self.records[task_id]

    async def lose(self) -> None:
        """Let tasks end whose records are gone when their ends are recorded: only their events say so."""
        entries = []
        for record in self.some(OPEN, 3):
            finished_ms = ms(record["created_at"]) + self.chance.randrange(HOUR_MS)
            revision = int(record["rev"]) + 1
            fields = {"status": "failed", "code": "lost", "attempt": "1"}
            entries.append(FeedEntry("", record["task_id"], revision, Event(f"{finished_ms}-0", "status", fields)))
            ended = {"status": "FAILED", "rev": str(revision), "finished_at": at(finished_ms)}
            self.records[record["task_id"]] = {**record, **ended}
        await self._writer.write({}, entries)

    async def use_again(self) -> None:
        """Use the ids of tasks for others, which were created later."""
        new = []
        for record in self.some(ENDED, 5):
            created_ms = ms(record["created_at"]) + self.chance.randrange(HOUR_MS)
            other = {**record, "rev": str(int(record["rev"]) + 1), "type": "type9", "created_at": at(created_ms)}
            new.append(self.ended(other, created_ms))
        await self.write(new)


def at(moment_ms: int) -> str:
    return rfc3339(utc_from_ms(moment_ms))


def ms(text: str) -> int:
    row = row_of({"task_id": "t", "created_at": text})
    return int(row["created_ms"])


def summary(durations: Sequence[int]) -> dict[str, float] | None:
    """Return what a chart says of durations, from all of them in order."""
    if not durations:
        return None
    ordered = sorted(durations)

    def below(share: float) -> float:
        rank = max(1, math.ceil(share * len(ordered)))
        return round(min(middle_of(class_of(ordered[rank - 1])), ordered[-1]), 1)

    average = round(sum(ordered) / len(ordered), 1)
    return {"avg_ms": average, "p50_ms": below(0.5), "p95_ms": below(0.95), "max_ms": ordered[-1]}


def ends(records: Sequence[dict[str, str]]) -> dict[str, Any]:
    """Return what a chart says of tasks that ended."""
    statuses = Counter(record["status"] for record in records)
    run, wait = [], []
    for record in records:
        if "started_at" in record:
            started_ms = ms(record["started_at"])
            run.append(max(ms(record["finished_at"]) - started_ms, 0))
            if "pending_ms" in record:
                wait.append(max(started_ms - int(record["pending_ms"]), 0))
    return {
        **{status.wire: statuses[status.stored] for status in (Status.COMPLETED, Status.FAILED, Status.CANCELLED)},
        "run": summary(run),
        "wait": summary(wait),
    }


def within(records: Sequence[dict[str, str]], name: str, start_ms: int, end_ms: int) -> list[dict[str, str]]:
    return [record for record in records if name in record and start_ms <= ms(record[name]) < end_ms]


def plain_chart(records: Sequence[dict[str, str]], span: Span) -> dict[str, Any]:
    def counts(start_ms: int, end_ms: int) -> dict[str, Any]:
        submitted = len(within(records, "created_at", start_ms, end_ms))
        return {"submitted": submitted, **ends(within(records, "finished_at", start_ms, end_ms))}

    places = range(span.start_ms, span.end_ms, span.bucket_ms)
    return {
        "from": at(span.start_ms),
        "to": at(span.end_ms),
        "bucket": span.bucket,
        "total": counts(span.start_ms, span.end_ms),
        "buckets": [{"at": at(start_ms), **counts(start_ms, start_ms + span.bucket_ms)} for start_ms in places],
    }


def plain_parts(records: Sequence[dict[str, str]], by: str, span: Span, most: int) -> list[dict[str, Any]]:
    ended = within(records, "finished_at", span.start_ms, span.end_ms)
    number = Counter(record[by] for record in ended)
    parts = []
    for name in sorted(number, key=lambda name: (-number[name], name.encode()))[:most]:
        mine = [record for record in ended if record[by] == name]
        places = Counter((ms(record["finished_at"]) - span.start_ms) // span.bucket_ms for record in mine)
        parts.append({"name": name, **ends(mine), "counts": [places[place] for place in range(span.buckets)]})
    return parts


def plain_slowest(records: Sequence[dict[str, str]], span: Span, most: int) -> list[tuple[str, int]]:
    found = within(records, "finished_at", span.start_ms, span.end_ms)
    ran = [(one["task_id"], ms(one["finished_at"]) - ms(one["started_at"])) for one in found if "started_at" in one]
    return sorted(ran, key=lambda one: (-one[1], one[0]))[:most]


def chosen_of(records: Iterable[dict[str, str]], chosen: StatsOptions) -> list[dict[str, str]]:
    wanted = {"type": chosen["task_type"], "queue": chosen["queue"], "user_id": chosen["user_id"], "key": chosen["key"]}
    return [one for one in records if all(value is None or one[name] == value for name, value in wanted.items())]


async def check_charts(world: World, history: History, chosen: StatsOptions) -> None:
    records = chosen_of(world.records.values(), chosen)
    for span in SPANS:
        chart = await history.stats(span.start_ms, span.end_ms, span.bucket_ms, **chosen)
        assert chart_record(span, chart) == plain_chart(records, span)
        for by, most in (("type", 50), ("queue", 2)):
            parts = part_records(await history.parts(by, span, most=most, **chosen))
            assert parts == plain_parts(records, by, span, most)
        slowest = slow_records(await history.slowest(span, most=5, **chosen))
        assert [(one["task_id"], one["run_ms"]) for one in slowest] == plain_slowest(records, span, 5)


async def check_figures(world: World, history: History, most: int, **conditions: str) -> None:
    records = [one for one in world.records.values() if all(one[name] == value for name, value in conditions.items())]
    newest = sorted(records, key=lambda one: (ms(one["created_at"]), one["task_id"]), reverse=True)
    wanted = TaskFilter.model_validate(conditions)
    counts = (await history.counts(wanted, most=most)).record()
    statuses = Counter(one["status"] for one in (records if not conditions else newest[: most + 1]))
    assert counts["counts"] == {
        status.wire: min(statuses[status.stored], most) if not conditions else statuses[status.stored]
        for status in Status
    }
    histogram = (await history.histogram(wanted, now_ms=BEGIN_MS + LENGTH_MS, buckets=60, most=most)).record()
    assert histogram["more"] == (len(records) > most)
    start_ms, size, number = ms(histogram["from"]), histogram["bucket_ms"], len(histogram["buckets"])
    plain: list[Counter[str]] = [Counter() for _ in range(number)]
    for one in newest[:most]:
        place = (ms(one["created_at"]) - start_ms) // size
        plain[min(max(place, 0), number - 1)][one["status"].lower()] += 1
    assert [bucket["counts"] for bucket in histogram["buckets"]] == [dict(counts) for counts in plain]


@pytest.fixture
async def history(database_url: str) -> AsyncIterator[History]:
    async with History(database_url) as connected:
        yield connected


@pytest.mark.parametrize("seed", range(3))
async def test_charts_are_a_plain_count_whatever_happens_to_the_tasks(
    history: History, database_url: str, seed: int
) -> None:
    async with History(database_url) as writer:
        world = World(writer, seed)
        await world.add(200)
        changes = [world.finish, world.run_again, world.repeat, world.forget, world.lose, world.use_again]
        changes.append(lambda: world.add(30))
        for change in world.chance.sample([*changes, *changes], k=14):
            await check_charts(world, history, EVERYTHING)
            await change()
        for chosen in (
            EVERYTHING,
            EVERYTHING | {"task_type": "type1"},
            EVERYTHING | {"queue": "media", "user_id": "ada"},
            EVERYTHING | {"key": "k"},
        ):
            await check_charts(world, history, chosen)


async def test_counts_and_histogram_are_a_plain_count(history: History) -> None:
    world = World(history, 7)
    await check_figures(world, history, 1000)
    await world.add(300)
    await world.run_again()
    await world.finish()
    await world.forget()
    for most in (1000, 100):
        await check_figures(world, history, most)
        await check_figures(world, history, most, type="type1")
        await check_figures(world, history, most, queue="media", user_id="ada")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_sqlite_counts_only_the_buckets_that_have_changed(history: History) -> None:
    world = World(history, 1)
    await world.add(300)
    span = SPANS[0]
    asked: list[tuple[str, Any]] = []

    @event.listens_for(history.engine.sync_engine, "before_cursor_execute")
    def note(_: Any, __: Any, statement: str, values: Any, *___: Any) -> None:
        asked.append((statement, values))

    async def ask() -> list[tuple[str, Any]]:
        asked.clear()
        await history.stats(span.start_ms, span.end_ms, span.bucket_ms, **EVERYTHING)
        await history.parts("type", span, **EVERYTHING)
        return [one for one in asked if "FROM celeriac_tasks" in one[0]]

    assert len(await ask()) == 5
    assert await ask() == []
    record = next(one for one in world.some(("COMPLETED",), 300) if ms(one["finished_at"]) < span.end_ms)
    await world.write([{**record, "rev": "9", "status": "FAILED"}])
    again = await ask()
    assert len(again) == 5
    place = (ms(record["finished_at"]) - span.start_ms) // span.bucket_ms
    start_ms = span.start_ms + place * span.bucket_ms
    assert all(start_ms in values and start_ms + span.bucket_ms in values for _, values in again)
    await check_charts(world, history, EVERYTHING)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_what_is_kept_is_bounded_and_right(history: History) -> None:
    world = World(history, 2)
    await world.add(300)
    few, many = KeptBuckets(most_numbers=60), KeptBuckets()
    for span in (*SPANS, *SPANS):
        places = (span.start_ms, span.end_ms, span.bucket_ms)
        async with reading(history.engine) as connection:
            for kept in (few, many):
                assert await kept.parts(connection, "type", *places, most=9) == await many.parts(
                    connection, "type", *places, most=9
                )
                assert await kept.buckets(connection, *places) == await many.buckets(connection, *places)
        assert few.numbers <= 60 < many.numbers


async def test_what_is_pruned_is_out_of_the_charts(history: History, store: TaskStore) -> None:
    world = World(history, 3)
    await world.add(300)
    await check_charts(world, history, EVERYTHING)
    before_ms = BEGIN_MS + HOUR_MS
    retention_s = (await server_ms(store) - before_ms) / 1000
    settings = Settings().model_copy(update={"ledger_retention": retention_s})
    pruner = Pruner(engine=history.engine, store=store, retentions=settings.retentions)
    while await pruner.step() < 60:
        pass
    # An open task that the store does not have goes too.
    world.records = {
        name: one for name, one in world.records.items() if ms(one.get("finished_at", one["created_at"])) >= before_ms
    }
    await check_charts(world, history, EVERYTHING)
    assert 100 < len(world.records) < 290
    if history.engine.dialect.name == "sqlite":
        async with reading(history.engine) as connection:
            stamped = set((await connection.execute(select(minutes.c.minute))).scalars())
        created = {ms(one["created_at"]) // MINUTE_MS for one in world.records.values()}
        assert created <= stamped
        assert min(stamped) >= min(created), "what is before all tasks has no stamps any more"


async def test_buckets_of_parts_of_a_minute_are_counted_too(history: History) -> None:
    world = World(history, 4)
    await world.add(100)
    start_ms = BEGIN_MS + HOUR_MS + 500
    chart = await history.stats(start_ms, start_ms + 20_000, 1000, **EVERYTHING)
    records = list(world.records.values())
    assert [bucket.submitted for bucket in chart.buckets] == [
        len(within(records, "created_at", at_ms, at_ms + 1000)) for at_ms in range(start_ms, start_ms + 20_000, 1000)
    ]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_the_figures_of_all_tasks_come_from_indexes_alone(history: History) -> None:
    statements: list[str] = []

    @event.listens_for(history.engine.sync_engine, "before_cursor_execute")
    def note(connection: Any, _: Any, statement: str, values: Any, *__: Any) -> None:
        if statement.startswith("SELECT"):
            statements.extend(
                row[3] for row in connection.connection.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
            )

    await World(history, 5).add(10)
    statements.clear()
    await history.counts(TaskFilter(), most=5)
    await history.histogram(TaskFilter(), now_ms=BEGIN_MS + LENGTH_MS, buckets=60, most=5)
    span = SPANS[0]
    await history.stats(span.start_ms, span.end_ms, span.bucket_ms, **EVERYTHING)
    await history.parts("queue", span, **EVERYTHING)
    walks = [one for one in statements if "celeriac_tasks" in one]
    assert walks
    assert [one for one in walks if "COVERING INDEX" not in one] == []
