"""The pure parts of the history: classes of durations, cursors, filters, rows."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from celeriac.database import migrating
from celeriac.database import task_tables as tables
from celeriac.database.cursor import BadCursorError, Cursor
from celeriac.database.engine import database_of, shown
from celeriac.errors import SettingsError
from celeriac.history.durations import class_of, middle_of, percentile
from celeriac.history.rows import record_of, row_of
from celeriac.model import Status
from celeriac.settings import Settings
from celeriac.store.records import task_from_hash
from celeriac.task_filter import Sort, TaskFilter
from celeriac.tasks.types.bulk import BulkPayload


@given(st.integers(min_value=1, max_value=2**62))
def test_a_class_is_within_five_percent_of_its_durations(duration_ms: int) -> None:
    assert middle_of(class_of(duration_ms)) == pytest.approx(duration_ms, rel=0.05)


@given(st.lists(st.integers(min_value=1, max_value=10**7), min_size=1), st.sampled_from([0.5, 0.95, 1.0]))
def test_a_percentile_is_near_the_one_of_the_sorted_durations(durations: list[int], share: float) -> None:
    histogram: dict[int, int] = {}
    for duration in durations:
        histogram[class_of(duration)] = histogram.get(class_of(duration), 0) + 1
    exact = sorted(durations)[max(-int(-share * len(durations) // 1), 1) - 1]
    assert percentile(histogram, share) == pytest.approx(exact, rel=0.1)


def test_nothing_has_no_percentile_and_less_than_a_millisecond_is_zero() -> None:
    assert percentile({}, 0.5) is None
    assert percentile({class_of(0): 3}, 0.5) == 0


@given(st.sampled_from(Sort), st.integers(min_value=-(2**63) + 1, max_value=2**63 - 1), st.text())
def test_a_cursor_is_read_as_it_was_written(sort: Sort, at_ms: int, task_id: str) -> None:
    if "\x00" in task_id:
        return
    cursor = Cursor(sort, at_ms, task_id)
    assert Cursor.decode(cursor.encoded(), sort) == cursor


@given(st.text())
def test_any_other_text_is_no_cursor(text: str) -> None:
    with pytest.raises(BadCursorError):
        Cursor.decode(text, Sort.CREATED)


def test_a_cursor_belongs_to_one_way_of_sorting() -> None:
    with pytest.raises(BadCursorError, match=r"sorted by created_at, this one is sorted by -created_at"):
        Cursor.decode(Cursor(Sort.CREATED, 1, "t").encoded(), Sort.CREATED_DOWN)


def test_a_filter_reads_words_and_moments_as_a_query_writes_them() -> None:
    read = TaskFilter.model_validate(
        {"status": ["failed,completed", "FAILED"], "tag": "a, b", "created_after": "2030-01-31T08:00:00 01:00"}
    )
    assert read.status == (Status.FAILED, Status.COMPLETED)
    assert read.tag == ("a", "b")
    assert read.created_after == datetime(2030, 1, 31, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", "gone"),
        ("created_after", "2030-01-31"),
        ("created_after", "2030-01-31T08:00:00"),
        ("created_after", 5),
        ("state", "failed"),
        ("q", " "),
        ("type", ""),
        ("tag", ",".join(f"t{n}" for n in range(21))),
    ],
)
def test_a_filter_refuses_what_it_cannot_mean(field: str, value: object) -> None:
    with pytest.raises(ValidationError):
        TaskFilter.model_validate({field: value})


def test_a_range_that_holds_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="nothing lies between"):
        TaskFilter.model_validate({"created_after": "2030-01-02T00:00:00Z", "created_before": "2030-01-01T00:00:00Z"})


def test_a_bulk_operation_acts_on_the_statuses_from_which_it_leads_somewhere() -> None:
    def targets(action: str, **conditions: object) -> set[str]:
        payload = BulkPayload.model_validate({"action": action, "filter": conditions})
        return {status.wire for status in payload.targets.status}

    assert targets("cancel", type="x") == {"waiting", "scheduled", "pending", "processing", "retrying"}
    assert targets("cancel", status="pending,completed") == {"pending"}
    assert targets("retry", type="x") == {"failed"}
    assert targets("retry", status="failed,cancelled") == {"failed", "cancelled"}
    for action, conditions in (("retry", {}), ("retry", {"status": "completed"}), ("cancel", {"status": "failed"})):
        with pytest.raises(ValidationError):
            BulkPayload.model_validate({"action": action, "filter": conditions})


RECORD = {
    "task_id": "t", "type": "demo", "queue": "media", "status": "FAILED", "payload": '{"a":1}', "attempt": "2",
    "max_retries": "3", "priority": "4", "user_id": "jo", "metadata": '{"m":1}', "tags": '["x"]', "owner": "w",
    "definition_id": "d", "workflow_id": "f", "node": "a/b",
    "created_at": "2030-01-31T08:00:00.001Z", "updated_at": "2030-01-31T08:00:09.000Z",
    "started_at": "2030-01-31T08:00:05.000Z", "finished_at": "2030-01-31T08:00:09.000Z", "percentage": "12.5",
    "stage": "s", "message_text": "m", "timestamp_ms": "1234", "error_code": "broken", "error_message": "boom",
    "error_retryable": "0", "cancel_requested": "2030-01-31T08:00:08.000Z", "rev": "7", "timeout_ms": "1500",
    "original_file_path": "/x", "delivery": "broker",
}  # fmt: skip
PASSING = {"fence": "f", "hints": "0", "hinted_ms": "1", "pending_ms": "1896076803000", "nonce": "n"}


def test_a_row_holds_the_record_and_gives_it_back_without_what_was_passing() -> None:
    row = row_of({**RECORD, **PASSING})
    assert set(row) == {column.name for column in tables.tasks.c}
    assert (row["wait_ms"], row["run_ms"]) == (2000, 4000)
    again = record_of(row)
    assert again == {**RECORD, "cancel_requested": RECORD["updated_at"]}
    assert task_from_hash(again) == task_from_hash(RECORD)


def test_a_record_with_almost_nothing_has_a_row() -> None:
    row = row_of({"task_id": "t", "status": "PENDING"})
    assert (row["payload"], row["queue"], row["created_ms"], row["rev"]) == ("{}", "default", 0, 0)


def test_what_no_column_can_hold_is_brought_into_bounds() -> None:
    row = row_of({"task_id": "t", "status": "PENDING", "timestamp_ms": str(2**80), "stage": "a\x00b"})
    assert row["progress_ms"] == 2**63 - 1
    assert row["stage"] == "a\ufffdb"


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:////data/x.db", "sqlite"),
        ("postgres://u:p@h/d", "postgresql"),
        ("postgresql+psycopg://u@h/d", "postgresql"),
    ],
)
def test_a_database_is_sqlite_or_postgresql(url: str, driver: str) -> None:
    assert database_of(url).drivername == driver


@pytest.mark.parametrize("url", ["mysql://h/d", "sqlite://", "sqlite:///:memory:", "x", ""])
def test_any_other_database_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="database_url"):
        database_of(url)


def test_a_password_is_not_shown() -> None:
    assert "secret" not in shown("postgresql://u:secret@h/d")


def test_the_version_that_processes_look_for_is_the_newest_migration() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", f"{migrating.__file__.removesuffix('migrating.py')}migrations")
    assert ScriptDirectory.from_config(config).get_current_head() == migrating.HEAD


def test_retention_is_the_type_s_own_unless_the_settings_say_otherwise() -> None:
    settings = Settings.model_validate({"types": {"a": {"retention": "1h", "ledger_retention": "1d"}, "b": {}}})
    assert settings.retentions.record_of("a", 5) == 3600
    assert settings.retentions.record_of("b", 5) == 5
    assert settings.retentions.record_of("c") == settings.retention
    assert settings.retentions.history_of("a") == 86400
    assert settings.retentions.history_of("b") == settings.ledger_retention
