"""The table of workflows. Times are milliseconds since the epoch, as in `task_tables.py`."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, Column, Index, Table, Text, text

from celeriac.database.task_tables import Key, metadata

workflows: Final = Table(
    "celeriac_workflows",
    metadata,
    Column("workflow_id", Key, primary_key=True),
    # How often the record had changed. The state with the higher number is the later one.
    Column("rev", BigInteger, nullable=False),
    Column("name", Key, nullable=False),
    Column("status", Key, nullable=False),
    Column("user_id", Key),
    Column("created_ms", BigInteger, nullable=False),
    Column("finished_ms", BigInteger),
    # The stream id of its last event.
    Column("last_event", Text, nullable=False),
    # How many nodes have which status: a JSON object.
    Column("counts", Text, nullable=False),
    # JSON, as in the record.
    Column("metadata", Text),
    # The graph, and how each node ended: a JSON object. The large column last: lists do not read it.
    Column("nodes", Text, nullable=False),
)

_c = workflows.c


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


#: One index for each way to list, and one for the pruner.
INDEXES: Final = (
    Index("celeriac_workflows_created", _c.created_ms, _c.workflow_id),
    Index("celeriac_workflows_status_created", _c.status, _c.created_ms, _c.workflow_id),
    Index("celeriac_workflows_name_created", _c.name, _c.created_ms, _c.workflow_id),
    Index(
        "celeriac_workflows_user_created", _c.user_id, _c.created_ms, _c.workflow_id, **_where("user_id IS NOT NULL")
    ),
    Index("celeriac_workflows_finished", _c.finished_ms, _c.workflow_id, **_where("finished_ms IS NOT NULL")),
)
