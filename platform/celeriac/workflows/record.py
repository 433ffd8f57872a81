"""A workflow as every front door writes it: the names of `GET /api/v1/workflows/{id}`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from celeriac.model import Node, NodeDependency, Status, When, Workflow, WorkflowStatus, rfc3339
from celeriac.tasks.record import error_from_record, error_record


def workflow_record(workflow: Workflow) -> dict[str, Any]:
    """Return a workflow, JSON-ready; without `nodes` if they were not read."""
    return {
        "workflow_id": workflow.workflow_id,
        "name": workflow.name,
        "status": workflow.status.wire,
        "counts": {status.wire: count for status, count in workflow.counts.items()},
        **({} if workflow.nodes is None else {"nodes": {n: node_record(node) for n, node in workflow.nodes.items()}}),
        "created_at": rfc3339(workflow.created_at),
        "finished_at": None if workflow.finished_at is None else rfc3339(workflow.finished_at),
        "user_id": workflow.user_id,
        "metadata": workflow.metadata,
    }


def workflow_from_record(record: Mapping[str, Any]) -> Workflow:
    """Read what `workflow_record` wrote; raises `KeyError`, `TypeError`, `AttributeError` or `ValueError`."""
    nodes = record.get("nodes")
    return Workflow(
        workflow_id=record["workflow_id"],
        name=record["name"],
        status=WorkflowStatus(record["status"]),
        user_id=record["user_id"],
        metadata=record["metadata"],
        created_at=datetime.fromisoformat(record["created_at"]),
        finished_at=_moment(record["finished_at"]),
        counts={Status(status): int(count) for status, count in record["counts"].items()},
        nodes=None
        if nodes is None
        else {name: _node(name, place, node) for place, (name, node) in enumerate(nodes.items())},
    )


def _node(name: str, place: int, record: Mapping[str, Any]) -> Node:
    return Node(
        name=name,
        task_id=record["task_id"],
        type=record["type"],
        after=tuple(NodeDependency(one["node"], When(one["when"])) for one in record["after"]),
        place=place,
        status=Status(record["status"]),
        started_at=_moment(record["started_at"]),
        finished_at=_moment(record["finished_at"]),
        error=error_from_record(record["error"]),
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def node_record(node: Node) -> dict[str, Any]:
    """Return a node of a workflow, JSON-ready."""
    return {
        "task_id": node.task_id,
        "type": node.type,
        "status": node.status.wire,
        "after": [{"node": one.node, "when": one.when.value} for one in node.after],
        "started_at": None if node.started_at is None else rfc3339(node.started_at),
        "finished_at": None if node.finished_at is None else rfc3339(node.finished_at),
        "error": error_record(node.error),
    }
