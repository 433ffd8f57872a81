"""What watchers of a workflow receive: each change of a node's status, from any point on, and the end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from celeriac.errors import WorkflowNotFoundError
from celeriac.model import Event, Failure, Node, Workflow, WorkflowStatus, rfc3339, stream_position, utc_from_ms
from celeriac.store.watching.hub import LiveHub
from celeriac.store.workflows import WorkflowStore
from celeriac.task_fields import status_of
from celeriac.tasks.record import error_record
from celeriac.tasks.stream import START, LiveStream, StreamEvent, StreamEvents
from celeriac.workflows.record import node_record, workflow_record
from celeriac.workflows.service import Workflows

#: The kind of a workflow's first event.
_BEGIN = "begin"


class WorkflowStream(LiveStream):
    """One watcher's view of one workflow that the store has, from the stream id `position` on.

    `snapshot` says that later events are gone, so the watcher gets the present state of each node instead.
    """

    def __init__(
        self,
        *,
        store: WorkflowStore,
        hub: LiveHub,
        workflow_id: str,
        position: str = START,
        snapshot: bool = False,
        keepalive_s: float = 15.0,
    ) -> None:
        super().__init__(hub, position=position, snapshot=snapshot)
        self._store = store
        self._workflow_id = workflow_id
        self._keepalive_s = keepalive_s

    async def _lacks(self, seen: str) -> bool:
        return await self._hub.workflow_lacks(self._workflow_id, seen)

    async def _events(self) -> StreamEvents:
        """Yield each `node`, then `done`; ends early when the workflow's record is gone, or when the hub stops."""
        if self._snapshot:
            workflow = await self._store.get(self._workflow_id)
            for event in _present(workflow):
                yield event
            self._position = workflow.last_event
            if workflow.status is not WorkflowStatus.RUNNING:
                yield _done(workflow)
                return
        followed = self._hub.follow_workflow(self._workflow_id, self._position, idle_s=self._keepalive_s)
        with contextlib.suppress(WorkflowNotFoundError):
            async with contextlib.aclosing(followed) as items:
                async for item in items:
                    if item is None:
                        await self._store.get(self._workflow_id)
                        yield None
                        continue
                    self._position = item.id
                    if item.kind == "node":
                        yield StreamEvent("node", node_data(self._workflow_id, item), item.id)
                    elif item.kind == "done" and (end := await self._end(item.id)) is not None:
                        yield end
                        return

    async def _end(self, event_id: str) -> StreamEvent | None:
        """Return the `done` event if the workflow has ended for now, and this is its last event."""
        workflow = await self._store.get(self._workflow_id)
        return _done(workflow) if workflow.last_event == event_id else None


class PastWorkflowStream:
    """A workflow that only the history has: how each node ended, and the end."""

    def __init__(self, workflow: Workflow) -> None:
        self._workflow = workflow

    async def events(self) -> StreamEvents:
        """Yield each `node` once, then `done`."""
        for event in _present(self._workflow):
            yield event
        yield _done(self._workflow)


async def resumed(
    workflows: Workflows, hub: LiveHub, workflow_id: str, *, last_event_id: str | None, keepalive_s: float = 15.0
) -> WorkflowStream | PastWorkflowStream | None:
    """Return the stream of a workflow after what a watcher saw last (well-formed), None if nothing follows.

    Raises `WorkflowNotFoundError`, `StoreUnavailableError`, and `HistoryUnavailableError` while only the history could
    know.
    """
    seen = (None if last_event_id is None else stream_position(last_event_id)) or (0, 0)
    workflow = await workflows.find(workflow_id)
    last = stream_position(workflow.last_event)
    ended = workflow.status is not WorkflowStatus.RUNNING
    lost = seen != (0, 0) and last is not None and seen > last
    if seen != (0, 0) and last is not None and (seen == last and ended):
        return None
    if lost and not await workflows.store.is_past(seen):
        return None
    if not (await workflows.store.owner(workflow_id))[0]:
        if not ended:
            # It is in no place where it could go on.
            raise WorkflowNotFoundError(workflow_id)
        return PastWorkflowStream(workflow)
    first = await workflows.store.first_event(workflow_id)
    gone = lost or (first is not None and first.kind != _BEGIN and seen < (stream_position(first.id) or (0, 0)))
    return WorkflowStream(
        store=workflows.store,
        hub=hub,
        workflow_id=workflow_id,
        position=START if gone or seen == (0, 0) else f"{seen[0]}-{seen[1]}",
        snapshot=gone,
        keepalive_s=keepalive_s,
    )


def node_data(workflow_id: str, event: Event) -> dict[str, Any]:
    """Return the data of a `node` event as watchers receive it."""
    fields = event.fields
    code = fields.get("code")
    error = Failure(code, fields.get("message", ""), fields.get("retryable") == "1") if code else None
    attempt = fields.get("attempt", "")
    return {
        "workflow_id": workflow_id,
        "node": fields.get("node", ""),
        "task_id": fields.get("task_id", ""),
        "status": status_of(fields.get("status", "")).wire,
        "attempt": int(attempt) if attempt.isdecimal() else 0,
        "started_at": _moment(fields.get("started")),
        "finished_at": _moment(fields.get("finished")),
        "error": error_record(error),
        "timestamp_ms": int(event.id.partition("-")[0]),
    }


def _present(workflow: Workflow) -> Iterator[StreamEvent]:
    for node in (workflow.nodes or {}).values():
        yield StreamEvent("node", _snapshot(workflow.workflow_id, node), None)


def _snapshot(workflow_id: str, node: Node) -> dict[str, Any]:
    shown = node_record(node)
    return {
        "workflow_id": workflow_id,
        "node": node.name,
        **{name: shown[name] for name in ("task_id", "status", "started_at", "finished_at", "error")},
        "snapshot": True,
        "recovered": False,
    }


def _done(workflow: Workflow) -> StreamEvent:
    record = workflow_record(workflow)
    data = {name: record[name] for name in ("workflow_id", "status", "counts")}
    return StreamEvent("done", data, workflow.last_event)


def _moment(ms: str | None) -> str | None:
    return rfc3339(utc_from_ms(int(ms))) if ms and ms.isdecimal() else None
