"""Workflows in the store: accepting one, changing it as a whole, reading it. The scripts of tasks do the rest."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from celeriac import json_text
from celeriac.errors import (
    GroupLimitError,
    IllegalWorkflowMoveError,
    InvalidSubmissionError,
    JsonError,
    NodeExistsError,
    QueueFullError,
    StoreUnavailableError,
    UnknownParentError,
    Violation,
    WorkflowNotFoundError,
)
from celeriac.model import (
    Event,
    Failure,
    Node,
    NodeDependency,
    Status,
    Submission,
    When,
    Workflow,
    WorkflowStatus,
    ms_from_utc,
    utc_from_ms,
)
from celeriac.store import keys
from celeriac.store.server.durability import ReplicasMissingError
from celeriac.store.server.scripts import batch_arguments
from celeriac.store.submit_call import key_full, submission_arguments, workflow_full
from celeriac.store.task_store import TaskStore
from celeriac.task_fields import status_of

log = logging.getLogger(__name__)

#: What a state has: status, started, finished, retryable, code, message.
_STATE_FIELDS: Final = 6


@dataclass(frozen=True, slots=True)
class PlannedNode:
    """A node that is to be accepted: its submission names the workflow and the node."""

    submission: Submission
    after: Sequence[NodeDependency]
    #: The parents that are not accepted with it.
    outside: Sequence[str]


@dataclass(frozen=True, slots=True)
class NewWorkflow:
    """A workflow that is to begin."""

    name: str
    user_id: str | None
    metadata: Mapping[str, Any]
    idempotency_key: str | None


class WorkflowStore:
    """A process's access to the workflows of a store. Every method raises `StoreUnavailableError`."""

    def __init__(self, store: TaskStore) -> None:
        self._store = store

    async def is_past(self, position: tuple[int, int]) -> bool:
        """Return whether an id of a stream may have been given already (see `TaskStore.is_past`)."""
        return await self._store.is_past(position)

    async def plan(self, workflow_id: str, nodes: Sequence[PlannedNode], new: NewWorkflow | None) -> str:
        """Accept nodes, each after its parents: all of them or nothing. They are durable when this returns.

        With `new`, the workflow begins. Returns its id: another one if its idempotency key is known. Raises
        `NotReplicatedError` with that id,
        `InvalidSubmissionError`, `UnknownParentError`, `QueueFullError`, `KeyFullError`, `GroupLimitError`, and
        without `new` `WorkflowNotFoundError`, `IllegalWorkflowMoveError` and `NodeExistsError`.
        """
        store = self._store
        nonce, queues = store.unique(), store.settings.queues
        arguments: list[Any] = [
            *batch_arguments(store.settings)["submit"],
            workflow_id,
            "" if new is None else "1",
            "" if new is None else new.name,
            "" if new is None else new.user_id or "",
            json_text.write(dict(new.metadata)) if new is not None and new.metadata else "",
            keys.idempotency(new.user_id or "", f"workflow {new.idempotency_key}")
            if new is not None and new.idempotency_key
            else "",
            nonce,
        ]
        for node in nodes:
            arguments.append(node.submission.node)
            arguments.append(json_text.write([[one.node, one.when.value] for one in node.after]))
            arguments.append(json_text.write(list(node.outside)))
            arguments += submission_arguments(node.submission, queues, nonce)
        try:
            reply = await store.run_one("plan", *arguments)
        except ReplicasMissingError as exc:
            if exc.answer[0] in ("created", "known"):
                raise exc.of(workflow_id=str(exc.answer[1])) from exc
            reply = exc.answer
        if reply[0] not in ("created", "known"):
            raise _refusal(workflow_id, nodes, reply)
        if reply[0] == "created" and reply[2]:
            # It is accepted: what this cannot do, promoters will.
            with suppress(StoreUnavailableError):
                await self.go_on(workflow_id)
        return str(reply[1])

    async def go_on(self, workflow_id: str = "") -> None:
        """Do what is to be done to a workflow, in steps of bounded length; "" means: to all."""
        while await self.step(workflow_id):
            pass

    async def step(self, workflow_id: str = "") -> bool:
        """Do a bounded part of that; returns whether more is to be done at once."""
        more, *failures = await self._store.run_one("steer", workflow_id)
        for failure in failures:
            log.error("a workflow does not go on; it is tried again: %s", failure)
        return bool(more) and not (failures and workflow_id)

    async def cancel(self, workflow_id: str) -> None:
        """Cancel a workflow as a whole: its waiting nodes at once, its running ones as soon as they stop.

        Cancelling it again changes nothing. Raises `WorkflowNotFoundError`, and `IllegalWorkflowMoveError` for one that
        has ended in another way.
        """
        before, more = await self._store.run_one("cancel_workflow", workflow_id)
        if not before:
            raise WorkflowNotFoundError(workflow_id)
        if before not in ("RUNNING", "CANCELLED"):
            raise IllegalWorkflowMoveError(workflow_id, before, "cancel it")
        if more:
            with suppress(StoreUnavailableError):
                await self.go_on(workflow_id)

    async def retry(self, workflow_id: str, task_ids: Sequence[str]) -> None:
        """Run those of the tasks again that have failed or were cancelled, each after its parents.

        One that was cancelled because of a parent runs again only if that one does. Raises `WorkflowNotFoundError`, and
        `IllegalWorkflowMoveError` unless the workflow has failed or was cancelled.
        """
        before, more = await self._store.run_one("retry_workflow", workflow_id, self._store.unique(), *task_ids)
        if not before:
            raise WorkflowNotFoundError(workflow_id)
        if before not in ("FAILED", "CANCELLED"):
            raise IllegalWorkflowMoveError(workflow_id, before, "retry it")
        if more:
            with suppress(StoreUnavailableError):
                await self.go_on(workflow_id)

    async def restore(self, workflow: Workflow) -> None:
        """Put the record of an ended workflow back that only the history has; it leaves again after the retention."""
        assert workflow.nodes is not None
        arguments: list[str] = []
        for node in workflow.nodes.values():
            arguments += [node.name, json_text.write(_node_record(node)), _state(node)]
        await self._store.run_one(
            "restore_workflow", workflow.workflow_id, json_text.write(_record(workflow)), *arguments
        )

    async def get(self, workflow_id: str) -> Workflow:
        """Return a workflow as it is now; raises `WorkflowNotFoundError`."""
        record, nodes, states, last = await self._store.read(
            ("HGETALL", keys.workflow(workflow_id)),
            ("HGETALL", keys.workflow_nodes(workflow_id)),
            ("HGETALL", keys.workflow_states(workflow_id)),
            ("XREVRANGE", keys.workflow_events(workflow_id), "+", "-", "COUNT", 1),
            atomic=True,
        )
        found = _mapping(record)
        if "status" not in found:
            raise WorkflowNotFoundError(workflow_id)
        known = _mapping(states)
        all_nodes = [_node(name, text, known.get(name)) for name, text in _mapping(nodes).items()]
        read = {node.name: node for node in sorted(all_nodes, key=lambda node: node.place)}
        return _workflow(workflow_id, found, read, str(last[0][0]) if last else "0-0", len(read))

    async def summaries(self, workflow_ids: Sequence[str]) -> dict[str, Workflow]:
        """Return those of the workflows that the store has, without their nodes; one round trip."""
        replies = await self._store.read(
            *(
                command
                for workflow_id in workflow_ids
                for command in (
                    ("HGETALL", keys.workflow(workflow_id)),
                    ("HLEN", keys.workflow_nodes(workflow_id)),
                )
            )
        )
        found = {}
        for place, workflow_id in enumerate(workflow_ids):
            record, size = _mapping(replies[2 * place]), int(replies[2 * place + 1])
            if "status" in record:
                found[workflow_id] = _workflow(workflow_id, record, None, "0-0", size)
        return found

    async def owner(self, workflow_id: str) -> tuple[bool, str | None]:
        """Return whether the store has a workflow with this id, and its user (None: it has none)."""
        status, user_id = (await self._store.read(("HMGET", keys.workflow(workflow_id), "status", "user_id")))[0]
        return status is not None, user_id or None

    async def first_event(self, workflow_id: str) -> Event | None:
        """Return the first event of a workflow that the store still has."""
        found = await self._store.workflow_events(workflow_id, count=1)
        return found[0] if found else None

    async def task_ids(self, workflow_id: str, names: Sequence[str]) -> dict[str, str]:
        """Return the tasks of those nodes that the workflow has, by name; raises `WorkflowNotFoundError`."""
        known, *found = await self._store.read(
            ("EXISTS", keys.workflow(workflow_id)),
            *(("HGET", keys.workflow_nodes(workflow_id), name) for name in names),
        )
        if not known:
            raise WorkflowNotFoundError(workflow_id)
        return {
            name: _node(name, text, None).task_id for name, text in zip(names, found, strict=True) if text is not None
        }


async def steer_due(store: TaskStore) -> bool:
    """Take one step with the workflows that have something to be done to them; returns whether more is to be done."""
    if not (await store.read(("EXISTS", keys.STEERING)))[0]:
        return False
    return await WorkflowStore(store).step()


def _refusal(workflow_id: str, nodes: Sequence[PlannedNode], reply: Sequence[Any]) -> Exception:
    match reply[0]:
        case "unknown":
            return WorkflowNotFoundError(workflow_id)
        case "ended":
            return IllegalWorkflowMoveError(workflow_id, reply[1], "add nodes to it")
        case "node_exists":
            return NodeExistsError(reply[1])
        case "workflow_full":
            return workflow_full(int(reply[1]))
        case "schedule_full":
            return QueueFullError("(waiting)", int(reply[1]))
        case "queue_full":
            return QueueFullError(reply[2], int(reply[1]))
        case "key_full":
            return key_full(reply)
        case "groups_full":
            return GroupLimitError(reply[3], int(reply[1]), own=reply[2] == "caller")
        case "no_parent":
            refused = nodes[int(reply[1])].submission
            depends_on = [one.task_id for one in refused.depends_on]
            return UnknownParentError(depends_on.index(reply[2]), reply[2], refused.node)
    message = f"a group cannot be named {reply[1]!r}: the store holds something else under this key"
    return InvalidSubmissionError([Violation("nodes", message)])


def _mapping(reply: Any) -> dict[str, str]:
    """Return a hash; depending on the protocol's version, the reply is a mapping, or names and values in turn."""
    return reply if isinstance(reply, dict) else dict(zip(*[iter(reply)] * 2, strict=True))


def _workflow(
    workflow_id: str, record: Mapping[str, str], nodes: Mapping[str, Node] | None, last_event: str, size: int
) -> Workflow:
    counts = {status: int(record.get(f"n:{status.stored}", 0)) for status in Status}
    # Those that are accepted and not stored yet.
    counts[Status.WAITING] += size - sum(counts.values())
    metadata: dict[str, Any] = {}
    with suppress(JsonError):
        metadata = json_text.read(record.get("metadata") or "{}")
    finished_ms = record.get("finished_ms")
    return Workflow(
        workflow_id=workflow_id,
        name=record.get("name", ""),
        status=WorkflowStatus[record["status"]],
        user_id=record.get("user_id") or None,
        metadata=metadata,
        created_at=utc_from_ms(int(record.get("created_ms", 0))),
        finished_at=None if finished_ms is None else utc_from_ms(int(finished_ms)),
        counts={status: count for status, count in counts.items() if count > 0},
        nodes=nodes,
        last_event=last_event,
        rev=int(record.get("rev", 0)),
    )


def _node(name: str, text: str, state: str | None) -> Node:
    fields = json_text.read(text)
    return Node(
        name=name,
        task_id=fields["task_id"],
        type=fields["type"],
        after=tuple(NodeDependency(node, When(when)) for node, when in fields["after"]),
        place=int(fields.get("place", 0)),
        first="batch" in fields,
        **({} if state is None else node_state(state)),
    )


def node_state(text: str) -> dict[str, Any]:
    """Return the fields of `Node` that a state has (see `lua/shared/workflows.lua`)."""
    status, started, finished, retryable, code, message = text.split("\n", _STATE_FIELDS - 1)
    return {
        "status": status_of(status),
        "started_at": utc_from_ms(int(started)) if started else None,
        "finished_at": utc_from_ms(int(finished)) if finished else None,
        "error": Failure(code, message, retryable == "1") if code else None,
    }


def _record(workflow: Workflow) -> dict[str, str]:
    unmet = sum(
        node.status is Status.CANCELLED and node.error is not None and node.error.code == "dependency_failed"
        for node in (workflow.nodes or {}).values()
    )
    return {
        "name": workflow.name,
        "status": workflow.status.stored,
        "user_id": workflow.user_id or "",
        "metadata": json_text.write(workflow.metadata),
        "created_ms": _ms(workflow.created_at),
        "rev": str(workflow.rev),
        "unmet": str(unmet),
        **({} if workflow.finished_at is None else {"finished_ms": _ms(workflow.finished_at)}),
        **({"cancelled": "1"} if workflow.status is WorkflowStatus.CANCELLED else {}),
        **{f"n:{status.stored}": str(count) for status, count in workflow.counts.items()},
    }


def _node_record(node: Node) -> dict[str, Any]:
    return {
        "task_id": node.task_id,
        "type": node.type,
        "after": [[one.node, one.when.value] for one in node.after],
        "place": node.place,
        **({"batch": 0} if node.first else {}),
    }


def _state(node: Node) -> str:
    error = node.error
    return "\n".join(
        [
            node.status.stored,
            _ms(node.started_at),
            _ms(node.finished_at),
            "" if error is None else "1" if error.retryable else "0",
            "" if error is None else error.code,
            "" if error is None else error.message,
        ]
    )


def _ms(moment: datetime | None) -> str:
    return "" if moment is None else str(ms_from_utc(moment))
