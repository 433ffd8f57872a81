"""Workflows in the history: how the store's become rows, and how rows are read.

While a workflow runs, the store has it: its row is written when it begins, when it gets nodes, when it ends and when it
runs again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Select, delete, literal, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from celeriac import json_text
from celeriac.database.bulk_insert import BulkInsert
from celeriac.database.cursor import Cursor
from celeriac.database.engine import reading, writing
from celeriac.database.workflow_tables import workflows
from celeriac.errors import JsonError, WorkflowNotFoundError
from celeriac.history.rows import bounded, clean
from celeriac.model import (
    Failure,
    Node,
    NodeDependency,
    Status,
    When,
    Workflow,
    WorkflowStatus,
    ms_from_utc,
    utc_from_ms,
)
from celeriac.task_fields import status_of
from celeriac.task_filter import Sort

_c: Final = workflows.c
#: All columns but the large one.
_LISTED: Final = [column for column in workflows.c if column.name != "nodes"]
_SORT: Final = Sort.CREATED_DOWN


@dataclass(frozen=True, slots=True)
class WorkflowFilter:
    """Selects the workflows that meet every condition that is given."""

    status: Sequence[WorkflowStatus] = ()
    name: str | None = None
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class WorkflowPage:
    """Some workflows of a list, without their nodes, and the cursor of the next page; None on the last one."""

    workflows: list[Workflow]
    next_cursor: str | None


async def workflow(engine: AsyncEngine, workflow_id: str) -> Workflow:
    """Return one workflow with its nodes; raises `WorkflowNotFoundError`."""
    statement = select(workflows).where(_c.workflow_id == clean(workflow_id))
    async with reading(engine) as connection:
        row = (await connection.execute(statement)).mappings().first()
    if row is None:
        raise WorkflowNotFoundError(workflow_id)
    return _workflow(row, _nodes(row["nodes"]))


async def page(engine: AsyncEngine, wanted: WorkflowFilter, *, limit: int, cursor: str | None) -> WorkflowPage:
    """Return a page of workflows, the newest first; raises `BadCursorError`."""
    after = None if cursor is None else Cursor.decode(cursor, _SORT)
    statement = _page(wanted, limit + 1, after)
    async with reading(engine) as connection:
        rows = (await connection.execute(statement)).mappings().all()
    following = None
    if len(rows) > limit:
        last = rows[limit - 1]
        following = Cursor(_SORT, last["created_ms"], last["workflow_id"]).encoded()
    return WorkflowPage([_workflow(row, None) for row in rows[:limit]], following)


def _page(wanted: WorkflowFilter, limit: int, after: Cursor | None) -> Select[Any]:
    found = select(*_LISTED)
    if wanted.status:
        found = found.where(_c.status.in_([status.stored for status in wanted.status]))
    if wanted.name is not None:
        found = found.where(_c.name == clean(wanted.name))
    if wanted.user_id is not None:
        found = found.where(_c.user_id == clean(wanted.user_id))
    place = tuple_(_c.created_ms, _c.workflow_id)
    if after is not None:
        found = found.where(place < tuple_(literal(after.at_ms), literal(after.task_id)))
    return found.order_by(_c.created_ms.desc(), _c.workflow_id.desc()).limit(limit)


class WorkflowWriter:
    """Writes rows of workflows; only a later state replaces a row."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        bulk = BulkInsert.of(engine)
        insert = bulk.insert(workflows)
        new = insert.excluded
        self._upsert = bulk.compile(
            insert.on_conflict_do_update(
                index_elements=["workflow_id"],
                set_={column.name: new[column.name] for column in workflows.c if column.name != "workflow_id"},
                where=or_(new.created_ms > _c.created_ms, new.rev > _c.rev),
            )
        )

    async def write(self, found: Iterable[Workflow], lost: Mapping[str, tuple[int, str]]) -> None:
        """Write workflows as the store has them, all or nothing.

        `lost` are those that it has let go: the number of changes and the status that their last event said. Raises
        `HistoryUnavailableError`.
        """
        rows = sorted((row_of(one) for one in found), key=lambda row: str(row["workflow_id"]))
        if not rows and not lost:
            return
        async with writing(self._engine) as connection:
            await self._upsert(connection, rows)
            for workflow_id, (rev, status) in sorted(lost.items()):
                await connection.execute(
                    update(workflows)
                    .where(_c.workflow_id == clean(workflow_id), _c.rev < rev)
                    .values(rev=bounded(rev), status=status)
                )


def row_of(found: Workflow) -> dict[str, Any]:
    """Return the row of a workflow, every column in it."""
    return {
        "workflow_id": clean(found.workflow_id),
        "rev": bounded(found.rev),
        "name": clean(found.name),
        "status": found.status.stored,
        "user_id": clean(found.user_id),
        "created_ms": ms_from_utc(found.created_at),
        "finished_ms": None if found.finished_at is None else ms_from_utc(found.finished_at),
        "last_event": found.last_event,
        "counts": _text({status.stored: count for status, count in found.counts.items()}),
        "metadata": _text(found.metadata),
        "nodes": _text({name: _shape(node) for name, node in (found.nodes or {}).items()}),
    }


async def over(connection: AsyncConnection, before_ms: int, most: int) -> Sequence[str]:
    """Return the ids of up to `most` workflows that ended before this moment, the first that ended first."""
    ended = (
        select(_c.workflow_id)
        .where(_c.finished_ms.is_not(None), _c.finished_ms < before_ms)
        .order_by(_c.finished_ms, _c.workflow_id)
        .limit(most)
    )
    return (await connection.execute(ended)).scalars().all()


async def delete_workflows(connection: AsyncConnection, ids: Sequence[str]) -> None:
    """Delete workflows; their tasks have a retention of their own."""
    await connection.execute(delete(workflows).where(_c.workflow_id.in_(ids)))


def _text(value: Any) -> str:
    return clean(json_text.encode(value).decode()) or ""


def _shape(node: Node) -> dict[str, Any]:
    error = node.error
    return {
        "task_id": node.task_id,
        "type": node.type,
        "after": [[one.node, one.when.value] for one in node.after],
        "place": node.place,
        "first": node.first,
        "status": node.status.stored,
        "started_ms": None if node.started_at is None else ms_from_utc(node.started_at),
        "finished_ms": None if node.finished_at is None else ms_from_utc(node.finished_at),
        "error": None if error is None else [error.code, error.message, error.retryable],
    }


def _nodes(text: str) -> dict[str, Node]:
    """Read the nodes of a row, none if they cannot be read."""
    try:
        found = json_text.read(text)
        nodes = [_node(name, shape) for name, shape in found.items()]
    except (JsonError, LookupError, TypeError, ValueError, AttributeError):
        return {}
    return {node.name: node for node in sorted(nodes, key=lambda node: node.place)}


def _node(name: str, shape: Mapping[str, Any]) -> Node:
    started_ms, finished_ms, error = shape["started_ms"], shape["finished_ms"], shape["error"]
    return Node(
        name=name,
        task_id=shape["task_id"],
        type=shape["type"],
        after=tuple(NodeDependency(node, When(when)) for node, when in shape["after"]),
        place=shape["place"],
        first=shape["first"],
        status=status_of(shape["status"]),
        started_at=None if started_ms is None else utc_from_ms(started_ms),
        finished_at=None if finished_ms is None else utc_from_ms(finished_ms),
        error=None if error is None else Failure(*error),
    )


def _workflow(row: Any, nodes: Mapping[str, Node] | None) -> Workflow:
    return Workflow(
        workflow_id=row["workflow_id"],
        name=row["name"],
        status=WorkflowStatus[row["status"]],
        user_id=row["user_id"],
        metadata=_object(row["metadata"]),
        created_at=utc_from_ms(row["created_ms"]),
        finished_at=None if row["finished_ms"] is None else utc_from_ms(row["finished_ms"]),
        counts={Status(status): count for status, count in _object(row["counts"]).items()},
        nodes=nodes,
        last_event=row["last_event"],
        rev=row["rev"],
    )


def _object(text: str | None) -> dict[str, Any]:
    try:
        found = json_text.read(text or "{}")
    except JsonError:
        return {}
    return found if isinstance(found, dict) else {}
