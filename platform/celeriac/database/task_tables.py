"""The tables of tasks. Times are milliseconds since the epoch: exact integers, the same in both kinds of databases.

Each name has a prefix, so that the tables can be in a database with other tables.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import TEXT as PG_TEXT

metadata: Final = MetaData()

#: Text that is compared and sorted byte by byte, as in SQLite; for ids, cursors and prefixes.
Key: Final = Text().with_variant(PG_TEXT(collation="C"), "postgresql")

tasks: Final = Table(
    "celeriac_tasks",
    metadata,
    Column("task_id", Key, primary_key=True),
    # How often the record had changed. The state with the higher number is the later one.
    Column("rev", BigInteger, nullable=False),
    Column("type", Key, nullable=False),
    Column("queue", Key, nullable=False),
    Column("status", Key, nullable=False),
    Column("definition_id", Key),
    Column("user_id", Key),
    Column("workflow_id", Key),
    Column("key", Key),
    Column("priority", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("max_retries", Integer, nullable=False),
    Column("worker", Text),
    Column("cancel_requested", Boolean, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("started_ms", BigInteger),
    Column("finished_ms", BigInteger),
    Column("run_at_ms", BigInteger),
    Column("expires_ms", BigInteger),
    # The time from the moment when the last attempt could have started to its start, and from its start to its end.
    Column("wait_ms", BigInteger),
    Column("run_ms", BigInteger),
    # The same in classes of equal ratio (see durations.py), from which percentiles are read without sorting.
    Column("wait_class", SmallInteger),
    Column("run_class", SmallInteger),
    Column("percentage", Double),
    Column("stage", Text),
    Column("progress_message", Text),
    Column("progress_ms", BigInteger),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("error_retryable", Boolean),
    # The group of its last failure for good and when that was; both stay if the task is retried and completes.
    Column("error_group", Key),
    Column("failed_ms", BigInteger),
    # JSON, as in the record.
    Column("metadata", Text),
    Column("tags", Text),
    # What lists call it, made of its payload.
    Column("title", Text),
    # Further fields of the record: a JSON object.
    Column("extra", Text),
    # The large columns last: a row of a list is read only up to here.
    Column("payload", Text, nullable=False),
    Column("result", Text),
)

events: Final = Table(
    "celeriac_events",
    metadata,
    Column("task_id", Key, primary_key=True),
    # Its stream id. Where only the last progress of an attempt is kept: the place that its reports share. Lines of the
    # task's log are of another stream: `log-` and their id. Steps have `step-`, the time of their end and their number.
    Column("slot", Key, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    # A JSON object of texts.
    Column("fields", Text, nullable=False),
    sqlite_with_rowid=False,
)

tags: Final = Table(
    "celeriac_tags",
    metadata,
    Column("tag", Key, primary_key=True),
    Column("created_ms", BigInteger, primary_key=True),
    Column("task_id", Key, primary_key=True),
    Index("celeriac_tags_task", "task_id"),
    sqlite_with_rowid=False,
)

#: Failures that are alike: what they have in common. See `history/error_groups.py`.
error_groups: Final = Table(
    "celeriac_errors",
    metadata,
    Column("error_group", Key, primary_key=True),
    Column("type", Key, nullable=False),
    Column("code", Text, nullable=False),
    # Without the values that differ.
    Column("message", Text, nullable=False),
    # When the first failure was, as far as the history knew it.
    Column("first_ms", BigInteger, nullable=False),
)

_c = tasks.c


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


#: One index for each way to list: the columns to select by, then the columns to sort by, then the id.
INDEXES: Final = (
    # With the status, so that the histogram and the counts do not read rows.
    Index("celeriac_tasks_created", _c.created_ms, _c.task_id, _c.status),
    Index("celeriac_tasks_status_created", _c.status, _c.created_ms, _c.task_id),
    Index("celeriac_tasks_type_created", _c.type, _c.created_ms, _c.task_id),
    Index("celeriac_tasks_queue_created", _c.queue, _c.created_ms, _c.task_id),
    Index("celeriac_tasks_user_created", _c.user_id, _c.created_ms, _c.task_id, **_where("user_id IS NOT NULL")),
    Index(
        "celeriac_tasks_definition_created",
        _c.definition_id,
        _c.created_ms,
        _c.task_id,
        **_where("definition_id IS NOT NULL"),
    ),
    Index(
        "celeriac_tasks_workflow_created",
        _c.workflow_id,
        _c.created_ms,
        _c.task_id,
        **_where("workflow_id IS NOT NULL"),
    ),
    Index("celeriac_tasks_key_created", _c.key, _c.created_ms, _c.task_id, **_where("key IS NOT NULL")),
    Index(
        "celeriac_tasks_error_created",
        _c.error_group,
        _c.created_ms,
        _c.task_id,
        **_where("error_group IS NOT NULL"),
    ),
    # Has all columns that the list of errors needs.
    Index(
        "celeriac_tasks_failures",
        _c.failed_ms,
        _c.error_group,
        _c.status,
        _c.type,
        _c.queue,
        _c.user_id,
        _c.task_id,
        **_where("error_group IS NOT NULL"),
    ),
    # What has no group yet; it is nearly always empty.
    Index(
        "celeriac_tasks_ungrouped",
        _c.finished_ms,
        _c.task_id,
        **_where("error_group IS NULL AND status = 'FAILED'"),
    ),
    Index("celeriac_tasks_updated", _c.updated_ms, _c.task_id),
    # The search in error messages reads only these rows.
    Index("celeriac_tasks_errors", _c.created_ms, _c.task_id, **_where("error_message IS NOT NULL")),
    Index("celeriac_tasks_status_finished", _c.status, _c.finished_ms, _c.task_id, **_where("finished_ms IS NOT NULL")),
    # The pruner uses it too, type by type.
    Index("celeriac_tasks_type_finished", _c.type, _c.finished_ms, _c.task_id, **_where("finished_ms IS NOT NULL")),
    # Has all columns that charts need, so that they do not read rows.
    Index(
        "celeriac_tasks_finished",
        _c.finished_ms,
        _c.task_id,
        _c.status,
        _c.type,
        _c.queue,
        _c.run_ms,
        _c.run_class,
        _c.wait_ms,
        _c.wait_class,
        **_where("finished_ms IS NOT NULL"),
    ),
)
