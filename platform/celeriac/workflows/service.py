"""The service of workflows: the one door through which every front door submits, finds and changes them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from celeriac import json_text
from celeriac.access.principal import LOCAL, Principal
from celeriac.errors import (
    HistoryMissingError,
    IllegalWorkflowMoveError,
    InvalidSubmissionError,
    JsonError,
    StoreUnavailableError,
    UnknownParentError,
    Violation,
    WorkflowNotFoundError,
)
from celeriac.history.workflows import WorkflowFilter, WorkflowPage
from celeriac.model import Dependency, Node, NodeOrders, Status, Workflow, WorkflowStatus
from celeriac.store.workflows import NewWorkflow, PlannedNode, WorkflowStore
from celeriac.tasks.confining import confined
from celeriac.tasks.request import MAX_METADATA_BYTES, DependencyRequest, check_idempotency_key
from celeriac.tasks.submission import build_submission, known_type, new_task_id
from celeriac.workflows.graph import in_order
from celeriac.workflows.request import (
    NodeReference,
    NodeRequest,
    NodesRequest,
    WorkflowRequest,
    check_no_more,
    node_documents,
    ordered,
    read_head,
    read_node,
)

if TYPE_CHECKING:
    from celeriac.settings import Settings
    from celeriac.tasks.service import Tasks

# Now, and not with the first request of a server.
for _model in (NodeReference, NodeRequest, NodesRequest, WorkflowRequest):
    _model.model_rebuild()

#: Nodes that are checked before others get their turn on the event loop (a few milliseconds).
_TURN: Final = 50


@dataclass(frozen=True, slots=True)
class SubmittedWorkflow:
    """The answer to a submission; `created` is false if the idempotency key was known already."""

    workflow_id: str
    #: The tasks of the nodes that came with the submission, by name.
    nodes: Mapping[str, str]
    created: bool


class WorkflowHistory(Protocol):
    """What the service asks of the history; every method raises `HistoryUnavailableError`."""

    async def workflow(self, workflow_id: str) -> Workflow:
        """Return one workflow with its nodes; raises `WorkflowNotFoundError`."""
        ...

    async def workflows(self, wanted: WorkflowFilter, *, limit: int, cursor: str | None = None) -> WorkflowPage:
        """Return a page of the workflows that the filter selects, the newest first; raises `BadCursorError`."""
        ...


class Workflows:
    """A process's access to workflows; belongs to one event loop.

    `history` is None where there is no database. Every method raises `StoreUnavailableError` while the store is away.
    """

    def __init__(self, *, tasks: Tasks, settings: Settings, history: WorkflowHistory | None = None) -> None:
        self._tasks = tasks
        self._settings = settings
        self._history = history
        self.store = WorkflowStore(tasks.store)

    # --- submitting

    async def submit(
        self, document: object, *, caller: Principal = LOCAL, idempotency_key: str | None = None
    ) -> SubmittedWorkflow:
        """Accept a workflow (see `WorkflowRequest`): all of its nodes, or nothing. It is durable when this returns.

        A repeated `idempotency_key` (per user) answers with the first workflow. Raises `InvalidSubmissionError`,
        `PayloadTooLargeError`, `QueueFullError` and `GroupLimitError`.
        """
        if idempotency_key is not None:
            check_idempotency_key(idempotency_key)
        head = read_head(document)
        metadata = _checked_metadata(head.metadata)
        user_id = caller.user_id if not caller.admin or head.user_id is None else head.user_id
        requests = await self._read(node_documents(document))
        order = ordered(requests, most_edges=self._settings.workflows.max_edges)
        workflow_id = new_task_id()
        nodes = await self._planned(workflow_id, requests, order, {}, caller=caller, user_id=user_id)
        new = NewWorkflow(head.name, user_id, metadata, idempotency_key)
        found = await self._plan(workflow_id, nodes, new, caller)
        if found == workflow_id:
            return SubmittedWorkflow(workflow_id, _in_order_of(requests, nodes), created=True)
        first = (await self.store.get(found)).nodes or {}
        return SubmittedWorkflow(found, {n: node.task_id for n, node in first.items() if node.first}, created=False)

    async def add_nodes(self, workflow_id: str, document: object, *, caller: Principal = LOCAL) -> Mapping[str, str]:
        """Add nodes (see `NodesRequest`) to a workflow that has not ended, all or none; returns their tasks by name.

        Raises as `submit` does, and `WorkflowNotFoundError`, `IllegalWorkflowMoveError` and `NodeExistsError`.
        """
        check_no_more(document)
        requests = await self._read(node_documents(document))
        named = {one.node for node in requests.values() for one in node.comes_after} - requests.keys()
        await self._check_known(workflow_id, "add nodes to it")
        known = await self.store.task_ids(workflow_id, sorted(named))
        order = ordered(requests, known=list(known), most_edges=self._settings.workflows.max_edges)
        _, owner = await self.store.owner(workflow_id)
        nodes = await self._planned(workflow_id, requests, order, known, caller=caller, user_id=owner)
        await self._plan(workflow_id, nodes, None, caller)
        return _in_order_of(requests, nodes)

    async def _read(self, documents: Mapping[str, object]) -> dict[str, NodeRequest]:
        """Return the nodes, checked in their form."""
        requests = {}
        for place, (name, document) in enumerate(documents.items()):
            if place % _TURN == _TURN - 1:
                await asyncio.sleep(0)
            requests[name] = read_node(name, document)
        return requests

    async def _planned(
        self,
        workflow_id: str,
        requests: Mapping[str, NodeRequest],
        order: Sequence[str],
        known: Mapping[str, str],
        *,
        caller: Principal,
        user_id: str | None,
    ) -> list[PlannedNode]:
        """Return the nodes in order, as the store takes them. `known` are the tasks of nodes that exist, by name."""
        ids = {name: new_task_id() for name in order}
        all_ids, new_ids = {**known, **ids}, frozenset(ids.values())
        held = dict.fromkeys(order, 0)
        for request in requests.values():
            for one in request.comes_after:
                if one.node in held:
                    held[one.node] += 1
        nodes = []
        for place, name in enumerate(order):
            if place % _TURN == _TURN - 1:
                await asyncio.sleep(0)
            try:
                node = await self._planned_node(requests[name], all_ids, caller, user_id)
            except InvalidSubmissionError as exc:
                raise exc.below(f"nodes.{name}") from exc
            submission = replace(
                node.submission,
                task_id=ids[name],
                workflow_id=workflow_id,
                node=name,
                as_node=NodeOrders(held=held[name]),
            )
            outside = [one for one in node.outside if one not in new_ids]
            nodes.append(PlannedNode(submission, node.after, outside))
        return nodes

    async def _planned_node(
        self, request: NodeRequest, ids: Mapping[str, str], caller: Principal, user_id: str | None
    ) -> PlannedNode:
        after = request.comes_after
        own = list(request.depends_on or ())
        before = [DependencyRequest(task=ids[one.node], when=one.when) for one in after]
        _check_once(own, before)
        types = self._tasks.types.local_with(request.type) or await self._tasks.types.containing(request.type)
        if request.user_id is None and user_id is not None:
            request = request.model_copy(update={"user_id": user_id})
        if caller is not LOCAL:
            request = confined(request, caller, types)
        submission = build_submission(
            request.model_copy(update={"depends_on": [*own, *before] or None}),
            self._settings,
            types,
            maker=caller.group_maker,
            parents_of=caller.confined_to,
            aliases={one.node for one in after},
            part=True,
        )
        task_type = known_type(request.type, types)
        await self._tasks.check_without_intake(task_type, submission, request.payload, caller)
        return PlannedNode(submission, after, [one.task for one in (*own, *before)])

    async def _plan(
        self, workflow_id: str, nodes: Sequence[PlannedNode], new: NewWorkflow | None, caller: Principal
    ) -> str:
        try:
            return await self.store.plan(workflow_id, nodes, new)
        except UnknownParentError:
            outside = [Dependency(task_id) for node in nodes for task_id in node.outside]
            if not await self._tasks.bring_back(list(dict.fromkeys(outside)), caller.confined_to):
                raise
            return await self.store.plan(workflow_id, nodes, new)

    # --- finding

    async def find(self, workflow_id: str) -> Workflow:
        """Return the workflow with its nodes, from the history once the store let it go.

        Raises `WorkflowNotFoundError`, and `HistoryUnavailableError` while only the history could know.
        """
        try:
            return await self.store.get(workflow_id)
        except WorkflowNotFoundError:
            return await self._kept(workflow_id)

    async def page(self, wanted: WorkflowFilter, *, limit: int, cursor: str | None = None) -> WorkflowPage:
        """Return a page of workflows without their nodes, the newest first, those that run as they are now.

        The history has them a moment after they have begun. Raises `BadCursorError`, and `HistoryMissingError` or
        `HistoryUnavailableError` without a history.
        """
        if self._history is None:
            raise HistoryMissingError("no history is kept here: set DATABASE_URL, and run `celeriac migrate`")
        page = await self._history.workflows(wanted, limit=limit, cursor=cursor)
        running = [one.workflow_id for one in page.workflows if one.status is WorkflowStatus.RUNNING]
        now: Mapping[str, Workflow] = {}
        # The history answers without the store, too.
        with suppress(StoreUnavailableError):
            now = await self.store.summaries(running)
        return WorkflowPage([now.get(one.workflow_id, one) for one in page.workflows], page.next_cursor)

    async def owner(self, workflow_id: str) -> str | None:
        """Return the user of a workflow (None: it has none); raises as `find` does."""
        known, user_id = await self.store.owner(workflow_id)
        return user_id if known else (await self._kept(workflow_id)).user_id

    async def _kept(self, workflow_id: str) -> Workflow:
        if self._history is None:
            raise WorkflowNotFoundError(workflow_id)
        try:
            return await self._history.workflow(workflow_id)
        except HistoryMissingError:
            # Without tables nothing was ever recorded, which is an answer too.
            raise WorkflowNotFoundError(workflow_id) from None

    async def _check_known(self, workflow_id: str, wanted: str) -> None:
        """Raise `IllegalWorkflowMoveError` for a workflow that only the history has: it has ended."""
        if not (await self.store.owner(workflow_id))[0]:
            raise IllegalWorkflowMoveError(workflow_id, (await self._kept(workflow_id)).status, wanted)

    # --- changing

    async def cancel(self, workflow_id: str) -> None:
        """Cancel a workflow as a whole: its waiting nodes at once, its running ones as soon as they stop.

        Cancelling it again changes nothing. Raises `WorkflowNotFoundError`, and `IllegalWorkflowMoveError` for one that
        has ended in another way.
        """
        try:
            await self.store.cancel(workflow_id)
        except WorkflowNotFoundError:
            status = (await self._kept(workflow_id)).status
            if status is not WorkflowStatus.CANCELLED:
                raise IllegalWorkflowMoveError(workflow_id, status, "cancel it") from None

    async def retry(self, workflow_id: str) -> None:
        """Run the failed nodes of a workflow again, and put those that they had cancelled back to waiting.

        The cancelled nodes of a cancelled workflow run again. One that only the history knows comes back from there.
        Raises `WorkflowNotFoundError`, and `IllegalWorkflowMoveError` for one that runs or has completed.
        """
        try:
            workflow = await self.store.get(workflow_id)
        except WorkflowNotFoundError:
            workflow = await self._kept(workflow_id)
            if workflow.status in (WorkflowStatus.FAILED, WorkflowStatus.CANCELLED):
                await self.store.restore(workflow)
        if workflow.status not in (WorkflowStatus.FAILED, WorkflowStatus.CANCELLED):
            raise IllegalWorkflowMoveError(workflow_id, workflow.status, "retry it")
        again = _to_repeat(workflow.nodes or {})
        tasks = [node.task_id for node in again]
        parents = {(workflow.nodes or {})[one.node].task_id for node in again for one in node.after}
        # Those that have left the store come back from the history; the store runs the others.
        await self._tasks.bring_back([Dependency(task_id) for task_id in {*tasks, *parents}], None)
        await self.store.retry(workflow_id, tasks)


def _in_order_of(requests: Mapping[str, object], nodes: Sequence[PlannedNode]) -> dict[str, str]:
    """Return the tasks of nodes by name, in the order in which the caller named them."""
    ids = {node.submission.node: node.submission.task_id for node in nodes}
    return {name: ids[name] for name in requests}


def _to_repeat(nodes: Mapping[str, Node]) -> list[Node]:
    """Return the nodes that failed or were cancelled, each after its parents."""
    order = in_order({name: [one.node for one in node.after] for name, node in nodes.items()})
    return [nodes[name] for name in order or nodes if nodes[name].status in (Status.FAILED, Status.CANCELLED)]


def _check_once(own: Sequence[DependencyRequest], before: Sequence[DependencyRequest]) -> None:
    tasks = [one.task for one in (*own, *before)]
    if len(set(tasks)) < len(tasks):
        raise InvalidSubmissionError([Violation("depends_on", "names the task of a node that `after` names too")])


def _checked_metadata(metadata: Mapping[str, Any] | None) -> Mapping[str, Any]:
    try:
        size = len(json_text.write_bytes(metadata or {}, "metadata"))
    except JsonError as exc:
        raise InvalidSubmissionError([Violation(exc.place, exc.problem)]) from exc
    if size > MAX_METADATA_BYTES:
        message = f"is {size} bytes as JSON, above the limit of {MAX_METADATA_BYTES}"
        raise InvalidSubmissionError([Violation("metadata", message)])
    return metadata or {}
