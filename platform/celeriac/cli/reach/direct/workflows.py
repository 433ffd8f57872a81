"""Workflows, through their service."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

from celeriac.cli.reach.direct.auditing import note
from celeriac.cli.reach.direct.opened import Opened
from celeriac.cli.reach.direct.tasks import listening, patient
from celeriac.cli.reach.platform import Record
from celeriac.history.workflows import WorkflowFilter
from celeriac.model import WorkflowStatus
from celeriac.workflows.record import workflow_record
from celeriac.workflows.service import Workflows
from celeriac.workflows.stream import resumed

_PAGE: Final = 200
#: How often a quiet workflow is looked at (seconds): its record may have expired.
_LOOK_S: Final = 5.0


class DirectWorkflows:
    """See `WorkflowCalls`."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    async def _service(self, *, checked_here: bool = False) -> Workflows:
        settings = self._opened.settings
        tasks = await self._opened.tasks(checked_here=checked_here)
        history = None if settings.database_url is None else await self._opened.history()
        return Workflows(tasks=tasks, settings=settings, history=history)

    async def submit(self, document: Any, *, idempotency_key: str | None) -> Record:
        """See `WorkflowCalls.submit`."""
        service = await self._service(checked_here=True)
        found = await service.submit(document, idempotency_key=idempotency_key)
        return {
            "workflow_id": found.workflow_id,
            "status": WorkflowStatus.RUNNING.wire,
            "nodes": dict(found.nodes),
            "created": found.created,
        }

    async def get(self, workflow_id: str) -> Record:
        """See `WorkflowCalls.get`."""
        return workflow_record(await (await self._service()).find(workflow_id))

    async def listed(self, limit: int, *, status: str | None, name: str | None) -> AsyncGenerator[Record]:
        """See `WorkflowCalls.listed`."""
        service = await self._service()
        wanted = WorkflowFilter(status=() if status is None else (WorkflowStatus(status),), name=name)
        cursor: str | None = None
        while limit > 0:
            page = await service.page(wanted, limit=min(_PAGE, limit), cursor=cursor)
            for one in page.workflows:
                yield workflow_record(one)
            limit -= len(page.workflows)
            if (cursor := page.next_cursor) is None:
                return

    async def cancel(self, workflow_id: str) -> Record:
        """See `WorkflowCalls.cancel`."""
        service = await self._service()
        await service.cancel(workflow_id)
        return await self._moved(service, "workflow.cancel", workflow_id)

    async def retry(self, workflow_id: str) -> Record:
        """See `WorkflowCalls.retry`."""
        service = await self._service()
        await service.retry(workflow_id)
        return await self._moved(service, "workflow.retry", workflow_id)

    async def _moved(self, service: Workflows, action: str, workflow_id: str) -> Record:
        await note(await self._opened.store(), action, workflow_id)
        return {"workflow_id": workflow_id, "status": (await service.find(workflow_id)).status.wire}

    async def watch(self, workflow_id: str) -> AsyncGenerator[Record]:
        """See `WorkflowCalls.watch`."""
        service, store = await self._service(), await self._opened.store()
        async with listening(store) as hub:
            stream = await resumed(service, hub, workflow_id, last_event_id=None, keepalive_s=_LOOK_S)
            assert stream is not None, "only a watcher that has seen events can have seen all"
            async with aclosing(patient(stream.events(), store)) as events:
                async for event in events:
                    yield event
