"""Workflows through the HTTP API: `AsyncClient(…).workflows`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from celeriac.calling.options import NewNode, submission_document, to_json
from celeriac.client.http.api import Api
from celeriac.client.http.calls import WORKFLOWS, Call, idempotent, workflow_path
from celeriac.client.http.following import workflow_events
from celeriac.client.inputs import filter_query
from celeriac.client.outputs import member, workflow_of
from celeriac.client.reports import data_of
from celeriac.errors import ApiError
from celeriac.model import Failure, Status, Workflow, WorkflowStatus
from celeriac.tasks.record import error_from_record
from celeriac.tasks.request import check_idempotency_key

#: Workflows of one page of a listing.
_PAGE: Final = 200


@dataclass(frozen=True, slots=True)
class AcceptedWorkflow:
    """A workflow that was accepted."""

    workflow_id: str
    #: The ids of the tasks of its nodes, by name: `client.task(submitted.nodes["send"])` is a handle.
    nodes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class NodeChange:
    """A node of a workflow has another status."""

    node: str
    task_id: str
    status: Status
    #: When the last attempt started.
    started_at: datetime | None
    finished_at: datetime | None
    error: Failure | None
    #: Whether it is the state at the beginning of the stream, since the server does not keep the changes before it.
    snapshot: bool = False


class AsyncClientWorkflows:
    """The workflows of an installation. Every method raises as those of the client do."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def submit(
        self,
        name: str,
        nodes: Mapping[str, NewNode],
        *,
        metadata: Mapping[str, Any] | None = None,
        user_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> AcceptedWorkflow:
        """Submit a graph of 1 to 1,000 tasks: all of them or nothing; it is stored durably when this returns.

        A node is what `submit_many` takes for a task, with `after`: the names of the nodes that it comes after, or
        `{"node": NAME, "when": W}`. `{"$result": NAME}` in its payload stands for the result of such a node. Raises
        `InvalidSubmissionError`, which names the node, `PayloadTooLargeError`, `QueueFullError` and `GroupLimitError`.
        """
        # Every try has the same key, so that they make one workflow.
        key = idempotency_key or self._api.new_key()
        check_idempotency_key(key)
        document: dict[str, Any] = {"name": name, "nodes": _documents(nodes)}
        document |= {k: v for k, v in (("metadata", metadata), ("user_id", user_id)) if v is not None}
        call = Call("POST", WORKFLOWS, body=to_json(document), headers=idempotent(key))
        answer = await self._api.document(call)
        return AcceptedWorkflow(str(member(answer, "workflow_id", str)), member(answer, "nodes", dict))

    async def get(self, workflow_id: str) -> Workflow:
        """Return a workflow with its nodes; raises `WorkflowNotFoundError`."""
        return workflow_of(await self._api.document(Call("GET", workflow_path(workflow_id))))

    def list(
        self, *, status: str | None = None, name: str | None = None, limit: int | None = None
    ) -> AsyncGenerator[Workflow]:
        """Iterate over workflows without their nodes, newest first; reads page by page, at most `limit` of them.

        They come from the history, which is behind by less than a second.
        """
        query = filter_query({"status": status, "name": name})
        return self._api.items(WORKFLOWS, query, workflow_of, page_size=_PAGE, limit=limit)

    async def add_nodes(self, workflow_id: str, nodes: Mapping[str, NewNode]) -> Mapping[str, str]:
        """Add nodes to a workflow that has not ended, all or none; return the ids of their tasks, by name.

        They may come after nodes that it has. Raises `NodeExistsError` and `IllegalWorkflowMoveError` too.
        """
        call = Call("POST", f"{workflow_path(workflow_id)}/nodes", body=to_json({"nodes": _documents(nodes)}))
        return member(await self._api.document(call), "nodes", dict)

    async def cancel(self, workflow_id: str) -> WorkflowStatus:
        """Cancel a workflow as a whole; return its status now. Its running nodes stop soon.

        Raises `WorkflowNotFoundError`, and `IllegalWorkflowMoveError` for one that has ended in another way.
        """
        return await self._move(workflow_id, "cancel")

    async def retry(self, workflow_id: str) -> WorkflowStatus:
        """Run the failed nodes of a workflow again, and put those that they had cancelled back to waiting.

        The cancelled nodes of a cancelled workflow run again. Returns its status now. Raises as `cancel` does.
        """
        return await self._move(workflow_id, "retry")

    async def stream(self, workflow_id: str) -> AsyncGenerator[NodeChange]:
        """Iterate over the changes of the nodes, from the first one on and live, until the workflow has ended.

        A connection that breaks is made again; no change is lost or repeated.
        """
        async with aclosing(workflow_events(self._api, workflow_id)) as events:
            async for event in events:
                if event.name == "node":
                    yield _change_of(data_of(event))

    async def _move(self, workflow_id: str, move: str) -> WorkflowStatus:
        answer = await self._api.document(Call("POST", f"{workflow_path(workflow_id)}/{move}"))
        try:
            return WorkflowStatus(answer["status"])
        except (KeyError, ValueError) as exc:
            raise ApiError(f"the answer has no valid status: {exc!r}", status=200, code="unreadable") from exc


def _documents(nodes: Mapping[str, NewNode]) -> dict[str, Any]:
    return {name: submission_document(node) for name, node in nodes.items()}


def _change_of(data: Mapping[str, Any]) -> NodeChange:
    moments: Sequence[Any] = (data.get("started_at"), data.get("finished_at"))
    try:
        started_at, finished_at = (None if one is None else datetime.fromisoformat(one) for one in moments)
        return NodeChange(
            node=data["node"],
            task_id=data["task_id"],
            status=Status(data["status"]),
            started_at=started_at,
            finished_at=finished_at,
            error=error_from_record(data.get("error")),
            snapshot=bool(data.get("snapshot")),
        )
    except (KeyError, TypeError, ValueError) as exc:
        raise ApiError(f"an event of a node cannot be read: {exc!r}", status=200, code="unreadable") from exc
