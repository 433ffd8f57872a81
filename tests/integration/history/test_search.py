"""Words of payloads, results, errors, progress and logs are found, the same in both kinds of databases."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import select, text, update

from celeriac.database import search_tables
from celeriac.database.engine import reading, writing
from celeriac.database.migrating import migrate
from celeriac.history.history import History
from celeriac.history.pruner import Pruner
from celeriac.history.rows import row_of
from celeriac.history.search import FEW, SearchWriter
from celeriac.history.search_indexer import SearchIndexer
from celeriac.history.writing import Writer
from celeriac.model import Event, rfc3339, utc_from_ms
from celeriac.settings import LedgerSettings, Settings
from celeriac.store.task_store import TaskStore
from celeriac.store.watching.feed import FeedEntry
from celeriac.task_filter import Sort, TaskFilter
from tests.kit.databases import empty_database
from tests.kit.queries import EXAMPLES

BEGIN_MS: Final = 1_896_076_800_000
LEDGER: Final = LedgerSettings()

RECORDS: Final[dict[str, dict[str, str]]] = {
    "t1": {
        "type": "report",
        "key": "customer-7",
        "user_id": "ada",
        "tags": '["nightly"]',
        "payload": json.dumps(
            {"title": "Quarterly figures", "order": 4711, "nested": [{"note": "für Müller & Söhne"}]}
        ),
        "result": json.dumps({"rows": 12, "file": "out/figures-2030.csv"}),
    },
    "t2": {
        "type": "report",
        "status": "FAILED",
        "user_id": "bob",
        "payload": json.dumps({"title": "生成退款订单报告", "order": 4712}),
        "error_code": "http_error",
        "error_message": "Connection to host6.example.com:8080 refused, 100%_sure",
    },
    "t3": {
        "type": "mail",
        "user_id": "ada",
        "payload": json.dumps(
            {"to": "x@example.com", "password": "tulip", "inner": {"token": "orchid", "name": "rose"}}
        ),
        "secret_fields": "password\ninner.token",
        "stage": "sending",
        "message_text": "page four",
        "timestamp_ms": "5",
    },
    "t4": {"type": "mail", "status": "PENDING", "payload": json.dumps({"blob": "QUJD" * 200, "seen": "daisy"})},
    "t5": {"type": "odd", "payload": "not JSON at all", "result": json.dumps("x" * 10_000 + " beyond")},
}

#: What is searched for, and which tasks are found, the newest first.
SEARCHES: Final[Sequence[tuple[str, str]]] = [
    ("quarterly", "t1"), ("QUART", "t1"), ('"quart"', ""), ('"quarterly figures"', "t1"), ('"figures quarterly"', ""),
    ("figures", "t1"), ("4711", "t1"), ("471", "t2 t1"), ("müller söhne", "t1"), ("out/figures", "t1"),
    ("customer-7", "t1"), ("nightly", "t1"), ("report", "t2 t1"), ("report -mail -4711", "t2"),
    ("订单", "t2"), ("退款订单", "t2"), ("款订", "t2"), ("报", "t2"), ("告", "t2"), ("订款", ""), ('"订单报告"', "t2"),
    ("-订单 type:report", "t1"), ("HOST6 REF", "t2"), ("host6.exam", "t2"), ("100%_s", "t2"), ("http_error", "t2"),
    ("tulip", ""), ("orchid", ""), ("rose", "t3"), ("page four", "t3"), ("sending", "t3"), ("x@example.com", "t3"),
    ("example", "t3 t2"), ("title", ""), ("daisy", "t4"), ("QUJDQUJD", ""), ("beyond", ""), ("t", "t5 t4 t3 t2 t1"),
    ("t1", "t1"), ('"t1"', "t1"), ("quarterly t1", ""), ("example user:ada", "t3"), ("example status:failed", "t2"),
    ("example -user:ada", "t2"), ("amaryllis", "t3"), ("hydrangea", "t3"), ("retried", "t3"),
]  # fmt: skip


def record(task_id: str, number: int, **fields: str) -> dict[str, str]:
    at = rfc3339(utc_from_ms(BEGIN_MS + number))
    made = {"task_id": task_id, "status": "COMPLETED", "created_at": at, "updated_at": at, "rev": "3", **fields}
    return made | ({"finished_at": at, "started_at": at} if made["status"] in ("COMPLETED", "FAILED") else {})


def entries(task_id: str) -> list[FeedEntry]:
    """Return what happened to a task: progress, a failed attempt, a line of its log."""
    happened = [
        ("progress", {"attempt": "1", "stage": "s", "message": "picked an amaryllis"}),
        ("status", {"status": "RETRYING", "attempt": "1", "code": "busy", "message": "retried"}),
        ("log", {"level": "info", "message": "watered", "data": '{"flower": "hydrangea"}'}),
    ]
    return [
        FeedEntry(f"{BEGIN_MS + at}-0", task_id, 1, Event(f"{BEGIN_MS + at}-0", kind, fields))
        for at, (kind, fields) in enumerate(happened)
    ]


@pytest.fixture
async def history(database_url: str) -> AsyncIterator[History]:
    async with History(database_url) as connected:
        yield connected


def writer_of(history: History, *, searched: bool = True) -> Writer:
    search = SearchWriter(history.engine, parts=LEDGER.search, most=LEDGER.search_chars)
    return Writer(history.engine, progress="last", search=search if searched else None)


async def fill(history: History, *, searched: bool = True) -> None:
    writer = writer_of(history, searched=searched)
    for number, (task_id, fields) in enumerate(RECORDS.items()):
        happened = entries(task_id) if task_id == "t3" else []
        await writer.write({task_id: row_of(record(task_id, number, **fields))}, happened)


async def index_all(history: History, ledger: LedgerSettings = LEDGER) -> None:
    """Let an indexer go through all tasks."""
    indexer = SearchIndexer(engine=history.engine, ledger=ledger)
    for _ in range(100):
        await indexer.step()
        async with reading(history.engine) as connection:
            if (await connection.execute(select(search_tables.state.c.complete))).scalar():
                return
    raise AssertionError("the indexer does not come to an end")


async def found(history: History, q: str, sort: Sort = Sort.CREATED_DOWN, limit: int = 50, **more: Any) -> list[str]:
    """Return the ids of all pages."""
    ids: list[str] = []
    cursor = None
    while True:
        chosen = TaskFilter.model_validate({"q": q, **more})
        page = await history.find(chosen, sort=sort, limit=limit, cursor=cursor)
        ids += [kept.task.task_id for kept in page.tasks]
        cursor = page.next_cursor
        if cursor is None:
            assert await history.count(chosen) == len(ids)
            return ids


@pytest.mark.parametrize("searched", [True, False], ids=["as they are recorded", "afterwards"])
async def test_words_are_found_in_all_parts_and_secrets_in_none(history: History, searched: bool) -> None:
    await fill(history, searched=searched)
    await index_all(history)
    answers = {q: " ".join(await found(history, q, limit=2)) for q, _ in SEARCHES}
    assert answers == dict(SEARCHES)


async def test_the_examples_of_the_language_find_what_they_say(history: History) -> None:
    task = {**EXAMPLES["task"], "error_code": "timeout", "error_message": EXAMPLES["task"]["error"]["message"]}
    fields = {
        name: json.dumps(value, ensure_ascii=False) if name in ("payload", "tags") else value
        for name, value in task.items()
        if name in ("payload", "tags") or (isinstance(value, str) and name != "title")
    }
    row = row_of({**fields, "status": "FAILED", "message_text": "half", "timestamp_ms": "5", "rev": "3"})
    row["title"] = EXAMPLES["task"]["title"]
    await writer_of(history).write({row["task_id"]: row}, [])
    await index_all(history)
    expected = {one["text"]: one.get("indexed", one["match"]) for one in EXAMPLES["matches"]}
    assert {text: bool(await found(history, text)) for text in expected} == expected


async def test_until_all_tasks_are_indexed_words_are_looked_for_in_errors(history: History) -> None:
    await fill(history)
    assert await found(history, "quarterly") == []
    assert await found(history, "EXAMPLE.com") == ["t2"]
    await index_all(history)
    assert await found(history, "quarterly") == ["t1"]
    off = LEDGER.model_copy(update={"search": []})
    await SearchIndexer(engine=history.engine, ledger=off).step()
    assert await found(history, "quarterly") == []
    assert await found(history, "xample.com") == ["t2"], "without the index, parts of words are found in errors"


async def test_other_parts_are_indexed_after_a_change_of_the_setting(history: History) -> None:
    await fill(history)
    await index_all(history)
    await index_all(history, LEDGER.model_copy(update={"search": ["result"], "search_chars": 100}))
    assert await found(history, "quarterly") == []
    assert await found(history, "figures-2030") == ["t1"]


async def test_a_task_is_indexed_when_it_appears_and_again_when_it_has_ended(history: History) -> None:
    await index_all(history)
    writer = writer_of(history)
    for rev, status, fields in (
        ("1", "PENDING", {}),
        ("2", "PROCESSING", {"result": '"not yet"'}),
        ("3", "FAILED", {"error_message": "the kettle is dry"}),
        ("4", "COMPLETED", {"result": '"tea"'}),
    ):
        row = row_of(
            record("t", 0, type="brew", payload='{"leaves": "oolong"}', **fields) | {"status": status, "rev": rev}
        )
        await writer.write({"t": row}, entries("t") if status == "PROCESSING" else [])
        assert await found(history, "oolong") == ["t"], status
        assert await found(history, "kettle") == (["t"] if status == "FAILED" else []), status
    assert await found(history, "tea amaryllis") == ["t"]
    # A record that is gone says little: what was known stays.
    gone = Event(f"{BEGIN_MS + 9}-0", "status", {"status": "FAILED", "message": "lost its saucer"})
    await writer.write({}, [FeedEntry(gone.id, "t", 9, gone)])
    assert await found(history, "oolong saucer") == ["t"]


async def test_a_usual_life_is_indexed_from_its_rows_and_a_late_recorder_changes_nothing(history: History) -> None:
    await index_all(history)
    writer = writer_of(history)

    async def write(rev: int, status: str, **fields: str) -> None:
        row = row_of(record("usual", 1, status=status, rev=str(rev), type="usual", payload='"violet"', **fields))
        await writer.write({"usual": row}, [])

    await write(1, "PENDING")
    assert await found(history, "violet") == ["usual"]
    await write(3, "COMPLETED", result='{"flower": "peony", "n": 77}')
    assert await found(history, "violet") == await found(history, "peony") == await found(history, "77") == ["usual"]
    # It was retried, and one that is slow writes what it had read before.
    await write(6, "FAILED", error_code="wilted", error_message="without a drop of water")
    await write(3, "COMPLETED", result='{"flower": "peony", "n": 77}')
    assert await found(history, "wilted") == await found(history, "drop water") == ["usual"]
    assert await found(history, "peony") == []


async def test_words_that_many_tasks_have_are_listed_page_by_page_in_order(history: History) -> None:
    number = FEW + 300
    rows = [
        row_of(
            record(
                f"{n * 7919 % 10_007:05d}", n // 3, type="many", user_id=f"u{n % 2}", payload=f'{{"a": "common w{n}"}}'
            )
        )
        for n in range(number)
    ]
    await writer_of(history).write({row["task_id"]: row for row in rows}, [])
    await index_all(history)
    for sort in (Sort.CREATED_DOWN, Sort.CREATED):
        ordered = [
            row["task_id"]
            for row in sorted(rows, key=lambda row: (row["created_ms"], row["task_id"]), reverse=sort.descending)
        ]
        owners = {row["task_id"]: row["user_id"] for row in rows}
        assert await found(history, "common", sort, limit=97) == ordered
        assert await found(history, "common many -w7", sort, limit=97) == [
            row
            for row in ordered
            if not next(r for r in rows if r["task_id"] == row)["payload"].startswith('{"a": "common w7')
        ]
        assert await found(history, "common", sort, limit=500, user_id="u1") == [
            i for i in ordered if owners[i] == "u1"
        ]
        assert await found(history, "-common", sort) == []
    assert await found(history, "w1299") == [rows[1299]["task_id"]]


async def test_words_leave_with_their_task(history: History, store: TaskStore) -> None:
    await fill(history)
    await index_all(history)
    async with writing(history.engine) as connection:
        await connection.execute(text("UPDATE celeriac_tasks SET finished_ms = 1, created_ms = 1 WHERE task_id = 't1'"))
    pruner = Pruner(engine=history.engine, store=store, retentions=Settings().retentions)
    await pruner.step()
    assert await found(history, "quarterly") == []
    assert await found(history, "rose") == ["t3"]
    async with reading(history.engine) as connection:
        tables = "celeriac_search_numbers" if history.engine.dialect.name == "sqlite" else "celeriac_search"
        left = (await connection.execute(text(f"SELECT task_id FROM {tables} ORDER BY task_id"))).scalars().all()
    assert left == ["t2", "t3", "t4", "t5"]


async def test_without_full_text_search_in_sqlite_all_goes_on(tmp_path: Path, store: TaskStore) -> None:
    """The tables of a SQLite that has no FTS5 lack one."""
    with empty_database("sqlite", tmp_path) as url:
        migrate(url)
        async with History(url) as history:
            assert await history.searches()
            async with writing(history.engine) as connection:
                await connection.execute(text("DROP TABLE celeriac_search"))
            assert not await history.searches()
            await fill(history)
            await SearchIndexer(engine=history.engine, ledger=LEDGER).step()
            assert await found(history, "quarterly") == []
            assert await found(history, "example.com") == ["t2"]
            await Pruner(engine=history.engine, store=store, retentions=Settings().retentions).step()


async def test_two_indexers_share_the_work_and_the_second_goes_on_where_the_first_was(history: History) -> None:
    rows = [row_of(record(f"n{n:04d}", n, payload=f'{{"a": "w{n}"}}')) for n in range(450)]
    await writer_of(history, searched=False).write({row["task_id"]: row for row in rows}, [])
    first = SearchIndexer(engine=history.engine, ledger=LEDGER)
    await first.step()
    await first.step()
    async with reading(history.engine) as connection:
        row = (await connection.execute(select(search_tables.state))).mappings().one()
    assert (row["task_id"], row["complete"]) == ("n0199", False)
    await index_all(history)
    assert await found(history, "w449") == ["n0449"]
    async with writing(history.engine) as connection:
        await connection.execute(update(search_tables.state).values(complete=False, created_ms=-1, task_id=""))
    await index_all(history)
    assert await found(history, "w3 -w30") == [f"n0{n}" for n in range(399, 309, -1)] + [
        f"n00{n}" for n in range(39, 30, -1)
    ] + ["n0003"]
