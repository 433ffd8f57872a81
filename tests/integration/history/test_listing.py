"""Lists of the history: each task on one page, each page at the same price."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from sqlalchemy import text

from celeriac.database.cursor import Cursor
from celeriac.database.engine import reading
from celeriac.history import queries
from celeriac.history.history import History
from celeriac.history.rows import row_of
from celeriac.history.writing import Writer
from celeriac.model import KeptTask, rfc3339, utc_from_ms
from celeriac.task_filter import Sort, TaskFilter

BEGIN_MS = 1_896_076_800_000
STATUSES = ("COMPLETED", "FAILED", "CANCELLED", "PENDING", "PROCESSING")
MANY = 100_000


def record(number: int, **fields: str) -> dict[str, str]:
    """Return a record; its facts follow from its number, several share each moment."""
    status = STATUSES[number % len(STATUSES)]
    created = rfc3339(utc_from_ms(BEGIN_MS + number // 3))
    ended = rfc3339(utc_from_ms(BEGIN_MS + number // 3 + 50 + number % 7))
    task_id = f"{number * 7919 % 1_000_003:08x}-{number}"
    found = {
        "task_id": task_id, "type": f"type{number % 4}", "queue": f"queue{number % 3}",
        "status": status, "payload": "{}", "created_at": created, "updated_at": ended, "rev": "3",
    }  # fmt: skip
    if status in STATUSES[:3]:
        found |= {"finished_at": ended, "started_at": created}
    if status == "FAILED":
        found |= {"error_code": "broken", "error_message": f"Connection to host{number % 10} refused, 100%_sure"}
    if number % 2:
        found |= {"user_id": f"user{number % 5}", "tags": '["odd"]' if number % 3 else '["odd","third"]'}
    if number % 10 == 3:
        found |= {"workflow_id": f"flow{number % 20}", "node": f"node{number}"}
    if number % 4:
        found["key"] = f"key{number % 50}"
    return found | fields


async def fill(history: History, numbers: range) -> None:
    writer = Writer(history.engine, progress="last")
    for start in range(numbers.start, numbers.stop, 5000):
        rows = [row_of(record(number)) for number in range(start, min(start + 5000, numbers.stop))]
        await writer.write({row["task_id"]: row for row in rows}, [])


@pytest.fixture
async def history(database_url: str) -> AsyncIterator[History]:
    async with History(database_url) as connected:
        yield connected


async def walk(
    history: History, task_filter: TaskFilter, sort: Sort = Sort.CREATED_DOWN, limit: int = 50
) -> list[KeptTask]:
    """Read all pages."""
    found: list[KeptTask] = []
    cursor = None
    while True:
        page = await history.find(task_filter, sort=sort, limit=limit, cursor=cursor)
        assert len(page.tasks) <= limit
        found += page.tasks
        if page.next_cursor is None:
            return found
        cursor = page.next_cursor


Check = Callable[[dict[str, str]], bool]

FILTERS: list[tuple[dict[str, Any], Check]] = [
    ({}, lambda r: True),
    ({"status": "failed"}, lambda r: r["status"] == "FAILED"),
    ({"status": "failed,pending"}, lambda r: r["status"] in ("FAILED", "PENDING")),
    ({"type": "type1", "queue": "queue2"}, lambda r: r["type"] == "type1" and r["queue"] == "queue2"),
    ({"user_id": "user3"}, lambda r: r.get("user_id") == "user3"),
    ({"key": "key7"}, lambda r: r.get("key") == "key7"),
    ({"key": "key7", "status": "cancelled"}, lambda r: r.get("key") == "key7" and r["status"] == "CANCELLED"),
    ({"tag": "odd"}, lambda r: "odd" in r.get("tags", "")),
    (
        {"tag": "odd,third", "status": "completed,failed"},
        lambda r: "third" in r.get("tags", "") and r["status"] in ("COMPLETED", "FAILED"),
    ),
    (
        {"created_after": "2030-01-31T08:00:00.050Z", "created_before": "2030-01-31T08:00:00.100Z"},
        lambda r: "08:00:00.050Z" <= r["created_at"][11:] < "08:00:00.100Z",
    ),
    ({"finished_after": "2030-01-31T08:00:00.100Z"}, lambda r: r.get("finished_at", "")[11:] >= "08:00:00.100Z"),
    ({"q": "HOST6 REF"}, lambda r: "host6 ref" in r.get("error_message", "").lower()),
    ({"q": "100%_s", "type": "type1"}, lambda r: "100%_s" in r.get("error_message", "") and r["type"] == "type1"),
    ({"q": "000"}, lambda r: r["task_id"].startswith("000")),
    ({"q": "type:type1 group:queue2"}, lambda r: r["type"] == "type1" and r["queue"] == "queue2"),
    (
        {"q": "type:type1,type3 status:failed,pending"},
        lambda r: r["type"] in ("type1", "type3") and r["status"] in ("FAILED", "PENDING"),
    ),
    ({"q": "type:type1,type3", "type": "type3"}, lambda r: r["type"] == "type3"),
    ({"q": "-type:type1 -user:user3"}, lambda r: r["type"] != "type1" and r.get("user_id") != "user3"),
    (
        {"q": "-status:failed,pending user:user1,user3"},
        lambda r: r["status"] not in ("FAILED", "PENDING") and r.get("user_id") in ("user1", "user3"),
    ),
    ({"q": "status:failed", "status": "failed,pending"}, lambda r: r["status"] == "FAILED"),
    (
        {"q": "tag:odd -tag:third key:key7,key9"},
        lambda r: r.get("tags") == '["odd"]' and r.get("key") in ("key7", "key9"),
    ),
    ({"q": "tag:third,none", "tag": "odd"}, lambda r: "third" in r.get("tags", "")),
    ({"q": "tag:third tag:odd"}, lambda r: "third" in r.get("tags", "")),
    ({"q": "error:broken workflow:flow3"}, lambda r: "error_code" in r and r.get("workflow_id") == "flow3"),
    (
        {"q": "-workflow:flow3 id:000,001 -id:0001"},
        lambda r: (
            r.get("workflow_id") != "flow3" and r["task_id"][:3] in ("000", "001") and r["task_id"][:4] != "0001"
        ),
    ),
    ({"q": "host6 -refused"}, lambda r: False),
    ({"q": "refused -host6"}, lambda r: "error_message" in r and "host6" not in r["error_message"]),
    ({"q": "-host6 type:type1"}, lambda r: "host6" not in r.get("error_message", "") and r["type"] == "type1"),
    (
        {"q": "after:2030-01-31T08:00:00.050Z before:2030-01-31T08:00:00.100Z"},
        lambda r: "08:00:00.050Z" <= r["created_at"][11:] < "08:00:00.100Z",
    ),
    ({"q": "finished_after:2030-01-31T08:00:00.100Z"}, lambda r: r.get("finished_at", "")[11:] >= "08:00:00.100Z"),
    (
        {"q": "type:" + ",".join(f"type{n}" for n in range(20)) + " key:" + ",".join(f"key{n}" for n in range(20))},
        lambda r: "key" in r and int(r["key"][3:]) < 20,
    ),
    ({"definition_id": "none"}, lambda r: False),
    ({"workflow_id": "flow3"}, lambda r: r.get("workflow_id") == "flow3"),
    (
        {"workflow_id": "flow13", "status": "failed"},
        lambda r: r.get("workflow_id") == "flow13" and r["status"] == "FAILED",
    ),
]  # fmt: skip


@pytest.mark.parametrize("sort", list(Sort))
async def test_every_filter_selects_what_it_says_in_order_each_once(history: History, sort: Sort) -> None:
    records = [record(number) for number in range(600)]
    await fill(history, range(600))
    field = sort.by
    for conditions, matches in FILTERS:
        task_filter = TaskFilter.model_validate(conditions)
        expected = sorted(
            ((r[field], r["task_id"]) for r in records if matches(r) and field in r), reverse=sort.descending
        )
        found = await walk(history, task_filter, sort, limit=37)
        assert [kept.task.task_id for kept in found] == [task_id for _, task_id in expected], conditions
        if not field.startswith("finished"):
            assert await history.count(task_filter) == len(expected), conditions


async def test_pages_stay_correct_while_tasks_arrive_and_change(history: History) -> None:
    await fill(history, range(500))
    writer = Writer(history.engine, progress="last")
    seen: list[str] = []
    cursor, number = None, 500
    while True:
        page = await history.find(TaskFilter(), limit=20, cursor=cursor)
        seen += [kept.task.task_id for kept in page.tasks]
        cursor = page.next_cursor
        if cursor is None:
            break
        await fill(history, range(number, number + 30))
        number += 30
        changed = row_of(record(random.Random(number).randrange(500), status="CANCELLED", rev="9"))
        await writer.write({changed["task_id"]: changed}, [])
    assert seen == [record(n)["task_id"] for n in _newest_first(500)]


def _newest_first(count: int) -> list[int]:
    return sorted(range(count), key=lambda n: (n // 3, record(n)["task_id"]), reverse=True)


async def test_what_is_long_is_left_out_of_lists_and_named(history: History) -> None:
    writer = Writer(history.engine, progress="last")
    long, short = '"' + "x" * 70_000 + '"', '"short"'
    for task_id, payload, result in (("a", f'{{"p":{long}}}', long), ("b", "{}", short), ("c", "{}", "null")):
        row = row_of({**record(0), "task_id": task_id, "payload": payload, "result": result})
        await writer.write({task_id: row}, [])
    found = {kept.task.task_id: kept for kept in await walk(history, TaskFilter())}
    assert (found["a"].omitted, found["a"].task.payload, found["a"].task.result) == (("payload", "result"), None, None)
    assert (found["b"].omitted, found["b"].task.result) == ((), "short")
    assert found["c"].omitted == ()
    assert len((await history.get("a")).task.result) == 70_000


@pytest.mark.timeout(240)
async def test_a_page_far_behind_costs_what_the_first_one_costs(history: History) -> None:
    """Look at 100,000 tasks; what counts is the plan, and the rows that PostgreSQL says it touched."""
    await fill(history, range(MANY))
    sqlite = history.engine.dialect.name == "sqlite"
    if not sqlite:
        async with history.engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(text("VACUUM ANALYZE celeriac_tasks"))
    middle = BEGIN_MS + MANY // 3 // 2
    for conditions, sort in (
        ({}, Sort.CREATED_DOWN),
        ({}, Sort.UPDATED_DOWN),
        ({"status": "failed"}, Sort.CREATED_DOWN),
        ({"status": "failed"}, Sort.FINISHED_DOWN),
        ({"status": "failed,pending"}, Sort.CREATED),
        ({"type": "type2"}, Sort.CREATED_DOWN),
        ({"type": "type2"}, Sort.FINISHED),
        ({"queue": "queue1"}, Sort.CREATED_DOWN),
        ({"user_id": "user3"}, Sort.CREATED_DOWN),
        ({"key": "key7"}, Sort.CREATED_DOWN),
        ({"tag": "third"}, Sort.CREATED_DOWN),
    ):
        task_filter = TaskFilter.model_validate(conditions)
        for after in (None, Cursor(sort, middle, "8")):
            plan = await explain(history, queries.page(task_filter, sort, 51, after))
            if sqlite:
                assert_along_indexes(plan)
            else:
                assert_few_rows(plan, conditions)


async def explain(history: History, statement: Any) -> list[Any]:
    dialect = history.engine.dialect
    compiled = str(statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
    prefix = "EXPLAIN QUERY PLAN" if dialect.name == "sqlite" else "EXPLAIN (ANALYZE, FORMAT JSON)"
    async with reading(history.engine) as connection:
        reply = await connection.exec_driver_sql(f"{prefix} {compiled}")
        return [row[-1] for row in reply.all()]


def assert_along_indexes(plan: list[str]) -> None:
    """SQLite: nothing large is scanned, nothing but a page is sorted."""
    for step in plan:
        if step.startswith("SCAN celeriac_tasks"):
            # A walk along an index, which the LIMIT ends.
            assert "USING COVERING INDEX" in step or "USING INDEX" in step, plan
        assert not step.startswith("SCAN celeriac_tags"), plan


def assert_few_rows(plan: list[Any], conditions: dict[str, Any]) -> None:
    """PostgreSQL: no step of the plan touched more rows than some pages have."""

    def steps(node: dict[str, Any]) -> Any:
        yield node
        for child in node.get("Plans", ()):
            yield from steps(child)

    for step in steps(plan[0][0]["Plan"]):
        assert step["Node Type"] != "Seq Scan" or step["Actual Rows"] < 1000, step
        touched = (step["Actual Rows"] + step.get("Rows Removed by Filter", 0)) * step["Actual Loops"]
        assert touched <= 3000, f"{conditions}: {step}"


async def test_a_list_without_long_columns_does_not_read_them(history: History) -> None:
    """Whatever lies in these columns, the database is not asked for it."""
    writer = Writer(history.engine, progress="last")
    row = row_of(record(1, payload='{"a": 1}', result='"done"', metadata='{"b": 2}'))
    await writer.write({row["task_id"]: row}, [])
    (whole,) = (await history.find(TaskFilter())).tasks
    assert (whole.task.payload, whole.task.result, whole.task.metadata) == ({"a": 1}, "done", {"b": 2})
    (short,) = (await history.find(TaskFilter(), without={"payload", "result", "metadata"})).tasks
    assert (short.task.payload, short.task.result, short.task.metadata) == ({}, None, {})
    assert short.omitted == ()
    statement = str(queries.page(TaskFilter(), Sort.CREATED_DOWN, 5, None, {"payload", "result", "metadata"}))
    for column in ("payload", "result", "metadata"):
        assert f"celeriac_tasks.{column}" not in statement
        assert f"celeriac_tasks.{column}" in str(queries.page(TaskFilter(), Sort.CREATED_DOWN, 5, None))
