"""From the event stream into SQL: nothing lost, nothing doubled, whatever happens in between."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from celeriac.database.migrating import migrate
from celeriac.errors import HistoryMissingError, TaskNotFoundError
from celeriac.history.history import History
from celeriac.history.recorder import Recorder
from celeriac.history.rows import row_of
from celeriac.history.writing import Writer
from celeriac.model import Claim, Failure, LogLine, Progress, Status, Submission
from celeriac.settings import LedgerSettings, Settings
from celeriac.store import keys
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.feed import GROUP, EventFeed
from celeriac.task_filter import TaskFilter
from celeriac.tasks.record import task_record
from tests.kit.databases import SERVER, empty_database
from tests.kit.history import claimed, completed, failed, forget, record_all, recording
from tests.kit.waiting import eventually

EVERYTHING = TaskFilter()


@pytest.fixture
def settings() -> Settings:
    return Settings(lease=1, ledger=LedgerSettings(batch=50))


async def test_what_is_recorded_reads_like_the_store_s_own_record(
    store: TaskStore, database_url: str, settings: Settings
) -> None:
    await completed(
        store, "full", '{"big": 123456789012345678901234567890, "t": "ü\\u0000"}', payload='{"p":"\\u0000"}',
        tags=("a", "b"), group="media", priority=7, max_retries=0, user_id="jo", metadata={"x": [1, "ü"]},
        timeout_ms=1500, expires_in_ms=60_000, original_file_path="/x",
    )  # fmt: skip
    await failed(store, "dead")
    await store.submit(Submission(task_id="later", type="demo", delay_ms=60_000))
    claim = await claimed(store, "again")
    await store.fail(claim, Failure("broken", "boom", True), 60_000)
    await store.submit(Submission(task_id="gone", type="demo"))
    await store.cancel("gone")
    await claimed(store, "running")
    async with recording(store, database_url, settings) as (recorder, history):
        await record_all(recorder, store)
        for task_id in ("full", "dead", "later", "again", "gone", "running"):
            assert replace((await history.get(task_id)).task, title=None) == await store.get(task_id)
            assert await history.events(task_id) == await store.events(task_id)
        with pytest.raises(TaskNotFoundError):
            await history.get("nobody")


async def test_the_latest_state_wins_in_whatever_order_and_however_often_it_is_written(
    store: TaskStore, database_url: str, settings: Settings
) -> None:
    states = []
    claim = await claimed(store, "t", tags=("x",))
    states.append(await store.record("t"))
    await store.fail(claim, Failure("broken", "boom", True), 0)
    states.append(await store.record("t"))
    await store.cancel("t")
    states.append(await store.record("t"))
    entries = (await EventFeed(store, consumer="c").read(100)).entries
    async with History(database_url) as history:
        writer = Writer(history.engine, progress="last")
        shuffled = [*states, *states, *states]
        random.Random(7).shuffle(shuffled)
        for state in shuffled:
            await writer.write({"t": row_of(state)}, entries)
        kept = await history.get("t")
        assert task_record(kept.task) == task_record(await store.get("t"))
        assert [event.id for event in await history.events("t")] == [event.id for event in await store.events("t")]


async def test_only_the_last_report_of_each_attempt_is_kept(
    store: TaskStore, database_url: str, settings: Settings
) -> None:
    claim = await claimed(store, "t")
    async with recording(store, database_url, settings) as (recorder, history):
        for number in range(1, 6):
            await store.progress(claim, number, Progress(number, "first", "", 1))
            await record_all(recorder, store)
        await store.fail(claim, Failure("broken", "boom", True), 0)
        await store.promote()
        claim = await store.claim("t", worker="w")  # type: ignore[assignment]
        for number in range(1, 4):
            await store.progress(claim, number, Progress(number, "second", "", 1))
        await store.complete(claim, "1")
        await record_all(recorder, store)
        reports = [event.fields for event in await history.events("t", kinds=("progress",))]
        assert [(r["stage"], r["percentage"], r["attempt"]) for r in reports] == [
            ("first", "5", "1"),
            ("second", "3", "2"),
        ]
        every = [event.id for event in await store.events("t") if event.kind == "status"]
        assert [event.id for event in await history.events("t", kinds=("status",))] == every


@pytest.mark.parametrize(("mode", "kept"), [("all", 3), ("none", 0)])
async def test_progress_can_be_kept_or_left_out(
    store: TaskStore, database_url: str, settings: Settings, mode: str, kept: int
) -> None:
    settings = settings.model_copy(update={"ledger": LedgerSettings.model_validate({"progress": mode})})
    claim = await claimed(store, "t")
    for number in range(1, 4):
        await store.progress(claim, number, Progress(number, "", "", 1))
    async with recording(store, database_url, settings) as (recorder, history):
        await record_all(recorder, store)
        assert len(await history.events("t", kinds=("progress",))) == kept


async def test_recorders_share_the_work_and_one_takes_over_what_a_dead_one_had_read(
    store: TaskStore, database_url: str, settings: Settings
) -> None:
    for number in range(60):
        await completed(store, f"t{number}")
    dead = EventFeed(store, consumer="dead")
    assert len((await dead.read(70)).entries) == 70
    async with (
        recording(store, database_url, settings) as (one, history),
        recording(store, database_url, settings) as (
            other,
            _,
        ),
    ):

        async def all_recorded() -> bool:
            await one.step()
            await other.step()
            lag = await dead.lag()
            return not lag.entries

        await eventually(all_recorded, because="everything is recorded after the lease of the dead one")
        page = await history.find(EVERYTHING, limit=100)
        assert {kept.task.status for kept in page.tasks} == {Status.COMPLETED}
        assert len(page.tasks) == 60
        for number in range(60):
            ids = [event.id for event in await history.events(f"t{number}")]
            assert ids == [event.id for event in await store.events(f"t{number}")]
        await dead.retire(unseen_s=0)
        assert not await store.redis.xinfo_consumers(keys.EVENTS, GROUP)


async def test_a_task_whose_record_was_gone_before_is_told_by_its_events(
    store: TaskStore, database_url: str, settings: Settings
) -> None:
    await completed(store, "unseen", group="media")
    await store.submit(Submission(task_id="seen", type="demo", payload='{"kept":1}'))
    async with recording(store, database_url, settings) as (recorder, history):
        await forget(store, "unseen")
        await record_all(recorder, store)
        claim = await store.claim("seen", worker="w")
        await store.fail(claim, Failure("broken", "boom\x00", False), 0)  # type: ignore[arg-type]
        await forget(store, "seen")
        await record_all(recorder, store)
        unseen, seen = (await history.get("unseen")).task, (await history.get("seen")).task
        assert (unseen.type, unseen.group, unseen.status, unseen.attempt) == ("demo", "media", Status.COMPLETED, 1)
        assert unseen.finished_at is not None
        assert len(await history.events("unseen")) == 4
        assert (seen.payload, seen.status, seen.error) == (
            {"kept": 1},
            Status.FAILED,
            Failure("broken", "boom\ufffd", False),
        )


async def test_a_stream_trimmed_before_it_was_recorded_is_made_good_from_the_records(
    store: TaskStore, database_url: str, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    async with recording(store, database_url, settings) as (recorder, history):
        await completed(store, "first")
        await record_all(recorder, store)
        for number in range(300):
            await completed(store, f"t{number}")
        await store.redis.xtrim(keys.EVENTS, maxlen=5, approximate=False)
        await store.submit(Submission(task_id="last", type="demo"))
        await record_all(recorder, store)
        assert "trimmed before it was recorded" in caplog.text
        assert await history.count(EVERYTHING) == 302
        for task_id in ("t0", "t150", "t299"):
            assert task_record((await history.get(task_id)).task) == task_record(await store.get(task_id))
            assert [e.id for e in await history.events(task_id)] == [e.id for e in await store.events(task_id)]
        await record_all(recorder, store)
        assert not await store.redis.hexists(keys.LEDGER, "resync")


async def test_a_ledger_that_comes_later_takes_in_what_the_store_still_holds(
    store: TaskStore, database_url: str, settings: Settings
) -> None:
    for number in range(20):
        await completed(store, f"t{number}")
    await store.redis.xtrim(keys.EVENTS, maxlen=5, approximate=False)
    async with recording(store, database_url, settings) as (recorder, history):
        await record_all(recorder, store)
        assert await history.count(EVERYTHING) == 20


async def test_recording_waits_for_a_database_that_is_not_migrated_and_catches_up(
    store: TaskStore, settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with empty_database("sqlite", tmp_path) as url:
        await completed(store, "t")
        async with recording(store, url, settings) as (recorder, history):
            with pytest.raises(HistoryMissingError, match="celeriac migrate"):
                await history.check()
            assert [await recorder.step(), await recorder.step()] == [0.5, 1.0]
            assert "celeriac migrate" in caplog.text
            assert (await EventFeed(store, consumer="").lag()).entries == 4
            migrate(url)
            await record_all(recorder, store)
            assert (await history.get("t")).task.status is Status.COMPLETED
            assert "recorded again" in caplog.text


async def test_recording_catches_up_after_the_database_was_away(
    store: TaskStore, settings: Settings, tmp_path: Path
) -> None:
    with empty_database("postgresql", tmp_path) as url, psycopg.connect(SERVER, autocommit=True) as operator:
        migrate(url)
        name = url.rpartition("/")[2]
        async with recording(store, url, settings) as (recorder, history):
            await completed(store, "before")
            await record_all(recorder, store)
            operator.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
            operator.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
            for number in range(30):
                await completed(store, f"t{number}")
            assert await recorder.step() == 0.5
            lag = await EventFeed(store, consumer="").lag()
            assert lag.entries == 120
            assert lag.seconds > 0
            operator.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
            await record_all(recorder, store)
            assert await history.count(EVERYTHING) == 31
            assert await history.count(TaskFilter(status=(Status.COMPLETED,))) == 31


async def test_data_that_the_database_refuses_keeps_nothing_else_out(
    store: TaskStore, database_url: str, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    await completed(store, "good")
    await completed(store, "odd", priority=3)
    await completed(store, "good too")
    async with recording(store, database_url, settings) as (recorder, history):
        refused = _RefusingWriter(recorder)
        await record_all(recorder, store)
        assert refused.row["rev"] == 2**70
        assert await history.count(EVERYTHING) == 2
        assert "odd is left out of the history" in caplog.text


class _RefusingWriter:
    """Makes one row hold what no column can."""

    def __init__(self, recorder: Recorder) -> None:
        self.row: dict[str, Any] = {}
        write = recorder._writer.write

        async def writing(rows: dict[str, Any], entries: Any) -> None:
            if "odd" in rows:
                self.row = rows["odd"]
                self.row["rev"] = 2**70
            await write(rows, entries)

        recorder._writer.write = writing  # type: ignore[method-assign,assignment]


async def test_lag_is_known_before_anybody_ever_recorded(store: TaskStore) -> None:
    feed = EventFeed(store, consumer="")
    assert (await feed.lag()).recording is False
    await store.submit(Submission(task_id="t", type="demo"))
    lag = await feed.lag()
    assert (lag.entries, lag.recording) == (1, False)


async def test_large_records_are_read_in_pages(store: TaskStore) -> None:
    text = "x" * 3_000_000
    for number in range(6):
        await completed(store, f"t{number}", f'"{text}"')
    pages = [
        list(page) async for page in EventFeed(store, consumer="").records([*(f"t{n}" for n in range(6)), "nobody"])
    ]
    assert [len(page) for page in pages] == [2, 2, 3]


async def test_the_same_id_made_anew_after_it_was_forgotten_replaces_the_old_task(
    store: TaskStore, database_url: str, settings: Settings
) -> None:
    await completed(store, "t")
    async with recording(store, database_url, settings) as (recorder, history):
        await record_all(recorder, store)
        await forget(store, "t")
        await store.submit(Submission(task_id="t", type="demo", payload='{"second":true}'))
        await record_all(recorder, store)
        assert (await history.get("t")).task.payload == {"second": True}


async def test_a_record_that_cannot_be_read_keeps_nothing_else_out(
    store: TaskStore, database_url: str, settings: Settings
) -> None:
    await store.redis.hset("task:foreign", mapping={"status": "PENDING", "created_at": "yesterday"})
    await store.redis.xadd(keys.EVENTS, {"task_id": "foreign", "kind": "note"})
    await store.redis.xadd(keys.EVENTS, {"nothing": "ours"})
    await completed(store, "good")
    async with recording(store, database_url, settings) as (recorder, history):
        await record_all(recorder, store)
        found = {kept.task.task_id: kept.task.damage for kept in (await history.find(EVERYTHING)).tasks}
        assert found == {
            "good": None, "foreign": "created_at is 'yesterday', which is not a moment in RFC 3339",
        }  # fmt: skip


async def logged(store: TaskStore, task_id: str, *texts: str) -> Claim:
    """Claim a task and log these lines."""
    mine = await claimed(store, task_id)
    for seq, text in enumerate(texts, 1):
        await store.log(mine, seq, LogLine("info", text, {"n": seq, "odd": "\u0000"}, 1_896_076_800_000))
    return mine


@pytest.mark.parametrize(("kept", "expected"), [("none", set()), ("failed", {"dead"}), ("all", {"dead", "fine"})])
async def test_the_last_lines_of_the_logs_that_are_wanted_outlive_the_store(
    store: TaskStore, database_url: str, settings: Settings, kept: str, expected: set[str]
) -> None:
    wanted = {"batch": 50, "log": kept, "log_lines": 3}
    settings = settings.model_copy(update={"ledger": LedgerSettings.model_validate(wanted)})
    await store.fail(await logged(store, "dead", *"abcde"), Failure("broken", "boom", False), 0)
    await store.complete(await logged(store, "fine", *"abcde"), "1")
    await logged(store, "running", "a")
    await failed(store, "silent")
    async with recording(store, database_url, settings) as (recorder, history):
        await record_all(recorder, store)
        lines = {task_id: await store.log_lines(task_id) for task_id in ("dead", "fine", "running", "silent")}
        for task_id, of_store in lines.items():
            assert await history.log_lines(task_id) == (of_store[-3:] if task_id in expected else [])
            assert await history.events(task_id) == await store.events(task_id)
        if "dead" in expected:
            # A page goes on after the line before it.
            assert [line.message for line in await history.log_lines("dead", count=2)] == ["c", "d"]
            ms, seq = lines["dead"][3].id.split("-")
            assert [line.message for line in await history.log_lines("dead", after=(int(ms), int(seq)))] == ["e"]
        # Written again, and after more attempts, each line is there once.
        await store.retry("dead")
        again = await store.claim("dead", worker="w")
        assert isinstance(again, Claim)
        await store.log(again, 1, LogLine("error", "again"))
        await store.fail(again, Failure("broken", "boom", False), 0)
        await EventFeed(store, consumer="c").ask_for_resync()
        await record_all(recorder, store)
        if "dead" in expected:
            assert [line.message for line in await history.log_lines("dead")] == ["c", "d", "e", "again"]


async def test_a_resynchronisation_brings_the_logs_too(store: TaskStore, database_url: str, settings: Settings) -> None:
    await store.fail(await logged(store, "dead", "a", "b"), Failure("broken", "boom", False), 0)
    await store.redis.delete(keys.EVENTS)
    async with recording(store, database_url, settings) as (recorder, history):
        await EventFeed(store, consumer="c").ask_for_resync()
        await failed(store, "other")
        await record_all(recorder, store)
        assert [line.message for line in await history.log_lines("dead")] == ["a", "b"]


async def test_a_task_is_recorded_with_its_title(store: TaskStore, database_url: str, settings: Settings) -> None:
    await store.announce_types({"ship": {"title": [["order ", {"paths": ["order"], "default": None}]]}})
    await claimed(store, "templated", type="ship", payload='{"order":1017,"copies":2}')
    await claimed(store, "plain", payload='{"customer":7,"password":"hidden"}', secret_fields=("password",))
    await claimed(store, "long", payload=json.dumps({"text": "x" * 100_000}))
    async with recording(store, database_url, settings) as (recorder, history):
        await record_all(recorder, store)
        assert (await history.get("templated")).task.title == "order 1017"
        assert (await history.get("plain")).task.title == "customer 7"
        assert (await history.get("long")).task.title is None
        assert "title" not in (await history.get("plain")).record, "the store's records have no title"
