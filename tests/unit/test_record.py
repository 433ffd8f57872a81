from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from celeriac.database.task_tables import tasks
from celeriac.history.rows import record_of, row_of
from celeriac.model import AwaitedSignal, AwaitedTime, Dependency, Failure, Progress, Status, Task, When, utc_from_ms
from celeriac.store.records import task_from_hash
from celeriac.task_fields import (
    DEPENDENCIES,
    FIELDS,
    FLAG,
    JSON,
    LINES,
    MOMENT,
    NUMBER,
    OBJECT,
    ON_UNMET,
    STATUS,
    TEXT,
    WORDS,
)
from celeriac.tasks.record import plain_number, task_from_record, task_record

CREATED = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
TASK = Task(
    task_id="t-1",
    type="echo",
    group="media",
    status=Status.PENDING,
    payload={"text": "hi"},
    progress=Progress(),
    result=None,
    error=None,
    attempt=0,
    max_retries=3,
    priority=4,
    user_id=None,
    metadata={"order": 7},
    worker=None,
    created_at=CREATED,
    updated_at=CREATED,
    started_at=None,
    finished_at=None,
    run_at=None,
    expires_at=None,
    cancel_requested=False,
    extra={"internal": "1"},
)


def test_record_has_the_fields_of_the_contract_first_and_the_additions_after_them() -> None:
    assert list(task_record(TASK)) == [
        "task_id", "type", "queue", "status", "payload", "progress", "result", "error", "attempt",
        "max_retries", "user_id", "worker", "created_at", "started_at", "finished_at", "updated_at",
        "priority", "metadata", "tags", "run_at", "expires_at", "cancel_requested",
        "workflow_id", "node", "depends_on", "key", "waiting_for", "title",
    ]  # fmt: skip


def test_record_is_json_with_lower_case_status_and_rfc3339_times() -> None:
    record = json.loads(json.dumps(task_record(TASK)))
    assert record["status"] == "pending"
    assert record["queue"] == "media"
    assert record["created_at"] == "2026-03-01T12:00:00.250Z"
    assert record["started_at"] is None
    assert record["metadata"] == {"order": 7}


def test_a_record_says_what_the_task_depends_on_and_null_without() -> None:
    assert task_record(TASK)["depends_on"] is None
    child = replace(TASK, depends_on=(Dependency("a", When.ENDED), Dependency("b", When.FAILED)))
    shown = [{"task": "a", "when": "ended"}, {"task": "b", "when": "failed"}]
    assert task_record(child)["depends_on"] == shown
    assert task_from_record(task_record(child)).depends_on == child.depends_on
    without = {name: value for name, value in task_record(TASK).items() if name != "depends_on"}
    for record in (task_record(TASK), without):
        assert task_from_record(record).depends_on == (), "records of earlier versions have no such field"


def test_progress_without_a_report_is_zero_since_creation() -> None:
    assert task_record(TASK)["progress"] == {
        "percentage": 0,
        "stage": "",
        "message": "",
        "timestamp_ms": 1772366400250,
    }


def test_progress_keeps_fractions_and_writes_whole_numbers_as_integers() -> None:
    whole = replace(TASK, progress=Progress(40.0, "work", "page 4", 1772366401000))
    assert json.dumps(task_record(whole)["progress"]) == (
        '{"percentage": 40, "stage": "work", "message": "page 4", "timestamp_ms": 1772366401000}'
    )
    part = replace(TASK, progress=Progress(12.5, "", "", 1))
    assert task_record(part)["progress"]["percentage"] == 12.5


def test_error_is_an_object_of_three_fields() -> None:
    failed = replace(TASK, status=Status.FAILED, error=Failure("timeout", "too slow", True))
    assert task_record(failed)["error"] == {"code": "timeout", "message": "too slow", "retryable": True}


@pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (100.0, "100"), (33.25, "33.25"), (7, "7")])
def test_plain_number(value: float, text: str) -> None:
    assert json.dumps(plain_number(value)) == text


def test_a_record_is_read_back_as_it_was_written() -> None:
    ended = replace(
        TASK,
        status=Status.FAILED,
        progress=Progress(40.5, "stage", "message", 1234),
        error=Failure("code", "message", True),
        started_at=CREATED,
        run_at=CREATED,
        tags=("red",),
        depends_on=(Dependency("a", When.ENDED), Dependency("b", When.COMPLETED)),
        waiting_for=(
            Dependency("a", When.ENDED),
            AwaitedSignal("approval", "Refund?", {"type": "boolean"}, CREATED),
            AwaitedSignal("plain"),
            AwaitedTime(CREATED),
        ),
    )
    for task in (TASK, ended):
        record = task_record(task)
        assert task_record(task_from_record({**record, "of_a_later_version": 1})) == record
    with pytest.raises(ValueError, match="not the record of a task"):
        task_from_record({"task_id": "t"})


#: A value of each kind, as the store has it.
SAMPLES = {
    TEXT: "text",
    NUMBER: "7",
    MOMENT: "2026-03-01T12:00:00.250Z",
    JSON: '{"a":[1]}',
    OBJECT: '{"b":2}',
    WORDS: '["red","blue"]',
    LINES: "login.password\nkeys.*",
    FLAG: "1",
    STATUS: "FAILED",
    DEPENDENCIES: '[["a","ended"]]',
    ON_UNMET: "fail",
}
PARTS = {"percentage": "40.5", "stage": "s", "message_text": "m", "timestamp_ms": "1234", "error_code": "c"}


def full_record() -> dict[str, str]:
    """Return a record that has every field."""
    record = {field.names[0]: SAMPLES[field.kind] for field in FIELDS if field.kind in SAMPLES}
    return {**record, **PARTS, "error_message": "e", "error_retryable": "1", "cancel_requested": record["updated_at"]}


def test_every_field_of_a_record_is_read_from_the_store_and_comes_back_from_the_history() -> None:
    assert {name for field in FIELDS for name in field.names} == set(full_record())
    task = task_from_hash(full_record())
    assert {field.name for field in dataclasses.fields(Task)} == {
        *(field.name for field in FIELDS),
        *("extra", "damage", "waiting_for", "title"),
    }
    assert all(getattr(task, field.name) for field in FIELDS)
    row = row_of(full_record())
    assert set(row) == set(tasks.c.keys()), "each column has its field, and each field with a column has it"
    assert {name: value for name, value in record_of(row).items() if name != "rev"} == full_record()


def test_a_record_without_most_fields_is_read_with_their_defaults() -> None:
    least = {"task_id": "t", "status": "PENDING"}
    task = task_from_hash(least)
    assert (task.type, task.group, task.payload, task.metadata) == ("", "default", {}, {})
    assert (task.priority, task.tags, task.notified) == (0, (), False)
    assert (task.created_at, task.started_at, task.error, task.timeout_ms) == (utc_from_ms(0), None, None, None)
    kept = task_from_hash(record_of(row_of(least)))
    assert (kept.task_id, kept.group, kept.attempt, kept.cancel_requested) == ("t", "default", 0, False)


def test_fields_of_other_programs_and_of_earlier_versions_do_no_harm() -> None:
    task = task_from_hash({"task_id": "t", "status": "PENDING", "theirs": "x", "slot_ms": "1", "started_ms": "2"})
    assert task.extra == {"theirs": "x"}
    row = row_of({"task_id": "t", "status": "PENDING", "theirs": "x"})
    assert task_from_hash(record_of({**row, "extra": '{"theirs":"x","started_ms":"2"}'})).extra == {"theirs": "x"}
