"""Workflows for blocking code: `Client(…).workflows`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping
from typing import Any, TypeVar

from celeriac.calling.blocking import block_on, block_on_each
from celeriac.calling.options import NewNode
from celeriac.client.workflows import AcceptedWorkflow, AsyncClientWorkflows, NodeChange
from celeriac.model import Workflow, WorkflowStatus

T = TypeVar("T")


class ClientWorkflows:
    """The workflows of an installation. Every method raises as those of the client do."""

    def __init__(self, workflows: AsyncClientWorkflows) -> None:
        self._workflows = workflows

    def submit(
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
        return self._block(
            self._workflows.submit(name, nodes, metadata=metadata, user_id=user_id, idempotency_key=idempotency_key),
            "submit",
        )

    def get(self, workflow_id: str) -> Workflow:
        """Return a workflow with its nodes; raises `WorkflowNotFoundError`."""
        return self._block(self._workflows.get(workflow_id), "get")

    def list(
        self, *, status: str | None = None, name: str | None = None, limit: int | None = None
    ) -> Iterator[Workflow]:
        """Iterate over workflows without their nodes, newest first; reads page by page, at most `limit` of them.

        They come from the history, which is behind by less than a second.
        """
        return self._each(self._workflows.list(status=status, name=name, limit=limit), "list")

    def add_nodes(self, workflow_id: str, nodes: Mapping[str, NewNode]) -> Mapping[str, str]:
        """Add nodes to a workflow that has not ended, all or none; return the ids of their tasks, by name.

        They may come after nodes that it has. Raises `NodeExistsError` and `IllegalWorkflowMoveError` too.
        """
        return self._block(self._workflows.add_nodes(workflow_id, nodes), "add_nodes")

    def cancel(self, workflow_id: str) -> WorkflowStatus:
        """Cancel a workflow as a whole; return its status now. Its running nodes stop soon.

        Raises `WorkflowNotFoundError`, and `IllegalWorkflowMoveError` for one that has ended in another way.
        """
        return self._block(self._workflows.cancel(workflow_id), "cancel")

    def retry(self, workflow_id: str) -> WorkflowStatus:
        """Run the failed nodes of a workflow again, and put those that they had cancelled back to waiting.

        The cancelled nodes of a cancelled workflow run again. Returns its status now. Raises as `cancel` does.
        """
        return self._block(self._workflows.retry(workflow_id), "retry")

    def stream(self, workflow_id: str) -> Iterator[NodeChange]:
        """Iterate over the changes of the nodes, from the first one on and live, until the workflow has ended.

        A connection that breaks is made again; no change is lost or repeated.
        """
        return self._each(self._workflows.stream(workflow_id), "stream")

    def _block(self, work: Coroutine[Any, Any, T], name: str) -> T:
        call = f"workflows.{name}()"
        return block_on(work, call=f"Client.{call}", instead=f"await AsyncClient.{call}")

    def _each(self, items: AsyncGenerator[T], name: str) -> Iterator[T]:
        call = f"workflows.{name}()"
        return block_on_each(items, call=f"Client.{call}", instead=f"async for … in AsyncClient.{call}")
