"""The answers of the routes of workflows, for OpenAPI. They are written directly from the records of the core."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from celeriac_api.openapi.problem_examples import TASK_ID, WORKFLOW_ID
from celeriac_api.openapi.schemas import TaskError, WireStatus

WireWorkflowStatus = Literal["running", "completed", "failed", "cancelled"]

_THEN = "2030-01-31T08:00:00.000Z"
_OTHER_ID = "7d0c6a8e-9f53-4a0e-8a43-2b1f0c9d8e7f"
_SUMMARY: dict[str, Any] = {
    "workflow_id": WORKFLOW_ID,
    "name": "report",
    "status": "running",
    "counts": {"completed": 1, "processing": 1},
    "created_at": _THEN,
    "finished_at": None,
    "user_id": None,
    "metadata": {},
}
_NODES: dict[str, Any] = {
    "fetch": {
        "task_id": TASK_ID,
        "type": "grpc_task",
        "status": "completed",
        "after": [],
        "started_at": _THEN,
        "finished_at": "2030-01-31T08:00:01.000Z",
        "error": None,
    },
    "render": {
        "task_id": _OTHER_ID,
        "type": "report",
        "status": "processing",
        "after": [{"node": "fetch", "when": "completed"}],
        "started_at": "2030-01-31T08:00:01.000Z",
        "finished_at": None,
        "error": None,
    },
}


def _examples(*examples: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": list(examples)})


class AfterInfo(BaseModel):
    """A node that another one comes after, and the end of it that is waited for."""

    node: str
    when: Literal["completed", "failed", "ended"]


class NodeInfo(BaseModel):
    """A node of a workflow."""

    task_id: str
    type: str
    status: WireStatus
    after: list[AfterInfo]
    started_at: Annotated[str | None, Field(description="When its last attempt started.")]
    finished_at: str | None
    error: Annotated[TaskError | None, Field(description="A long message is shortened; the task has all of it.")]


class WorkflowSummary(BaseModel):
    """A workflow without its nodes."""

    model_config = _examples(_SUMMARY)

    workflow_id: str
    name: str
    status: WireWorkflowStatus
    counts: Annotated[dict[WireStatus, int], Field(description="How many nodes have which status; none is zero.")]
    created_at: str
    finished_at: str | None
    user_id: str | None
    metadata: dict[str, Any]


class WorkflowRecord(WorkflowSummary):
    """A workflow."""

    model_config = _examples({**_SUMMARY, "nodes": _NODES})

    nodes: Annotated[dict[str, NodeInfo], Field(description="By name, in the order in which they came.")]


class WorkflowPage(BaseModel):
    """A page of workflows."""

    model_config = _examples({"items": [_SUMMARY], "next_cursor": None})

    items: list[WorkflowSummary]
    next_cursor: Annotated[str | None, Field(description="`cursor` of the next page; `null` on the last one.")]


class SubmittedWorkflow(BaseModel):
    """A workflow that was accepted, and the tasks of its nodes by name."""

    model_config = _examples(
        {"workflow_id": WORKFLOW_ID, "status": "running", "nodes": {"fetch": TASK_ID, "render": _OTHER_ID}}
    )

    workflow_id: str
    status: WireWorkflowStatus
    nodes: dict[str, str]


class AddedNodes(BaseModel):
    """Nodes that were accepted, by name."""

    model_config = _examples({"workflow_id": WORKFLOW_ID, "nodes": {"send": TASK_ID}})

    workflow_id: str
    nodes: dict[str, str]


class WorkflowState(BaseModel):
    """A workflow and its status."""

    model_config = _examples({"workflow_id": WORKFLOW_ID, "status": "running"})

    workflow_id: str
    status: WireWorkflowStatus
